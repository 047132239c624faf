//! What an action on a volume has brought about.

use std::sync::Arc;

use model::VolumeId;
use model::sighting::Subject;
use node::Action;

use super::Heart;
use crate::act::Done;

impl Heart {
    /// A pool that was there before is mounted again without anybody asking, for what runs with
    /// its volumes will; nobody waits for it.
    pub(super) fn reopen_pool(&mut self) {
        let tools = Arc::clone(&self.tools);
        self.tasks.spawn(async move {
            tools.volumes.reopen().await;
            None
        });
    }

    pub(super) fn acted_on_volume(
        &mut self,
        volume: VolumeId,
        action: Action,
        outcome: Result<Done, String>,
    ) {
        let done = match outcome {
            Ok(done) => done,
            Err(why) => return self.failed(action, why),
        };
        self.observed
            .failures
            .remove(&Subject::Volume(volume.clone()));
        match done {
            Done::Role(Some(file)) => {
                tracing::info!(
                    volume.id = %volume,
                    "Volume {volume} is {:?} here (generation {})", file.role, file.generation
                );
                self.observed.volumes.entry(volume).or_default().file = Some(file);
            }
            Done::Role(None) => {
                tracing::info!(volume.id = %volume, "Destroyed volume {volume}");
                self.opened.remove(&volume);
                self.observed.volumes.remove(&volume);
            }
            Done::Opened(directory) => {
                let local = self.observed.volumes.entry(volume.clone()).or_default();
                local.open = true;
                self.opened.insert(volume, directory);
            }
            Done::Closed => {
                self.opened.remove(&volume);
                self.observed.volumes.entry(volume).or_default().open = false;
            }
            Done::Reached(_)
            | Done::Created(_)
            | Done::Running(..)
            | Done::Stopping(_)
            | Done::Ended(_)
            | Done::Removed
            | Done::Cancelled => {}
        }
    }
}
