//! Volumes in the heart: what actions on them need, what they have brought about, which streams
//! other nodes may ask for, and what became of the pool meanwhile.

use std::sync::Arc;

use container::Instance;
use model::session::FromAgent;
use model::sighting::Subject;
use model::{InstanceId, Level, Millis, NodeLevel, Time, VolumeId};
use node::{Action, converge, jobs, level};
use protocol::peer::Request;

use super::Heart;
use crate::act::Done;
use crate::error::words;
use crate::event::Event;
use crate::streams::Offer;
use crate::volumes::Measures;

const LOOK_EVERY: Millis = Millis(3000);
const TELL_EVERY: Millis = Millis(1000);
const MEASURE_EVERY: Millis = Millis(5000);

#[derive(Debug, Default)]
pub(super) struct Look {
    last: Time,
    /// A filesystem that hangs is not asked again.
    under_way: bool,
}

impl Look {
    /// Whether it is time for another, which begins then.
    fn begins(&mut self, now: Time, every: Millis) -> bool {
        let begins = !self.under_way && now - self.last >= every;
        if begins {
            self.last = now;
            self.under_way = true;
        }
        begins
    }
}

impl Heart {
    /// The instances that run and have the volume that is to be checked.
    pub(super) fn users(&self, action: &Action) -> Vec<Instance> {
        let Action::CheckStill { volume, .. } = action else {
            return Vec::new();
        };
        let assigned = &self.session.assignment().instances;
        let uses = |id: &InstanceId| {
            let assigned = assigned.get(id);
            assigned.is_some_and(|assigned| assigned.spec.volumes().any(|(v, _)| v == volume))
        };
        let running = self.running.iter().filter(|(id, _)| uses(id));
        running.map(|(_, instance)| instance.clone()).collect()
    }

    /// The name of the node that is to send.
    pub(super) fn source(&self, action: &Action) -> Option<String> {
        let Action::Receive { from, .. } = action else {
            return None;
        };
        let node = self.session.directory().nodes.get(&from.node)?;
        Some(node.name.clone())
    }

    /// Whether an instance's volumes are sealed for a move, so that no command is run in it.
    pub(super) fn is_sealed(&self, id: InstanceId) -> bool {
        let assignment = self.session.assignment();
        let assigned = assignment.instances.get(&id);
        assigned.is_some_and(|assigned| converge::is_sealed(assigned, assignment, &self.observed))
    }

    /// Lets other nodes have what the assignment says now, and nothing else.
    pub(super) fn offer(&self) {
        let nodes = &self.session.directory().nodes;
        let offered = jobs::offered(self.session.assignment(), &self.observed);
        let offers: Vec<Offer> = offered
            .into_iter()
            .filter_map(|offered| {
                Some(Offer {
                    to: nodes.get(&offered.to)?.name.clone(),
                    what: Request {
                        volume: offered.volume.clone(),
                        generation: offered.generation,
                        snapshot: offered.snapshot,
                        base: offered.base,
                    },
                    ready: offered.ready,
                })
            })
            .collect();
        self.offers.send_if_modified(|known| {
            let changed = *known != offers;
            *known = offers;
            changed
        });
    }

    /// Tells how far streams are, while there are any.
    pub(super) fn tell_arrivals(&mut self) {
        let now = self.tools.clock.now();
        if now - self.arrivals_told < TELL_EVERY {
            return;
        }
        let coming = self.tools.volumes.coming();
        if !coming.is_empty() {
            self.arrivals_told = now;
            self.say(FromAgent::Arriving(coming));
        }
    }

    /// A filesystem makes itself read-only after an error, and tells nobody.
    pub(super) fn look_at_pool(&mut self) {
        let now = self.tools.clock.now();
        if self.opened.is_empty() || !self.pool_look.begins(now, LOOK_EVERY) {
            return;
        }
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

    /// How full the pool is, now and then: it is told only when it has changed much.
    pub(super) fn measure(&mut self) {
        let now = self.tools.clock.now();
        if !self.measuring.begins(now, MEASURE_EVERY) {
            return;
        }
        let tools = Arc::clone(&self.tools);
        self.tasks.spawn(async move {
            let measures = tools.volumes.measure().await.unwrap_or_else(|error| {
                tracing::debug!("Could not measure the volumes: {}", words(&error));
                None
            });
            Some(Event::Measured(measures))
        });
    }

    pub(super) fn measured(&mut self, measures: Option<Measures>) {
        self.measuring.under_way = false;
        let Some(measures) = measures else { return };
        self.room = Some(level::settled(self.room, measures.room));
        self.outbox.put(Level::Node(Box::new(NodeLevel {
            machine: self.tools.config.machine.clone(),
            room: self.room,
        })));
        for (volume, bytes) in measures.sizes {
            if let Some(local) = self.observed.volumes.get_mut(&volume) {
                local.bytes = Some(level::settled(local.bytes, bytes));
            }
        }
    }

    pub(super) fn acted_on_volume(
        &mut self,
        volume: VolumeId,
        action: Action,
        outcome: Result<Done, String>,
    ) {
        if matches!(action, Action::Receive { .. }) {
            self.receives.remove(&volume);
        }
        let done = match outcome {
            Ok(done) => done,
            Err(why) => {
                if matches!(action, Action::SyncReceived { .. }) {
                    // It is not what was sent, or not on disk: received anew.
                    self.observed.volumes.entry(volume).or_default().received = None;
                }
                return self.failed(action, why);
            }
        };
        self.observed
            .failures
            .remove(&Subject::Volume(volume.clone()));
        let local = self.observed.volumes.entry(volume.clone()).or_default();
        match done {
            Done::Role(Some(file)) => {
                tracing::info!(
                    volume.id = %volume,
                    "Volume {volume} is {:?} here (generation {})", file.role, file.generation
                );
                local.file = Some(file);
            }
            Done::Role(None) => {
                tracing::info!(volume.id = %volume, "Destroyed volume {volume}");
                self.opened.remove(&volume);
                self.observed.volumes.remove(&volume);
            }
            Done::Opened(directory) => {
                local.open = true;
                self.opened.insert(volume, directory);
            }
            Done::Closed => {
                local.open = false;
                self.opened.remove(&volume);
            }
            Done::Aside(aside) => local.aside = Some(aside),
            Done::Received(came) => {
                if let Action::Receive { snapshot, .. } = action {
                    local.received = Some(snapshot);
                    local.took = came.as_ref().map(|came| came.took);
                }
                if let Some(came) = came {
                    self.say(FromAgent::Arriving(vec![came]));
                }
            }
            Done::AsOrdered => match action {
                Action::RunHook { snapshot, .. } => local.hooked = Some(snapshot),
                Action::SyncVolume { snapshot, .. } => local.flushed = Some(snapshot),
                Action::CheckStill { snapshot, .. } => local.still = Some(snapshot),
                Action::Snapshot { snapshot, .. } => {
                    local.snapshots.insert(snapshot);
                }
                Action::SyncReceived { snapshot, .. } => {
                    local.received = None;
                    local.snapshots.insert(snapshot);
                }
                Action::Promote { snapshot, .. } => local.promoted = Some(snapshot),
                Action::DropSnapshot { snapshot, .. } => {
                    local.snapshots.remove(&snapshot);
                }
                _ => {}
            },
            Done::Reached(_)
            | Done::Created(_)
            | Done::Running(..)
            | Done::Stopping(_)
            | Done::Ended(_)
            | Done::Removed
            | Done::Cancelled
            | Done::Frozen
            | Done::Thawed
            | Done::Killed => {}
        }
    }
}
