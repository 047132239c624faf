//! What an action on a volume has brought about, and what became of the pool meanwhile.

use std::sync::Arc;

use model::sighting::Subject;
use model::{Millis, Time, VolumeId};
use node::Action;

use super::Heart;
use crate::act::Done;
use crate::event::Event;

const LOOK_EVERY: Millis = Millis(3000);

#[derive(Debug, Default)]
pub(super) struct Look {
    last: Time,
    /// A filesystem that hangs is not asked again.
    under_way: bool,
}

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

    /// A filesystem makes itself read-only after an error, and tells nobody.
    pub(super) fn look_at_pool(&mut self) {
        let now = self.tools.clock.now();
        let look = &mut self.pool_look;
        if self.opened.is_empty() || look.under_way || now - look.last < LOOK_EVERY {
            return;
        }
        look.last = now;
        look.under_way = true;
        let tools = Arc::clone(&self.tools);
        self.tasks.spawn(async move {
            let writable = tools.volumes.is_writable().await;
            Some(Event::Pool { writable })
        });
    }

    /// Volumes that cannot be written do not count as open: opening them again fails with the
    /// reason, until it does not.
    pub(super) fn looked_at_pool(&mut self, writable: bool) {
        self.pool_look.under_way = false;
        if !writable {
            self.opened.clear();
            for local in self.observed.volumes.values_mut() {
                local.open = false;
            }
        }
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
