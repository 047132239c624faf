//! Holds what arrived against what was sent, and gives it its name, on disk.

use model::VolumeId;

use super::{Done, Error, Tools};

pub(super) async fn sync(tools: &Tools, volume: &VolumeId) -> Result<Done, Error> {
    let arrived = tools.volumes.arrived(volume);
    let (landing, sent) = arrived.ok_or_else(|| Error::NothingArrived(volume.clone()))?;
    landing.keep(&sent).await?;
    Ok(Done::AsOrdered)
}
