//! Lives of real containers: one program, because it is executed once more to fork shims. Needs
//! root and a static busybox; every test has its own directory and all of them one cgroup, which
//! goes at the end, whatever happened.

// Panicking is how a test fails, also without the harness that says so.
#![allow(clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use container::log::{From, Line, Reader, Stream};
use container::{
    Dir, Error, ExecSpec, Exit, Found, How, Instance, LogLimits, Mount, Root, Source, Spec, Streams,
};

mod cases;

const PATIENCE: Duration = Duration::from_secs(60);
/// Argument of a process that plays an agent, starts one container and stays.
const AGENT: &str = "play-agent";

fn main() -> ExitCode {
    if let Some(code) = container::reexec() {
        return code;
    }
    let args: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    if let [role, dir] = args.as_slice()
        && role == AGENT
    {
        runtime.block_on(play_agent(Path::new(dir)));
        return ExitCode::SUCCESS;
    }
    if !rustix_is_root() {
        println!("skipped: containers need root");
        return ExitCode::SUCCESS;
    }
    if args.iter().any(|arg| arg == "--list") {
        return ExitCode::SUCCESS;
    }
    let filter = args
        .iter()
        .find(|arg| !arg.starts_with('-'))
        .cloned()
        .unwrap_or_default();
    runtime.block_on(cases::all(&filter))
}

fn rustix_is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|data| std::os::unix::fs::MetadataExt::uid(&data) == 0)
}

/// A root filesystem of busybox alone, a place for instances, and a cgroup; all gone in the end.
struct World {
    home: tempfile::TempDir,
    group: String,
}

impl World {
    fn new() -> Self {
        let home = tempfile::Builder::new().prefix("tandem-test-").tempdir();
        let home = home.expect("a temporary directory");
        // As unique as the directory: pids repeat in other namespaces, cgroups are shared.
        let group = home
            .path()
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let world = Self { home, group };
        let bin = world.root().join("bin");
        fs::create_dir_all(&bin).expect("create bin");
        fs::copy("/bin/busybox", bin.join("busybox")).expect("Debian package busybox-static");
        for name in [
            "sh", "sleep", "cat", "echo", "id", "unshare", "touch", "ls", "env", "stty", "tail",
            "mount", "dd", "hostname", "ps", "kill",
        ] {
            symlink("busybox", bin.join(name)).expect("link");
        }
        fs::create_dir_all(world.root().join("tmp")).expect("create tmp");
        world
    }

    fn root(&self) -> PathBuf {
        self.home.path().join("root")
    }

    fn dir(&self, id: &str) -> Dir {
        Dir::new(
            self.home
                .path()
                .join("instances")
                .join(format!("{id}-{}", self.group)),
        )
    }

    fn spec(&self, dir: &Dir, script: &str) -> Spec {
        let args = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        let cgroup = format!("{}/{}", self.group, dir.id());
        Spec::new(
            args,
            Root::Mounted(self.root()),
            cgroup,
            format!("{}/shims", self.group),
        )
    }

    async fn run(&self, id: &str, change: impl FnOnce(&mut Spec), script: &str) -> Instance {
        let dir = self.dir(id);
        let mut spec = self.spec(&dir, script);
        change(&mut spec);
        let created = container::create(&dir, &spec).await.expect("create");
        assert!(Path::new(&format!("/proc/{}", created.pid())).exists());
        created.start().await.expect("start")
    }

    /// Runs a script to its end.
    async fn result(
        &self,
        id: &str,
        change: impl FnOnce(&mut Spec),
        script: &str,
    ) -> (Exit, String) {
        let instance = self.run(id, change, script).await;
        let exit = within(instance.wait()).await.expect("an exit");
        (exit, text(instance.dir()))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for hierarchy in fs::read_dir("/sys/fs/cgroup")
            .into_iter()
            .flatten()
            .flatten()
        {
            let base = hierarchy.path().join(&self.group);
            for child in fs::read_dir(&base).into_iter().flatten().flatten() {
                let procs = fs::read_to_string(child.path().join("cgroup.procs"));
                for pid in procs.unwrap_or_default().lines() {
                    let _ = Command::new("kill")
                        .args(["-9", pid])
                        .stderr(Stdio::null())
                        .status();
                }
                let deadline = Instant::now() + Duration::from_secs(5);
                while child.path().is_dir()
                    && fs::remove_dir(child.path()).is_err()
                    && Instant::now() < deadline
                {
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
            let _ = fs::remove_dir(&base);
        }
    }
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("in time")
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn lines(dir: &Dir) -> Vec<Line> {
    let mut reader = Reader::open(dir, From::Start).expect("a log");
    let mut lines = Vec::new();
    loop {
        let more = reader.more().expect("readable");
        if more.is_empty() {
            return lines;
        }
        lines.extend(more);
    }
}

/// All output in its order, as a terminal would show it.
fn text(dir: &Dir) -> String {
    let show = |line: Line| line.text + if line.partial { "" } else { "\n" };
    lines(dir).into_iter().map(show).collect()
}

fn shim_pid(dir: &Dir) -> i32 {
    let record = fs::read_to_string(dir.path().join("shim")).expect("a shim");
    record
        .split(' ')
        .next()
        .and_then(|pid| pid.parse().ok())
        .expect("a pid")
}

fn kill_9(pid: i32) {
    assert!(
        Command::new("kill")
            .args(["-9", &pid.to_string()])
            .status()
            .expect("kill")
            .success()
    );
}

fn alive(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

fn parent(pid: i32) -> i32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    line.and_then(|pid| pid.trim().parse().ok())
        .expect("a parent")
}

async fn play_agent(dir: &Path) {
    let dir = Dir::new(dir);
    let spec = fs::read(dir.path().with_extension("spec")).expect("a spec");
    let spec: Spec = serde_json::from_slice(&spec).expect("a spec");
    let created = container::create(&dir, &spec).await.expect("create");
    if spec.hostname.as_deref() != Some("never-start") {
        let _instance = created.start().await.expect("start");
        std::future::pending::<()>().await;
    }
    std::future::pending::<()>().await;
}
