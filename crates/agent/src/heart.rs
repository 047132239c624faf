//! The heart: owns what is known, takes events, and after each does what `node` says follows.
//!
//! ```text
//!  event ─▶ take: session, observed, outbox change; what must be on disk goes there first
//!        ─▶ turn: levels into the outbox ─ converge ─ start actions ─ checks ─ send
//! ```
//! It never waits for an action, a client or the master; only for the disk, and once for the
//! sweep. Orders are read in `orders.rs`; what actions on volumes need and have brought is in
//! `volumes.rs`.

mod orders;
mod volumes;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use container::{Created, Instance};
use model::session::{FromAgent, Input};
use model::sighting::Subject;
use model::{Exit, Health, InstanceId, Millis, Time, VolumeId};
use node::retry::{Outcome, after};
use node::{
    Action, Failure, InFlight, Link, Observed, Outbox, Session, Stage, converge, jobs, level,
};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::sleep;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use crate::act::{self, Done, Tools, Work};
use crate::error::words;
use crate::event::{Event, NetworkState, Outgoing};
use crate::health::Checks;
use crate::observe::Left;
use crate::overlay::Wanted;
use crate::probe::{Place, Reach};
use crate::streams::Offer;
use crate::{Error, tls};

/// The longest the heart sleeps: what could not be sent or kept is tried again.
const TICK: Duration = Duration::from_secs(1);
const DIRECTORY_EVERY: Millis = Millis(1000);
/// Sightings in one message.
const BATCH: usize = 256;

pub(crate) struct Heart {
    tools: Arc<Tools>,
    session: Session,
    observed: Observed,
    outbox: Outbox,
    /// While a session lasts.
    outgoing: Option<Outgoing>,
    network: NetworkState,
    wanted: watch::Sender<Option<Wanted>>,
    /// Streams that other nodes may ask for.
    offers: watch::Sender<Vec<Offer>>,
    /// Whether the kept directory may be programmed in this boot; which words came so far.
    words: Words,
    swept: Swept,
    /// The directory on disk is older than ours.
    directory_unkept: bool,
    directory_kept: Time,
    created: BTreeMap<InstanceId, Created>,
    running: BTreeMap<InstanceId, Instance>,
    /// The directories of volumes that are open.
    opened: BTreeMap<VolumeId, PathBuf>,
    pool_look: volumes::Look,
    arrivals_told: Time,
    measuring: volumes::Look,
    /// Bytes that volumes can still grow by, as last told.
    room: Option<u64>,
    pulls: BTreeMap<InstanceId, CancellationToken>,
    receives: BTreeMap<VolumeId, CancellationToken>,
    checks: BTreeMap<InstanceId, AbortHandle>,
    asks: BTreeMap<u64, Asked>,
    /// Cancelled when an instance has ended; made when somebody asks.
    over: BTreeMap<InstanceId, CancellationToken>,
    tasks: JoinSet<Option<Event>>,
    events: mpsc::Sender<Event>,
    tls: TlsConnector,
}

/// What has come in this boot.
#[derive(Clone, Copy, Debug)]
struct Words {
    assignment: bool,
    directory: bool,
}

/// What nobody claims was cleared away.
#[derive(Clone, Copy, Debug, Default)]
struct Swept {
    groups: bool,
    network: bool,
}

struct Asked {
    input: mpsc::Sender<Input>,
    task: AbortHandle,
}

impl Heart {
    /// `same_boot`: what was remembered was said in this boot of the machine.
    pub fn new(
        tools: Arc<Tools>,
        session: Session,
        left: Left,
        same_boot: bool,
        events: mpsc::Sender<Event>,
        wanted: watch::Sender<Option<Wanted>>,
        offers: watch::Sender<Vec<Offer>>,
    ) -> Result<Self, Error> {
        let words = Words {
            assignment: same_boot,
            directory: same_boot && !session.directory().nodes.is_empty(),
        };
        let mut heart = Self {
            outbox: Outbox::new(session.incarnation()),
            tools,
            session,
            observed: left.observed,
            outgoing: None,
            network: NetworkState::Down("no directory has come yet".to_owned()),
            wanted,
            offers,
            words,
            swept: Swept::default(),
            directory_unkept: false,
            directory_kept: Time(0),
            created: BTreeMap::new(),
            running: BTreeMap::new(),
            opened: BTreeMap::new(),
            pool_look: volumes::Look::default(),
            arrivals_told: Time(0),
            measuring: volumes::Look::default(),
            room: None,
            pulls: BTreeMap::new(),
            receives: BTreeMap::new(),
            checks: BTreeMap::new(),
            asks: BTreeMap::new(),
            over: BTreeMap::new(),
            tasks: JoinSet::new(),
            events,
            tls: tls::connector()?,
        };
        for (id, instance) in left.running {
            heart.watch(id, instance);
        }
        heart.direct();
        Ok(heart)
    }

