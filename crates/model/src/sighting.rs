//! The newest state of one subject that an agent saw.
//!
//! A sighting is a level, not an event: of two about one subject the one with the higher stamp
//! (incarnation, sequence) is true, and repeating it changes nothing.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::ids::{Generation, Incarnation, InstanceId, MoveId, NodeId, VolumeId};
use crate::instance::{Exit, Health, Rung};
use crate::machine::Machine;
use crate::time::Millis;
use crate::volume::{Aside, CopyRole, Snapshot};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sighting {
    pub incarnation: Incarnation,
    pub sequence: u64,
    pub level: Level,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Level {
    Instance(InstanceId, InstanceLevel),
    Volume(VolumeId, VolumeLevel),
    Node(Box<NodeLevel>),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Subject {
    Instance(InstanceId),
    Volume(VolumeId),
    Node(NodeId),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceLevel {
    pub rung: Rung,
    pub health: Health,
    /// What the agent is doing or why it cannot: `pulling`, the registry's words.
    pub detail: Option<String>,
    pub exit: Option<Exit>,
}

/// One node's copy of a volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeLevel {
    /// `None`: this node has no copy (any more).
    pub role: Option<CopyRole>,
    pub generation: Generation,
    /// The move whose word it obeyed last.
    pub movement: Option<MoveId>,
    /// Of a landed or kept copy: what it is.
    pub last: Option<Snapshot>,
    /// What is on its disk, verified and synced.
    pub snapshots: BTreeSet<Snapshot>,
    /// How long the newest of these took to receive.
    pub took: Option<Millis>,
    /// What it holds, to an eighth; `None`: not measured yet.
    #[serde(default)]
    pub bytes: Option<u64>,
    #[serde(default)]
    pub aside: Option<Aside>,
    /// Why it cannot be made ready, if so.
    pub trouble: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeLevel {
    pub machine: Machine,
    /// Bytes that volumes can still grow by, to an eighth.
    #[serde(default)]
    pub room: Option<u64>,
}

impl Level {
    pub fn subject(&self, node: NodeId) -> Subject {
        match self {
            Self::Instance(id, _) => Subject::Instance(*id),
            Self::Volume(id, _) => Subject::Volume(id.clone()),
            Self::Node(_) => Subject::Node(node),
        }
    }
}
