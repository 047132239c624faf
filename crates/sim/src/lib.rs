//! A cluster on paper: the real `planner` and `node` on a virtual clock, with simulated machines,
//! disks and messages, and seeded faults.
//!
//! - [`script`]: commands and their transcripts, where nothing varies.
//! - [`walk`]: random requests and faults from a seed; then everything must settle.
//! - [`watch`]: what must hold after every single event of either.
//!
//! Nothing here decides for a cluster: what decides is what real masters and agents run. There
//! are no threads and no clock, so that a seed is enough to see a fault again.

pub mod clients;
pub mod data;
pub mod ledger;
pub mod log;
pub mod machine;
pub mod pace;
pub mod random;
pub mod script;
pub mod story;
pub mod walk;
pub mod watch;
pub mod world;
