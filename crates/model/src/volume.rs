//! Volumes: named data that outlives instances and can change node.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{AppId, Generation, Incarnation, NodeId, VolumeId};
use crate::instance::Holding;
use crate::quantity::Mebibytes;
use crate::time::Time;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    pub id: VolumeId,
    /// What it may hold.
    pub size: Mebibytes,
    /// The one node whose copy is the truth; `None` until first used or pinned.
    pub home: Option<NodeId>,
    pub generation: Generation,
    /// The app that uses it, until that is removed and its last instance gone.
    pub tenant: Option<AppId>,
    /// The instance that may write it.
    pub holding: Option<Holding>,
    pub copies: BTreeMap<NodeId, Copy>,
    pub created: Time,
    /// Removal was asked for; every node confirms before the record goes.
    pub removing: bool,
}

/// A volume's data on one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copy {
    pub role: CopyRole,
    pub generation: Generation,
    pub trouble: Option<String>,
    pub sighted: (Incarnation, u64),
}

/// What a copy is to its node; kept on the node's disk, the more cautious role first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CopyRole {
    /// Writable by its holder.
    Live,
    /// Given up for a move, not yet handed over: nothing writes it.
    Sealed,
    /// Being received.
    Landing,
    /// Received, verified and on disk.
    Landed,
    /// The last state before a hand-over, kept at the source.
    Kept,
    /// Newer data of a node that came back after a recovery elsewhere.
    Aside,
}

/// What a node is to do with its copy of a volume.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum VolumeOrder {
    /// Have it live under this generation, at most this big; make it when it is new.
    Live {
        generation: Generation,
        size: Mebibytes,
        fresh: bool,
    },
    /// Destroy every copy of this and earlier generations.
    Remove { generation: Generation },
}

/// What a node's disk says of its copy: written, synced and renamed before anything is done that
/// depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RoleFile {
    pub generation: Generation,
    pub role: CopyRole,
}
