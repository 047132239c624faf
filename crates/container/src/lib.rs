//! Containers: one *shim* per instance, which builds the container, waits for it and keeps
//! its log, and the agent's handle on it.
//!
//! ```text
//!  agent ── create ──▶ shim ── libcontainer ──▶ container's init (stopped before its command)
//!    │ ◀── Created{pid} ─┤                        │ stdout, stderr: FIFOs it holds open itself
//!    ├── Go ───────────▶ ├─ start, quota ───────▶ │ runs
//!    │                   ├─ FIFO ─▶ log, log.1 …  │
//!    │ ◀── shim ends ─── ├─ `exit`, cgroup gone ◀─┘ ends
//! ```
//!
//! Shims are forked by this very binary, executed once more: a program that uses this crate calls
//! [`reexec`] first thing in `main`, before it starts a thread. Neither the agent's death nor
//! the shim's touches the container: [`adopt`] finds it again by its directory.
//!
//! This crate knows no images, networks or volumes: the caller mounts the root filesystem,
//! makes the network namespace, and names both in the [`Spec`]. Ids must be unique for ever.
//!
//! Read next: `create.rs` (the beginning), `forkserver.rs` (where shims come from), `shim/run.rs`
//! (the middle), `instance.rs` (the end).

mod adopt;
mod bundle;
mod capabilities;
mod cgroup;
mod channel;
mod create;
mod dir;
mod error;
mod exec;
mod executor;
mod exit;
mod forkserver;
mod host_root;
mod instance;
pub mod log;
mod process;
mod seccomp;
mod shim;
mod spec;
mod sweep;
mod sys;
mod time;
mod workdir;

pub use adopt::{Found, adopt};
pub use create::{Created, create};
pub use dir::Dir;
pub use error::Error;
pub use exec::{Console, Exec, ExecSpec, Output, Streams};
pub use exit::{Exit, How};
pub use instance::Instance;
pub use shim::reexec;
pub use spec::{Limits, LogLimits, Mount, Network, Root, Source, Spec, Ulimit, User};
pub use sweep::{remove, sweep};
