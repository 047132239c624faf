//! The scripts that the Makefile calls, run as they are, on files and programs of the test's own.
//!
//! Nothing is installed here: `apt-get` and `dpkg` are small stand-ins, because what is tested is
//! what the script does around them.
// clippy knows only the functions marked #[test] as tests, not what they share.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn totals(status: i32, output: &str) -> (String, bool) {
    let mut awk = Command::new("awk")
        .args([
            "-v",
            &format!("status={status}"),
            "-f",
            "scripts/totals.awk",
        ])
        .current_dir(root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    awk.stdin
        .take()
        .unwrap()
        .write_all(output.as_bytes())
        .unwrap();
    let ended = awk.wait_with_output().unwrap();
    (text(&ended.stdout), ended.status.success())
}

const OK: &str = "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n";
const BAD: &str = "test result: FAILED. 2 passed; 4 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n";

#[test]
fn totals_are_summed_over_all_test_programs() {
    assert_eq!(
        totals(0, &format!("running 4 tests\n{OK}{OK}")),
        ("6 passed, 0 failed, 2 skipped\n".into(), true)
    );
    assert_eq!(
        totals(101, &format!("{OK}{BAD}")),
        ("5 passed, 4 failed, 1 skipped\n".into(), false)
    );
    assert_eq!(
        totals(0, BAD),
        ("2 passed, 4 failed, 0 skipped\n".into(), false)
    );
}

#[test]
fn a_test_program_that_died_and_no_test_at_all_are_failures() {
    assert_eq!(
        totals(101, OK),
        ("3 passed, 1 failed, 1 skipped\n".into(), false)
    );
    assert_eq!(
        totals(0, ""),
        ("0 passed, 1 failed, 0 skipped\n".into(), false)
    );
}

/// For [`Machine::new`]: works until the test puts `told`, or has ended without.
const UNTIL_TOLD: &str =
    "for _ in $(seq 600); do test -e $(dirname $0)/told && break; sleep 0.05; done";

/// A machine that lacks `gcc`, with a policy of its own, whose `apt-get install` runs `during`.
struct Machine {
    directory: TempDir,
}

