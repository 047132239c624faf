//! One at a time, across processes: a lock on a file that stays where it is. It ends
//! with the file handle, so a killed holder holds nobody up.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use rustix::fs::FlockOperation;

/// Waits until nobody else holds the file, which is made if absent.
pub(crate) async fn alone(path: PathBuf) -> io::Result<File> {
    let wait = move || {
        let file = File::create(path)?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
        Ok(file)
    };
    tokio::task::spawn_blocking(wait)
        .await
        .map_err(io::Error::other)?
}
