//! The machine goes down: every instance is asked to end by its stop signal, as an init system asks
//! its services. What does not end in time goes with the machine.
//!
//! Called when the agent has ended; nothing of it, and no master, replaces what ends here. The
//! next start finds how each ended. What is frozen stays so: it is the sealed source of a move.

use std::path::Path;
use std::time::Duration;

use container::Found;
use futures::future::join_all;
use model::InstanceId;

use crate::Error;
use crate::act;
use crate::disk::Disk;
use crate::error::words;

/// Ends all instances of the agent whose state is in `state_dir`, at once, each within `patience`.
/// What fails is logged.
///
/// # Errors
/// When the state directory cannot be read.
pub async fn stop_all(state_dir: &Path, patience: Duration) -> Result<(), Error> {
    let disk = Disk::open(state_dir)?;
    let ids = disk.known_instances()?;
    let stops = ids.into_iter().map(async |id| {
        if let Err(error) = stop(&disk, id, patience).await {
            tracing::warn!(instance.id = %id, "Could not stop {id}: {}", words(&error));
        }
    });
    join_all(stops).await;
    Ok(())
}

async fn stop(disk: &Disk, id: InstanceId, patience: Duration) -> Result<(), act::Error> {
    let dir = disk.container(id);
    let Found::Running(instance) = container::adopt(&dir).await? else {
        return Ok(());
    };
    if instance.is_frozen().await? {
        return Ok(());
    }
    let signal = disk.note(id).stop_signal;
    // Nobody waits for what will not listen.
    let grace = match instance.hears(signal) {
        true => patience,
        false => Duration::ZERO,
    };
    let exit = instance.stop(signal, grace).await?;
    tracing::info!(instance.id = %id, "Stopped {id}: {:?}", exit.how);
    Ok(())
}
