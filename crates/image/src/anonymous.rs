//! Directories for the volumes that an image declares and the app does not: each
//! begins with what the image holds at that path. Mounts nothing.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{Mode, OFlags, ResolveFlags, open, openat2};
use rustix::io::Errno;

use crate::trash;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("anonymous volume for {path} cannot be filled")]
    Fill { path: String, source: io::Error },
    #[error("anonymous volume for {path} cannot be filled: {words}")]
    Copy { path: String, words: String },
}

/// Prepares `directory` with the content, owners and modes of `path` in the
/// mounted root, once: what is there already stays. A preparation that was
/// killed begins anew. Blocking.
pub fn prepare_volume(rootfs: &Path, path: &str, directory: &Path) -> Result<(), Error> {
    let fill = |source: io::Error| Error::Fill {
        path: path.to_owned(),
        source,
    };
    if directory.is_dir() {
        return Ok(());
    }
    let mut partial = directory.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    trash::remove(&partial)
        .and_then(|_| fs::create_dir_all(&partial))
        .map_err(fill)?;
    let root = open(
        rootfs,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|e| fill(e.into()))?;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    match openat2(
        &root,
        path,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
        resolve,
    ) {
        Ok(source) => {
            // Named by its descriptor, so that no link in the image leads elsewhere.
            let here = format!("/proc/{}/fd/{}", std::process::id(), source.as_raw_fd());
            let copied = Command::new("cp")
                .args(["-a", "--reflink=auto", "--", "."])
                .arg(fs::canonicalize(&partial).map_err(fill)?)
                .current_dir(here)
                .output()
                .map_err(fill)?;
            if !copied.status.success() {
                return Err(Error::Copy {
                    path: path.to_owned(),
                    words: String::from_utf8_lossy(&copied.stderr).trim().to_owned(),
                });
            }
        }
        Err(Errno::NOENT) => {}
        Err(error) => return Err(fill(error.into())),
    }
    fs::rename(&partial, directory).map_err(fill)
}
