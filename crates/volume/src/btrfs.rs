//! Volumes as btrfs subvolumes.
//!
//! ```text
//! POOL/volumes/NAME/live               writable, limited
//!                   making             the next `live`, until it has its limit
//!                   snapshots/S/data   read-only, whole
//!                   landing/S.N/data   being received, in a fresh 0700 directory per attempt
//!                   aside/S/data       read-only, deleted by name only
//! ```
//!
//! A name appears in its place in one step (a rename, or a snapshot, which commits), so that what
//! is in place is whole. Every snapshot is called `data`: the name is part of the stream, and
//! nothing a sender chooses becomes a path here.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use model::VolumeId;

use crate::driver::{
    Aside, Driver, Found, Identity, Incoming, Outgoing, Room, SnapshotName, Usage,
};
use crate::error::{Doing, Error, Result};
use crate::landing::Landing;
use crate::pool::Pool;
use crate::tool::Process;
use crate::{disk, subvolume, sys};

/// The stream's subvolume, everywhere.
pub const DATA: &str = "data";
pub const NO_UUID: [u8; 16] = [0; 16];
/// Bytes.
const PIPE: usize = 1 << 20;

pub struct Btrfs {
    pool: Pool,
    attempts: AtomicU64,
}

impl Btrfs {
    pub fn new(pool: Pool) -> Self {
        Self {
            pool,
            attempts: AtomicU64::new(0),
        }
    }

    fn of(&self, volume: &VolumeId) -> Result<Place> {
        Ok(Place {
            volume: volume.clone(),
            dir: self.pool.ready()?.join("volumes").join(volume.as_str()),
        })
    }

    /// The volume's directory, only if there is one: asking makes no pool.
    fn found_place(&self, volume: &VolumeId) -> Option<Place> {
        let dir = self.pool.existing()?.join("volumes").join(volume.as_str());
        dir.exists().then(|| Place {
            volume: volume.clone(),
            dir,
        })
    }

    fn live(&self, volume: &VolumeId) -> Result<(Place, PathBuf)> {
        let place = self.found_place(volume);
        place
            .map(|place| {
                let live = place.live();
                (place, live)
            })
            .filter(|(_, live)| live.exists())
            .ok_or_else(|| Error::NoVolume {
                volume: volume.clone(),
            })
    }

    fn volumes(&self) -> Result<Vec<Place>> {
        let Some(root) = self.pool.existing() else {
            return Ok(Vec::new());
        };
        let dir = root.join("volumes");
        let mut places: Vec<Place> = names(&dir)?
            .iter()
            .filter_map(|name| VolumeId::parse(name).ok())
            .map(|volume| Place {
                dir: dir.join(volume.as_str()),
                volume,
            })
            .collect();
        places.sort_by(|a, b| a.volume.cmp(&b.volume));
        Ok(places)
    }
}

impl Driver for Btrfs {
    fn create(&self, volume: &VolumeId, size: u64) -> Result<()> {
        let place = self.of(volume)?;
        disk::private_directory(&place.dir)?;
        if place.live().exists() {
            return subvolume::set_limit(&place.live(), Some(size));
        }
        // A live copy is seen only with its limit.
        let making = place.making();
        subvolume::delete(&making)?;
        subvolume::create(&making)?;
        subvolume::set_limit(&making, Some(size))?;
        fs::rename(&making, place.live()).doing(|| format!("rename {}", making.display()))?;
        disk::sync_filesystem(&place.dir)
    }

    fn open(&self, volume: &VolumeId) -> Result<PathBuf> {
        self.pool.check()?;
        self.live(volume).map(|(_, live)| live)
    }

    fn set_limit(&self, volume: &VolumeId, size: u64) -> Result<()> {
        let (_, live) = self.live(volume)?;
        subvolume::set_limit(&live, Some(size))
    }

    fn usage(&self, volume: &VolumeId) -> Result<Usage> {
        let (place, live) = self.live(volume)?;
        let count = subvolume::count(&place.dir, &live)?;
        count.map(|count| count.usage).ok_or_else(|| Error::Tool {
            action: format!("count {}", live.display()),
            words: "btrfs keeps no count of it".to_owned(),
        })
    }

