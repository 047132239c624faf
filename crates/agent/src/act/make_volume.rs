//! Makes a volume's empty copy, then says on disk what it is. What an interrupted making left is
//! taken as it is.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use model::volume::RoleFile;
use model::{Mebibytes, VolumeId};

use super::{Done, Error, Tools, blocking};

/// Whatever user an app runs as can write its volume, as under Flocker; others on the node do not
/// get into the pool.
const FOR_ALL: u32 = 0o777;

pub(super) async fn make(
    tools: &Tools,
    volume: &VolumeId,
    role: RoleFile,
    size: Mebibytes,
) -> Result<Done, Error> {
    let pool = tools.volumes.pool().await?;
    pool.create(volume, size.mebibytes_as_bytes()).await?;
    let directory = pool.path(volume).await?;
    blocking(move || open_to_all(&directory)).await?;
    pool.flush(volume).await?;
    pool.persist_role(volume, role.into()).await?;
    Ok(Done::Role(Some(role)))
}

/// Only while it is empty: later its owner has chosen.
fn open_to_all(directory: &Path) -> Result<(), Error> {
    let failed = || Error::file("prepare", directory);
    let is_empty = fs::read_dir(directory).map_err(failed())?.next().is_none();
    if is_empty {
        fs::set_permissions(directory, Permissions::from_mode(FOR_ALL)).map_err(failed())?;
    }
    Ok(())
}
