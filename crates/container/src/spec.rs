//! What a container shall be: plain values, resolved by the caller (users and groups are
//! numbers, mounts exist, the network namespace is made).

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Everything a shim needs to know; kept as `spec.json` in the instance's directory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// Command and arguments; the first without a slash is looked for in `PATH`.
    pub args: Vec<String>,
    /// `KEY=value`; must hold `PATH` for commands without a slash.
    pub env: Vec<String>,
    /// Absolute; created when missing. `None`: `/`, or the sandbox with [`Root::Host`].
    pub cwd: Option<PathBuf>,
    pub user: User,
    /// `None` leaves the machine's name.
    pub hostname: Option<String>,
    pub root: Root,
    pub read_only_root: bool,
    pub network: Network,
    pub mounts: Vec<Mount>,
    /// Bytes of `/dev/shm`.
    pub shm_bytes: u64,
    pub limits: Limits,
    /// Added to and dropped from Docker's fourteen, with or without `CAP_`; `ALL` is understood.
    pub capabilities_add: Vec<String>,
    pub capabilities_drop: Vec<String>,
    /// `false` lets setuid programs raise privileges, and costs about 20 ms at each start.
    pub no_new_privileges: bool,
    /// All that root may do on this machine, as Docker's `--privileged`: every capability and
    /// device, no seccomp filter, nothing masked or read-only but the cgroups, which are the
    /// node's.
    #[serde(default)]
    pub privileged: bool,
    /// Path below each hierarchy's mount, without a leading slash: `tandem/n1/<id>`.
    pub cgroup: String,
    /// Where shims live: beside the instances, never inside one: `tandem/n1/shims`.
    pub shim_cgroup: String,
    pub log: LogLimits,
}

impl Spec {
    /// A container with Docker's defaults and the machine's network.
    pub fn new(args: Vec<String>, root: Root, cgroup: String, shim_cgroup: String) -> Self {
        Self {
            args,
            env: vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into()],
            cwd: None,
            user: User::default(),
            hostname: None,
            root,
            read_only_root: false,
            network: Network::Host,
            mounts: Vec::new(),
            shm_bytes: 64 << 20,
            limits: Limits::default(),
            capabilities_add: Vec::new(),
            capabilities_drop: Vec::new(),
            no_new_privileges: true,
            privileged: false,
            cgroup,
            shim_cgroup,
            log: LogLimits::default(),
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    pub additional_gids: Vec<u32>,
}

/// The root filesystem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Root {
    /// A mounted directory that belongs to this instance alone.
    Mounted(PathBuf),
    /// The node's own `/`, read-only with everything mounted below it; `/proc`, `/sys`, `/dev`
    /// and `/tmp` of its own; `hidden` (absolute paths) and `/run` covered by empty
    /// directories; `sandbox` writable at `/mnt/mesos/sandbox`.
    Host {
        sandbox: PathBuf,
        hidden: Vec<PathBuf>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// A file on which a network namespace is mounted.
    Namespace(PathBuf),
    Host,
}

/// Something mounted into the container; a missing target is created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    pub source: Source,
    /// Absolute, inside the container.
    pub target: PathBuf,
    pub read_only: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// A file or directory of the node, with what is mounted below it.
    Bind(PathBuf),
    Tmpfs {
        bytes: Option<u64>,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// A weight; 1024 is one core's worth where there is a contest.
    pub cpu_shares: Option<u64>,
    /// Cores, as a hard limit: 0.5 is half a core.
    pub cpu_quota: Option<f64>,
    pub memory_bytes: Option<u64>,
    /// 0: as many as the machine allows.
    pub pids: u32,
    pub ulimits: Vec<Ulimit>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            cpu_shares: None,
            cpu_quota: None,
            memory_bytes: None,
            pids: 4096,
            ulimits: Vec::new(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// As in Docker: `nofile`, `nproc`, `core`, `memlock`, …
    pub name: String,
    pub soft: u64,
    pub hard: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLimits {
    /// A log file is put aside when it has grown to this.
    pub bytes: u64,
    /// Files kept in all, the one being written included; at least 1.
    pub files: u32,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self {
            bytes: 10 << 20,
            files: 3,
        }
    }
}
