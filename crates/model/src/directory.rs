//! Who has which address and name, for every node's network and DNS.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::fingerprint;
use crate::ids::{AppId, InstanceId, NodeId, Revision};
use crate::spec::Protocol;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directory {
    pub revision: Revision,
    pub nodes: BTreeMap<NodeId, NodeEntry>,
    pub instances: BTreeMap<InstanceId, Entry>,
    /// Every app that is not removed, whatever runs of it: its names are known. Older masters
    /// tell of none.
    #[serde(default)]
    pub apps: BTreeMap<AppId, AppEntry>,
}

/// What an app is called besides its id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AppEntry {
    /// The `hostname` parameter.
    pub hostname: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NodeEntry {
    pub name: String,
    pub hostname: String,
    /// Where its VXLAN end is.
    pub underlay: Ipv4Addr,
    /// Its own address on the overlay.
    pub overlay: Ipv4Addr,
}

/// An instance that has, or on its node still has, addresses.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Entry {
    pub app: AppId,
    pub node: NodeId,
    /// Empty for an instance on its node's own network.
    pub interfaces: Vec<Interface>,
    /// The `hostname` parameter.
    pub hostname: Option<String>,
    /// Running and not stopping: it may be named in an answer.
    pub running: bool,
    pub healthy: bool,
    pub ports: Vec<DirectoryPort>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Interface {
    pub network: NetworkKind,
    pub address: Ipv4Addr,
    pub prefix: u8,
}

#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum NetworkKind {
    /// The network that every container is on; `eth0`.
    #[default]
    Overlay,
    /// The network of fixed addresses; `ethwe`.
    Fixed,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DirectoryPort {
    pub name: Option<String>,
    pub protocol: Protocol,
    pub container: u16,
    pub host: Option<u16>,
}

/// What turns the directory at `base` into the one at `revision`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryDelta {
    pub base: Revision,
    pub revision: Revision,
    /// `None`: gone.
    pub nodes: BTreeMap<NodeId, Option<NodeEntry>>,
    pub instances: BTreeMap<InstanceId, Option<Entry>>,
    #[serde(default)]
    pub apps: BTreeMap<AppId, Option<AppEntry>>,
    /// [`Directory::fingerprint`] of the result.
    pub fingerprint: u64,
}

impl Directory {
    /// An agent that knows fewer kinds of entries comes to another sum with every delta, and asks
    /// for the whole each time: slower, and never wrong.
    pub fn fingerprint(&self) -> u64 {
        fingerprint::sum(&self.nodes)
            .wrapping_add(fingerprint::sum(&self.instances))
            .wrapping_add(fingerprint::sum(&self.apps))
    }

    /// The directory after `delta`; `None` when the delta does not fit, so that the whole must
    /// be asked for.
    #[must_use]
    pub fn after(&self, delta: &DirectoryDelta) -> Option<Self> {
        if delta.base != self.revision {
            return None;
        }
        let mut next = self.clone();
        next.revision = delta.revision;
        patch(&mut next.nodes, &delta.nodes);
        patch(&mut next.instances, &delta.instances);
        patch(&mut next.apps, &delta.apps);
        (next.fingerprint() == delta.fingerprint).then_some(next)
    }
}

/// Puts what is there, removes what is `None`.
pub(crate) fn patch<K: Ord + Clone, V: Clone>(
    map: &mut BTreeMap<K, V>,
    delta: &BTreeMap<K, Option<V>>,
) {
    for (key, value) in delta {
        match value {
            Some(value) => drop(map.insert(key.clone(), value.clone())),
            None => drop(map.remove(key)),
        }
    }
}
