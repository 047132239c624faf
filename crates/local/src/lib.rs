//! `tandem up` and `tandem down`: a whole cluster on one machine.
//!
//! ```text
//!          the machine 10.0.15.10           switch (a namespace of its own)
//!   up ─┬─ master                                  ┌──────────┐
//!       ├─ docker-registry, twice      tandem0 ────┤ sw0      │
//!       ├─ node-init n1 ── agent          eth0 ────┤          │
//!       ├─ node-init n2 ── agent          eth0 ────┤          │
//!       └─ node-init n3 ── agent          eth0 ────┴──────────┘
//! ```
//!
//! A node is a small machine made of namespaces ([`node_init`]), a supervisor
//! keeps all roles running ([`supervise`]), and everything that is changed outside
//! of them is recorded and undone ([`machine`], [`sweep`]).
//!
//! It joins machines together and starts programs in them; which programs, the
//! caller says ([`Roles`]). It knows nothing of apps, containers or the overlay
//! inside the nodes.

mod backoff;
mod cgroup;
mod check;
mod command;
mod control;
mod detach;
mod down;
mod entry;
mod error;
mod keep;
mod keep_node;
mod listing;
mod log;
mod machine;
mod node_init;
mod options;
mod port;
mod ready;
mod registry;
mod state;
mod subnet;
mod supervise;
mod sweep;
mod switch;
mod up;

pub use control::{Member, Running};
pub use down::{Down, down};
pub use entry::reexec;
pub use error::{Error, Refusal};
pub use listing::listing;
pub use options::{Attribute, Node, NotAnAttribute, Options, Ports, Program, Ready, Roles};
pub use subnet::{NotASubnet, Subnet};
pub use up::{Up, up};
