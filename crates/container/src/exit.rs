//! How a container ended, and the record of it (`exit`) that outlives shim and agent.

use std::fs;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::{Dir, Error};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    pub how: How,
    /// The kernel killed something in the container for want of memory, at any time.
    pub oom: bool,
    /// Milliseconds since 1970, by this machine's clock.
    pub at: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum How {
    Code(i32),
    Signal(i32),
    /// It ended, and nobody saw how.
    Unknown,
    /// It never ran. `code` is 127 for a missing command, 126 for one that cannot be executed.
    CreateFailed {
        message: String,
        code: Option<i32>,
    },
}

impl Exit {
    pub(crate) fn now(how: How, oom: bool) -> Self {
        let at = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            how,
            oom,
            at: u64::try_from(at.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

impl How {
    /// From a wait status as `wait(2)` gives it.
    pub(crate) fn from_status(status: i32) -> Self {
        let status = ExitStatus::from_raw(status);
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Code(code),
            (None, Some(signal)) => Self::Signal(signal),
            (None, None) => Self::Unknown,
        }
    }
}

const RESERVED_BYTES: usize = 4096;

/// The record, if the instance has ended.
pub(crate) fn read(dir: &Dir) -> Result<Option<Exit>, Error> {
    let path = dir.exit();
    match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|source| Error::Record { path, source }),
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::File {
            what: "read",
            path,
            source,
        }),
    }
}

/// Takes the record's room on disk while there is some: a log may fill it.
pub(crate) fn reserve(dir: &Dir) -> Result<(), Error> {
    let path = dir.unfinished_exit();
    fs::write(&path, [b' '; RESERVED_BYTES]).map_err(Error::file("write", &path))
}

/// Writes the record, all of it or nothing, and only once: the first witness is right.
pub(crate) fn write(dir: &Dir, exit: &Exit) -> Result<(), Error> {
    if read(dir)?.is_some() {
        return Ok(());
    }
    let path = dir.unfinished_exit();
    let mut line = serde_json::to_vec(exit).expect("an Exit is plain values");
    line.push(b'\n');
    let options = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path);
    let file = options.map_err(Error::file("open", &path))?;
    // Over the reserved blanks, and only then cut: the room is never given back in between.
    file.write_all_at(&line, 0)
        .map_err(Error::file("write", &path))?;
    file.set_len(line.len() as u64)
        .map_err(Error::file("cut", &path))?;
    file.sync_all().map_err(Error::file("sync", &path))?;
    fs::rename(&path, dir.exit()).map_err(Error::file("rename", &path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_status_tells_code_from_signal() {
        assert_eq!(How::from_status(37 << 8), How::Code(37));
        assert_eq!(How::from_status(9), How::Signal(9));
        assert_eq!(How::from_status(137 << 8), How::Code(137));
    }
}
