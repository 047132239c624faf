//! Runs the health checks of one instance for as long as it is to be checked, and tells the heart
//! of flips, and once of what ails an instance that is not healthy.

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
    /// Why the last run of each failed.
    ailments: Vec<Option<String>>,
    /// The health, and whether something ails it.
    told: (Health, bool),
}

impl Shared {
    /// What is to be told now, if it is news. Other words for a failure are none, for what is
    /// told is written to the master's log.
    fn news(&mut self) -> Option<(Health, Option<String>)> {
        let health = combined(&self.checkers);
        let ailment = self.ailments.iter().flatten().next();
        let ailment = ailment.filter(|_| health != Health::Healthy).cloned();
        let now = (health, ailment.is_some());
        (std::mem::replace(&mut self.told, now) != now).then_some((health, ailment))
    }
}

impl Checks {
    /// Never ends by itself.
    pub async fn run(self) {
        let checks = &self.assigned.spec.health_checks;
        let shared = Mutex::new(Shared {
            checkers: checks
                .iter()
                .map(|check| Checker::new(check, self.since, self.known))
                .collect(),
            ailments: vec![None; checks.len()],
            told: (self.known, false),
        });
        join_all((0..checks.len()).map(|n| self.repeat(n, &shared))).await;
    }

    async fn repeat(&self, n: usize, shared: &Mutex<Shared>) {
        let check = &self.assigned.spec.health_checks[n];
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
            let (said, news) = {
                let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
                shared.checkers[n].took(why.is_none(), began, self.clock.now());
                let said = std::mem::replace(&mut shared.ailments[n], why.clone());
                (said, shared.news())
            };
            if let Some(why) = why.filter(|why| said.as_ref() != Some(why)) {
                tracing::info!(instance.id = %self.id, "A health check failed: {why}");
            }
            if let Some((health, ailment)) = news {
                let event = Event::Health(self.id, health, ailment);
                if self.events.send(event).await.is_err() {
                    return;
                }
            }
        }
    }
}
