//! Checks that nothing can write a sealed volume: the instances that have it are frozen, the
//! kernel says so, and nobody outside their control groups has it.

use std::collections::BTreeSet;

use model::VolumeId;

use super::{Done, Error, Tools, Work, blocking};

pub(super) async fn check(tools: &Tools, work: &Work, volume: &VolumeId) -> Result<Done, Error> {
    let mut frozen = BTreeSet::new();
    for instance in &work.users {
        let processes = instance.processes().await?;
        if !processes.is_empty() && !instance.is_frozen().await? {
            return Err(Error::Awake(volume.clone()));
        }
        frozen.extend(processes);
    }
    let directory = tools.volumes.pool().await?.path(volume).await?;
    let users = blocking(move || Ok(volume::foreign_users(&directory, &frozen)?)).await?;
    match users.is_empty() {
        true => Ok(Done::AsOrdered),
        false => Err(Error::Volume(volume::Error::InUse {
            volume: volume.clone(),
            users,
        })),
    }
}
