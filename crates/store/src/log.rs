//! What a log must do, whoever keeps it. `tests/contract.rs` holds every implementation to it.

use std::path::PathBuf;

use model::{Revision, State, Transaction};

use crate::codec::CodecError;

/// An append-only list of transactions, and a checkpoint that stands for its beginning.
///
/// Flow: `append` under the expected revision, now and then `checkpoint`, then `truncate` what it
/// made superfluous. Guarantee: what `append` returned `Ok` for is read back after any crash;
/// what failed is wholly absent, or wholly there with its revision. Assumption: one writer; a
/// second one finds its `expected` stale.
pub trait Log: Send + Sync + 'static {
    /// Makes the batch durable, together or not at all. `expected` is the revision before the
    /// first transaction; another newest revision is [`LogError::Stale`].
    fn append(&self, expected: Revision, batch: &[Transaction]) -> Result<(), LogError>;

    /// The transactions after `after`, oldest first.
    fn read(&self, after: Revision) -> Result<Vec<Transaction>, LogError>;

    /// Makes `state` durable as the checkpoint of its revision, without delaying appends.
    fn checkpoint(&self, state: &State) -> Result<(), LogError>;

    /// The newest whole checkpoint.
    fn latest_checkpoint(&self) -> Result<Option<State>, LogError>;

    /// Forgets transactions up to and including `through`; only after a checkpoint of it.
    fn truncate(&self, through: Revision) -> Result<(), LogError>;
}

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("the log is at revision {newest}, not {expected}: another master writes it")]
    Stale {
        expected: Revision,
        newest: Revision,
    },
    #[error("{path} is in use by another master")]
    Locked { path: PathBuf },
    #[error("open {path}")]
    Open {
        path: PathBuf,
        source: Box<redb::Error>,
    },
    #[error("{doing} the log")]
    Database {
        doing: &'static str,
        source: Box<redb::Error>,
    },
    #[error("{doing} {path}")]
    File {
        doing: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("revision {revision} of the log")]
    Transaction {
        revision: Revision,
        source: CodecError,
    },
    #[error("checkpoint {path}")]
    Checkpoint { path: PathBuf, source: CodecError },
    #[error("the log goes on at revision {found}, where {wanted} was to follow: a part is missing")]
    Gap { wanted: Revision, found: Revision },
}
