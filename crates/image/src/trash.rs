//! Removes trees that strangers made. A layer may nest directories deeper than
//! there are file descriptors or stack for a recursive removal, so subdirectories
//! are moved up and removed one by one.

use std::fs::{self, Metadata};
use std::io;
use std::ops::AddAssign;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// What files take on a file system: bytes of its blocks, and entries of its table of
/// files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    pub bytes: u64,
    pub files: u64,
}

impl Space {
    /// What goes when the last name of a file goes, or an empty directory.
    fn of(metadata: &Metadata) -> Space {
        // Other names keep all of it.
        if metadata.nlink() > 1 && !metadata.is_dir() {
            return Space::default();
        }
        Space {
            bytes: metadata.blocks() * 512,
            files: 1,
        }
    }
}

impl AddAssign for Space {
    fn add_assign(&mut self, other: Space) {
        self.bytes += other.bytes;
        self.files += other.files;
    }
}

/// Removes all that `directory` holds, and tells what that took.
pub(crate) fn empty(directory: &Path) -> io::Result<Space> {
    let mut freed = Space::default();
    for entry in fs::read_dir(directory)? {
        freed += remove(&entry?.path())?;
    }
    Ok(freed)
}

/// Removes `path` and all below it, and tells what that took; nothing there is fine.
pub(crate) fn remove(path: &Path) -> io::Result<Space> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Space::default()),
        Err(error) => return Err(error),
        Ok(metadata) if !metadata.is_dir() => {
            fs::remove_file(path)?;
            return Ok(Space::of(&metadata));
        }
        Ok(_) => {}
    }
    let mut freed = Space::default();
    let parent = path.parent().unwrap_or(Path::new("/"));
    let mut waiting = vec![path.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                waiting.push(lift(&entry.path(), parent)?);
            } else {
                fs::remove_file(entry.path())?;
                freed += Space::of(&metadata);
            }
        }
        freed += Space::of(&fs::symlink_metadata(&directory)?);
        fs::remove_dir(&directory)?;
    }
    Ok(freed)
}

/// Moves `directory` into `parent`, where it gets a name that nothing has.
fn lift(directory: &Path, parent: &Path) -> io::Result<PathBuf> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    loop {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let up = parent.join(format!("removing-{}-{count}", std::process::id()));
        match fs::rename(directory, &up) {
            Ok(()) => return Ok(up),
            // Left by a killed process of the same id: in a container every agent has one id.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_deeper_than_any_path_is_removed() {
        let room = tempfile::tempdir().unwrap();
        let mut inner = room.path().join("0");
        fs::create_dir(&inner).unwrap();
        fs::write(inner.join("file"), "x").unwrap();
        for i in 1..6000 {
            // Built from the inside out: no path is ever long.
            let outer = room.path().join(i.to_string());
            fs::create_dir(&outer).unwrap();
            fs::rename(&inner, outer.join("d")).unwrap();
            inner = outer;
        }
        assert_eq!(remove(&inner).unwrap().files, 6001);
        assert_eq!(fs::read_dir(room.path()).unwrap().count(), 0);
        assert_eq!(remove(&inner).unwrap(), Space::default());
    }

    #[test]
    fn a_file_is_counted_once_and_only_when_its_last_name_goes() {
        let room = tempfile::tempdir().unwrap();
        let (inside, outside) = (room.path().join("in"), room.path().join("out"));
        fs::create_dir(&inside).unwrap();
        fs::write(inside.join("twice"), vec![1; 100_000]).unwrap();
        fs::hard_link(inside.join("twice"), inside.join("too")).unwrap();
        fs::write(&outside, vec![1; 100_000]).unwrap();
        fs::hard_link(&outside, inside.join("kept")).unwrap();
        let freed = empty(&inside).unwrap();
        assert_eq!(freed.files, 1);
        assert!((100_000..200_000).contains(&freed.bytes), "{freed:?}");
        assert!(inside.exists() && outside.exists());
    }
}
