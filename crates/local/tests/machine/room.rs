//! A machine for one test case, made of namespaces: its own processes, mounts, links, ports and
//! cgroups, and a neighbour `192.0.2.1` behind a default route. A case can kill anything and
//! compare listings while others work on the same computer, and nothing survives it.
//!
//! A test program without libtest's harness hands its cases to [`main`], which enters the
//! program again: once as the machine, once as the case in it. What a case works with is not
//! made here. Included by path also in `tests/system`.

use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::{WaitStatus, waitpid};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
};
use rustix::process::{Signal, set_parent_process_death_signal};
use std::ffi::CString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

const SELF: &str = "/proc/self/exe";
/// How a case ends that cannot be run here.
const SKIPPED: u8 = 77;
const CGROUPS: &str = "/sys/fs/cgroup";
/// So many of a log's last lines tell of a failure.
const LINES_SHOWN: usize = 120;

/// A case by its name.
pub type Case<T> = (&'static str, fn(&T));

/// The cases of one test program.
pub struct Suite<T: 'static> {
    /// What everything that a case makes outside is called by.
    pub name: &'static str,
    /// A case that takes longer has failed.
    pub patience: Duration,
    /// What has to be there before the first case, made outside of all machines.
    pub prepare: fn(),
    /// Makes what a case works with from the name of its machine, inside it.
    pub furnish: fn(&str) -> T,
    pub cases: &'static [Case<T>],
}

/// Names cases by their functions.
macro_rules! cases {
    ($($module:ident :: $case:ident),+ $(,)?) => {
        &[$((stringify!($case), $module::$case)),+]
    };
}
pub(crate) use cases;

/// Ends the case, which cannot be run here: it counts neither as passed nor as failed.
pub fn skip(why: &str) -> ! {
    println!("skipped: {why}");
    std::process::exit(SKIPPED.into())
}

/// A directory for all files of the machine called `base`; gone after the case.
pub fn directory(base: &str) -> PathBuf {
    Path::new("/var/tmp").join(base)
}

/// The whole program. Arguments that are no flags choose cases by a part of their names, as
/// usual; the last line is libtest's, so that totals count.
pub fn main<T>(suite: &Suite<T>) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["machine", name, base] => build(name, base),
        ["machine-init", name, base] => init(name, base),
        ["machine-case", name, base] => {
            let found = suite.cases.iter().find(|(known, _)| known == name);
            let (_, case) = found.expect("asked for by this program");
            case(&(suite.furnish)(base));
            ExitCode::SUCCESS
        }
        _ => all(suite, &words),
    }
}

