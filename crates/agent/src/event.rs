//! What reaches the heart. Events only wake it: what follows is decided from what is known.

use std::sync::Arc;

use model::session::{FromAgent, FromMaster};
use model::{Exit, Health, InstanceId, Revision};
use network::Network;
use tokio::sync::mpsc;

use crate::act::Done;
use crate::volumes::Measures;

#[derive(Debug)]
pub(crate) enum Event {
    /// A connection stands; the agent speaks first.
    Connected(Outgoing),
    Received(FromMaster),
    Lost,
    Acted {
        action: node::Action,
        /// Or why not, in words for users.
        outcome: Result<Done, String>,
    },
    Ended(InstanceId, Exit),
    /// And why its last check failed, if it did.
    Health(InstanceId, Health, Option<String>),
    Network(NetworkState),
    /// Network and names follow the directory of this revision.
    Applied(Revision),
    /// Whether the volumes' pool still takes writes.
    Pool {
        writable: bool,
    },
    /// How full the pool is; `None`: that could not be found out.
    Measured(Option<Measures>),
    /// An ask has been answered.
    Answered(u64),
}

/// Whether instances can be attached.
#[derive(Clone)]
pub(crate) enum NetworkState {
    /// And why.
    Down(String),
    Up(Arc<Network>),
}

impl std::fmt::Debug for NetworkState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Down(why) => f.debug_tuple("Down").field(why).finish(),
            Self::Up(_) => f.write_str("Up"),
        }
    }
}

/// The way to the master for as long as one session lasts.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    /// The heart's own words, which pass those of `answers`.
    pub words: mpsc::Sender<FromAgent>,
    /// Parts of answers to asks; a slow client holds up these only.
    pub answers: mpsc::Sender<FromAgent>,
}
