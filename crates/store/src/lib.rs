//! The durable log of transactions, the newest state, and the watch.
//!
//! ```text
//! closures ──▶ writer thread: draft of the tip ──▶ Log::append (one fsync for many) ──▶ durable
//!                                                                       │
//!                                  answers to callers, state for watchers, checkpoints
//! ```
//! The store decides nothing: what a transaction holds is decided by the closures that it is
//! given. Only this crate knows how changes are written down ([`codec`]).

mod checkpoint;
mod clock;
pub mod codec;
mod log;
mod redb_log;
mod watch;
mod writer;

pub use log::{Log, LogError};
pub use redb_log::RedbLog;
pub use watch::Watch;
pub use writer::{Error, Store};
