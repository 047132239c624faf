//! A log on paper: what is appended becomes durable some time later, in order; a crash keeps
//! what is durable and perhaps some of the rest.

use model::ids::Revision;
use model::{State, Transaction};

use crate::pace::Pace;

#[derive(Clone, Debug, Default)]
pub struct Log {
    written: Vec<Transaction>,
    durable: usize,
}

impl Log {
    pub fn append(&mut self, transaction: Transaction) {
        self.written.push(transaction);
    }

    /// The newest revision written, which an fsync that begins now makes durable.
    pub fn newest(&self) -> Revision {
        self.written
            .last()
            .map_or(Revision(0), |transaction| transaction.revision)
    }

    /// The newest revision that a crash cannot take.
    pub fn durable(&self) -> Revision {
        let last = self.durable.checked_sub(1);
        let last = last.and_then(|last| self.written.get(last));
        last.map_or(Revision(0), |transaction| transaction.revision)
    }

    pub fn synced(&mut self, revision: Revision) {
        self.durable = self
            .written
            .partition_point(|transaction| transaction.revision <= revision)
            .max(self.durable);
    }

    /// Power fails: of what was not durable, a beginning may be on the disk all the same.
    pub fn crash(&mut self, pace: &mut Pace) {
        let volatile = (self.written.len() - self.durable) as u64;
        let kept = self.durable + pace.below(volatile + 1) as usize;
        self.written.truncate(kept);
        self.durable = kept;
    }

    /// What a master that starts finds: history, replayed.
    pub fn replay(&self) -> State {
        self.written
            .iter()
            .fold(State::default(), |state, transaction| {
                let mut state = state.at(transaction.at);
                for change in &transaction.changes {
                    state.apply(change);
                }
                state.numbered(transaction.revision)
            })
    }
}
