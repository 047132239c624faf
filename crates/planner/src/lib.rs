//! The master's deciding: what requests change, what the leader does about it, what nodes are
//! told, and what their answers mean. Values in, values out; no clock, no sockets, no tasks.
//!
//! - [`request`]: one function per request, each accepted or refused.
//! - [`leader`]: the agenda and its steps, which run [`rollout`], [`relocate`] and [`upkeep`].
//! - [`derive`]: what each node should have, and the directory.
//! - [`session`], [`presence`]: the master's end of the agents' sessions.

pub mod derive;
pub mod leader;
pub mod presence;
mod relocate;
pub mod request;
mod rollout;
pub mod session;
mod start;
mod stop;
mod upkeep;
mod waiting;