fn all<T>(suite: &Suite<T>, words: &[&str]) -> ExitCode {
    let filters: Vec<&&str> = words.iter().filter(|word| !word.starts_with('-')).collect();
    let is_chosen =
        |name: &str| filters.is_empty() || filters.iter().any(|part| name.contains(**part));
    let names = suite.cases.iter().map(|(name, _)| *name);
    let chosen: Vec<&str> = names.filter(|name| is_chosen(name)).collect();
    if words.contains(&"--list") {
        chosen.iter().for_each(|name| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let began = Instant::now();
    let is_root = nix::unistd::geteuid().is_root();
    if is_root {
        (suite.prepare)();
    }
    let (mut failed, mut ignored) = (Vec::new(), 0);
    if is_root {
        for name in &chosen {
            match run(suite, name) {
                Outcome::Passed => {}
                Outcome::Failed => failed.push(*name),
                Outcome::Skipped => ignored += 1,
            }
        }
    } else {
        println!("skipped: clusters need root");
        ignored = chosen.len();
    }
    failed.iter().for_each(|name| println!("failed: {name}"));
    println!(
        "\ntest result: {}. {} passed; {} failed; {ignored} ignored; 0 measured; {} filtered out; finished in {:.2}s\n",
        if failed.is_empty() { "ok" } else { "FAILED" },
        chosen.len() - failed.len() - ignored,
        failed.len(),
        suite.cases.len() - chosen.len(),
        began.elapsed().as_secs_f32(),
    );
    ExitCode::from(u8::from(!failed.is_empty()))
}

enum Outcome {
    Passed,
    Failed,
    Skipped,
}

/// Runs one case in a new machine and removes what only the outside can.
fn run<T>(suite: &Suite<T>, name: &str) -> Outcome {
    let base = format!("{}-{}", suite.name, std::process::id());
    let began = Instant::now();
    let mut child = Command::new(SELF)
        .args(["machine", name, &base])
        .spawn()
        .expect("start a machine");
    let status = loop {
        if let Some(status) = child.try_wait().expect("wait for the machine") {
            break status;
        }
        if began.elapsed() > suite.patience {
            println!("{name} takes longer than {} s", suite.patience.as_secs());
            // All of the machine goes with it, once nothing is frozen; the next turn sees its status.
            let _ = child.kill();
            hierarchies().iter().for_each(|h| thaw(&h.root.join(&base)));
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let (outcome, word) = match status.code() {
        Some(0) => (Outcome::Passed, "ok"),
        Some(code) if code == i32::from(SKIPPED) => (Outcome::Skipped, "ignored"),
        _ => (Outcome::Failed, "FAILED"),
    };
    if matches!(outcome, Outcome::Failed) {
        show_logs(&directory(&base));
    }
    println!(
        "test {name} ... {word} ({:.1} s)",
        began.elapsed().as_secs_f32()
    );
    let _ = fs::remove_dir_all(directory(&base));
    hierarchies()
        .iter()
        .for_each(|h| remove_cgroups(&h.root.join(&base)));
    outcome
}

fn show_logs(directory: &Path) {
    let logs = fs::read_dir(directory.join("log")).into_iter().flatten();
    let mut logs: Vec<PathBuf> = logs.flatten().map(|log| log.path()).collect();
    logs.sort();
    for log in logs {
        let text = fs::read_to_string(&log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let skipped = lines.len().saturating_sub(LINES_SHOWN);
        println!(
            "--- {} (from line {})\n{}",
            log.display(),
            skipped + 1,
            lines[skipped..].join("\n")
        );
    }
}

/// One mounted cgroup hierarchy.
struct Hierarchy {
    root: PathBuf,
    kind: String,
    /// What a further mount of it has to ask for.
    options: String,
}

fn hierarchies() -> Vec<Hierarchy> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("read mounts");
    let hierarchy = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        let words: Vec<&str> = right.split(' ').collect();
        let [kind @ ("cgroup" | "cgroup2"), _, options] = words.as_slice() else {
            return None;
        };
        let asked = |option: &&str| {
            !["rw", "ro", "xattr", "nsdelegate"].contains(option)
                && !option.starts_with("release_agent=")
        };
        let options: Vec<&str> = options.split(',').filter(asked).collect();
        Some(Hierarchy {
            root: left.split(' ').nth(4)?.into(),
            kind: (*kind).into(),
            options: if *kind == "cgroup" {
                options.join(",")
            } else {
                String::new()
            },
        })
    };
    mounts.lines().filter_map(hierarchy).collect()
}

fn thaw(directory: &Path) {
    let _ = fs::write(directory.join("freezer.state"), "THAWED");
    let _ = fs::write(directory.join("cgroup.freeze"), "0");
    below(directory).iter().for_each(|part| thaw(part));
}

fn remove_cgroups(directory: &Path) {
    below(directory)
        .iter()
        .for_each(|part| remove_cgroups(part));
    let end = Instant::now() + Duration::from_secs(5);
    while directory.exists() && fs::remove_dir(directory).is_err() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn below(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect()
}

/// Between the tests and the machine: leaves for new namespaces and waits.
fn build(name: &str, base: &str) -> ExitCode {
    set_parent_process_death_signal(Some(Signal::KILL)).expect("end with the tests");
    enter_cgroup(Path::new(base));
    let all = CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWCGROUP;
    unshare(all).expect("make namespaces");
    // The machine's root group stays empty, as version 2 hands out no controllers otherwise.
    enter_cgroup(&Path::new(base).join("case"));
    let status = Command::new(SELF)
        .args(["machine-init", name, base])
        .status()
        .expect("start its init");
    ended(status.code())
}

/// As somebody ended, who may have been killed.
fn ended(code: Option<i32>) -> ExitCode {
    code.and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::FAILURE, ExitCode::from)
}

/// Moves this process into a new group of every hierarchy.
fn enter_cgroup(group: &Path) {
    for hierarchy in hierarchies() {
        let directory = hierarchy.root.join(group);
        fs::create_dir(&directory).expect("create a cgroup");
        let parent = directory.parent().expect("it is below a root");
        if hierarchy.kind == "cgroup2" {
            let offered = fs::read_to_string(parent.join("cgroup.controllers")).unwrap_or_default();
            for controller in offered.split_whitespace() {
                // Some cannot be had, and are then missed by whoever needs them.
                let _ = fs::write(
                    parent.join("cgroup.subtree_control"),
                    format!("+{controller}"),
                );
            }
        }
        for file in ["cpuset.cpus", "cpuset.mems"] {
            // Version 1 lets nobody in before these are set.
            if let (Ok(above), Ok("")) = (
                fs::read_to_string(parent.join(file)),
                fs::read_to_string(directory.join(file))
                    .as_deref()
                    .map(str::trim),
            ) {
                fs::write(directory.join(file), above).expect("hand processors down");
            }
        }
        fs::write(directory.join("cgroup.procs"), "0").expect("enter a cgroup");
    }
}

/// Process 1 of the machine: furnishes it, starts the case, and reaps orphans.
fn init(name: &str, base: &str) -> ExitCode {
    set_parent_process_death_signal(Some(Signal::KILL)).expect("end with the tests");
    mount_all();
    for line in [
        "ip link set lo up",
        "ip netns add outside",
        "ip link add wan0 type veth peer name eth0 netns outside",
        "ip address add 192.0.2.2/24 dev wan0",
        "ip link set wan0 up",
        "ip -n outside address add 192.0.2.1/24 dev eth0",
        "ip -n outside link set eth0 up",
        "ip route add default via 192.0.2.1",
    ] {
        let mut words = line.split(' ');
        let program = words.next().expect("a line has a word");
        let status = Command::new(program).args(words).status();
        assert!(status.expect("iproute2 is installed").success(), "{line}");
    }
    await_carrier("wan0");
    let case = Command::new(SELF)
        .args(["machine-case", name, base])
        .spawn()
        .map(|child| child.id())
        .expect("start the case");
    loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, code)) if pid.as_raw().unsigned_abs() == case => {
                return ended(Some(code));
            }
            Ok(WaitStatus::Signaled(pid, ..)) if pid.as_raw().unsigned_abs() == case => {
                return ExitCode::FAILURE;
            }
            _ => {}
        }
    }
}

