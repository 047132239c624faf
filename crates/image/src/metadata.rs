//! What an entry says of a file besides its content: owner, mode, extended
//! attributes, times. Works on what `unpack` has just created and nothing else.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{self, AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use crate::archive::{Entry, Kind};

/// The kernel's limit for one value, and for all names of a file.
const ATTRIBUTE_BYTES: usize = 64 << 10;

/// Order matters: chown clears setuid bits and file capabilities.
pub(crate) fn set(file: BorrowedFd<'_>, entry: &Entry) -> io::Result<()> {
    fs::fchown(
        file,
        Some(Uid::from_raw(entry.uid)),
        Some(Gid::from_raw(entry.gid)),
    )?;
    fs::fchmod(file, Mode::from_raw_mode(entry.mode))?;
    for (name, value) in attributes(entry) {
        tolerate(fs::fsetxattr(
            file,
            OsStr::from_bytes(name),
            value,
            XattrFlags::empty(),
        ))?;
    }
    Ok(())
}

/// For what cannot or must not be opened: links, devices, fifos.
pub(crate) fn set_by_name(parent: BorrowedFd<'_>, name: &CStr, entry: &Entry) -> io::Result<()> {
    fs::chownat(
        parent,
        name,
        Some(Uid::from_raw(entry.uid)),
        Some(Gid::from_raw(entry.gid)),
        AtFlags::SYMLINK_NOFOLLOW,
    )?;
    if !matches!(entry.kind, Kind::Symlink(_)) {
        fs::chmodat(
            parent,
            name,
            Mode::from_raw_mode(entry.mode),
            AtFlags::empty(),
        )?;
    }
    let path = by_descriptor(parent, name.to_bytes());
    for (attribute, value) in attributes(entry) {
        tolerate(fs::lsetxattr(
            &path,
            OsStr::from_bytes(attribute),
            value,
            XattrFlags::empty(),
        ))?;
    }
    Ok(fs::utimensat(
        parent,
        name,
        &times(entry.modified),
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
}

/// overlayfs' own attributes, and ours, are not the image's to set: they could hide
/// or redirect what lies below.
fn attributes(entry: &Entry) -> impl Iterator<Item = (&[u8], &[u8])> {
    entry
        .attributes
        .iter()
        .map(|(name, value)| (name.as_slice(), value.as_slice()))
        .filter(move |(name, _)| !is_ours(name) && !name.contains(&0))
}

fn is_ours(name: &[u8]) -> bool {
    let ours = [
        &b"trusted.overlay."[..],
        b"user.overlay.",
        b"trusted.tandem.",
    ];
    ours.iter().any(|prefix| name.starts_with(prefix))
}

/// Owner, mode and extended attributes of one directory for another, both open to read.
pub(crate) fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    let stat = fs::fstat(from)?;
    let (owner, group) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    fs::fchown(to, Some(owner), Some(group))?;
    fs::fchmod(to, Mode::from_raw_mode(stat.st_mode))?;
    let mut names = vec![0; ATTRIBUTE_BYTES];
    let length = fs::flistxattr(from, &mut names[..])?;
    let names = names[..length].split(|b| *b == 0);
    for name in names.filter(|name| !name.is_empty() && !is_ours(name)) {
        let name = OsStr::from_bytes(name);
        let mut value = vec![0; ATTRIBUTE_BYTES];
        let length = fs::fgetxattr(from, name, &mut value[..])?;
        tolerate(fs::fsetxattr(
            to,
            name,
            &value[..length],
            XattrFlags::empty(),
        ))?;
    }
    Ok(())
}

/// A file system without some kind of attribute still serves the image.
fn tolerate(result: rustix::io::Result<()>) -> rustix::io::Result<()> {
    match result {
        Err(Errno::OPNOTSUPP | Errno::PERM) => Ok(()),
        other => other,
    }
}

pub(crate) fn times((seconds, nanoseconds): (i64, u32)) -> Timestamps {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

/// Path calls on something below an `O_PATH` descriptor, which takes no others.
pub(crate) fn by_descriptor(directory: BorrowedFd<'_>, name: &[u8]) -> CString {
    let mut path = format!("/proc/self/fd/{}", directory.as_raw_fd()).into_bytes();
    if !name.is_empty() {
        path.push(b'/');
        path.extend_from_slice(name);
    }
    CString::new(path).expect("names with zero bytes were refused")
}
