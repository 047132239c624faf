//! The open sessions by node: when each node was last heard, and how to reach its agent.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::session::{Ask, FromMaster, Part};
use model::{Change, NodeId, State, Time};
use planner::presence::Watch;
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::sync::oneshot;

use crate::relay::{Answer, NoSession, WAITING};

#[derive(Default)]
struct Table {
    presence: Watch,
    open: BTreeMap<NodeId, Handle>,
    /// Who waits for the answer to a question, and which node has to give it.
    asks: BTreeMap<u64, (NodeId, mpsc::Sender<Part>)>,
    /// Counts sessions and questions.
    last: u64,
}

/// What the writing half of a session is to send.
pub(crate) enum Outgoing {
    Message(FromMaster),
    /// Derived when it is sent, so that it is never older than a delta sent before it.
    WholeAssignment,
    WholeDirectory,
}

struct Handle {
    session: u64,
    /// Bounded by what clients ask: relayed questions and their input.
    outgoing: UnboundedSender<Outgoing>,
    /// Dropped when a newer session takes its place.
    _replaced: oneshot::Sender<()>,
}

pub(crate) struct Sessions(Mutex<Table>);

impl Sessions {
    pub fn new(now: Time) -> Self {
        Self(Mutex::new(Table {
            presence: Watch::begin(now),
            ..Table::default()
        }))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn is_open(&self, node: NodeId) -> bool {
        self.table().open.contains_key(&node)
    }

    pub fn heard(&self, node: NodeId, now: Time) {
        self.table().presence.heard(node, now);
    }

    pub fn tick(&self, state: &State, now: Time) -> Vec<Change> {
        self.table().presence.tick(state, now)
    }

    /// Puts a session in the place of any older one of the node, whose questions end. Gives its number and what ends
    /// it when it is replaced itself.
    pub fn open(
        &self,
        node: NodeId,
        outgoing: UnboundedSender<Outgoing>,
    ) -> (u64, oneshot::Receiver<()>) {
        let (guard, replaced) = oneshot::channel();
        let mut table = self.table();
        table.last += 1;
        let session = table.last;
        table.asks.retain(|_, (of, _)| *of != node);
        table.open.insert(
            node,
            Handle {
                session,
                outgoing,
                _replaced: guard,
            },
        );
        (session, replaced)
    }

    pub fn close(&self, node: NodeId, session: u64) {
        let mut table = self.table();
        if table
            .open
            .get(&node)
            .is_some_and(|open| open.session == session)
        {
            table.open.remove(&node);
            table.asks.retain(|_, (of, _)| *of != node);
        }
    }

    pub fn tell(&self, node: NodeId, message: FromMaster) -> Result<(), NoSession> {
        let table = self.table();
        let open = table.open.get(&node).ok_or(NoSession)?;
        open.outgoing
            .send(Outgoing::Message(message))
            .map_err(|_| NoSession)
    }

    pub fn ask(self: &Arc<Self>, node: NodeId, what: Ask) -> Result<Answer, NoSession> {
        let (sender, parts) = mpsc::channel(WAITING);
        let ask = {
            let mut table = self.table();
            table.last += 1;
            let ask = table.last;
            table.asks.insert(ask, (node, sender));
            ask
        };
        let answer = Answer {
            ask,
            node,
            parts,
            sessions: Arc::clone(self),
        };
        self.tell(node, FromMaster::Ask { ask, what })?;
        Ok(answer)
    }

    /// Hands a part to the client that asked. One that no longer listens, or reads too slowly,
    /// is given up.
    pub fn answer(&self, node: NodeId, ask: u64, part: Part) {
        let delivered = self
            .table()
            .asks
            .get(&ask)
            .is_some_and(|(_, client)| client.try_send(part).is_ok());
        if !delivered {
            self.forget(node, ask);
        }
    }

    pub fn forget(&self, node: NodeId, ask: u64) {
        if self.table().asks.remove(&ask).is_some() {
            // Without a session there is nobody to stop.
            let _ = self.tell(node, FromMaster::Cancel { ask });
        }
    }
}