/// The kernel tells a link's carrier, on which its routes depend, a moment after it is there.
fn await_carrier(link: &str) {
    let state = format!("/sys/class/net/{link}/operstate");
    let end = Instant::now() + Duration::from_secs(60);
    while fs::read_to_string(&state)
        .expect("read a link's state")
        .trim()
        != "up"
    {
        assert!(Instant::now() < end, "{link} has no carrier");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The mounts of a machine of its own.
fn mount_all() {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).expect("private mounts");
    forget_foreign_mounts();
    let nothing = MountFlags::empty();
    mount("proc", "/proc", "proc", nothing, None).expect("mount /proc");
    let hierarchies = hierarchies();
    mount("sysfs", "/sys", "sysfs", nothing, None).expect("mount /sys");
    if hierarchies.iter().all(|h| h.root != Path::new(CGROUPS)) {
        mount("tmpfs", CGROUPS, "tmpfs", nothing, None).expect("mount a directory for cgroups");
    }
    for Hierarchy {
        root,
        kind,
        options,
    } in hierarchies
    {
        fs::create_dir_all(&root).expect("create a mount point");
        let options = CString::new(options).expect("the kernel's words have no zero");
        let options = (!options.is_empty()).then_some(options.as_c_str());
        mount(kind.as_str(), &root, kind.as_str(), nothing, options)
            .expect("mount a cgroup hierarchy");
    }
    mount("tmpfs", "/run", "tmpfs", nothing, None).expect("mount /run");
}

/// Mounts of other tests that the new namespace holds copies of: they would keep
/// those tests from cleaning up, and vanish while ours run.
fn forget_foreign_mounts() {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("read mounts");
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    let foreign: Vec<&str> = points
        .filter(|point| {
            ["/tmp/", "/var/", "/run/"]
                .iter()
                .any(|start| point.starts_with(start))
        })
        .collect();
    for point in foreign.iter().rev() {
        // It may just have gone.
        let _ = unmount(*point, UnmountFlags::DETACH);
    }
}
