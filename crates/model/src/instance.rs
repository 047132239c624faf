//! An instance: one running copy of an app on one node, and how far up its ladder it is.
//!
//! ```text
//! placed → preparing → starting → running → stopping → ended → gone
//! ```
//! Rungs are only climbed, and may be skipped. An heir waits at `starting` for its hand-over:
//! nothing is missing but its process. `gone` means that the agent confirmed removal;
//! such an instance leaves the state. Unreachable is its node's condition, not a rung.

use std::net::Ipv4Addr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ids::{AppId, Incarnation, InstanceId, NodeId, Version};
use crate::spec::{AppSpec, FixedAddress, Protocol};
use crate::time::{Millis, Time};
use crate::volume::Volume;

#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum Rung {
    #[default]
    Placed,
    Preparing,
    Starting,
    Running,
    Stopping,
    Ended,
    Gone,
}

/// What the leader wants of an instance. It goes from `Prepare` to `Run` at a hand-over, and
/// from either to `Stop`; never back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Goal {
    /// An heir: root filesystem and network ready, no process, volumes not mounted.
    Prepare,
    Run,
    Stop {
        cause: StopCause,
        grace: Millis,
    },
}

impl Goal {
    pub fn is_stop(self) -> bool {
        matches!(self, Self::Stop { .. })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum StopCause {
    ScaledDown,
    /// A newer version takes its place.
    Replaced,
    /// An operator or client asked for it.
    Killed,
    Unhealthy,
    AppRemoved,
    /// Its node was silent beyond the node timeout and a replacement holds its claims.
    NodeLost,
    /// It ended by itself; what is left of it is to be removed.
    Ended,
    /// Its volumes are about to go to another node.
    Moving,
    /// Its volumes went to another node.
    Moved,
    /// It was an heir and never ran; its move was abandoned.
    Abandoned,
    /// A volume of its was recovered elsewhere, while its node was silent.
    Recovered,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Health {
    /// No check has given a result yet, or there is none.
    #[default]
    Unknown,
    Healthy,
    Unhealthy,
}

/// How an instance ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Exit {
    pub status: ExitStatus,
    pub out_of_memory: bool,
    /// The last line that it wrote.
    pub last_line: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ExitStatus {
    Code(i32),
    Signal(i32),
    /// It ended while nobody who could have seen its status was alive.
    Unknown,
    /// It never ran: why.
    NeverRan(String),
    /// It was ended for what its health checks said.
    Unhealthy(String),
}

/// Where an instance was put, with everything it was given there. Decided once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Placement {
    pub node: NodeId,
    /// On the overlay; `None` on the node's own network.
    pub address: Option<Ipv4Addr>,
    pub fixed_addresses: Vec<FixedAddress>,
    /// One per spec port, in order; 0 where the port is not published on the node.
    pub host_ports: Vec<u16>,
}

/// Who holds a claim, and who will after a hand-over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Holding {
    pub holder: InstanceId,
    pub heir: Option<InstanceId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance<S = Arc<AppSpec>> {
    pub id: InstanceId,
    pub app: AppId,
    /// Where the state keeps the app.
    pub app_slot: u32,
    /// Which of the app's copies this is, from 0.
    pub slot: u32,
    pub version: Version,
    pub spec: S,
    pub placement: Placement,
    pub goal: Goal,
    pub rung: Rung,
    pub health: Health,
    /// What the agent is doing or why it cannot: `pulling`, the registry's words.
    pub detail: Option<String>,
    pub exit: Option<Exit>,
    pub placed_at: Time,
    pub running_at: Option<Time>,
    pub ended_at: Option<Time>,
    /// When `health` last flipped.
    pub health_at: Option<Time>,
    /// Stamp of the newest accepted sighting.
    pub sighted: (Incarnation, u64),
}

/// An instance as it is written down: nearly always app and version name its spec, which is by far
/// the longest part; it is there only where the app does not know that version, or another way.
pub type RecordedInstance = Instance<Option<Arc<AppSpec>>>;

impl<S> Instance<S> {
    pub fn task_id(&self) -> String {
        self.id.task_id(&self.app)
    }

    /// The same instance, whose spec is given as `spec`.
    pub fn with_spec<T>(&self, spec: T) -> Instance<T> {
        Instance {
            id: self.id,
            app: self.app.clone(),
            app_slot: self.app_slot,
            slot: self.slot,
            version: self.version,
            spec,
            placement: self.placement.clone(),
            goal: self.goal,
            rung: self.rung,
            health: self.health,
            detail: self.detail.clone(),
            exit: self.exit.clone(),
            placed_at: self.placed_at,
            running_at: self.running_at,
            ended_at: self.ended_at,
            health_at: self.health_at,
            sighted: self.sighted,
        }
    }
}

impl Instance {
    /// Whether it counts towards its app's wanted number: meant to run, and not over. An heir
    /// does not count before its hand-over.
    pub fn is_active(&self) -> bool {
        self.goal == Goal::Run && self.rung < Rung::Ended
    }

    /// Whether it is an heir with everything but its process.
    pub fn is_prepared(&self) -> bool {
        self.goal == Goal::Prepare && self.rung == Rung::Starting
    }

    pub fn has_ended(&self) -> bool {
        self.rung >= Rung::Ended
    }

    /// Whether something may have to be done about it itself: it is over, or sick.
    pub fn is_unsettled(&self) -> bool {
        self.has_ended() || self.health == Health::Unhealthy
    }

    /// Whether it may still be running as far as its claims are concerned: not seen ended, not
    /// replaced because its node fell silent, not sealed when its volumes were handed over.
    pub fn is_runnable(&self) -> bool {
        self.holds_claims() && self.stop_cause() != Some(StopCause::Moved)
    }

    /// Whether what it claimed and did not hand over is still its own.
    pub fn holds_claims(&self) -> bool {
        let given_up = matches!(
            self.stop_cause(),
            Some(StopCause::NodeLost | StopCause::Abandoned | StopCause::Recovered)
        );
        !self.has_ended() && !given_up
    }

    /// Whether it holds volumes: a silent node may still be writing them.
    pub fn holds_volumes(&self) -> bool {
        !self.has_ended() && !self.is_heir_no_more()
    }

    /// Whether it holds this volume of its: until an operator gives up what it writes there. That
    /// gives up no other volume.
    pub fn holds(&self, volume: &Volume) -> bool {
        let recovered = self.stop_cause() == Some(StopCause::Recovered);
        let elsewhere = volume.home != Some(self.placement.node);
        self.holds_volumes() && !(recovered && elsewhere)
    }

    /// Whether it was an heir, and is to go without ever having run.
    pub fn is_heir_no_more(&self) -> bool {
        self.stop_cause() == Some(StopCause::Abandoned)
    }

    fn stop_cause(&self) -> Option<StopCause> {
        match self.goal {
            Goal::Stop { cause, .. } => Some(cause),
            Goal::Prepare | Goal::Run => None,
        }
    }

    /// Each published port: protocol, the node's port, the container's port.
    pub fn published(&self) -> impl Iterator<Item = (Protocol, u16, u16)> + '_ {
        self.placement.published(&self.spec)
    }
}

impl Placement {
    /// Each port of `spec` that is published here: protocol, the node's port, the container's.
    pub fn published<'a>(
        &'a self,
        spec: &'a AppSpec,
    ) -> impl Iterator<Item = (Protocol, u16, u16)> + 'a {
        spec.ports
            .iter()
            .zip(&self.host_ports)
            .filter(|(_, host)| **host != 0)
            .flat_map(|(port, host)| {
                let container = if port.container == 0 {
                    *host
                } else {
                    port.container
                };
                port.protocol
                    .each()
                    .iter()
                    .map(move |p| (*p, *host, container))
            })
    }
}
