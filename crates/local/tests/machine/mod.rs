//! A machine for one test, and what a test does in it.

use local::{Options, Program, Ready, Roles};
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::{WaitStatus, waitpid};
use rustix::fs::{CWD, FlockOperation, flock};
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount,
    mount_change, move_mount, open_tree, unmount,
};
use rustix::process::{Signal, set_parent_process_death_signal};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

const SELF: &str = "/proc/self/exe";
const CGROUPS: &str = "/sys/fs/cgroup";

/// Runs one case in a new machine and removes what only the outside can.
pub fn run(name: &str) -> bool {
    let lock = File::create("/run/lock/tandem-local-test.lock")
        .expect("create the lock of all such tests");
    flock(&lock, FlockOperation::LockExclusive).expect("take the lock of all such tests");
    let base = format!("tandem-local-test-{}", std::process::id());
    let began = Instant::now();
    let mut child = Command::new(SELF)
        .args(["machine", name, &base])
        .spawn()
        .expect("start a machine");
    let status = loop {
        if let Some(status) = child.try_wait().expect("wait for the machine") {
            break status;
        }
        if began.elapsed() > Duration::from_secs(150) {
            // All of the machine goes with it, once nothing is frozen; the next turn sees its status.
            let _ = child.kill();
            thaw(&Path::new(CGROUPS).join("freezer").join(&base));
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    println!(
        "test {name} ... {} ({:.1} s)",
        if status.success() { "ok" } else { "FAILED" },
        began.elapsed().as_secs_f32()
    );
    if !status.success() {
        for log in fs::read_dir(directory(&base).join("log"))
            .into_iter()
            .flatten()
            .flatten()
        {
            println!(
                "--- {}\n{}",
                log.path().display(),
                fs::read_to_string(log.path()).unwrap_or_default()
            );
        }
    }
    let _ = fs::remove_dir_all(directory(&base));
    let roots = fs::read_dir(CGROUPS)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    roots
        .chain([CGROUPS.into()])
        .for_each(|root| remove_cgroups(&root.join(&base)));
    status.success()
}

fn directory(base: &str) -> PathBuf {
    Path::new("/var/tmp").join(base)
}

fn thaw(directory: &Path) {
    let _ = fs::write(directory.join("freezer.state"), "THAWED");
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            thaw(&entry.path());
        }
    }
}

fn remove_cgroups(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_cgroups(&entry.path());
        }
    }
    let end = Instant::now() + Duration::from_secs(5);
    while directory.exists() && fs::remove_dir(directory).is_err() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Between the tests and the machine: leaves for new namespaces and waits.
pub fn build(name: &str, base: &str) -> ExitCode {
    set_parent_process_death_signal(Some(Signal::KILL)).expect("end with the tests");
    let all = CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC;
    unshare(all).expect("make namespaces");
    let status = Command::new(SELF)
        .args(["machine-init", name, base])
        .status()
        .expect("start its init");
    ExitCode::from(u8::from(!status.success()))
}

/// Process 1 of the machine: furnishes it, starts the case, and reaps orphans.
pub fn init(name: &str, base: &str) -> ExitCode {
    set_parent_process_death_signal(Some(Signal::KILL)).expect("end with the tests");
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
    .expect("private mounts");
    forget_foreign_mounts();
    mount("proc", "/proc", "proc", MountFlags::empty(), None).expect("mount /proc");
    let cgroups = open_tree(
        CWD,
        CGROUPS,
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::AT_RECURSIVE,
    )
    .expect("copy cgroup mounts");
    mount("sysfs", "/sys", "sysfs", MountFlags::empty(), None).expect("mount /sys");
    move_mount(
        cgroups,
        "",
        CWD,
        CGROUPS,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )
    .expect("carry cgroup mounts over");
    mount("tmpfs", "/run", "tmpfs", MountFlags::empty(), None).expect("mount /run");
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
        sh(line);
    }
    let case = Command::new(SELF)
        .args(["machine-case", name, base])
        .spawn()
        .map(|child| child.id())
        .expect("start the case");
    loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, code)) if pid.as_raw().unsigned_abs() == case => {
                return ExitCode::from(u8::from(code != 0));
            }
            Ok(WaitStatus::Signaled(pid, ..)) if pid.as_raw().unsigned_abs() == case => {
                return ExitCode::FAILURE;
            }
            _ => {}
        }
    }
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

