//! Lives of a real agent: a child process that runs `agent::run` against a master of the test's
//! own over real TLS, starting real containers. One program, because agent and shims are this
//! program executed again. Needs root; everything happens in a network and mount namespace and a
//! cgroup of the test's own, which go at the end, whatever happened.

#![allow(clippy::panic)]

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use model::{Machine, Mebibytes, Quantity, Resources};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

mod cases;
mod master;

/// Argument of a process that is an agent: state directory, master, cgroup, registry, pool's MiB,
/// token.
const AGENT: &str = "play-agent";
const PATIENCE: Duration = Duration::from_secs(60);
const UNDERLAY: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);

fn main() -> ExitCode {
    if let Some(code) = container::reexec() {
        return code;
    }
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [role, state_dir, master, cgroup, registry, pool, high, token] = args.as_slice()
        && role == AGENT
    {
        return play_agent(state_dir, master, cgroup, registry, pool, high, token);
    }
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: containers need root");
        return ExitCode::SUCCESS;
    }
    if args.iter().any(|arg| arg == "--list") {
        return ExitCode::SUCCESS;
    }
    let filter = args.iter().find(|arg| !arg.starts_with('-'));
    own_machine();
    runtime().block_on(cases::all(filter.map_or("", String::as_str)))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
}

/// Before any thread exists: a network with one end of a wire, and mounts that nobody else sees.
fn own_machine() {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("unshare");
    let none: Option<&str> = None;
    let flags = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
    mount(none, "/", none, flags, none).expect("private mounts");
    for line in [
        "link set lo up",
        "link add under0 type veth peer name under1",
        "address add 10.99.0.1/24 dev under0",
        "link set under0 up",
        "link set under1 up",
    ] {
        let done = Command::new("ip").args(line.split(' ')).status();
        assert!(done.is_ok_and(|status| status.success()), "ip {line}");
    }
}

fn play_agent(
    state_dir: &str,
    master: &str,
    cgroup: &str,
    registry: &str,
    pool: &str,
    images_high: &str,
    token: &str,
) -> ExitCode {
    tracing_to_stderr();
    let config = agent::Config {
        state_dir: state_dir.into(),
        master: master.parse().expect("an address"),
        token: (!token.is_empty()).then(|| token.to_owned()),
        machine: machine(),
        cgroup_base: cgroup.to_owned(),
        registries: image::Registries {
            cluster: (!registry.is_empty()).then(|| registry.to_owned()),
            ..image::Registries::default()
        },
        own_namespace: true,
        upstreams: Some(Vec::new()),
        hidden: Vec::new(),
        log: container::LogLimits::default(),
        pool_size: Mebibytes::whole(pool.parse().expect("a size")),
        image_marks: agent::ImageMarks {
            high: images_high.parse().expect("a percentage"),
            low: 50,
            free: 0,
        },
    };
    match runtime().block_on(agent::run(config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut cause: Option<&dyn std::error::Error> = Some(&error);
            while let Some(error) = cause {
                eprintln!("agent: {error}");
                cause = error.source();
            }
            ExitCode::FAILURE
        }
    }
}

fn tracing_to_stderr() {
    let _ = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .try_init();
}

fn machine() -> Machine {
    Machine {
        name: "n1".into(),
        hostname: "10.99.0.1".into(),
        address: UNDERLAY,
        resources: Resources {
            cpus: Quantity::whole(2),
            mem: Mebibytes::whole(1024),
            disk: Mebibytes::whole(1024),
        },
        attributes: Default::default(),
        ports: (31_000, 32_000),
        stream_port: 4434,
        allow: Vec::new(),
        boot: String::new(),
        version: "test".into(),
    }
}

/// A node's place on this machine; everything in it goes when it is dropped.
struct World {
    home: tempfile::TempDir,
    cgroup: String,
    registry: String,
    pool_mebibytes: u64,
    /// Percent of the disk in use above which images go.
    images_high: u8,
}

impl World {
    fn new(number: u32) -> Self {
        Self {
            home: tempfile::tempdir().expect("a temporary directory"),
            cgroup: format!("tandem-agent-test-{}-{number}", std::process::id()),
            registry: String::new(),
            pool_mebibytes: 256,
            images_high: 60,
        }
    }

    fn state_dir(&self) -> PathBuf {
        self.home.path().join("state")
    }

    fn pool_mount(&self) -> PathBuf {
        self.state_dir().join("volumes/pool")
    }

    fn log(&self) -> PathBuf {
        self.home.path().join("agent.log")
    }

    fn agent(&self, master: SocketAddr, token: &str) -> Agent {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.log())
            .expect("open the agent's log");
        let child = Command::new("/proc/self/exe")
            .arg(AGENT)
            .arg(self.state_dir())
            .arg(master.to_string())
            .args([&self.cgroup, &self.registry])
            .args([self.pool_mebibytes, self.images_high.into()].map(|n| n.to_string()))
            .arg(token)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("start an agent");
        Agent(child)
    }
}

/// An agent's process, killed when dropped.
struct Agent(Child);

impl Agent {
    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "--- the agent's log\n{}---",
                fs::read_to_string(self.log()).unwrap_or_default()
            );
        }
        for hierarchy in children(Path::new("/sys/fs/cgroup")) {
            let base = hierarchy.join(&self.cgroup);
            for group in children(&base).into_iter().filter(|path| path.is_dir()) {
                clear(&group);
            }
            let _ = fs::remove_dir(&base);
        }
        let namespaces = children(&self.state_dir().join("netns"));
        let roots = children(&self.state_dir().join("instances"));
        let roots = roots.into_iter().map(|dir| dir.join("rootfs"));
        for path in namespaces.into_iter().chain(roots) {
            unmount(&path);
        }
        while unmount(&self.pool_mount()) {}
        // The overlay's devices are this network namespace's, which later cases share.
        for device in ["tnd0", "tnd0vx", "tnd1", "tnd1vx"] {
            let _ = Command::new("ip")
                .args(["link", "delete", device])
                .stderr(Stdio::null())
                .status();
        }
    }
}

/// Whether there was a mount.
fn unmount(path: &Path) -> bool {
    nix::mount::umount2(path, nix::mount::MntFlags::MNT_DETACH).is_ok()
}

fn clear(group: &Path) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while group.is_dir() && fs::remove_dir(group).is_err() && Instant::now() < deadline {
        for inner in children(group).into_iter().filter(|path| path.is_dir()) {
            clear(&inner);
        }
        let processes = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
        for pid in processes.lines().filter_map(|pid| pid.parse().ok()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn children(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}
