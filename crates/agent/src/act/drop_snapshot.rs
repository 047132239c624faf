//! Deletes a snapshot that no move needs any more.

use model::{Snapshot, VolumeId};

use super::{Done, Error, Tools};

pub(super) async fn delete(
    tools: &Tools,
    volume: &VolumeId,
    snapshot: Snapshot,
) -> Result<Done, Error> {
    let pool = tools.volumes.pool().await?;
    pool.delete_snapshot(volume, &snapshot.into()).await?;
    Ok(Done::AsOrdered)
}
