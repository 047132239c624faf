//! Volumes: named data that outlives instances and can change node.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddrV4;

use serde::{Deserialize, Serialize};

use crate::ids::{AppId, Generation, Incarnation, MoveId, NodeId, VolumeId};
use crate::instance::Holding;
use crate::quantity::Mebibytes;
use crate::time::{Millis, Time};

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
    /// Where the truth went on from an older state, oldest first.
    #[serde(default)]
    pub recoveries: Vec<Recovery>,
    /// The states that hand-overs left behind at their sources, and when. Forgotten with the last
    /// copy that has them.
    #[serde(default)]
    pub left: BTreeMap<Snapshot, Time>,
}

/// A volume's home was given up with what was written there since the snapshot, which became
/// the truth elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Recovery {
    /// Of the same numbers as moves, so that it tells the snapshots of before from those after.
    pub id: MoveId,
    /// That it began.
    pub generation: Generation,
    pub snapshot: Snapshot,
}

/// A volume's data on one node, as that node saw it last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copy {
    pub role: CopyRole,
    pub generation: Generation,
    /// The move whose word this node obeyed last.
    #[serde(default)]
    pub movement: Option<MoveId>,
    /// Of a landed or kept copy: what it is.
    #[serde(default)]
    pub last: Option<Snapshot>,
    /// What is on its disk, verified and synced.
    #[serde(default)]
    pub snapshots: BTreeSet<Snapshot>,
    /// How long the newest of these took to receive.
    #[serde(default)]
    pub took: Option<Millis>,
    /// What it holds, to an eighth; `None`: not measured yet.
    #[serde(default)]
    pub bytes: Option<u64>,
    #[serde(default)]
    pub aside: Option<Aside>,
    /// A command named what is set aside: it is to go.
    #[serde(default)]
    pub unwanted: bool,
    pub trouble: Option<String>,
    pub sighted: (Incarnation, u64),
}

/// Data that was set aside, read-only, and that only a command naming it removes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Aside {
    /// `pg.g2.20261121T162944Z`: the volume, the generation that it was written under, and when
    /// it was set aside.
    pub name: String,
    /// By its node's clock.
    pub made: Time,
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
    /// Data that the truth may lack, of a node that came back after a recovery elsewhere.
    Aside,
}

/// A read-only state of a volume, made at the source of a move and received at its target, under
/// the same name on both.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Snapshot {
    pub movement: MoveId,
    pub round: u32,
}

impl fmt::Display for Snapshot {
    /// `move-7.3`, as it is called on disk.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.movement, self.round)
    }
}

impl Volume {
    /// One that was never anywhere.
    pub fn empty(id: VolumeId, size: Mebibytes, created: Time) -> Self {
        Self {
            id,
            size,
            home: None,
            generation: Generation(1),
            tenant: None,
            holding: None,
            copies: BTreeMap::new(),
            created,
            removing: false,
            recoveries: Vec::new(),
            left: BTreeMap::new(),
        }
    }

    /// The recovery that began the present generation, if one did.
    pub fn recovery(&self) -> Option<&Recovery> {
        let newest = self.recoveries.last();
        newest.filter(|recovery| recovery.generation == self.generation)
    }

    /// Whether a copy that is not at home may hold writes that a recovery gave up.
    pub fn has_strayed(&self, copy: &Copy) -> bool {
        self.recoveries.iter().any(|recovery| match copy.role {
            CopyRole::Live | CopyRole::Sealed => copy.generation < recovery.generation,
            CopyRole::Landed | CopyRole::Kept => copy
                .last
                .is_some_and(|last| recovery.snapshot < last && last.movement < recovery.id),
            CopyRole::Landing | CopyRole::Aside => false,
        })
    }
}

impl Snapshot {
    /// The snapshot that is called so; `None`: some other name.
    pub fn named(name: &str) -> Option<Self> {
        let (movement, round) = name.strip_prefix("move-")?.split_once('.')?;
        let snapshot = Self {
            movement: MoveId(movement.parse().ok()?),
            round: round.parse().ok()?,
        };
        // One spelling each.
        (snapshot.to_string() == name).then_some(snapshot)
    }
}

/// Where a move's stream comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Source {
    pub node: NodeId,
    pub address: SocketAddrV4,
}

