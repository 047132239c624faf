//! Makes the live copy out of a snapshot that landed or was kept, with its limit.

use model::{Mebibytes, Snapshot, VolumeId};
use volume::Error as OfVolume;

use super::{Done, Error, Tools};

pub(super) async fn promote(
    tools: &Tools,
    volume: &VolumeId,
    snapshot: Snapshot,
    size: Mebibytes,
) -> Result<Done, Error> {
    let pool = tools.volumes.pool().await?;
    let (name, size) = (snapshot.into(), size.mebibytes_as_bytes());
    match pool.promote(volume, &name, size).await {
        // What a kept copy was before it was sealed: nothing wrote it since its last snapshot.
        Err(OfVolume::Occupied { .. }) => {
            pool.retire(volume).await?;
            pool.promote(volume, &name, size).await?;
        }
        promoted => promoted?,
    }
    Ok(Done::AsOrdered)
}
