//! What a filesystem must be able to do to keep volumes. btrfs does it now; ZFS and plain
//! directories can follow behind the same contract suite.
//!
//! A driver's calls block; [`crate::Volumes`] keeps them off the runtime's threads. A driver knows
//! data, not rights: which role a copy has, and who may write it, is decided elsewhere and kept
//! in [`crate::roles`].
//!
//! Every call may be repeated after a crash in its middle and then does what is left to do.

use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::SystemTime;

use model::VolumeId;
use serde::{Deserialize, Serialize};

use crate::error::Result;

pub trait Driver: Send + Sync + 'static {
    /// An empty live copy that can hold `size` bytes, on disk. One that is there keeps its data
    /// and gets the limit.
    fn create(&self, volume: &VolumeId, size: u64) -> Result<()>;

    /// The live copy's directory, to be bind-mounted.
    fn open(&self, volume: &VolumeId) -> Result<PathBuf>;

    /// How many bytes the live copy can hold; writes beyond that answer EDQUOT.
    fn set_limit(&self, volume: &VolumeId, size: u64) -> Result<()>;

    /// Of the live copy, exact as of its last sync.
    fn usage(&self, volume: &VolumeId) -> Result<Usage>;

    /// Bytes of each volume's live copy, or else of what is set aside or its newest snapshot.
    fn sizes(&self) -> Result<BTreeMap<VolumeId, u64>>;

    /// Everything that is on disk, ordered by volume.
    fn found(&self) -> Result<Vec<Found>>;

    /// Bytes that volumes can still grow by, all together.
    fn room(&self) -> Result<Room>;

    /// Brings everything written so far to the disk.
    fn flush(&self, volume: &VolumeId) -> Result<()>;

    /// The live copy as it is now, read-only, on disk, under this name. A snapshot that has the
    /// name already is left as it is: names are never used again for another state.
    fn snapshot(&self, volume: &VolumeId, name: &SnapshotName) -> Result<()>;

    fn delete_snapshot(&self, volume: &VolumeId, name: &SnapshotName) -> Result<()>;

    /// Starts to write a snapshot to a pipe: whole, or what differs from `base`.
    fn send(
        &self,
        volume: &VolumeId,
        base: Option<&SnapshotName>,
        snapshot: &SnapshotName,
    ) -> Result<Outgoing>;

    /// Starts to read a snapshot from a pipe into a place of its own.
    fn receive(&self, volume: &VolumeId, snapshot: &SnapshotName) -> Result<Box<dyn Incoming>>;

    /// Makes the live copy out of a snapshot, with its limit, on disk. A live copy that came of
    /// this snapshot is kept with all that was written to it since; any other is in the way.
    fn promote(&self, volume: &VolumeId, snapshot: &SnapshotName, size: u64) -> Result<()>;

    /// Deletes the live copy; snapshots stay.
    fn retire(&self, volume: &VolumeId) -> Result<()>;

    /// Turns the live copy, or this snapshot where there is none, into a read-only one that only
    /// its name deletes.
    fn set_aside(
        &self,
        volume: &VolumeId,
        name: &SnapshotName,
        snapshot: Option<&SnapshotName>,
    ) -> Result<()>;

    fn delete_aside(&self, volume: &VolumeId, name: &SnapshotName) -> Result<()>;

    /// Deletes every copy of the volume.
    fn remove(&self, volume: &VolumeId) -> Result<()>;

    /// Deletes what interrupted calls left. Only while no other call is under way.
    fn sweep(&self) -> Result<()>;

    /// Whether the filesystem still takes writes; `Ok` too before there is one.
    fn check(&self) -> Result<()>;

    /// Lets go of the filesystem, for a node that ends; fails while anything uses it.
    fn close(&self) -> Result<()>;
}

/// Of a snapshot or of something set aside: 1 to 128 letters, digits, dots, dashes and
/// underscores, beginning with a letter or digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SnapshotName(String);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is no snapshot name: 1 to 128 letters, digits, dots, dashes and underscores, beginning with a letter or digit"
)]
pub struct ParseSnapshotName(String);

impl From<model::Snapshot> for SnapshotName {
    fn from(snapshot: model::Snapshot) -> Self {
        Self(snapshot.to_string())
    }
}

impl SnapshotName {
    pub fn parse(name: &str) -> Result<Self, ParseSnapshotName> {
        let valid = (1..=128).contains(&name.len())
            && name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
        valid
            .then(|| Self(name.to_owned()))
            .ok_or_else(|| ParseSnapshotName(name.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SnapshotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for SnapshotName {
    type Error = ParseSnapshotName;
    fn try_from(name: String) -> Result<Self, ParseSnapshotName> {
        Self::parse(&name)
    }
}

impl From<SnapshotName> for String {
    fn from(name: SnapshotName) -> Self {
        name.0
    }
}

/// What a driver calls the content of a snapshot; equal at the sender and the receiver of one
/// stream, and only there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Identity(pub String);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    pub bytes: u64,
    /// `None`: none is set.
    pub limit: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    pub free: u64,
    pub total: u64,
}

/// What is on disk of one volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub volume: VolumeId,
    pub live: bool,
    /// Whole ones, made or received here, by name.
    pub snapshots: Vec<SnapshotName>,
    pub asides: Vec<Aside>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aside {
    pub name: SnapshotName,
    pub made: SystemTime,
    pub bytes: u64,
    /// What no other copy here shares: what deleting it frees. Rises once the space of the live
    /// copy that it was is cleared, seconds later.
    pub own_bytes: u64,
}

/// A snapshot on its way out. Dropping it ends the sending.
pub struct Outgoing {
    pub pipe: OwnedFd,
    pub identity: Identity,
    /// Waits until the sender has ended, after the pipe was read to its end.
    pub finish: Box<dyn FnOnce() -> Result<()> + Send>,
}

/// A snapshot on its way in. Dropping it at any point before it is kept ends the receiving and
/// deletes what came.
pub trait Incoming: Send {
    /// The end to write the stream to. Once.
    fn pipe(&mut self) -> Option<OwnedFd>;

    /// After the pipe was closed: waits for the receiver, brings all of it to the disk, and says
    /// what arrived.
    fn finish(&mut self) -> Result<Identity>;

    /// After `finish`: gives the snapshot its name, on disk.
    fn keep(self: Box<Self>) -> Result<()>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_name_cannot_leave_its_directory() {
        for bad in ["", ".", "..", "a/b", "-x", ".x", "a b", &"x".repeat(129)] {
            assert!(SnapshotName::parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(
            SnapshotName::parse("move-7.final").unwrap().as_str(),
            "move-7.final"
        );
    }
}