/// What a node is to do with its copy of a volume. Orders of a move name it and the volume's
/// generation; a node that has obeyed a higher generation refuses them.
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

    /// The source, while the app runs on: live as before; have this snapshot, and give what
    /// follows `base` in it to the target that asks for it.
    Seed {
        generation: Generation,
        size: Mebibytes,
        to: NodeId,
        snapshot: Snapshot,
        base: Option<Snapshot>,
        /// Run the app's move hook before the snapshot.
        hook: bool,
    },
    /// The source: persist `sealed`, let nothing write any more, then have this last snapshot
    /// and give it to the target.
    Seal {
        generation: Generation,
        to: NodeId,
        snapshot: Snapshot,
        base: Option<Snapshot>,
    },
    /// The source, when the move was abandoned: live again under the same generation.
    Unseal {
        generation: Generation,
        size: Mebibytes,
        movement: MoveId,
    },
    /// The source, after the hand-over: whatever still is there ends; keep the last snapshot. Or
    /// the target of a move that was abandoned: keep what it had before.
    Keep {
        generation: Generation,
        movement: MoveId,
    },

    /// The target: have a copy landing, and in it this snapshot; when it is the move's last, be
    /// `landed`.
    Land {
        generation: Generation,
        movement: MoveId,
        from: Source,
        snapshot: Option<Snapshot>,
        base: Option<Snapshot>,
        last: bool,
        /// Bytes that must be free before anything of it is received.
        #[serde(default)]
        needed: u64,
    },
    /// The target, after the hand-over, or the node that the volume was recovered on: make what
    /// landed, or was kept, live under this generation.
    Promote {
        generation: Generation,
        size: Mebibytes,
        movement: MoveId,
        snapshot: Snapshot,
    },
    /// Destroy what landed of a move that was abandoned, or was kept and is superseded.
    Discard { generation: Generation },

    /// After a recovery elsewhere: whatever still is there ends; set what it wrote aside.
    SetAside { generation: Generation },
    /// Destroy what was set aside under this name, and with it the copy.
    Clear {
        generation: Generation,
        aside: String,
    },
}

/// What a node's disk says of its copy: written, synced and renamed before anything is done that
/// depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RoleFile {
    /// The highest that was obeyed; of a copy that is set aside, the one that it was written under.
    pub generation: Generation,
    pub role: CopyRole,
    /// The move whose word was obeyed last.
    pub movement: Option<MoveId>,
    /// Of a landed or kept copy: what it is.
    pub last: Option<Snapshot>,
}

impl RoleFile {
    /// Of a volume that no move has touched.
    pub fn live(generation: Generation) -> Self {
        Self {
            generation,
            role: CopyRole::Live,
            movement: None,
            last: None,
        }
    }
}

impl VolumeOrder {
    pub fn generation(&self) -> Generation {
        match self {
            Self::Live { generation, .. }
            | Self::Remove { generation }
            | Self::Seed { generation, .. }
            | Self::Seal { generation, .. }
            | Self::Unseal { generation, .. }
            | Self::Keep { generation, .. }
            | Self::Land { generation, .. }
            | Self::Promote { generation, .. }
            | Self::Discard { generation }
            | Self::SetAside { generation }
            | Self::Clear { generation, .. } => *generation,
        }
    }

    /// The generation under which instances may use the volume here, if they may.
    pub fn usable(&self) -> Option<Generation> {
        match self {
            Self::Live { generation, .. }
            | Self::Seed { generation, .. }
            | Self::Unseal { generation, .. }
            | Self::Promote { generation, .. } => Some(*generation),
            Self::Remove { .. }
            | Self::Seal { .. }
            | Self::Keep { .. }
            | Self::Land { .. }
            | Self::Discard { .. }
            | Self::SetAside { .. }
            | Self::Clear { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_found_again_by_its_name_and_by_no_other() {
        let snapshot = Snapshot {
            movement: MoveId(7),
            round: 3,
        };
        assert_eq!(snapshot.to_string(), "move-7.3");
        assert_eq!(Snapshot::named("move-7.3"), Some(snapshot));
        for other in ["move-7.final", "move-7", "move-07.3", "pg.g2", "move-7.+3"] {
            assert_eq!(Snapshot::named(other), None, "{other}");
        }
    }
}