/// What a case works with.
pub struct Machine {
    pub options: Options,
}

impl Machine {
    pub fn new(base: &str) -> Machine {
        let directory = directory(base);
        let www = directory.join("www");
        fs::create_dir_all(&www).expect("create a directory to serve");
        fs::write(www.join("ping"), "pong").expect("write a page");
        // The agent notes who it is, starts one thing that outlives it, and serves its state directory.
        let agent = "echo $$ > {state}/agent; hostname > {state}/hostname; echo '{attributes}' > {state}/attributes
[ -e /run/kept ] || { setsid sleep 100000 < /dev/null > /dev/null 2>&1 & echo $! > /run/kept; cp /run/kept {state}/kept; }
exec busybox httpd -f -p 9000 -h {state}";
        let www = www.display().to_string();
        let master = ["busybox", "httpd", "-f", "-p", "{address}:8080", "-h", &www];
        let roles = Roles {
            master: Program::new(master),
            agent: Program::new(["/bin/sh", "-c", agent]),
        };
        let ready = Ready {
            address: "10.0.15.10:8080".parse().expect("an address"),
            path: "/ping".into(),
        };
        let options = Options {
            state_dir: directory.join("state"),
            log_dir: directory.join("log"),
            ready: Some(ready),
            cgroup: base.into(),
            ..Options::new(roles)
        };
        Machine { options }
    }

    pub fn listing(&self) -> String {
        local::listing(&self.options).expect("list what is there")
    }

    /// Starts the cluster in the background; the supervisor's pid.
    pub fn up(&self) -> i32 {
        match local::up(&self.options, true) {
            Ok(local::Up::Detached { pid }) => i32::try_from(pid).expect("a pid"),
            other => panic!("up: {other:?}"),
        }
    }

    pub fn down(&self) -> local::Down {
        local::down(&self.options, false).expect("down")
    }

    /// Pids in a cgroup of the cluster, as `n1/init`.
    pub fn members(&self, group: &str) -> Vec<i32> {
        let of = |root: PathBuf| {
            fs::read_to_string(
                root.join(&self.options.cgroup)
                    .join(group)
                    .join("cgroup.procs"),
            )
            .ok()
        };
        let roots = fs::read_dir(CGROUPS)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path());
        let text = roots
            .chain([CGROUPS.into()])
            .find_map(of)
            .unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    pub fn init_of(&self, node: &str) -> Option<i32> {
        self.members(&format!("{node}/init")).first().copied()
    }

    /// What a node's agent wrote down.
    pub fn noted(&self, node: &str, what: &str) -> Option<String> {
        let text =
            fs::read_to_string(self.options.state_dir.join("nodes").join(node).join(what)).ok()?;
        Some(text.trim().to_string()).filter(|text| !text.is_empty())
    }

    /// The node answers from the machine.
    pub fn answers(&self, number: u8) -> bool {
        get(&format!("10.0.15.{}:9000", 10 + number), "/hostname")
            .is_some_and(|body| body.trim() == format!("10.0.15.{}", 10 + number))
    }

    pub fn wait_for_nodes(&self, numbers: std::ops::RangeInclusive<u8>) {
        wait_until(&format!("nodes {numbers:?} to answer"), || {
            numbers.clone().all(|number| self.answers(number))
        });
    }

    /// Runs a command in a node.
    pub fn inside(&self, node: &str, line: &str) -> String {
        let init = self.init_of(node).expect("the node runs");
        sh(&format!("nsenter -t {init} -m -n -p -u -i -- {line}"))
    }
}

/// What a shell line printed; it must succeed.
pub fn sh(line: &str) -> String {
    let output = Command::new("/bin/sh")
        .args(["-c", line])
        .output()
        .expect("start a shell");
    assert!(
        output.status.success(),
        "{line}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_string()
}

/// The body of a page, if it is there.
pub fn get(address: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(
        &address.parse().expect("an address"),
        Duration::from_secs(1),
    )
    .ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    head.contains(" 200 ").then(|| body.to_string())
}

pub fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub fn kill(pid: i32) {
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid),
        nix::sys::signal::Signal::SIGKILL,
    )
    .expect("kill");
}

/// Zombies do not live.
pub fn lives(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .is_some_and(|rest| !rest.trim().is_empty() && !rest.trim().starts_with('Z'))
}
