//! The agent's deciding, without a machine: what to do next, what to tell the master, what to
//! believe of what the master says.
//!
//! ```text
//! FromMaster ─▶ session ─▶ Assignment ─┐
//!                                      ├─▶ converge ─▶ Vec<Action> ─▶ the agent acts
//!          what the agent saw, Observed ┤                                   │
//!                    ▲                  └─▶ level ─▶ outbox ─▶ FromAgent    │
//!                    └──────────────────────────────────────────────────────┘
//! ```
//!
//! Nothing here knows a clock, a disk or a process. The agent calls [`converge`] whenever
//! something changed or [`converge::wake_at`] has come, performs each [`Action`] as its own task,
//! and writes down what came of it in [`Observed`].
//!
//! What the agent keeps true all the time is not an action: published ports and health checks
//! (which: [`jobs`]), forwarding and names of the whole directory, sending what [`Outbox`] holds,
//! the heartbeat, room on the disk (how much: [`disk`]). Read [`converge`] next.

pub mod action;
pub mod converge;
pub mod disk;
pub mod health;
pub mod jobs;
pub mod level;
pub mod observed;
pub mod outbox;
pub mod retry;
pub mod session;
pub mod volume;

pub use action::Action;
pub use converge::converge;
pub use observed::{Failure, InFlight, Link, Local, LocalVolume, Observed, Stage};
pub use outbox::Outbox;
pub use session::Session;
