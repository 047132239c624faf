//! Which nodes are here: decided from when each was last heard, on the master's own clock.
//!
//! ```text
//! heard ──silence for the node timeout──▶ lost ──heard──▶ here
//! ```
//! The watcher distrusts itself first. A tick that comes late means that the master slept, and
//! a new leadership has heard nobody yet: both start every timeout anew. When more than a third
//! of the nodes fall silent together it waits once more, since that is rather the master's own
//! cable; how fast they are then given up is the leader's business.

use std::collections::BTreeMap;

use model::ids::NodeId;
use model::time::{Millis, Time};
use model::{Change, NodeRecord, Presence, State};

/// A tick later than this after the one before says nothing about the nodes. Ticks are due
/// every half of it or more often.
pub const LATE: Millis = Millis::seconds(1);

#[derive(Clone, Debug, Default)]
pub struct Watch {
    heard: BTreeMap<NodeId, Time>,
    /// What the nodes that were not heard since are counted from.
    began: Time,
    ticked: Option<Time>,
    /// Since when so many are silent that it waits once more.
    doubting: Option<Time>,
}

impl Watch {
    /// Begins with a leadership.
    pub fn begin(now: Time) -> Self {
        Self {
            began: now,
            ..Self::default()
        }
    }

    /// Something arrived on the node's session.
    pub fn heard(&mut self, node: NodeId, now: Time) {
        self.heard.insert(node, now);
    }

    /// What follows from the time: nodes lost, and nodes back.
    pub fn tick(&mut self, state: &State, now: Time) -> Vec<Change> {
        let late = self.ticked.is_some_and(|last| now - last > LATE);
        self.ticked = Some(now);
        if late {
            self.heard.clear();
            self.began = now;
            self.doubting = None;
            return Vec::new();
        }
        let timeout = state.settings.node_timeout;
        self.heard.retain(|node, _| state.node(*node).is_some());
        let is_silent = |node: &&NodeRecord| now - self.last(node) >= timeout;
        let here = state.nodes().filter(|n| n.presence == Presence::Here);
        let silent: Vec<NodeId> = here.filter(is_silent).map(|node| node.id).collect();
        let back = self.back(state, now, timeout);

        let many = silent.len() >= 2 && silent.len() * 3 > state.node_count();
        self.doubting = many.then(|| self.doubting.unwrap_or(now));
        let doubts = self.doubting.is_some_and(|since| now - since < timeout);
        let lost = silent.into_iter().filter(|_| !doubts);
        let lost = lost.map(|node| presence(node, Presence::Lost { since: now }));
        lost.chain(back).collect()
    }

    /// Lost nodes that were heard again. A node that nobody heard since this watch began is not
    /// back.
    fn back(&self, state: &State, now: Time, timeout: Millis) -> Vec<Change> {
        let lost = state.nodes().filter(|n| n.presence != Presence::Here);
        let heard = |node: &&NodeRecord| {
            let last = self.heard.get(&node.id);
            last.is_some_and(|last| now - *last < timeout)
        };
        lost.filter(heard)
            .map(|node| presence(node.id, Presence::Here))
            .collect()
    }

    fn last(&self, node: &NodeRecord) -> Time {
        let heard = self.heard.get(&node.id).copied();
        heard.unwrap_or_default().max(self.began).max(node.joined)
    }
}

fn presence(node: NodeId, presence: Presence) -> Change {
    Change::NodePresence { node, presence }
}