    /// Beats until something is wrong that only a new start may heal.
    pub async fn run(mut self, mut events: mpsc::Receiver<Event>) -> Error {
        loop {
            if let Err(error) = self.beat(&mut events).await {
                return error;
            }
        }
    }

    async fn beat(&mut self, events: &mut mpsc::Receiver<Event>) -> Result<(), Error> {
        self.turn();
        let nap = self.nap();
        let done = tokio::select! {
            event = events.recv() => Ok(event),
            Some(done) = self.tasks.join_next() => done,
            () = sleep(nap) => Ok(None),
        };
        self.done(done).await?;
        // A burst costs one turn.
        while let Ok(event) = events.try_recv() {
            self.take(event).await?;
        }
        while let Some(done) = self.tasks.try_join_next() {
            self.done(done).await?;
        }
        Ok(())
    }

    /// What a task brought; one that was aborted has nothing to say.
    async fn done(&mut self, done: Result<Option<Event>, JoinError>) -> Result<(), Error> {
        match done {
            Ok(Some(event)) => self.take(event).await,
            Ok(None) => Ok(()),
            Err(error) if error.is_cancelled() => Ok(()),
            Err(source) => Err(Error::Panicked { source }),
        }
    }

    fn nap(&self) -> Duration {
        let now = self.tools.clock.now();
        converge::wake_at(self.session.assignment(), &self.observed, now)
            .map_or(TICK, |at| self.tools.clock.until(at).min(TICK))
    }

    async fn take(&mut self, event: Event) -> Result<(), Error> {
        match event {
            Event::Connected(outgoing) => self.connected(outgoing),
            Event::Received(message) => self.received(message).await?,
            Event::Lost => self.lost(),
            Event::Acted { action, outcome } => self.acted(action, outcome),
            Event::Ended(id, exit) => self.ended(id, exit),
            Event::Health(id, health, ailment) => self.checked(id, health, ailment),
            Event::Network(state) => {
                if matches!(state, NetworkState::Up(_)) {
                    // What waited for it need not wait longer.
                    let of_network =
                        |failure: &Failure| matches!(failure.action, Action::AttachNetwork { .. });
                    self.observed
                        .failures
                        .retain(|_, failure| !of_network(failure));
                }
                self.network = state;
                self.sweep_network().await;
            }
            Event::Applied(revision) => self.observed.directory = revision,
            Event::Pool { writable } => self.looked_at_pool(writable),
            Event::Measured(measures) => self.measured(measures),
            Event::Answered(ask) => drop(self.asks.remove(&ask)),
        }
        Ok(())
    }

    fn checked(&mut self, id: InstanceId, health: Health, ailment: Option<String>) {
        let local = self.observed.instances.get_mut(&id);
        // The check may have outlived its instance by a moment.
        let Some(local) = local.filter(|local| matches!(local.stage, Stage::Running { .. })) else {
            return;
        };
        local.ailment = ailment;
        if std::mem::replace(&mut local.health, health) != health {
            tracing::info!(instance.id = %id, "{id} is {health:?}");
            self.tools.note(id, |note| note.health = health);
        }
    }

    /// Everything that follows from what is known now.
    fn turn(&mut self) {
        self.observed.link = self.session.link();
        // Before anything begins that counts on an image.
        let images = jobs::images(self.session.assignment(), &self.observed);
        self.tools.images.keep(images);
        // An action that begins changes what there is to tell, and what is told may allow one.
        loop {
            self.report();
            let now = self.tools.clock.now();
            let actions = converge(self.session.assignment(), &self.observed, now);
            if actions.is_empty() {
                break;
            }
            for action in actions {
                self.begin(action, now);
            }
        }
        for id in converge::cancelled(self.session.assignment(), &self.observed) {
            if let Some(pull) = self.pulls.get(&id) {
                pull.cancel();
            }
        }
        for id in converge::unwanted_receives(self.session.assignment(), &self.observed) {
            if let Some(receive) = self.receives.get(&id) {
                receive.cancel();
            }
        }
        self.observed.forget(self.session.assignment());
        self.over
            .retain(|id, _| self.observed.instances.contains_key(id));
        self.check();
        self.offer();
        self.look_at_pool();
        self.tell_arrivals();
        self.measure();
        self.send();
        self.keep_directory();
    }

    /// At most once a second, for it is written whole. Only a next agent without a session would
    /// miss it.
    fn keep_directory(&mut self) {
        let now = self.tools.clock.now();
        if !self.directory_unkept || now - self.directory_kept < DIRECTORY_EVERY {
            return;
        }
        self.directory_kept = now;
        match self
            .tools
            .disk
            .keep_directory(self.session.kept_directory())
        {
            Ok(()) => self.directory_unkept = false,
            Err(error) => tracing::warn!("Could not keep the directory: {}", words(&error)),
        }
    }

