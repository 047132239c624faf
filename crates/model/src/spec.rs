//! What a user wants kept running, in one canonical form, whatever dialect it was written in.
//!
//! `marathon` makes an [`AppSpec`] from JSON and renders it back; nothing else reads that JSON.
//! Fields that are stored and do nothing yet are kept where a client must see them again.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::ids::{AppId, VolumeId};
use crate::quantity::{Mebibytes, Quantity};
use crate::time::Millis;

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AppSpec {
    pub instances: u32,
    pub command: Command,
    pub container: Container,
    pub resources: Wanted,
    pub user: Option<String>,
    pub env: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    pub constraints: Vec<Constraint>,
    pub dependencies: Vec<AppId>,
    pub network: Network,
    pub ports: Vec<Port>,
    /// Host networking only: the host ports are the declared ones.
    pub require_ports: bool,
    /// Addresses that follow the app (`WEAVE_CIDR`), on the second network.
    pub fixed_addresses: Vec<FixedAddress>,
    pub mounts: Vec<Mount>,
    pub health_checks: Vec<HealthCheck>,
    pub upgrade: UpgradeStrategy,
    pub backoff: Backoff,
    pub kill_grace: Option<Millis>,
    pub kill_selection: KillSelection,
    pub unreachable: Option<Unreachable>,
    pub accepted_resource_roles: Vec<String>,
    pub role: Option<String>,
    /// Marathon's fields that nothing acts on, as JSON text by their names: kept because clients
    /// must see them again (`readinessChecks`, `check`, `executor`, `resourceLimits`, …).
    pub kept: BTreeMap<String, String>,
}

/// What to run in the container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Command {
    /// The image's own entrypoint and command.
    #[default]
    Image,
    /// `/bin/sh -c` of this line; in an image it takes the place of its command.
    Shell(String),
    /// These words take the place of the image's command.
    Args(Vec<String>),
}

