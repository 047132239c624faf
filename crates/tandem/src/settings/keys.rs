//! Every setting once: its key, kind, default, flag, environment variable and what it is for.
//! The file's parser, the flags, the defaults and `tandem config default` all follow from here.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::kinds::{Attributes, List, Mirrors, Percent, PortRange, Size};

/// A setting, as documentation.
pub struct Key {
    pub section: &'static str,
    pub name: &'static str,
    pub about: &'static [&'static str],
    /// As it stands in the file; `None` where there is no default.
    pub default: Option<toml::Value>,
}

/// What a section's keys have in common: `lower` fills what is missing here.
pub trait Given: Default {
    fn or(self, lower: Self) -> Self;
    fn keys() -> Vec<Key>;
}

macro_rules! settled_kind {
    ($kind:ty) => { Option<$kind> };
    ($kind:ty, $default:expr) => { $kind };
}

macro_rules! settled {
    ($given:expr) => {
        $given
    };
    ($given:expr, $default:expr) => {
        $given.unwrap_or_else(|| $default)
    };
}

macro_rules! default_value {
    ($kind:ty) => {
        None
    };
    ($kind:ty, $default:expr) => {{
        let value: $kind = $default;
        Some(toml::Value::try_from(value).expect("defaults have a form in TOML"))
    }};
}

