//! Why an agent cannot go on. What one action could not do is `act::Error`, and is retried.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{doing} {path}")]
    File {
        doing: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("read {path}: not what an agent writes")]
    Record {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error(
        "this node has no identity in {dir} and no token to join {master} with; make one with `tandem token create`"
    )]
    NoToken { dir: PathBuf, master: SocketAddr },
    #[error("join the cluster")]
    Join { source: protocol::Error },
    #[error("keep this node's identity")]
    Identity { source: protocol::Error },
    #[error("open the image store")]
    Images { source: image::StoreError },
    #[error("read what this node's volumes are")]
    Volumes { source: volume::Error },
    #[error("clear away control groups that nobody claims")]
    Sweep { source: container::Error },
    #[error("prepare https for health checks")]
    Tls { source: rustls::Error },
    #[error("the agent's loop `{name}` ended")]
    Ended {
        name: &'static str,
        source: Box<Error>,
    },
    #[error("a task of the agent's panicked")]
    Panicked { source: tokio::task::JoinError },
}

impl Error {
    /// For `map_err`: which file, and what was tried with it.
    pub(crate) fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File {
            doing,
            path,
            source,
        }
    }
}

/// An error and all its causes in one line, as users read it.
pub(crate) fn words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let more = inner.to_string();
        // Some errors repeat their source in their own words.
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = inner.source();
    }
    text
}
