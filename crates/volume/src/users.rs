//! Who else could write to a volume: processes that have it mounted, open, or mapped.
//!
//! Dead processes are the only fence (a read-only flag does not stop open descriptors), so a move
//! asks here before it trusts that nobody writes. It sees the processes of its own pid namespace
//! and those below it; others it cannot see.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::{Doing, Result};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub pid: i32,
    pub command: String,
    pub how: How,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// A mount of it, or of something in it, is in the process's mount namespace.
    Mounted,
    /// As an open file, working directory, root or program.
    Open,
    /// In its memory.
    Mapped,
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match self.how {
            How::Mounted => "has it mounted",
            How::Open => "has a file of it open",
            How::Mapped => "has a file of it in memory",
        };
        write!(f, "{} (pid {}, {how})", self.command, self.pid)
    }
}

/// The processes outside `own` (a cgroup's `cgroup.procs`) and other than the caller that use the
/// volume whose live copy is at `path`. A mount of the whole filesystem does not count: the node
/// itself has it.
pub fn foreign_users(path: &Path, own: &BTreeSet<i32>) -> Result<Vec<User>> {
    let place = Place::of(path)?;
    let myself = std::process::id().cast_signed();
    let mut namespaces = BTreeMap::new();
    let mut users = Vec::new();
    for entry in fs::read_dir("/proc").doing(|| "list /proc".to_owned())? {
        let entry = entry.doing(|| "list /proc".to_owned())?;
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else {
            continue;
        };
        if pid == myself || own.contains(&pid) {
            continue;
        }
        // Zombies and the kernel's threads have no program. Whoever ends while we look is gone.
        if fs::read_link(entry.path().join("exe")).is_err() {
            continue;
        }
        if let Some(how) = place.used_by(&entry.path(), &mut namespaces) {
            let command = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            users.push(User {
                pid,
                command: command.trim().to_owned(),
                how,
            });
        }
    }
    users.sort_by_key(|user| user.pid);
    Ok(users)
}

/// Where a volume is, in the kernel's own terms.
struct Place {
    /// The filesystem, as mounts and memory maps name it: `major, minor`.
    filesystem: (u32, u32),
    /// From the filesystem's top.
    path: PathBuf,
    /// The subvolume, as `stat` names it: btrfs gives each a device number of its own.
    device: u64,
}

impl Place {
    fn of(path: &Path) -> Result<Self> {
        let action = || format!("find {} among the mounts", path.display());
        let path = path.canonicalize().doing(action)?;
        let device = path.metadata().doing(action)?.dev();
        let mounts = fs::read("/proc/self/mountinfo").doing(action)?;
        // Of several mounts on one point the last is on top.
        let mount = mounts
            .split(|byte| *byte == b'\n')
            .filter_map(Mount::parse)
            .filter(|mount| path.starts_with(&mount.point))
            .max_by_key(|mount| mount.point.as_os_str().len())
            .ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotFound))
            .doing(action)?;
        let below = path
            .strip_prefix(&mount.point)
            .expect("only mounts whose point is a prefix were kept");
        Ok(Self {
            filesystem: mount.filesystem,
            path: mount.root.join(below),
            device,
        })
    }

    /// `namespaces`: whether the mount namespaces seen so far have it mounted.
    fn used_by(&self, process: &Path, namespaces: &mut BTreeMap<PathBuf, bool>) -> Option<How> {
        let namespace = fs::read_link(process.join("ns/mnt")).ok()?;
        let mounted = *namespaces
            .entry(namespace)
            .or_insert_with(|| self.is_mounted_for(process));
        if mounted {
            return Some(How::Mounted);
        }
        if self.is_open_in(process) {
            return Some(How::Open);
        }
        self.is_mapped_in(process).then_some(How::Mapped)
    }

    fn is_mounted_for(&self, process: &Path) -> bool {
        let mounts = fs::read(process.join("mountinfo")).unwrap_or_default();
        mounts
            .split(|byte| *byte == b'\n')
            .filter_map(Mount::parse)
            .any(|mount| mount.filesystem == self.filesystem && mount.root.starts_with(&self.path))
    }

    fn is_open_in(&self, process: &Path) -> bool {
        let is_here = |link: &Path| fs::metadata(link).is_ok_and(|m| m.dev() == self.device);
        ["cwd", "root", "exe"]
            .iter()
            .any(|link| is_here(&process.join(link)))
            || fs::read_dir(process.join("fd"))
                .into_iter()
                .flatten()
                .flatten()
                .any(|entry| is_here(&entry.path()))
    }

    /// The maps name the filesystem only; which subvolume it is the file itself tells.
    fn is_mapped_in(&self, process: &Path) -> bool {
        let (major, minor) = self.filesystem;
        let filesystem = format!(" {major:02x}:{minor:02x} ");
        let maps = fs::read(process.join("maps")).unwrap_or_default();
        let maps = String::from_utf8_lossy(&maps);
        // Hardly any process has one, and hundreds are asked while an app stands still.
        maps.contains(&filesystem)
            && maps
                .lines()
                .filter(|line| line.contains(&filesystem))
                .any(|line| {
                    let range = line.split(' ').next().unwrap_or_default();
                    fs::metadata(process.join("map_files").join(unpadded(range)))
                        .is_ok_and(|file| file.dev() == self.device)
                })
    }
}

/// `maps` pads addresses with zeros, the names in `map_files` have none.
fn unpadded(range: &str) -> String {
    let trimmed = |address: &str| match address.trim_start_matches('0') {
        "" => "0".to_owned(),
        rest => rest.to_owned(),
    };
    match range.split_once('-') {
        Some((from, to)) => format!("{}-{}", trimmed(from), trimmed(to)),
        None => trimmed(range),
    }
}

/// A line of `mountinfo`.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    filesystem: (u32, u32),
    /// What of the filesystem is mounted.
    root: PathBuf,
    point: PathBuf,
}

impl Mount {
    fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b' ').skip(2);
        let device = std::str::from_utf8(fields.next()?).ok()?;
        let (major, minor) = device.split_once(':')?;
        Some(Self {
            filesystem: (major.parse().ok()?, minor.parse().ok()?),
            root: unescape(fields.next()?),
            point: unescape(fields.next()?),
        })
    }
}

/// Space, tab, newline and backslash are written as three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut path = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = (first == b'\\')
            .then(|| tail.get(..3))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match octal {
            Some(byte) => {
                path.push(byte);
                rest = &tail[3..];
            }
            None => {
                path.push(first);
                rest = tail;
            }
        }
    }
    PathBuf::from(OsStr::from_bytes(&path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_read_with_its_escapes() {
        let line = br"43 27 0:39 /volumes/a\040b /mnt/x\134y rw,noatime - btrfs /dev/loop0 rw";
        assert_eq!(
            Mount::parse(line),
            Some(Mount {
                filesystem: (0, 39),
                root: "/volumes/a b".into(),
                point: r"/mnt/x\y".into(),
            })
        );
        assert_eq!(Mount::parse(b""), None);
        assert_eq!(unescape(br"end\04"), PathBuf::from(r"end\04"));
    }

    #[test]
    fn map_names_lose_their_padding() {
        assert_eq!(unpadded("00400000-0040b000"), "400000-40b000");
        assert_eq!(unpadded("7f00-7f10"), "7f00-7f10");
    }
}
