//! A btrfs snapshot that arrives: in a fresh private directory, until it is whole, on disk and what
//! was sent.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Stdio;

use crate::btrfs::{DATA, NO_UUID, Place, discard, identity, wide_pipe};
use crate::driver::{Identity, Incoming, SnapshotName};
use crate::error::{Doing, Error, Result};
use crate::tool::Process;
use crate::{disk, subvolume};

pub struct Landing {
    place: Place,
    snapshot: SnapshotName,
    dir: PathBuf,
    pipe: Option<OwnedFd>,
    process: Option<Process>,
    kept: bool,
}

impl Landing {
    /// In `dir`, which must not be there.
    pub fn start(place: Place, snapshot: &SnapshotName, dir: PathBuf) -> Result<Self> {
        disk::private_directory(&dir)?;
        let action = format!("receive snapshot {snapshot} of volume {}", place.volume);
        let (reader, writer) = wide_pipe(&action)?;
        let mut landing = Self {
            place,
            snapshot: snapshot.clone(),
            dir,
            pipe: Some(OwnedFd::from(writer)),
            process: None,
            kept: false,
        };
        let arguments = ["receive".as_ref(), "-q".as_ref(), landing.dir.as_os_str()];
        landing.process = Some(Process::start(
            action,
            &arguments,
            Stdio::from(reader),
            Stdio::null(),
        )?);
        Ok(landing)
    }
}

impl Incoming for Landing {
    fn pipe(&mut self) -> Option<OwnedFd> {
        self.pipe.take()
    }

    fn finish(&mut self) -> Result<Identity> {
        drop(self.pipe.take());
        if let Some(process) = self.process.take() {
            process.finish()?;
        }
        // The receiver's exit says nothing about the disk: without this a power cut leaves files
        // of the right size, full of zeros.
        disk::sync_filesystem(&self.dir)?;
        let info = subvolume::info(&self.dir.join(DATA))?;
        if !info.read_only || info.received_uuid == NO_UUID {
            return Err(Error::Differs {
                volume: self.place.volume.clone(),
                snapshot: self.snapshot.clone(),
                what: "end",
                got: "a copy that was not finished".to_owned(),
                wanted: "a finished one".to_owned(),
            });
        }
        Ok(identity(&info.received_uuid, info.sent))
    }

    fn keep(mut self: Box<Self>) -> Result<()> {
        let target = self.place.snapshot(&self.snapshot);
        if target.exists() {
            let (got, here) = (
                subvolume::info(&self.dir.join(DATA))?,
                subvolume::info(&target)?,
            );
            // The same once more, because our answer got lost, say.
            if (got.received_uuid, got.sent) == (here.received_uuid, here.sent) {
                return Ok(());
            }
            return Err(Error::SnapshotExists {
                volume: self.place.volume.clone(),
                snapshot: self.snapshot.clone(),
            });
        }
        let dir = self
            .place
            .dir
            .join("snapshots")
            .join(self.snapshot.as_str());
        disk::private_directory(&self.place.dir.join("snapshots"))?;
        // The directory around it moves: a read-only subvolume itself cannot change its parent.
        fs::rename(&self.dir, &dir).doing(|| format!("rename {}", self.dir.display()))?;
        self.kept = true;
        disk::sync_filesystem(&dir)
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let (process, pipe, dir) = (self.process.take(), self.pipe.take(), self.dir.clone());
        // Dropped on the runtime's threads too. Whatever this leaves, the next start sweeps.
        std::thread::spawn(move || {
            drop(pipe);
            if let Some(process) = process {
                process.kill();
            }
            if let Err(error) = discard(&dir) {
                tracing::warn!("{error}");
            }
        });
    }
}
