//! Moves: volumes going to another node with the app that uses them.
//!
//! ```text
//! reserve → seed, round by round → ready → seal → finish ─ HandedOver ─▶ resume → settle → over
//!    └──────────┴──────────────────┴────────┴───────┴─▶ abandon → over
//! ```
//! The hand-over is one transaction and the point of no return: generation + 1, the home, and
//! every claim that holder and heir share. Abandoning and handing over change the same record,
//! so only one of them can be.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{AppId, Generation, InstanceId, MoveId, NodeId, VolumeId};
use crate::time::{Millis, Time};
use crate::volume::Snapshot;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    pub id: MoveId,
    pub volumes: BTreeMap<VolumeId, Parcel>,
    /// The app that goes with them; `None`: nobody uses them.
    pub app: Option<AppId>,
    pub from: NodeId,
    pub to: NodeId,
    pub phase: Phase,
    /// When the phase is given up.
    pub deadline: Time,
    /// Prepared at the target; `None`: a cold move, in which nothing runs.
    pub heir: Option<InstanceId>,
    pub why: Why,
    pub began: Time,
    /// How long the round before the present one took at the slowest volume.
    pub took: Option<Millis>,
}

/// One of a move's volumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parcel {
    /// Before the hand-over.
    pub generation: Generation,
    /// What both nodes had when it began.
    pub base: Option<Snapshot>,
    /// Bytes that the target needs for it, with something to spare.
    #[serde(default)]
    pub needed: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// The target makes ready to receive.
    Reserve,
    /// The app runs; this round's snapshot goes over.
    Seed { round: u32 },
    /// The app runs; the heir is prepared, and one more round goes over after the hook.
    Ready { round: u32 },
    /// The source stops writing; this is the last snapshot's round.
    Seal { round: u32 },
    /// The last snapshot goes over.
    Finish { round: u32 },
    /// The target is the home; the app starts there.
    Resume { round: u32 },
    /// The app has to stay well for a while.
    Settle { round: u32 },
    /// The source becomes live again, whatever it had done.
    Abandon {
        reason: Reason,
        /// It may have been told to seal.
        sealed: bool,
    },
}

/// What started a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Why {
    Operator,
    Drain,
    /// The app's constraints refuse the node that its volumes are on.
    Deployment,
}

/// Why a move was abandoned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Reason {
    #[error("it was cancelled")]
    Cancelled,
    #[error("the app was changed by force")]
    Forced,
    #[error("the app is to go")]
    AppRemoved,
    #[error("the app does not use the same volumes any more")]
    OtherVolumes,
    #[error("the target is lost")]
    TargetLost,
    #[error("the source is lost")]
    SourceLost,
    #[error("the target cannot take the app: {0}")]
    NoRoom(String),
    #[error("the target cannot take the data: {0}")]
    Trouble(String),
    #[error("the instance prepared at the target has ended")]
    HeirLost,
    #[error("it took too long to {0}")]
    Deadline(String),
}

impl Phase {
    /// The hand-over has been.
    pub fn is_past(&self) -> bool {
        match self {
            Self::Resume { .. } | Self::Settle { .. } => true,
            Self::Reserve
            | Self::Seed { .. }
            | Self::Ready { .. }
            | Self::Seal { .. }
            | Self::Finish { .. }
            | Self::Abandon { .. } => false,
        }
    }

    /// It may still be abandoned.
    pub fn is_open(&self) -> bool {
        !self.is_past() && !matches!(self, Self::Abandon { .. })
    }

    /// The move leads the app's instances: from ready to finish nobody else may.
    pub fn leads(&self) -> bool {
        match self {
            Self::Ready { .. } | Self::Seal { .. } | Self::Finish { .. } => true,
            Self::Reserve
            | Self::Seed { .. }
            | Self::Resume { .. }
            | Self::Settle { .. }
            | Self::Abandon { .. } => false,
        }
    }

    pub fn round(&self) -> Option<u32> {
        match self {
            Self::Seed { round }
            | Self::Ready { round }
            | Self::Seal { round }
            | Self::Finish { round }
            | Self::Resume { round }
            | Self::Settle { round } => Some(*round),
            Self::Reserve | Self::Abandon { .. } => None,
        }
    }

    /// Phases in their order; abandoning is the last.
    pub fn rank(&self) -> u32 {
        match self {
            Self::Reserve => 0,
            Self::Seed { .. } => 1,
            Self::Ready { .. } => 2,
            Self::Seal { .. } => 3,
            Self::Finish { .. } => 4,
            Self::Resume { .. } => 5,
            Self::Settle { .. } => 6,
            Self::Abandon { .. } => 7,
        }
    }
}

impl fmt::Display for Phase {
    /// One word, as in `tandem volumes`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reserve => "reserve",
            Self::Seed { .. } => "seed",
            Self::Ready { .. } => "ready",
            Self::Seal { .. } => "seal",
            Self::Finish { .. } => "finish",
            Self::Resume { .. } => "resume",
            Self::Settle { .. } => "settle",
            Self::Abandon { .. } => "abandon",
        })
    }
}

impl Move {
    /// The snapshot of a round of this move.
    pub fn snapshot(&self, round: u32) -> Snapshot {
        Snapshot {
            movement: self.id,
            round,
        }
    }

    /// What the snapshot of `round` is sent as the difference to.
    pub fn base(&self, parcel: &Parcel, round: u32) -> Option<Snapshot> {
        match round.checked_sub(1) {
            None => parcel.base,
            Some(before) => Some(self.snapshot(before)),
        }
    }
}
