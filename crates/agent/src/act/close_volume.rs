//! Closes a volume that no instance uses any more: all that was written is on disk.

use model::VolumeId;
use volume::Error as OfVolume;

use super::{Done, Error, Tools};

pub(super) async fn close(tools: &Tools, volume: &VolumeId) -> Result<Done, Error> {
    match tools.volumes.pool().await?.flush(volume).await {
        Ok(()) | Err(OfVolume::NoVolume { .. }) => Ok(Done::Closed),
        Err(error) => Err(error.into()),
    }
}
