//! What this crate could not do.

use std::io;
use std::path::{Path, PathBuf};

/// Refusals and failures, naming the thing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{what} {path}")]
    File {
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("read {path}: not what a shim of ours writes")]
    Record {
        path: PathBuf,
        source: serde_json::Error,
    },
    /// The container could not be built, or its command not executed. `code` is the shell's
    /// number for it (127 not found, 126 not executable), where there is one.
    #[error("create container: {message}")]
    Create { message: String, code: Option<i32> },
    #[error("exec in container: {message}")]
    Exec { message: String, code: Option<i32> },
    #[error("start a shim")]
    Spawn { source: io::Error },
    #[error("talk to the shim of {id}")]
    Channel { id: String, source: io::Error },
    #[error("the shim of {id} ended without an answer; its shim.log may say why")]
    ShimGone { id: String },
    #[error("instance {id} has ended")]
    Ended { id: String },
    #[error("freeze cgroup {group}: {why}")]
    NotFrozen { group: String, why: String },
    #[error("kill cgroup {group}: {left} processes are still there")]
    NotKilled { group: String, left: usize },
    #[error("no cgroup hierarchy is mounted below /sys/fs/cgroup")]
    NoCgroups,
    #[error("read the seccomp profile {path} (Debian package golang-github-containers-common)")]
    NoProfile { path: PathBuf, source: io::Error },
    #[error("compile the seccomp profile: {message}")]
    Profile { message: String },
    #[error("unknown capability {0}")]
    Capability(String),
    #[error("send signal {signal} to instance {id}")]
    Signal {
        id: String,
        signal: i32,
        source: io::Error,
    },
    #[error("{0} is not a signal")]
    NoSignal(i32),
}

impl Error {
    /// For `map_err`: which file, and what was tried with it.
    pub(crate) fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { what, path, source }
    }
}

/// An error and all its causes in one line, as shims report it.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let more = inner.to_string();
        // Many errors of libcontainer repeat their source in their own words.
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = inner.source();
    }
    text
}
