//! Whether what comes fits: a pool that fills up while it is received into would take the volumes
//! that are there with it.

use model::VolumeId;
use volume::Error as OfVolume;

use super::{Error, Tools};

/// `needed`: bytes.
pub(super) async fn check(tools: &Tools, volume: &VolumeId, needed: u64) -> Result<(), Error> {
    let room = tools.volumes.pool().await?.room().await?;
    if room.free >= needed {
        return Ok(());
    }
    let what = format!("volume {volume}");
    let free = room.free;
    Err(OfVolume::NoRoom { what, free, needed }.into())
}
