//! Writes what a copy is now: from here on orders of an older generation are refused, and what
//! the role forbids is forbidden also to the next agent.

use model::VolumeId;
use model::volume::RoleFile;

use super::{Done, Error, Tools};

pub(super) async fn persist(
    tools: &Tools,
    volume: &VolumeId,
    role: RoleFile,
) -> Result<Done, Error> {
    let pool = tools.volumes.pool().await?;
    pool.persist_role(volume, role.into()).await?;
    Ok(Done::Role(Some(role)))
}
