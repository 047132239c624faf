//! A state and the changes made to it so far. Each decision is applied at once, so that the next
//! one sees it; nothing is true until the writer has accepted the draft and made it durable.

use crate::change::{Change, Touched};
use crate::ids::{DeploymentId, MoveId, Version};
use crate::state::State;
use crate::time::{Millis, Time};

#[derive(Clone, Debug)]
pub struct Draft {
    state: State,
    changes: Vec<Change>,
    touched: Touched,
    /// Touched since [`Draft::hear`] was last asked.
    fresh: Touched,
}

impl Draft {
    /// A draft that begins at `state`, at the time `now` (or the state's, if that is later).
    pub fn new(state: State, now: Time) -> Self {
        let state = state.at(now);
        Self {
            state,
            changes: Vec::new(),
            touched: Touched::default(),
            fresh: Touched::default(),
        }
    }

    pub fn state(&self) -> &State {
        &self.state
    }

    pub fn now(&self) -> Time {
        self.state.now
    }

    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Tells `listener` what was touched since this was last asked, so that a decider need not
    /// look at the whole draft again.
    pub fn hear(&mut self, listener: impl FnOnce(&Touched)) {
        let fresh = std::mem::take(&mut self.fresh);
        listener(&fresh);
        self.touched.extend(fresh);
    }

    /// Decides `change`.
    pub fn apply(&mut self, change: Change) {
        self.state.apply_noting(&change, &mut self.fresh);
        self.changes.push(change);
    }

    pub fn next_deployment(&self) -> DeploymentId {
        DeploymentId(self.state.next_number())
    }

    pub fn next_move(&self) -> MoveId {
        MoveId(self.state.next_number())
    }

    /// A version later than the last one given: `max(now, last + 1 ms)`.
    pub fn next_version(&self) -> Version {
        self.state.now.max(self.state.last_version + Millis(1))
    }

    pub fn into_parts(mut self) -> (State, Vec<Change>, Touched) {
        self.touched.extend(self.fresh);
        (self.state, self.changes, self.touched)
    }
}
