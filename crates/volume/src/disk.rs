//! Small durable steps on files and directories.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use rustix::fs::Mode;

use crate::error::{Doing, Result};

/// Replaces the file in one step that a power cut cannot halve: written beside it, synced,
/// renamed, the directory synced.
pub fn replace(path: &Path, content: &[u8]) -> Result<()> {
    let beside = path.with_added_extension("new");
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&beside)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    write().doing(|| format!("write {}", path.display()))?;
    sync_parent(path)
}

/// Deletes the file, on disk. A file that is not there is no error.
pub fn delete(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).doing(|| format!("delete {}", path.display()))
        }
        _ => sync_parent(path),
    }
}

/// Makes what happened to names in the file's directory durable.
pub fn sync_parent(path: &Path) -> Result<()> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    File::open(parent)
        .and_then(|directory| directory.sync_all())
        .doing(|| format!("sync {}", parent.display()))
}

/// A directory, with its parents, that only root may enter.
pub fn private_directory(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(Mode::RWXU.bits())
        .create(path)
        .doing(|| format!("make directory {}", path.display()))
}

/// Brings everything written to the filesystem at `path` to its disk.
pub fn sync_filesystem(path: &Path) -> Result<()> {
    File::open(path)
        .and_then(|at| Ok(rustix::fs::syncfs(at)?))
        .doing(|| format!("sync the filesystem at {}", path.display()))
}