    fn report(&mut self) {
        let levels = level::levels(self.session.assignment(), &self.observed);
        self.outbox.put_all(levels);
        for (id, local) in &mut self.observed.instances {
            local.reported = self.outbox.is_settled(&Subject::Instance(*id));
        }
    }

    fn begin(&mut self, action: Action, since: Time) {
        let subject = action.subject();
        let flight = InFlight {
            action: action.clone(),
            since,
        };
        self.observed.in_flight.insert(subject.clone(), flight);
        let work = match (&action, &subject) {
            (Action::RunHook { instance, .. }, _) => self.work(*instance, &action),
            (_, Subject::Instance(id)) => self.work(*id, &action),
            // Their verbs look at no single instance.
            (_, Subject::Volume(_) | Subject::Node(_)) => self.work(InstanceId::default(), &action),
        };
        let tools = Arc::clone(&self.tools);
        self.tasks.spawn(async move {
            let began = Instant::now();
            let outcome = act::perform(&tools, &action, work).await;
            let took = began.elapsed().as_micros();
            tracing::debug!("{took} µs for {action:?}");
            let outcome = outcome.map_err(|error| words(&error));
            Some(Event::Acted { action, outcome })
        });
    }

    fn work(&mut self, id: InstanceId, action: &Action) -> Work {
        let created = match action {
            Action::Start { .. } | Action::Kill { .. } => self.created.remove(&id),
            _ => None,
        };
        let cancelled = CancellationToken::new();
        match action {
            Action::PullImage { .. } => drop(self.pulls.insert(id, cancelled.clone())),
            Action::Receive { volume, .. } => {
                self.receives.insert(volume.clone(), cancelled.clone());
            }
            _ => {}
        }
        Work {
            id,
            assigned: self.session.assignment().instances.get(&id).cloned(),
            created,
            running: self.running.get(&id).cloned(),
            users: self.users(action),
            source: self.source(action),
            network: self.network.clone(),
            volumes: self.opened.clone(),
            welcome: self.session.memory().welcome.clone(),
            cancelled,
        }
    }

    fn acted(&mut self, action: Action, outcome: Result<Done, String>) {
        let subject = action.subject();
        self.observed.in_flight.remove(&subject);
        let id = match subject {
            Subject::Instance(id) => id,
            Subject::Volume(volume) => return self.acted_on_volume(volume, action, outcome),
            Subject::Node(_) => return,
        };
        if matches!(action, Action::PullImage { .. }) {
            self.pulls.remove(&id);
        }
        let done = match outcome {
            Ok(done) => done,
            Err(why) => return self.failed(action, why),
        };
        self.observed.failures.remove(&Subject::Instance(id));
        match done {
            Done::Reached(stage) => self.reached(id, stage),
            Done::Created(created) => {
                let pid = created.pid().unsigned_abs();
                self.created.insert(id, created);
                self.reached(id, Stage::Created { pid });
            }
            Done::Running(instance, since) => {
                let pid = act::pid(&instance);
                tracing::info!(instance.id = %id, "Started {id} (pid {pid})");
                self.watch(id, instance);
                self.reached(id, Stage::Running { pid, since });
            }
            Done::Stopping(sent) => {
                let local = self.observed.instances.entry(id).or_default();
                local.stopping = Some(sent);
            }
            Done::Ended(exit) => self.ended(id, exit),
            Done::Frozen => self.observed.instances.entry(id).or_default().frozen = true,
            Done::Thawed => self.observed.instances.entry(id).or_default().frozen = false,
            Done::Killed => self.observed.instances.entry(id).or_default().killed = true,
            Done::Removed => {
                let local = self.observed.instances.entry(id).or_default();
                let exit = match std::mem::take(&mut local.stage) {
                    Stage::Ended(exit) => Some(exit),
                    Stage::Removed(exit) => exit,
                    _ => None,
                };
                self.reached(id, Stage::Removed(exit));
                self.ended_for_all(id);
            }
            Done::Cancelled
            | Done::Role(_)
            | Done::Aside(_)
            | Done::Opened(_)
            | Done::Closed
            | Done::AsOrdered
            | Done::Received(_) => {}
        }
    }

