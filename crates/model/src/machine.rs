//! Nodes: the machines with an agent.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::few::Few;
use crate::ids::{Incarnation, InstanceId, NodeId};
use crate::instance::Holding;
use crate::quantity::{Mebibytes, Quantity};
use crate::spec::Protocol;
use crate::time::Time;

/// What a machine offers to instances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Resources {
    pub cpus: Quantity,
    pub mem: Mebibytes,
    pub disk: Mebibytes,
}

impl Resources {
    pub fn plus(self, other: Self) -> Self {
        Self {
            cpus: self.cpus.saturating_add(other.cpus),
            mem: self.mem.saturating_add(other.mem),
            disk: self.disk.saturating_add(other.disk),
        }
    }

    pub fn minus(self, other: Self) -> Self {
        Self {
            cpus: self.cpus.saturating_sub(other.cpus),
            mem: self.mem.saturating_sub(other.mem),
            disk: self.disk.saturating_sub(other.disk),
        }
    }
}

/// What an agent says of its machine when it starts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Machine {
    /// `n1`; unique in the cluster.
    pub name: String,
    /// What `["hostname", …]` constraints match and tasks report as their host.
    pub hostname: String,
    /// The address that other nodes and clients reach it by.
    pub address: Ipv4Addr,
    pub resources: Resources,
    pub attributes: BTreeMap<String, String>,
    /// Dynamic host ports, inclusive.
    pub ports: (u16, u16),
    /// Where other agents ask for streams of volumes.
    #[serde(default = "stream_port")]
    pub stream_port: u16,
    /// Host paths, `privileged` and capabilities that this agent allows.
    pub allow: Vec<String>,
    /// Kernel boot id and start time of the node's pid 1: another one means that everything
    /// that ran is over.
    pub boot: String,
    /// The agent's version.
    pub version: String,
}

impl Machine {
    /// Whether the agent allows it.
    pub fn allows(&self, permission: &str) -> bool {
        self.allow.iter().any(|allowed| covers(allowed, permission))
    }
}

/// By name, a host path by a parent directory, or all by `*`.
fn covers(allowed: &str, permission: &str) -> bool {
    let beneath = |rest: &str| rest.starts_with('/');
    allowed == permission
        || allowed == "*"
        || (allowed.starts_with('/')
            && permission
                .strip_prefix(allowed.trim_end_matches('/'))
                .is_some_and(beneath))
}

/// Of agents that did not say.
fn stream_port() -> u16 {
    4434
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Presence {
    /// Its agent has a session, or had one within the node timeout.
    #[default]
    Here,
    /// Silent beyond the node timeout since then.
    Lost { since: Time },
}

/// A node as the state keeps it: what it said, what `session` decided, and counters of what is
/// placed there, kept by [`crate::State::apply`].
///
/// The counters are not recorded in checkpoints: they follow from the instances.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    pub id: NodeId,
    /// Shared: the record is copied with every transaction that places something here.
    pub machine: Arc<Machine>,
    /// The node's own overlay address.
    pub overlay: Ipv4Addr,
    pub presence: Presence,
    pub draining: bool,
    pub joined: Time,
    /// Bytes that volumes can still grow by here, to an eighth; `None`: not told yet.
    #[serde(default)]
    pub room: Option<u64>,
    /// Stamp of the newest accepted sighting of the node itself.
    pub sighted: (Incarnation, u64),
    /// Wanted by instances that are not gone.
    #[serde(skip)]
    pub used: Resources,
    /// Instances placed here and not gone.
    #[serde(skip)]
    pub instances: Few<InstanceId, ()>,
    /// Host ports taken here.
    #[serde(skip)]
    pub ports: Few<(Protocol, u16), Holding>,
    /// Sum of the fingerprints of this node's assignment entries.
    #[serde(skip)]
    pub fingerprint: u64,
}

impl NodeRecord {
    /// Whether new instances may be placed here.
    pub fn accepts(&self) -> bool {
        self.presence == Presence::Here && !self.draining
    }

    pub fn free(&self) -> Resources {
        self.machine.resources.minus(self.used)
    }

    /// The value that a constraint's field has on this node: `hostname` and `@hostname`, else
    /// an attribute (`@region` and `@zone` are attributes of these names).
    pub fn field(&self, name: &str) -> Option<&str> {
        match name {
            "hostname" | "@hostname" => Some(&self.machine.hostname),
            _ => self.machine.attributes.get(name).map(String::as_str),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_path_is_allowed_by_a_parent_directory_and_all_by_a_star() {
        for (allowed, permission, is) in [
            ("/data", "/data", true),
            ("/data", "/data/x", true),
            ("/data/", "/data/x", true),
            ("/data", "/database", false),
            ("/", "/data", true),
            ("privileged", "privileged", true),
            ("privileged", "SYS_ADMIN", false),
            ("*", "privileged", true),
            ("*", "/data", true),
        ] {
            assert_eq!(covers(allowed, permission), is, "{allowed}: {permission}");
        }
    }
}
