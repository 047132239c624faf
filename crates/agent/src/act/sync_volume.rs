//! Writes a volume's filesystem back, so that neither freeze nor snapshot waits for it.

use model::VolumeId;

use super::{Done, Error, Tools};

pub(super) async fn sync(tools: &Tools, volume: &VolumeId) -> Result<Done, Error> {
    tools.volumes.pool().await?.flush(volume).await?;
    Ok(Done::AsOrdered)
}
