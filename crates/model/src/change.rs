//! The smallest durable facts. They are results (this placement, this address), never commands
//! to be decided again, so that history replays exactly.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::deployment::Deployment;
use crate::ids::{
    AppId, ClusterId, DeploymentId, Epoch, Generation, Incarnation, InstanceId, MoveId, NodeId,
    Revision, Version, VolumeId,
};
use crate::instance::{Goal, RecordedInstance};
use crate::machine::{Machine, Presence};
use crate::movement::{Move, Phase, Reason};
use crate::sighting::{InstanceLevel, VolumeLevel};
use crate::spec::AppSpec;
use crate::state::{Delay, Failure, Settings, Token};
use crate::time::{Millis, Time};
use crate::volume::{Recovery, Volume};

/// Changes that become true together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Transaction {
    pub revision: Revision,
    /// The master's time when it was decided.
    pub at: Time,
    pub changes: Vec<Change>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Change {
    Founded {
        cluster: ClusterId,
        settings: Settings,
    },
    /// The cluster is led with other settings than before.
    Configured {
        settings: Settings,
    },
    /// A leadership began; numbers drawn from now on begin with its epoch.
    Led {
        epoch: Epoch,
    },

    TokenMade {
        token: Token,
    },
    TokenUsed {
        digest: String,
        by: String,
    },

    NodeJoined {
        node: NodeId,
        overlay: std::net::Ipv4Addr,
        machine: Box<Machine>,
    },
    NodeSeen {
        node: NodeId,
        sighted: (Incarnation, u64),
        machine: Box<Machine>,
        /// `None`: it did not say.
        #[serde(default)]
        room: Option<u64>,
    },
    NodePresence {
        node: NodeId,
        presence: Presence,
    },
    NodeDraining {
        node: NodeId,
        draining: bool,
    },
    NodeRemoved {
        node: NodeId,
    },

    AppPut {
        app: AppId,
        spec: Arc<AppSpec>,
        version: Version,
        config: bool,
    },
    /// The app is to go: its instances are stopped first.
    AppRemoving {
        app: AppId,
    },
    AppRemoved {
        app: AppId,
    },
    /// Instances created before this time are to be replaced.
    AppRestarted {
        app: AppId,
        version: Version,
    },
    AppDelay {
        app: AppId,
        delay: Option<Delay>,
    },
    AppFailed {
        app: AppId,
        failure: Box<Failure>,
    },

    InstancePlaced {
        instance: Box<RecordedInstance>,
    },
    InstanceGoal {
        instance: InstanceId,
        goal: Goal,
    },
    InstanceSeen {
        instance: InstanceId,
        sighted: (Incarnation, u64),
        level: Box<InstanceLevel>,
    },
    /// The agent removed what was left of it, or its node is no more.
    InstanceGone {
        instance: InstanceId,
    },

    DeploymentBegan {
        deployment: Box<Deployment>,
    },
    DeploymentStepped {
        deployment: DeploymentId,
        current: u32,
    },
    DeploymentEnded {
        deployment: DeploymentId,
        /// By a request, before it was done.
        #[serde(default)]
        broken: bool,
    },

    VolumePut {
        volume: Box<Volume>,
    },
    VolumeHome {
        volume: VolumeId,
        home: NodeId,
        generation: Generation,
    },
    VolumeTenant {
        volume: VolumeId,
        tenant: Option<AppId>,
    },
    VolumeSeen {
        volume: VolumeId,
        node: NodeId,
        sighted: (Incarnation, u64),
        level: Box<VolumeLevel>,
    },
    /// The home is given up for another node's older copy, and the volume leaves its move.
    VolumeRecovered {
        volume: VolumeId,
        home: NodeId,
        recovery: Recovery,
    },
    /// What that node has set aside is to be removed.
    VolumeCopyUnwanted {
        volume: VolumeId,
        node: NodeId,
    },
    VolumeRemoving {
        volume: VolumeId,
        generation: Generation,
    },
    VolumeRemoved {
        volume: VolumeId,
    },

    MoveBegan {
        movement: Box<Move>,
    },
    /// It enters a phase, or another round of one.
    MovePhase {
        movement: MoveId,
        phase: Phase,
        deadline: Time,
        heir: Option<InstanceId>,
        took: Option<Millis>,
    },
    /// The point of no return: each volume's generation rises and its home becomes the target;
    /// the heir becomes the holder of every claim that it shares with the holder.
    HandedOver {
        movement: MoveId,
        deadline: Time,
    },
    MoveAbandoned {
        movement: MoveId,
        reason: Reason,
    },
    MoveEnded {
        movement: MoveId,
    },
}

/// The subjects whose records a transaction changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    pub apps: BTreeSet<AppId>,
    pub instances: BTreeSet<InstanceId>,
    /// Of the instances: those that [`crate::Instance::is_unsettled`].
    pub unsettled: BTreeSet<InstanceId>,
    pub nodes: BTreeSet<NodeId>,
    /// Nodes whose assignment changed.
    pub assignments: BTreeSet<NodeId>,
    pub volumes: BTreeSet<VolumeId>,
    pub deployments: BTreeSet<DeploymentId>,
    /// Of the deployments: those that ended before they were done.
    pub broken: BTreeSet<DeploymentId>,
    pub moves: BTreeSet<MoveId>,
    /// Nodes where room or a claim may have become free.
    pub freed: BTreeSet<NodeId>,
    /// Instances, nodes and apps whose directory entries changed, came or went.
    pub entries: BTreeSet<InstanceId>,
    pub node_entries: BTreeSet<NodeId>,
    pub app_entries: BTreeSet<AppId>,
}

impl Touched {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub fn extend(&mut self, other: Self) {
        join(&mut self.apps, other.apps);
        join(&mut self.instances, other.instances);
        join(&mut self.unsettled, other.unsettled);
        join(&mut self.nodes, other.nodes);
        join(&mut self.assignments, other.assignments);
        join(&mut self.volumes, other.volumes);
        join(&mut self.deployments, other.deployments);
        join(&mut self.broken, other.broken);
        join(&mut self.moves, other.moves);
        join(&mut self.freed, other.freed);
        join(&mut self.entries, other.entries);
        join(&mut self.node_entries, other.node_entries);
        join(&mut self.app_entries, other.app_entries);
    }
}

/// Takes the other set as it is where there is none yet.
fn join<T: Ord>(mine: &mut BTreeSet<T>, other: BTreeSet<T>) {
    match mine.is_empty() {
        true => *mine = other,
        false => mine.extend(other),
    }
}
