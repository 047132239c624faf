//! The agent: runs `node`'s decisions on one machine.
//!
//! ```text
//!            ┌── link ──────── the session with the master: connect, heartbeat, relay
//!            ├── identity ──── renews the certificate
//!  events ◀──┤
//!     │      ├── overlay ───── the kernel's network and the names follow the directory
//!     │      ├── streams ───── volumes, to the nodes that the master names
//!     │      ├── images ────── those that nothing names go when the disk is full
//!     ▼      └── tasks ─────── actions (`act`), ends, health checks, asks of clients
//!   heart: node::Session, node::Observed, node::Outbox; converge after every event
//! ```
//!
//! The heart alone owns what is known; everything else hands it events and is handed work. Each
//! [`node::Action`] is one file of `act`. Nothing is decided here: what to do next is
//! `node::converge`'s word, what to believe `node::Session`'s.
//!
//! *Guarantees.* What an order changes is on disk before it is acted on. The agent may be killed
//! at any moment: containers, network and names' sources stay, and the next start finds them by
//! the state directory (see `disk.rs` for its layout). *Assumptions.* One agent per state
//! directory, running in the node's own namespaces; `container::reexec` is called first thing in
//! `main`, because shims are forked by this program, executed once more.
//!
//! Read next: `heart.rs`.

mod act;
mod asks;
mod boot;
mod clock;
mod config;
mod disk;
mod environment;
mod error;
mod event;
mod health;
mod heart;
mod identity;
mod images;
mod link;
mod observe;
mod overlay;
mod probe;
mod run;
mod stop_all;
mod streams;
mod tls;
mod volumes;

pub use config::Config;
pub use error::Error;
pub use node::disk::Marks as ImageMarks;
pub use run::run;
pub use stop_all::stop_all;
