//! The state directory: that it is ours, and who works with it, and with the machine, at the moment.
//!
//! A machine has one cluster at a time, as the link, the table and the cgroup have one name each:
//! whoever works with a state directory holds the machine's own lock as well.

use crate::error::{Doing, Refusal, Result};
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Tells our directory from one that `--purge` must not touch.
const MARKER: &str = "tandem-state";
const LOCK: &str = "up.lock";
/// The machine's: its holder's process and state directory, a line each.
const MACHINE: &str = "/run/tandem-up.lock";

/// The right to start, run or stop the cluster. The kernel gives it back when
/// the process that holds it ends, however it ends.
#[derive(Debug)]
pub(crate) struct Lock {
    /// None where there is no state directory, and only the machine is to be cleaned up.
    _directory: Option<File>,
    _machine: File,
}

/// Creates the directory if there is none; refuses one full of other things.
pub(crate) fn create(directory: &Path) -> Result<()> {
    let make = || {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
    };
    make().doing(|| format!("create {}", directory.display()))?;
    if !is_ours(directory)? {
        return Err(Refusal::NotOurs {
            path: directory.into(),
        }
        .into());
    }
    let marker = directory.join(MARKER);
    fs::write(
        &marker,
        "State of a Tandem cluster; `tandem down --purge` removes it.\n",
    )
    .doing(|| format!("write {}", marker.display()))
}

/// Marked as ours, or empty.
fn is_ours(directory: &Path) -> Result<bool> {
    let mut entries = fs::read_dir(directory).doing(|| format!("read {}", directory.display()))?;
    Ok(entries.next().is_none() || directory.join(MARKER).exists())
}

/// Takes the lock, or says `None` when somebody else has it. Refuses when a cluster
/// with another state directory has the machine.
pub(crate) fn lock(directory: &Path) -> Result<Option<Lock>> {
    let file = directory.join(LOCK);
    let Some(own) = take(&file, &std::process::id().to_string())? else {
        return Ok(None);
    };
    Ok(lock_machine(directory)?.map(|lock| Lock {
        _directory: Some(own),
        ..lock
    }))
}

/// The machine alone, for a cluster whose state directory is gone.
pub(crate) fn lock_machine(directory: &Path) -> Result<Option<Lock>> {
    let machine = Path::new(MACHINE);
    let note = format!("{}\n{}", std::process::id(), directory.display());
    if let Some(file) = take(machine, &note)? {
        return Ok(Some(Lock {
            _directory: None,
            _machine: file,
        }));
    }
    let note = fs::read_to_string(machine).doing(|| format!("read {MACHINE}"))?;
    let other = note
        .split_once('\n')
        .filter(|(_, state_dir)| Path::new(state_dir) != directory);
    match other.and_then(|(pid, state_dir)| Some((pid.parse().ok()?, state_dir))) {
        Some((pid, state_dir)) => Err(Refusal::OtherCluster {
            state_dir: state_dir.into(),
            pid,
        }
        .into()),
        // The same cluster's supervisor is just ending, or the holder just writing its name.
        None => Ok(None),
    }
}

/// Locks a file and writes a note into it, or says `None` when somebody else has it.
fn take(path: &Path, note: &str) -> Result<Option<File>> {
    let mut file = File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .doing(|| format!("open {}", path.display()))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {
            let mut write = || {
                file.set_len(0)
                    .and_then(|()| file.write_all(note.as_bytes()))
            };
            write().doing(|| format!("write {}", path.display()))?;
            Ok(Some(file))
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error).doing(|| format!("lock {}", path.display())),
    }
}

/// The same, waiting for it.
pub(crate) fn lock_within(directory: &Path, patience: Duration) -> Result<Option<Lock>> {
    let end = Instant::now() + patience;
    loop {
        match lock(directory)? {
            None if Instant::now() < end => std::thread::sleep(Duration::from_millis(20)),
            taken => return Ok(taken),
        }
    }
}

/// Who wrote his name into the lock last.
pub(crate) fn holder(directory: &Path) -> Option<u32> {
    fs::read_to_string(directory.join(LOCK)).ok()?.parse().ok()
}

/// Removes everything, the directory included, if it is ours.
pub(crate) fn purge(directory: &Path) -> Result<()> {
    if !directory.join(MARKER).exists() {
        return Err(Refusal::NotOurs {
            path: directory.into(),
        }
        .into());
    }
    let entries = fs::read_dir(directory).doing(|| format!("read {}", directory.display()))?;
    for entry in entries {
        let path: PathBuf = entry
            .doing(|| format!("read {}", directory.display()))?
            .path();
        // The marker goes last, so that an interrupted purge can be repeated.
        if path.file_name().is_none_or(|name| name != MARKER) {
            remove(&path)?;
        }
    }
    remove(&directory.join(MARKER))?;
    // A mount point stays, empty.
    match fs::remove_dir(directory) {
        Err(error) if error.kind() != ErrorKind::ResourceBusy => {
            Err(error).doing(|| format!("remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}

fn remove(path: &Path) -> Result<()> {
    let is_directory = path
        .symlink_metadata()
        .is_ok_and(|metadata| metadata.is_dir());
    let removed = if is_directory {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    removed.doing(|| format!("remove {}", path.display()))
}