    fn sizes(&self) -> Result<BTreeMap<VolumeId, u64>> {
        let places = self.volumes()?;
        let Some(first) = places.first() else {
            return Ok(BTreeMap::new());
        };
        let counts = subvolume::counts(&first.dir)?;
        let mut sizes = BTreeMap::new();
        for place in places {
            if let Some(path) = place.main()? {
                let count = counts.get(&subvolume::info(&path)?.id);
                sizes.extend(count.map(|count| (place.volume, count.usage.bytes)));
            }
        }
        Ok(sizes)
    }

    fn found(&self) -> Result<Vec<Found>> {
        self.volumes()?.iter().map(Place::found).collect()
    }

    fn room(&self) -> Result<Room> {
        self.pool.room()
    }

    fn flush(&self, volume: &VolumeId) -> Result<()> {
        let (place, _) = self.live(volume)?;
        disk::sync_filesystem(&place.dir)
    }

    fn snapshot(&self, volume: &VolumeId, name: &SnapshotName) -> Result<()> {
        self.pool.check()?;
        let (place, live) = self.live(volume)?;
        let snapshot = place.snapshot(name);
        if snapshot.exists() {
            return Ok(());
        }
        place.refuse_nested(&live)?;
        disk::private_directory(&place.dir.join("snapshots").join(name.as_str()))?;
        // The kernel writes out the source's data and commits before it answers; a sync of the
        // whole filesystem on top would make a sealed app wait for everybody else's writes.
        subvolume::snapshot(&live, &snapshot, true)
    }

    fn delete_snapshot(&self, volume: &VolumeId, name: &SnapshotName) -> Result<()> {
        match self.found_place(volume) {
            Some(place) => {
                discard(&place.dir.join("snapshots").join(name.as_str()))?;
                disk::sync_filesystem(&place.dir)
            }
            None => Ok(()),
        }
    }

    fn send(
        &self,
        volume: &VolumeId,
        base: Option<&SnapshotName>,
        snapshot: &SnapshotName,
    ) -> Result<Outgoing> {
        let place = self.of(volume)?;
        let from = place.whole(snapshot)?;
        let base = base.map(|base| place.whole(base)).transpose()?;
        let info = subvolume::info(&from)?;
        let mut arguments: Vec<&OsStr> = vec!["send".as_ref(), "-q".as_ref()];
        if stream_version() >= 2 {
            // Extents that are compressed on disk travel as they are.
            arguments.extend(["--proto", "2", "--compressed-data"].map(OsStr::new));
        }
        if let Some(base) = &base {
            arguments.extend(["-p".as_ref(), base.as_os_str()]);
        }
        arguments.push(from.as_os_str());
        let action = format!("send snapshot {snapshot} of volume {volume}");
        let (reader, writer) = wide_pipe(&action)?;
        let process = Process::start(action, &arguments, Stdio::null(), Stdio::from(writer))?;
        let uuid = match info.received_uuid {
            NO_UUID => info.uuid,
            received => received,
        };
        Ok(Outgoing {
            pipe: OwnedFd::from(reader),
            identity: identity(&uuid, info.changed),
            finish: Box::new(|| process.finish()),
        })
    }

    fn receive(&self, volume: &VolumeId, snapshot: &SnapshotName) -> Result<Box<dyn Incoming>> {
        let place = self.of(volume)?;
        let attempt = self.attempts.fetch_add(1, Ordering::Relaxed);
        let dir = place
            .dir
            .join("landing")
            .join(format!("{snapshot}.{attempt}"));
        // The number is this agent's; an earlier one may have left its own.
        discard(&dir)?;
        // What is received begins as a copy of one of these, and may pass their limit on its way.
        for name in snapshot_names(&place.dir.join("snapshots"))? {
            let base = place.snapshot(&name);
            if base.exists() {
                subvolume::set_limit(&base, None)?;
            }
        }
        Ok(Box::new(Landing::start(place, snapshot, dir)?))
    }

