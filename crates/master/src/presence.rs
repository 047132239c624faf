//! The presence loop: ticks the watcher of `planner::presence` and records what it decides.

use std::convert::Infallible;
use std::time::Duration;

use model::{Change, Presence};
use store::Error;

use crate::Master;

const TICK: Duration = Duration::from_millis(250);

/// Runs until the store ends.
pub async fn run(master: Master) {
    loop {
        tokio::time::sleep(TICK).await;
        let changes = master
            .sessions
            .tick(&master.store.state(), master.store.now());
        if changes.is_empty() {
            continue;
        }
        for change in &changes {
            if let Change::NodePresence { node, presence } = change {
                match presence {
                    Presence::Here => tracing::info!(node.id = %node, "Node {node} is back"),
                    Presence::Lost { .. } => {
                        tracing::warn!(node.id = %node, "Node {node} is silent")
                    }
                }
            }
        }
        let written = master
            .store
            .write(move |draft| {
                changes.into_iter().for_each(|change| draft.apply(change));
                Ok::<_, Infallible>(())
            })
            .await;
        // A failed append is decided again at the next tick.
        if matches!(written, Err(Error::Ended)) {
            return;
        }
    }
}
