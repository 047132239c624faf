//! Marathon v2 JSON, old and new dialect, to and from the model: parse, validate, normalise,
//! render.
//!
//! ```text
//! body ─ parse_app ─▶ Update ─ merge(current) ─▶ AppSpec ─ (api: AppView) ─▶ render ─▶ answer
//! ```
//! Nothing here decides or acts: a spec says what is wanted, a view what is. [`merge`] collects
//! every fault; [`warnings()`] tells what is accepted and does nothing yet. Bodies of faults are in
//! [`fault`], query parameters in [`query`], what
//! `/v2/events` tells in [`events`].

mod build;
pub mod events;
pub mod fault;
mod form;
mod merge;
pub mod query;
pub mod render;
mod settle;
mod shape;
mod update;
mod warnings;
mod wire;

pub use fault::{Fault, Violation};
pub use merge::merge;
pub use update::{Update, parse_app, parse_apps, parse_task_ids};
pub use warnings::{Warning, warnings};
