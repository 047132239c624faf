//! Takes a live copy over into a newer generation: from here on orders of the older one are
//! refused.

use model::VolumeId;
use model::volume::RoleFile;

use super::{Done, Error, Tools};

pub(super) async fn adopt(tools: &Tools, volume: &VolumeId, role: RoleFile) -> Result<Done, Error> {
    let pool = tools.volumes.pool().await?;
    pool.persist_role(volume, role.into()).await?;
    Ok(Done::Role(Some(role)))
}
