//! Questions that clients put to agents through the master: logs, exec.

use std::sync::Arc;

use model::NodeId;
use model::session::{FromMaster, Input, Part};
use tokio::sync::mpsc;

use crate::sessions::Sessions;

/// Parts that may wait for a client that reads slowly. When they are used up the question is
/// given up rather than the agent's session held up.
pub(crate) const WAITING: usize = 1024;

#[derive(Debug, thiserror::Error)]
#[error("the node's agent has no session with the master now")]
pub struct NoSession;

/// The answer to a question, part by part. Dropping it tells the agent to stop.
pub struct Answer {
    pub(crate) ask: u64,
    pub(crate) node: NodeId,
    pub(crate) parts: mpsc::Receiver<Part>,
    pub(crate) sessions: Arc<Sessions>,
}

impl Answer {
    /// The next part; `None` when it ended without a last one, because the session did or this
    /// client read too slowly.
    pub async fn next(&mut self) -> Option<Part> {
        self.parts.recv().await
    }

    pub fn input(&self, input: Input) -> Result<(), NoSession> {
        self.sessions.tell(
            self.node,
            FromMaster::Input {
                ask: self.ask,
                input,
            },
        )
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.sessions.forget(self.node, self.ask);
    }
}