/// What the command runs in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Container {
    /// A command task without an image: the node's own files, read-only.
    #[default]
    None,
    /// Marathon's `DOCKER` container, or a `MESOS` one with an image.
    Image(Box<ImageContainer>),
    /// Marathon's `MESOS` container without an image.
    Mesos,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ImageContainer {
    pub engine: Engine,
    /// As the user wrote it.
    pub image: String,
    pub force_pull: bool,
    pub privileged: bool,
    /// `docker run` options in the order given, for rendering; what they ask for is in `options`
    /// and in the spec's ports, mounts and fixed addresses.
    pub parameters: Vec<Parameter>,
    pub options: DockerOptions,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Engine {
    #[default]
    Docker,
    Mesos,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Parameter {
    pub key: String,
    pub value: String,
}

/// What `docker run` options ask for beyond the spec's own fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct DockerOptions {
    pub hostname: Option<String>,
    pub user: Option<String>,
    pub workdir: Option<String>,
    /// Empty: the image's entrypoint is not used.
    pub entrypoint: Option<Vec<String>>,
    /// Besides the spec's own, which win.
    pub env: BTreeMap<String, String>,
    /// Besides the spec's own, which win.
    pub labels: BTreeMap<String, String>,
    /// Names without `CAP_`, upper case.
    pub cap_add: Vec<String>,
    pub cap_drop: Vec<String>,
    pub ulimits: Vec<Ulimit>,
    /// Bytes; in place of the spec's `mem` as the container's limit.
    pub memory: Option<u64>,
    /// At most [`DockerOptions::PIDS_MAX`], which the kernel takes as no limit.
    pub pids_limit: Option<u32>,
    pub read_only: bool,
    pub tmpfs: Vec<Tmpfs>,
    pub shm_size: Option<u64>,
    pub stop_signal: Option<String>,
    /// Seconds between the stop signal and SIGKILL.
    pub stop_timeout: Option<u64>,
    pub no_new_privileges: Option<bool>,
    pub log_driver: Option<String>,
    /// `tag=` of `log-opt`.
    pub log_tag: Option<String>,
}

impl DockerOptions {
    /// The kernel's own bound of processes.
    pub const PIDS_MAX: u32 = 4_194_304;
    /// Bytes; Docker's own bound. With less a container does not even start.
    pub const MEMORY_MIN: u64 = 6 << 20;
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ulimit {
    /// `nofile`, `nproc`, …
    pub name: String,
    /// `u64::MAX`: unlimited.
    pub soft: u64,
    pub hard: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tmpfs {
    pub path: String,
    /// Bytes.
    pub size: Option<u64>,
}

/// Resources that one instance asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Wanted {
    pub cpus: Quantity,
    pub mem: Mebibytes,
    pub disk: Mebibytes,
    pub gpus: u32,
    /// A hard limit of cpus (`resourceLimits.cpus`); `None`: cpus are weights only.
    pub cpu_limit: Option<Quantity>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Network {
    #[default]
    Host,
    Bridge,
    /// `container` mode with the network's name; every name is the one overlay.
    Container(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Port {
    pub name: Option<String>,
    pub protocol: Protocols,
    /// In the container; 0: the same number as the host port (and on the host, any).
    pub container: u16,
    pub host: HostPort,
    /// Marathon's service port; 0 until the master gives one.
    pub service: u16,
    pub labels: BTreeMap<String, String>,
    /// Came from a `publish` parameter. Clients see it as a mapping too; read back, a mapping
    /// that equals a `publish` is the same port.
    pub published: bool,
}

#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum HostPort {
    /// Not published on the node.
    None,
    /// Any free port of the node's range.
    #[default]
    Dynamic,
    Fixed(u16),
}

#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum Protocol {
    #[default]
    Tcp,
    Udp,
}

#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum Protocols {
    #[default]
    Tcp,
    Udp,
    /// `udp,tcp`.
    Both,
}

impl Protocols {
    pub fn each(self) -> &'static [Protocol] {
        match self {
            Self::Tcp => &[Protocol::Tcp],
            Self::Udp => &[Protocol::Udp],
            Self::Both => &[Protocol::Tcp, Protocol::Udp],
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FixedAddress {
    pub address: Ipv4Addr,
    pub prefix: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute, in the container.
    pub path: String,
    pub source: MountSource,
    pub read_only: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MountSource {
    /// A named volume, however the user asked for it (see `form`, for rendering).
    Volume {
        volume: VolumeId,
        size: Option<Mebibytes>,
        form: VolumeForm,
    },
    /// A directory of the node.
    Host(String),
}

/// How a named volume was written down.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum VolumeForm {
    /// `hostPath: "/flocker/NAME"`.
    Flocker,
    /// `volume-driver` and `volume: NAME:/path` among docker's parameters.
    Parameter,
    /// `external: {name, provider, options}`.
    External {
        provider: String,
        options: BTreeMap<String, String>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Constraint {
    /// `hostname`, `@hostname`, `@region`, `@zone` or an attribute's name.
    pub field: String,
    pub operator: Operator,
    /// Absent and empty are the same.
    pub value: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Operator {
    Unique,
    Cluster,
    GroupBy,
    Like,
    Unlike,
    MaxPer,
    Is,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HealthCheck {
    pub probe: Probe,
    pub grace: Millis,
    pub interval: Millis,
    pub timeout: Millis,
    /// Failures in a row that end an instance; 0: never.
    pub max_failures: u32,
    pub delay: Millis,
    pub ignore_http_1xx: bool,
    /// Marathon's name of the protocol (`MESOS_HTTP` …), for rendering; the agent runs them all.
    pub protocol: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Probe {
    Http {
        tls: bool,
        path: String,
        port: ProbePort,
    },
    Tcp {
        port: ProbePort,
    },
    /// A shell line run in the instance.
    Command(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ProbePort {
    /// The spec's n-th port.
    Index(u32),
    Number(u16),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct UpgradeStrategy {
    /// Shares from 0 to 1.
    pub minimum_health: Quantity,
    pub maximum_over: Quantity,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Backoff {
    pub initial: Millis,
    /// At least 1.
    pub factor: Quantity,
    pub max: Millis,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum KillSelection {
    #[default]
    YoungestFirst,
    OldestFirst,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Unreachable {
    Disabled,
    After { inactive: Millis, expunge: Millis },
}

impl Default for AppSpec {
    /// Marathon's defaults.
    fn default() -> Self {
        Self {
            instances: 1,
            command: Command::default(),
            container: Container::default(),
            resources: Wanted {
                cpus: Quantity::whole(1),
                mem: Quantity::whole(128),
                ..Wanted::default()
            },
            user: None,
            env: BTreeMap::new(),
            labels: BTreeMap::new(),
            constraints: Vec::new(),
            dependencies: Vec::new(),
            network: Network::default(),
            ports: Vec::new(),
            require_ports: false,
            fixed_addresses: Vec::new(),
            mounts: Vec::new(),
            health_checks: Vec::new(),
            upgrade: UpgradeStrategy {
                minimum_health: Quantity::whole(1),
                maximum_over: Quantity::whole(1),
            },
            backoff: Backoff {
                initial: Millis::seconds(1),
                factor: Quantity(1150),
                max: Millis::seconds(300),
            },
            kill_grace: None,
            kill_selection: KillSelection::default(),
            unreachable: None,
            accepted_resource_roles: Vec::new(),
            role: None,
            kept: BTreeMap::new(),
        }
    }
}

impl AppSpec {
    /// The named volumes that an instance needs, in order of their mounts.
    pub fn volumes(&self) -> impl Iterator<Item = (&VolumeId, Option<Mebibytes>)> {
        self.mounts.iter().filter_map(|mount| match &mount.source {
            MountSource::Volume { volume, size, .. } => Some((volume, *size)),
            MountSource::Host(_) => None,
        })
    }

    /// What the container asks of Docker; `None` for a task without an image.
    pub fn image(&self) -> Option<&ImageContainer> {
        match &self.container {
            Container::Image(image) => Some(image),
            Container::None | Container::Mesos => None,
        }
    }

    /// Whether a move may freeze and kill it instead of telling it to stop: it survives kill -9.
    pub fn freezes_for_a_move(&self) -> bool {
        self.labels
            .get("tandem/move-stop")
            .is_some_and(|value| value == "freeze")
    }

    /// The command to run in an instance before the last round that it runs through.
    pub fn move_hook(&self) -> Option<&str> {
        self.labels.get("tandem/move-hook").map(String::as_str)
    }

    /// Whether the two differ in nothing but the number of instances.
    pub fn differs_only_in_scale(&self, other: &Self) -> bool {
        Self {
            instances: other.instances,
            ..self.clone()
        } == *other
    }
}

/// What Docker gives every container, so that no node need allow it; without their `CAP_`.
pub const DEFAULT_CAPABILITIES: [&str; 14] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
