//! Makes the live copy out of the snapshot that landed, with its limit.

use model::{Mebibytes, Snapshot, VolumeId};

use super::{Done, Error, Tools};

pub(super) async fn promote(
    tools: &Tools,
    volume: &VolumeId,
    snapshot: Snapshot,
    size: Mebibytes,
) -> Result<Done, Error> {
    let pool = tools.volumes.pool().await?;
    pool.promote(volume, &snapshot.into(), size.mebibytes_as_bytes())
        .await?;
    Ok(Done::AsOrdered)
}
