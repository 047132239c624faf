//! Removes trees that strangers made. A layer may nest directories deeper than
//! there are file descriptors or stack for a recursive removal, so subdirectories
//! are moved up and removed one by one.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Removes `path` and all below it; nothing there is fine.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(metadata) if !metadata.is_dir() => return fs::remove_file(path),
        Ok(_) => {}
    }
    let parent = path.parent().unwrap_or(Path::new("/"));
    let mut waiting = vec![path.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                let up = parent.join(format!(
                    "removing-{}-{}",
                    std::process::id(),
                    COUNT.fetch_add(1, Ordering::Relaxed)
                ));
                fs::rename(entry.path(), &up)?;
                waiting.push(up);
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        fs::remove_dir(&directory)?;
    }
    Ok(())
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
        remove(&inner).unwrap();
        assert_eq!(fs::read_dir(room.path()).unwrap().count(), 0);
        remove(&inner).unwrap();
    }
}
