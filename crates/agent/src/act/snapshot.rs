//! Takes a read-only snapshot of the live copy.

use model::{Snapshot, VolumeId};

use super::{Done, Error, Tools};

pub(super) async fn take(
    tools: &Tools,
    volume: &VolumeId,
    snapshot: Snapshot,
) -> Result<Done, Error> {
    let pool = tools.volumes.pool().await?;
    pool.snapshot(volume, &snapshot.into()).await?;
    Ok(Done::AsOrdered)
}
