//! Verbs on one btrfs subvolume.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::driver::Usage;
use crate::error::{Doing, Result};
use crate::sys::{self, Subvolume};
use crate::tool;

pub fn create(path: &Path) -> Result<()> {
    let arguments = ["subvolume".as_ref(), "create".as_ref(), path.as_os_str()];
    tool::btrfs(&format!("make subvolume {}", path.display()), &arguments).map(drop)
}

/// On disk when this returns. A snapshot inherits its source's limit.
pub fn snapshot(source: &Path, target: &Path, read_only: bool) -> Result<()> {
    let make = || {
        let name = target.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
        let directory = File::open(target.parent().unwrap_or(Path::new("/")))?;
        sys::snapshot(&File::open(source)?, &directory, name, read_only)
    };
    make().doing(|| format!("snapshot {} as {}", source.display(), target.display()))
}

/// With those that programs made inside it. One that is not there is no error; on disk with the
/// filesystem's next commit.
pub fn delete(path: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let Err(error) = delete_one(path) else {
        return Ok(());
    };
    let inner = inside(path)?;
    if inner.is_empty() {
        return Err(error);
    }
    for subvolume in inner.iter().rev() {
        delete_one(subvolume)?;
    }
    delete_one(path)
}

fn delete_one(path: &Path) -> Result<()> {
    let arguments = ["subvolume".as_ref(), "delete".as_ref(), path.as_os_str()];
    tool::btrfs(&format!("delete subvolume {}", path.display()), &arguments).map(drop)
}

/// The subvolumes below, each after the one it is in.
fn inside(path: &Path) -> Result<Vec<PathBuf>> {
    let action = |at: &Path| format!("look for subvolumes in {}", at.display());
    let top = fs::metadata(path).doing(|| action(path))?;
    let mut found = Vec::new();
    let mut ahead = vec![(path.to_owned(), top.dev())];
    while let Some((at, device)) = ahead.pop() {
        for entry in fs::read_dir(&at).doing(|| action(&at))? {
            let entry = entry.doing(|| action(&at))?;
            let metadata = entry.metadata().doing(|| action(&at))?;
            if !metadata.is_dir() {
                continue;
            }
            if metadata.dev() != device {
                found.push(entry.path());
            }
            ahead.push((entry.path(), metadata.dev()));
        }
    }
    Ok(found)
}

/// Those directly in it, from the filesystem's top.
pub fn nested(path: &Path) -> Result<Vec<String>> {
    let action = format!("list the subvolumes in {}", path.display());
    let any = File::open(path).and_then(|file| sys::has_nested(&file));
    if !any.doing(|| action.clone())? {
        return Ok(Vec::new());
    }
    let arguments = [
        "subvolume".as_ref(),
        "list".as_ref(),
        "-o".as_ref(),
        path.as_os_str(),
    ];
    let listing = tool::btrfs(&action, &arguments)?;
    Ok(listing
        .lines()
        .filter_map(|line| line.split_once(" path "))
        .map(|(_, path)| path.to_owned())
        .collect())
}

pub fn info(path: &Path) -> Result<Subvolume> {
    File::open(path)
        .and_then(|file| sys::subvolume(&file))
        .doing(|| format!("look at subvolume {}", path.display()))
}

/// In bytes; `None`: not at all. On disk with the filesystem's next commit.
pub fn set_limit(path: &Path, size: Option<u64>) -> Result<()> {
    let set = || {
        let file = File::open(path)?;
        let id = sys::subvolume(&file)?.id;
        sys::set_limit(&file, id, size)
    };
    set().doing(|| match size {
        Some(size) => format!("limit {} to {size} bytes", path.display()),
        None => format!("lift the limit of {}", path.display()),
    })
}

/// What the subvolume refers to, and what of it is nobody else's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    pub usage: Usage,
    pub own_bytes: u64,
}

/// `pool` is any directory of the same filesystem. Asked of it, and not of the subvolume, whose
/// users are counted when it is sealed.
pub fn count(pool: &Path, path: &Path) -> Result<Option<Count>> {
    let id = info(path)?.id;
    Ok(counts(pool)?.remove(&id))
}

/// As [`count`], of every subvolume by its id.
pub fn counts(pool: &Path) -> Result<BTreeMap<u64, Count>> {
    let arguments: [&OsStr; 6] = [
        "qgroup".as_ref(),
        "show".as_ref(),
        "--raw".as_ref(),
        "-r".as_ref(),
        "-e".as_ref(),
        pool.as_os_str(),
    ];
    let listing = tool::btrfs(&format!("count {}", pool.display()), &arguments)?;
    Ok(listing.lines().filter_map(parse).collect())
}

/// `0/256  4096  4096  52428800  none  path`
fn parse(line: &str) -> Option<(u64, Count)> {
    let mut fields = line.split_ascii_whitespace();
    let id = fields.next()?.strip_prefix("0/")?.parse().ok()?;
    let bytes = fields.next()?.parse().ok()?;
    let own_bytes = fields.next()?.parse().ok()?;
    let limit = fields.next()?.parse().ok();
    let usage = Usage { bytes, limit };
    Some((id, Count { usage, own_bytes }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_found_by_their_subvolumes() {
        let line = "0/256            4096            16        52428800           none   live";
        let count = Count {
            usage: Usage {
                bytes: 4096,
                limit: Some(52_428_800),
            },
            own_bytes: 16,
        };
        assert_eq!(parse(line), Some((256, count)));
        assert_eq!(parse("Qgroupid  Referenced  Exclusive"), None);
        let top = parse("0/5 1 1 none none <toplevel>");
        assert_eq!(
            top.map(|(id, count)| (id, count.usage.limit)),
            Some((5, None))
        );
    }
}
