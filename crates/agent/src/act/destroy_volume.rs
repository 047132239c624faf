//! Destroys every copy of a volume, then forgets what it was. Refused, and tried again, while a
//! process uses it.

use model::VolumeId;

use super::{Done, Error, Tools};

pub(super) async fn destroy(tools: &Tools, volume: &VolumeId) -> Result<Done, Error> {
    tools.volumes.pool().await?.remove(volume).await?;
    Ok(Done::Role(None))
}