    fn failed(&mut self, action: Action, why: String) {
        let subject = action.subject();
        let verb = action.verb();
        let now = self.tools.clock.now();
        let earlier = self.observed.failures.get(&subject);
        if earlier.is_none_or(|earlier| earlier.why != why) {
            match &subject {
                Subject::Instance(id) => {
                    tracing::warn!(instance.id = %id, "Failed {verb} {id}: {why}");
                }
                Subject::Volume(id) => tracing::warn!(volume.id = %id, "Failed {verb} {id}: {why}"),
                Subject::Node(_) => {}
            }
        }
        match (after(action, earlier, why, now), &subject) {
            (Outcome::Over(exit), Subject::Instance(id)) => {
                let id = *id;
                self.observed.failures.remove(&subject);
                let never_ran = Some(exit.clone());
                self.tools.note(id, |note| note.never_ran = never_ran);
                self.ended(id, exit);
            }
            (Outcome::Again(failure), _) => drop(self.observed.failures.insert(subject, failure)),
            (Outcome::Over(_), _) => {}
        }
    }

    fn reached(&mut self, id: InstanceId, stage: Stage) {
        self.observed.instances.entry(id).or_default().stage = stage;
    }

    /// The first word on an end is the true one.
    fn ended(&mut self, id: InstanceId, exit: Exit) {
        self.running.remove(&id);
        self.created.remove(&id);
        self.ended_for_all(id);
        let local = self.observed.instances.entry(id).or_default();
        if !matches!(local.stage, Stage::Ended(_) | Stage::Removed(_)) {
            tracing::info!(instance.id = %id, "Ended {id}: {:?}", exit.status);
            local.stage = Stage::Ended(exit);
        }
    }

    fn ended_for_all(&mut self, id: InstanceId) {
        if let Some(over) = self.over.remove(&id) {
            over.cancel();
        }
    }

    /// Waits for an instance's end, however often it takes.
    fn watch(&mut self, id: InstanceId, instance: Instance) {
        let handle = instance.clone();
        self.running.insert(id, instance);
        self.tasks.spawn(async move {
            loop {
                match handle.wait().await {
                    Ok(exit) => return Some(Event::Ended(id, act::exit(handle.dir(), exit))),
                    Err(error) => {
                        let why = words(&error);
                        tracing::error!(instance.id = %id, "Lost sight of {id}: {why}");
                        sleep(TICK).await;
                    }
                }
            }
        });
    }

    /// Begins and ends health checks, so that exactly those run that should.
    fn check(&mut self) {
        let assignment = self.session.assignment();
        let wanted = jobs::checked(assignment, &self.observed);
        let ids: BTreeSet<InstanceId> = wanted.iter().map(|checked| checked.instance).collect();
        self.checks.retain(|id, task| {
            let kept = ids.contains(id);
            if !kept {
                task.abort();
            }
            kept
        });
        for checked in wanted {
            let id = checked.instance;
            let (Some(instance), Some(assigned)) =
                (self.running.get(&id), assignment.instances.get(&id))
            else {
                continue;
            };
            if self.checks.contains_key(&id) {
                continue;
            }
            let placement = &assigned.placement;
            let namespace = self.tools.disk.namespace(id);
            let networked = placement.address.is_some() || !placement.fixed_addresses.is_empty();
            let fixed = placement.fixed_addresses.first();
            let address = placement.address.or(fixed.map(|fixed| fixed.address));
            let health = self.observed.instances.get(&id).map(|local| local.health);
            let checks = Checks {
                id,
                assigned: assigned.clone(),
                place: Place {
                    instance: instance.clone(),
                    reach: Reach {
                        namespace: networked.then_some(namespace),
                        address: address.unwrap_or(self.tools.config.machine.address),
                        tls: self.tls.clone(),
                    },
                },
                since: checked.since,
                known: health.unwrap_or_default(),
                clock: self.tools.clock,
                events: self.events.clone(),
            };
            let task = self.tasks.spawn(async move {
                checks.run().await;
                None
            });
            self.checks.insert(id, task);
        }
    }

    /// Hands the session as much of the outbox as it takes now.
    fn send(&mut self) {
        let Some(outgoing) = &self.outgoing else {
            return;
        };
        if self.observed.link == Link::Down {
            return;
        }
        while let Ok(place) = outgoing.words.try_reserve() {
            let batch = self.outbox.take(BATCH);
            if batch.is_empty() {
                break;
            }
            place.send(FromAgent::Sightings(batch));
        }
    }

    /// The namespaces that instances of this node have or may still get.
    fn claimed(&self) -> BTreeMap<InstanceId, PathBuf> {
        let gone = |id: &InstanceId| {
            self.observed
                .instances
                .get(id)
                .is_some_and(|local| matches!(local.stage, Stage::Removed(_)))
        };
        self.session
            .assignment()
            .instances
            .keys()
            .chain(self.observed.instances.keys())
            .filter(|id| !gone(id))
            .map(|id| (*id, self.tools.disk.namespace(*id)))
            .collect()
    }
}
