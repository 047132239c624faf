//! The newest state, what of it is durable, and what waits for that. `store` runs this beside a
//! real log and `sim` beside a simulated one, so that both forget the same things at a crash.
//!
//! ```text
//! draft ── accept ──▶ tip ── the log's fsync ── durable ──▶ answers, assignments, watchers
//!                      └── the append failed ── discard ──▶ back to what is durable
//! ```

use std::collections::VecDeque;

use crate::change::{Touched, Transaction};
use crate::draft::Draft;
use crate::ids::Revision;
use crate::state::State;
use crate::time::Time;

#[derive(Clone, Debug)]
pub struct Tip {
    durable: State,
    newest: State,
    waiting: VecDeque<(State, Touched)>,
}

impl Tip {
    /// Begins at a state that the log holds.
    pub fn new(durable: State) -> Self {
        Self {
            newest: durable.clone(),
            durable,
            waiting: VecDeque::new(),
        }
    }

    pub fn durable(&self) -> &State {
        &self.durable
    }

    pub fn newest(&self) -> &State {
        &self.newest
    }

    pub fn draft(&self, now: Time) -> Draft {
        Draft::new(self.newest.clone(), now)
    }

    /// Takes a draft made from the newest state. The transaction must be appended to the log
    /// next; `None` when the draft changed nothing.
    pub fn accept(&mut self, draft: Draft) -> Option<Transaction> {
        let (state, changes, touched) = draft.into_parts();
        if changes.is_empty() {
            return None;
        }
        let revision = Revision(self.newest.revision.0 + 1);
        self.newest = state.numbered(revision);
        self.waiting.push_back((self.newest.clone(), touched));
        Some(Transaction {
            revision,
            at: self.newest.now,
            changes,
        })
    }

    /// The log holds everything up to `revision`: gives what became durable thereby.
    pub fn settle(&mut self, revision: Revision) -> Touched {
        let mut touched = Touched::default();
        while let Some((state, _)) = self.waiting.front()
            && state.revision <= revision
            && let Some((state, change)) = self.waiting.pop_front()
        {
            self.durable = state;
            touched.extend(change);
        }
        touched
    }

    /// An append failed: what was not durable never was.
    pub fn discard(&mut self) {
        self.waiting.clear();
        self.newest = self.durable.clone();
    }
}
