//! The layers beneath one that is being unpacked, joined by overlayfs as an instance would see
//! them; and copies of their files, made by the kernel as when an instance changes them.
//!
//! ```text
//! <dir>/upper  work   where the kernel copies to; nobody else sees it
//!       rootfs        a mount point, for a moment, where the kernel wants one
//! ```

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, CWD, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps};
use rustix::io::Errno;

use crate::metadata;
use crate::mount;

/// Where the kernel remembers what it copied from; nothing asks a layer for it.
const ORIGIN: &str = "trusted.overlay.origin";

pub(crate) struct Below {
    /// Mounted nowhere, so that it goes with this process.
    view: OwnedFd,
    upper: OwnedFd,
}

impl Below {
    /// `layers`: their directories, top first. `dir` is made.
    pub(crate) fn open(layers: &[PathBuf], dir: &Path) -> io::Result<Below> {
        let view = mount::view(layers, dir)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let upper = fs::openat(CWD, dir.join("upper"), flags, Mode::empty())?;
        Ok(Below { view, upper })
    }

    /// What is at a path that leads through directories only.
    pub(crate) fn look(&self, path: &[u8]) -> io::Result<Option<OwnedFd>> {
        look(self.view.as_fd(), path)
    }

    /// A directory, to read its metadata.
    pub(crate) fn open_directory(&self, path: &[u8]) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(open(self.view.as_fd(), path, flags)?)
    }

    /// Gives `to`, under `name`, the file at `path` as it is: content, owner, mode, extended
    /// attributes and times. Twice the same file is one file with two names.
    pub(crate) fn copy(
        &self,
        (directory, last): (&[u8], &CString),
        to: BorrowedFd<'_>,
        name: &CString,
    ) -> io::Result<()> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let seen = open(self.view.as_fd(), directory, flags)?;
        let stat = fs::statat(&seen, last, AtFlags::SYMLINK_NOFOLLOW)?;
        // The least that makes the kernel copy: to set the times that it has.
        fs::utimensat(&seen, last, &times(&stat), AtFlags::SYMLINK_NOFOLLOW)?;
        let copied = open(self.upper.as_fd(), directory, flags)?;
        let path = metadata::by_descriptor(copied.as_fd(), last.to_bytes());
        match fs::lremovexattr(&path, ORIGIN) {
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(fs::linkat(&copied, last, to, name, AtFlags::empty())?)
    }
}

/// What is at a path below `root` that leads through directories only.
pub(crate) fn look(root: BorrowedFd<'_>, path: &[u8]) -> io::Result<Option<OwnedFd>> {
    match open(
        root,
        path,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
    ) {
        Ok(found) => Ok(Some(found)),
        // What is no directory, on the way, has nothing in it.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(crate) fn open(
    root: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
) -> rustix::io::Result<OwnedFd> {
    let path = if path.is_empty() { b"." } else { path };
    let path = std::ffi::OsStr::from_bytes(path);
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    fs::openat2(root, path, flags, Mode::empty(), resolve)
}

fn times(stat: &Stat) -> Timestamps {
    let time = |seconds, nanoseconds: u64| Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds.try_into().unwrap_or(0),
    };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}