impl Machine {
    fn new(during: &str) -> Self {
        let machine = Machine {
            directory: tempfile::tempdir().unwrap(),
        };
        machine.program("dpkg-query", "printf 'installed make\\ninstalled hello\\n'");
        machine.program("dpkg", "true");
        machine.program("systemctl", "true");
        let install = format!(
            "case \" $* \" in *' install '*) cp {} {}\n{during};; esac",
            machine.path("policy"),
            machine.path("seen")
        );
        machine.program(
            "apt-get",
            &format!("echo \"$@\" >>{}\n{install}", machine.path("asked")),
        );
        machine
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    fn program(&self, name: &str, body: &str) {
        let path = self.directory.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn put(&self, name: &str, content: &str) {
        fs::write(self.path(name), content).unwrap();
    }

    fn read(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.path(name)).ok()
    }

    fn packages(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(root().join("scripts/packages"));
        command
            .args(arguments)
            .env(
                "PATH",
                format!(
                    "{}:/usr/sbin:/usr/bin:/sbin:/bin",
                    self.directory.path().display()
                ),
            )
            .env("PACKAGES_POLICY", self.path("policy"))
            .env("PACKAGES_LOCK", self.path("lock"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn run(&self) -> Output {
        self.packages(&["build"]).output().unwrap()
    }

    /// Starts the script and waits until `apt-get install` runs.
    fn start(&self) -> Child {
        let child = self.packages(&["build"]).spawn().unwrap();
        self.wait_for("seen");
        child
    }

    fn wait_for(&self, name: &str) {
        let start = Instant::now();
        while self.read(name).is_none() {
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "{name} never came"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Installing is refused to everybody else before anything is done.
fn is_root() -> bool {
    let root =
        fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    if !root {
        println!("skipped: only root can install packages");
    }
    root
}

#[test]
fn services_are_kept_down_while_packages_are_installed_and_the_former_policy_returns() {
    if !is_root() {
        return;
    }
    let machine = Machine::new("true");
    machine.put("policy", "#!/bin/sh\nexit 7\n");
    let ended = machine.run();
    assert!(ended.status.success(), "{}", text(&ended.stderr));
    assert!(machine.read("seen").unwrap().contains("exit 101"));
    assert_eq!(machine.read("policy").unwrap(), "#!/bin/sh\nexit 7\n");
    let asked = machine.read("asked").unwrap();
    let install = asked
        .lines()
        .find(|line| line.contains(" install "))
        .unwrap();
    assert!(install.contains("--no-install-recommends"), "{install}");
    assert!(
        install.contains(" gcc") && !install.contains(" make"),
        "{install}"
    );
}

#[test]
fn without_a_former_policy_none_is_left_and_a_failed_installation_is_a_failure() {
    if !is_root() {
        return;
    }
    let machine = Machine::new("exit 100");
    assert!(!machine.run().status.success());
    assert_eq!(machine.read("policy"), None);
}

#[test]
fn a_terminated_run_puts_the_policy_back() {
    if !is_root() {
        return;
    }
    let machine = Machine::new(UNTIL_TOLD);
    machine.put("policy", "mine\n");
    let mut child = machine.start();
    let killed = Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
    machine.put("told", "");
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert_eq!(machine.read("policy").unwrap(), "mine\n");
}

#[test]
fn after_a_kill_9_the_next_run_puts_the_policy_back() {
    if !is_root() {
        return;
    }
    let machine = Machine::new(UNTIL_TOLD);
    machine.put("policy", "mine\n");
    let mut child = machine.start();
    child.kill().unwrap();
    child.wait().unwrap();
    machine.put("told", "");
    assert!(machine.read("policy").unwrap().contains("exit 101"));
    assert!(machine.run().status.success());
    assert_eq!(machine.read("policy").unwrap(), "mine\n");
    assert_eq!(machine.read("policy.before-tandem"), None);
}

#[test]
fn what_is_installed_costs_nothing_and_an_unknown_group_is_refused() {
    let machine = Machine::new("true");
    machine.program(
        "dpkg-query",
        "while [ $# -gt 0 ]; do echo \"installed $1\"; shift; done",
    );
    assert!(machine.run().status.success());
    assert_eq!(machine.read("asked"), None);
    let refused = machine.packages(&["kitchen"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("kitchen"));
}

fn install(chore: &str, binary: &Path, destination: &Path) -> Output {
    Command::new(root().join("scripts/install"))
        .arg(chore)
        .env("BINARY", binary)
        .env("DESTDIR", destination)
        .env("PREFIX", "/usr/local")
        .output()
        .unwrap()
}

fn files(directory: &Path) -> Vec<String> {
    let found = Command::new("find")
        .args([".", "-type", "f"])
        .current_dir(directory)
        .output()
        .unwrap();
    let mut files: Vec<String> = text(&found.stdout).lines().map(str::to_owned).collect();
    files.sort();
    files
}

#[test]
fn installing_and_uninstalling_leave_only_settings_that_were_changed() {
    let machine = Machine::new("true");
    machine.program(
        "tandem",
        "case $1 in completions) echo \"# $2\";; config) echo '# all';; esac",
    );
    let destination = tempfile::tempdir().unwrap();
    let binary = machine.directory.path().join("tandem");

    let ended = install("install", &binary, destination.path());
    assert!(ended.status.success(), "{}", text(&ended.stderr));
    let installed = files(destination.path());
    assert_eq!(
        installed,
        [
            "./etc/tandem/tandem.toml",
            "./usr/local/bin/tandem",
            "./usr/local/lib/systemd/system/tandem-agent.service",
            "./usr/local/lib/systemd/system/tandem-master.service",
            "./usr/local/share/bash-completion/completions/tandem",
            "./usr/local/share/fish/vendor_completions.d/tandem.fish",
            "./usr/local/share/zsh/site-functions/_tandem",
        ]
    );
    let unit = fs::read_to_string(destination.path().join(&installed[2][2..])).unwrap();
    assert!(
        unit.contains("ExecStart=/usr/local/bin/tandem agent --config /etc/tandem/tandem.toml\n"),
        "{unit}"
    );

    assert!(
        install("uninstall", &binary, destination.path())
            .status
            .success()
    );
    assert_eq!(files(destination.path()), [""; 0]);

    assert!(
        install("install", &binary, destination.path())
            .status
            .success()
    );
    let settings = destination.path().join("etc/tandem/tandem.toml");
    fs::write(&settings, "# mine\n").unwrap();
    assert!(
        install("install", &binary, destination.path())
            .status
            .success()
    );
    assert_eq!(fs::read_to_string(&settings).unwrap(), "# mine\n");
    assert!(
        install("uninstall", &binary, destination.path())
            .status
            .success()
    );
    assert_eq!(files(destination.path()), ["./etc/tandem/tandem.toml"]);
}

#[test]
fn a_binary_that_prints_no_completions_is_installed_without_them() {
    let machine = Machine::new("true");
    machine.program("tandem", "exit 2");
    let destination = tempfile::tempdir().unwrap();
    let ended = install(
        "install",
        &machine.directory.path().join("tandem"),
        destination.path(),
    );
    assert!(ended.status.success(), "{}", text(&ended.stderr));
    assert_eq!(files(destination.path()).len(), 3);
}
