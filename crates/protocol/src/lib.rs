//! How master and agents speak: frames of JSON over mutual TLS, and the trust beneath it.
//!
//! One port serves three openings. *Join*: an agent that holds a token, and nothing else yet,
//! sends a certificate request and gets its certificate. *Renew*: an agent gets a fresh
//! certificate for its old one. *Session*: the messages of `model::session`, both ways.
//!
//! Agents speak to each other on a port of their own ([`peer`]).
//!
//! Messages are the model's own types with named fields, so that neighbouring releases
//! understand each other; there is no second set of types to convert to.

mod channel;
mod client;
mod files;
mod identity;
pub mod peer;
mod server;
pub mod trust;

pub use channel::{Error, Receiver, Sender};
pub use client::{connect, join, renew};
pub use identity::Identity;
pub use server::{Handshake, JoinRequest, Listener, Opening, Peer, RenewRequest, Session};
