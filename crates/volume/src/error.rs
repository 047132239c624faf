//! What this crate could not do, in a form that callers can match and users can read.

use std::io;
use std::path::PathBuf;

use model::{Generation, VolumeId};

use crate::driver::SnapshotName;
use crate::users::User;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{program} is missing: install the package {package}")]
    Missing {
        program: String,
        package: &'static str,
    },
    #[error("no room for {what}: {free} bytes free, {needed} needed")]
    NoRoom {
        what: String,
        free: u64,
        needed: u64,
    },
    #[error(
        "the volumes' filesystem at {} has made itself read-only after an error; it has to be unmounted before it can be written again", path.display()
    )]
    ReadOnly { path: PathBuf },
    #[error("{} is not on btrfs", path.display())]
    NotBtrfs { path: PathBuf },
    #[error(
        "the btrfs at {} counts with simple quotas, which do not limit copies: turn them off with `btrfs quota disable`", path.display()
    )]
    SimpleQuotas { path: PathBuf },
    #[error("{} is in use by another agent", path.display())]
    Taken { path: PathBuf },
    #[error("this node has no live copy of volume {volume}")]
    NoVolume { volume: VolumeId },
    #[error("this node has no snapshot {snapshot} of volume {volume}")]
    NoSnapshot {
        volume: VolumeId,
        snapshot: SnapshotName,
    },
    #[error(
        "volume {volume} has a live copy that was not made of snapshot {snapshot}; it is not overwritten"
    )]
    Occupied {
        volume: VolumeId,
        snapshot: SnapshotName,
    },
    #[error("volume {volume} has another snapshot {snapshot} already")]
    SnapshotExists {
        volume: VolumeId,
        snapshot: SnapshotName,
    },
    #[error(
        "volume {volume} holds subvolumes of its own, which no snapshot contains: {}", paths.join(", ")
    )]
    Nested {
        volume: VolumeId,
        paths: Vec<String>,
    },
    #[error("volume {volume} is in use by {}", users.iter().map(User::to_string).collect::<Vec<_>>().join(", "))]
    InUse { volume: VolumeId, users: Vec<User> },
    #[error("the stream of snapshot {snapshot} of volume {volume} broke off after {bytes} bytes")]
    Stream {
        volume: VolumeId,
        snapshot: SnapshotName,
        bytes: u64,
        source: io::Error,
    },
    #[error(
        "snapshot {snapshot} of volume {volume} arrived with another {what}: {got}, not {wanted}"
    )]
    Differs {
        volume: VolumeId,
        snapshot: SnapshotName,
        what: &'static str,
        got: String,
        wanted: String,
    },
    #[error(
        "volume {volume}: generation {offered} is refused, this node has obeyed generation {known}"
    )]
    Older {
        volume: VolumeId,
        offered: Generation,
        known: Generation,
    },
    #[error("role file {} cannot be understood", path.display())]
    RoleFile {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error("role file {} has format {format}, which is newer than this version", path.display())]
    RoleFormat { path: PathBuf, format: u32 },
    /// A program refused; `words` are its own.
    #[error("{action}: {words}")]
    Tool { action: String, words: String },
    #[error("{action}")]
    Io { action: String, source: io::Error },
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Says what was being done when the kernel refused.
pub(crate) trait Doing<T> {
    fn doing(self, action: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<io::Error>> Doing<T> for std::result::Result<T, E> {
    fn doing(self, action: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Io {
            action: action(),
            source: source.into(),
        })
    }
}
