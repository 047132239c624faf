//! Runs the health checks of one instance for as long as it is to be checked, and tells the heart
//! of flips only.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use model::{Assigned, Health, InstanceId, Time};
use node::health::{Checker, combined};
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::clock::Clock;
use crate::error::words;
use crate::event::Event;
use crate::probe::{Place, probe};

/// Everything that checking one instance needs.
pub(crate) struct Checks {
    pub id: InstanceId,
    pub assigned: Assigned,
    pub place: Place,
    pub since: Time,
    /// What it was when it was last checked.
    pub known: Health,
    pub clock: Clock,
    pub events: mpsc::Sender<Event>,
}

struct Shared {
    checkers: Vec<Checker>,
    told: Health,
}

impl Checks {
    /// Never ends by itself.
    pub async fn run(self) {
        let checkers = self
            .assigned
            .spec
            .health_checks
            .iter()
            .map(|check| Checker::new(check, self.since, self.known))
            .collect();
        let shared = Mutex::new(Shared {
            checkers,
            told: self.known,
        });
        let count = self.assigned.spec.health_checks.len();
        join_all((0..count).map(|n| self.repeat(n, &shared))).await;
    }

    async fn repeat(&self, n: usize, shared: &Mutex<Shared>) {
        let check = &self.assigned.spec.health_checks[n];
        let mut said = None;
        loop {
            let (due, limit) = {
                let shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
                let checker = &shared.checkers[n];
                (checker.due(), Duration::from_millis(checker.timeout().0))
            };
            sleep(self.clock.until(due)).await;
            let began = self.clock.now();
            let outcome = probe(&self.place, &self.assigned, check, limit).await;
            let why = outcome.err().map(|failure| words(&failure));
            let flipped = {
                let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
                shared.checkers[n].took(why.is_none(), began, self.clock.now());
                let health = combined(&shared.checkers);
                (std::mem::replace(&mut shared.told, health) != health).then_some(health)
            };
            if why != said {
                if let Some(why) = &why {
                    tracing::info!(instance.id = %self.id, "A health check failed: {why}");
                }
                said = why;
            }
            if let Some(health) = flipped {
                let event = Event::Health(self.id, health);
                if self.events.send(event).await.is_err() {
                    return;
                }
            }
        }
    }
}