    fn promote(&self, volume: &VolumeId, snapshot: &SnapshotName, size: u64) -> Result<()> {
        let place = self.of(volume)?;
        let source = place.whole(snapshot)?;
        let live = place.live();
        if live.exists() {
            if subvolume::info(&live)?.parent_uuid != subvolume::info(&source)?.uuid {
                return Err(Error::Occupied {
                    volume: volume.clone(),
                    snapshot: snapshot.clone(),
                });
            }
            return subvolume::set_limit(&live, Some(size));
        }
        // A snapshot inherits its source's limit, so that a live copy is never seen without one.
        subvolume::set_limit(&source, Some(size))?;
        subvolume::snapshot(&source, &live, false)?;
        subvolume::set_limit(&source, None)
    }

    fn retire(&self, volume: &VolumeId) -> Result<()> {
        match self.found_place(volume) {
            Some(place) => {
                subvolume::delete(&place.live())?;
                disk::sync_filesystem(&place.dir)
            }
            None => Ok(()),
        }
    }

    fn set_aside(
        &self,
        volume: &VolumeId,
        name: &SnapshotName,
        snapshot: Option<&SnapshotName>,
    ) -> Result<()> {
        let place = self.of(volume)?;
        let (live, aside) = (place.live(), place.aside(name));
        let is_live = live.exists();
        if aside.exists() && !is_live {
            return Ok(());
        }
        let source = match (is_live, snapshot) {
            (true, _) => live.clone(),
            (false, Some(snapshot)) => place.whole(snapshot)?,
            (false, None) => {
                return Err(Error::NoVolume {
                    volume: volume.clone(),
                });
            }
        };
        if !aside.exists() {
            place.refuse_nested(&source)?;
            disk::private_directory(&place.dir.join("aside").join(name.as_str()))?;
            subvolume::snapshot(&source, &aside, true)?;
        } else if subvolume::info(&aside)?.parent_uuid != subvolume::info(&source)?.uuid {
            return Err(Error::SnapshotExists {
                volume: volume.clone(),
                snapshot: name.clone(),
            });
        }
        // Only what is on disk may replace the only copy.
        disk::sync_filesystem(&place.dir)?;
        subvolume::delete(&live)?;
        disk::sync_filesystem(&place.dir)
    }

    fn delete_aside(&self, volume: &VolumeId, name: &SnapshotName) -> Result<()> {
        match self.found_place(volume) {
            Some(place) => {
                discard(&place.dir.join("aside").join(name.as_str()))?;
                disk::sync_filesystem(&place.dir)
            }
            None => Ok(()),
        }
    }

    fn remove(&self, volume: &VolumeId) -> Result<()> {
        let Some(place) = self.found_place(volume) else {
            return Ok(());
        };
        subvolume::delete(&place.live())?;
        place.sweep()?;
        for kind in ["snapshots", "aside"] {
            for name in names(&place.dir.join(kind))? {
                discard(&place.dir.join(kind).join(name))?;
            }
        }
        fs::remove_dir_all(&place.dir).doing(|| format!("remove {}", place.dir.display()))?;
        disk::sync_filesystem(place.dir.parent().unwrap_or(&place.dir))
    }

    fn sweep(&self) -> Result<()> {
        self.volumes()?.iter().try_for_each(Place::sweep)
    }

    fn check(&self) -> Result<()> {
        self.pool.check()
    }

    fn close(&self) -> Result<()> {
        self.pool.close()
    }
}

/// One volume's directory.
pub struct Place {
    pub volume: VolumeId,
    pub dir: PathBuf,
}

impl Place {
    fn live(&self) -> PathBuf {
        self.dir.join("live")
    }

    fn making(&self) -> PathBuf {
        self.dir.join("making")
    }

    pub fn snapshot(&self, name: &SnapshotName) -> PathBuf {
        self.dir.join("snapshots").join(name.as_str()).join(DATA)
    }