macro_rules! sections {
    ($( $(#[doc = $about:literal])* $section:literal $heading:literal: $Given:ident => $Settled:ident {
        $( $(#[doc = $doc:literal])+
           $key:ident: $kind:ty $(= $default:expr)?, $flag:literal, $env:literal; )+
    } )+) => {$(
        // A doc comment here would become the help text of the commands that take it.
        #[derive(Clone, Debug, Default, PartialEq, clap::Args, serde::Deserialize)]
        #[command(next_help_heading = $heading)]
        #[serde(default)]
        pub struct $Given {
            $( $(#[doc = $doc])+
               #[arg(id = $flag, long = $flag, env = $env, hide_env_values = true, value_name = "VALUE")]
               pub $key: Option<$kind>, )+
        }

        $(#[doc = $about])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $Settled {
            $( $(#[doc = $doc])+
               pub $key: settled_kind!($kind $(, $default)?), )+
        }

        impl $Given {
            /// With defaults for what nobody gave.
            pub fn settle(self) -> $Settled {
                $Settled { $( $key: settled!(self.$key $(, $default)?), )+ }
            }
        }

        impl Given for $Given {
            fn or(self, lower: Self) -> Self {
                $Given { $( $key: self.$key.or(lower.$key), )+ }
            }

            fn keys() -> Vec<Key> {
                vec![$( Key {
                    section: $section,
                    name: stringify!($key),
                    about: &[$($doc),+],
                    default: default_value!($kind $(, $default)?),
                } ),+]
            }
        }
    )+};
}

sections! {
    /// What every role has.
    "" "Where and how": GeneralGiven => General {
        /// Directory for everything that Tandem must not forget
        state_dir: PathBuf = PathBuf::from("/var/lib/tandem"), "state-dir", "TANDEM_STATE_DIR";
        /// What is logged: error, warn, info, debug or trace; for single parts `info,master=debug`
        log: String = String::from("info"), "log", "TANDEM_LOG";
    }

    /// The role that decides.
    "master" "Master": MasterGiven => Master {
        /// Address and port where agents connect
        listen: SocketAddr = SocketAddr::from(([0, 0, 0, 0], 4433)), "listen", "TANDEM_MASTER_LISTEN";
        /// Addresses and ports of the HTTP API; who can use it is root on the cluster
        api: List<SocketAddr> = List(vec![SocketAddr::from(([0, 0, 0, 0], 8080))]), "api", "TANDEM_MASTER_API";
        /// Name or address that clients are told to find the API by; else the machine's host name
        hostname: String, "hostname", "TANDEM_MASTER_HOSTNAME";
        /// Seconds of silence after which a node counts as lost
        node_timeout: u32 = 5, "node-timeout", "TANDEM_MASTER_NODE_TIMEOUT";
        /// Range that Marathon's service ports are chosen from
        service_ports: PortRange = PortRange(10_000, 20_000), "service-ports", "TANDEM_MASTER_SERVICE_PORTS";
    }

    /// The role that acts, on every node.
    "agent" "Agent": AgentGiven => Agent {
        /// The master's address and port for agents, such as 10.0.15.10:4433
        master: String, "master", "TANDEM_AGENT_MASTER";
        /// Token to join with, from `tandem token create`; needed once
        token: String, "token", "TANDEM_AGENT_TOKEN";
        /// Socket of a master on the same machine to ask for a token instead
        token_socket: PathBuf, "token-socket", "TANDEM_AGENT_TOKEN_SOCKET";
        /// The node's name, unique in the cluster; else the machine's host name
        name: String, "name", "TANDEM_AGENT_NAME";
        /// What `hostname` constraints match; else the node's address
        hostname: String, "hostname", "TANDEM_AGENT_HOSTNAME";
        /// Address that other nodes and clients reach the node by; else the one facing the master
        address: Ipv4Addr, "address", "TANDEM_AGENT_ADDRESS";
        /// Attributes for constraints, such as disk:ssd;zone:west
        attributes: Attributes = Attributes::default(), "attributes", "TANDEM_AGENT_ATTRIBUTES";
        /// Processors offered to apps; else all
        cpus: f64, "cpus", "TANDEM_AGENT_CPUS";
        /// Memory offered to apps; else 80 % of the machine's
        mem: Size, "mem", "TANDEM_AGENT_MEM";
        /// Disk offered to apps; else 80 % of what is free in the state directory
        disk: Size, "disk", "TANDEM_AGENT_DISK";
        /// Host ports for dynamic mappings
        ports: PortRange = PortRange(31_000, 32_000), "ports", "TANDEM_AGENT_PORTS";
        /// Port where other agents ask for volumes that move to them
        stream_port: u16 = 4434, "stream-port", "TANDEM_AGENT_STREAM_PORT";
        /// What apps may have beyond Docker's defaults: privileged, capabilities, host paths
        allow: List<String> = List(Vec::new()), "allow", "TANDEM_AGENT_ALLOW";
        /// Control group below which everything runs; else tandem/NAME
        cgroup: String, "cgroup", "TANDEM_AGENT_CGROUP";
        /// Resolvers for names outside the cluster, such as 9.9.9.9:53; else the machine's
        upstreams: List<SocketAddr>, "upstreams", "TANDEM_AGENT_UPSTREAMS";
        /// Paths that tasks without an image must not see, besides the state directory
        hidden: List<PathBuf> = List(Vec::new()), "hidden", "TANDEM_AGENT_HIDDEN";
        /// The network namespace is this node's alone, and not a whole machine's
        own_namespace: bool = false, "own-namespace", "TANDEM_AGENT_OWN_NAMESPACE";
        /// An instance's log file is put aside at this size
        log_size: Size = Size::mebibytes(10), "log-size", "TANDEM_AGENT_LOG_SIZE";
        /// Log files kept for each instance
        log_files: u32 = 3, "log-files", "TANDEM_AGENT_LOG_FILES";
        /// Percent of its disk in use above which images go that no app of the node names; 100: never
        images_high: Percent = Percent(85), "images-high", "TANDEM_AGENT_IMAGES_HIGH";
        /// Percent in use down to which they go, those first that were not used for longest
        images_low: Percent = Percent(80), "images-low", "TANDEM_AGENT_IMAGES_LOW";
        /// They go too where less than this is free
        images_free: Size = Size::mebibytes(512), "images-free", "TANDEM_AGENT_IMAGES_FREE";
    }

    /// Where images come from.
    "registry" "Registry": RegistryGiven => Registry {
        /// The cluster's own registry, asked first, such as 10.0.15.10:5000
        address: String, "registry-address", "TANDEM_REGISTRY_ADDRESS";
        /// Registries that answer for others: HOST=REGISTRY; in the file a table
        mirrors: Mirrors = Mirrors::default(), "registry-mirrors", "TANDEM_REGISTRY_MIRRORS";
    }

    /// Volumes.
    "volume" "Volumes": VolumeGiven => Volume {
        /// Size of a volume that is named for the first time without one
        default_size: Size = Size::mebibytes(1024), "volume-default-size", "TANDEM_VOLUME_DEFAULT_SIZE";
        /// Size of the file in which a node keeps its volumes, reserved when the first is made
        pool_size: Size = Size::mebibytes(5120), "volume-pool-size", "TANDEM_VOLUME_POOL_SIZE";
    }

    /// The overlay.
    "network" "Network": NetworkGiven => Network {
        /// What instances have their addresses from; fixed when the cluster is founded
        subnet: local::Subnet = local::Subnet::new(Ipv4Addr::new(10, 32, 0, 0), 12), "network-subnet", "TANDEM_NETWORK_SUBNET";
    }

    /// `tandem up`.
    "local" "Local cluster": LocalGiven => Local {
        /// How many nodes
        nodes: u8 = 3, "nodes", "TANDEM_LOCAL_NODES";
        /// The machine's own address among its nodes, with prefix; node n has the n-th above
        machine: local::Subnet = local::Subnet::new(Ipv4Addr::new(10, 0, 15, 10), 24), "machine", "TANDEM_LOCAL_MACHINE";
        /// Directory for the logs of master, registry and nodes
        log_dir: PathBuf = PathBuf::from("/var/log/tandem"), "log-dir", "TANDEM_LOCAL_LOG_DIR";
        /// Control group below which all of it runs; two clusters must not share one
        cgroup: String = "tandem".to_owned(), "local-cgroup", "TANDEM_LOCAL_CGROUP";
        /// Port of the HTTP API
        api_port: u16 = 8080, "api-port", "TANDEM_LOCAL_API_PORT";
        /// Port of the registry
        registry_port: u16 = 5000, "registry-port", "TANDEM_LOCAL_REGISTRY_PORT";
        /// Port for agents
        agents_port: u16 = 4433, "agents-port", "TANDEM_LOCAL_AGENTS_PORT";
    }
}