    fn aside(&self, name: &SnapshotName) -> PathBuf {
        self.dir.join("aside").join(name.as_str()).join(DATA)
    }

    /// What the copy is about.
    fn main(&self) -> Result<Option<PathBuf>> {
        let live = [self.live()].into_iter().filter(|live| live.exists());
        let asides = snapshot_names(&self.dir.join("aside"))?;
        let asides = asides.iter().map(|name| self.aside(name));
        let snapshots = snapshot_names(&self.dir.join("snapshots"))?;
        let snapshots = snapshots.iter().rev().map(|name| self.snapshot(name));
        let mut all = live.chain(asides).chain(snapshots);
        Ok(all.find(|path| path.exists()))
    }

    fn whole(&self, name: &SnapshotName) -> Result<PathBuf> {
        let path = self.snapshot(name);
        path.exists()
            .then_some(path)
            .ok_or_else(|| Error::NoSnapshot {
                volume: self.volume.clone(),
                snapshot: name.clone(),
            })
    }

    /// A snapshot holds an empty directory where a nested subvolume was: what is in that would
    /// silently stay behind.
    fn refuse_nested(&self, live: &Path) -> Result<()> {
        let paths = subvolume::nested(live)?;
        if paths.is_empty() {
            return Ok(());
        }
        Err(Error::Nested {
            volume: self.volume.clone(),
            paths,
        })
    }

    fn found(&self) -> Result<Found> {
        let mut snapshots = Vec::new();
        for name in snapshot_names(&self.dir.join("snapshots"))? {
            if self.snapshot(&name).exists() {
                snapshots.push(name);
            }
        }
        let mut asides = Vec::new();
        for name in snapshot_names(&self.dir.join("aside"))? {
            let path = self.aside(&name);
            if path.exists() {
                asides.push(aside(&self.dir, name, &path)?);
            }
        }
        Ok(Found {
            volume: self.volume.clone(),
            live: self.live().exists(),
            snapshots,
            asides,
        })
    }

    fn sweep(&self) -> Result<()> {
        subvolume::delete(&self.making())?;
        let landing = self.dir.join("landing");
        for name in names(&landing)? {
            discard(&landing.join(name))?;
        }
        Ok(())
    }
}

fn aside(pool: &Path, name: SnapshotName, path: &Path) -> Result<Aside> {
    let made = Duration::from_secs(subvolume::info(path)?.made_at);
    let count = subvolume::count(pool, path)?;
    Ok(Aside {
        name,
        made: SystemTime::UNIX_EPOCH + made,
        bytes: count.map_or(0, |count| count.usage.bytes),
        own_bytes: count.map_or(0, |count| count.own_bytes),
    })
}

/// Deletes a directory and the subvolume in it.
pub fn discard(dir: &Path) -> Result<()> {
    subvolume::delete(&dir.join(DATA))?;
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).doing(|| format!("remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

pub fn identity(uuid: &[u8; 16], transaction: u64) -> Identity {
    Identity(format!("{}:{transaction}", sys::uuid_text(uuid)))
}

/// As long as the kernel grants, so that the two ends seldom wait for each other.
pub fn wide_pipe(action: &str) -> Result<(io::PipeReader, io::PipeWriter)> {
    let (reader, writer) = io::pipe().doing(|| action.to_owned())?;
    let _ = rustix::pipe::fcntl_setpipe_size(&writer, PIPE);
    Ok((reader, writer))
}

/// The newest the kernel speaks.
fn stream_version() -> u32 {
    fs::read_to_string("/sys/fs/btrfs/features/send_stream_version")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(1)
}

fn snapshot_names(dir: &Path) -> Result<Vec<SnapshotName>> {
    Ok(names(dir)?
        .iter()
        .filter_map(|name| SnapshotName::parse(name).ok())
        .collect())
}

/// What is in a directory, in order; nothing if there is none.
fn names(dir: &Path) -> Result<Vec<String>> {
    let action = || format!("list {}", dir.display());
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.doing(action)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.doing(action)?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}
