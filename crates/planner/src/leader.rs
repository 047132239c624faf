//! The leader: whose turn it is, and one bounded step of work at a time.
//!
//! ```text
//! touched, deadline ──▶ agenda ──▶ step: one turn after another ──▶ changes ──▶ touched …
//! ```
//! A turn looks at one subject in the state and does what is missing; it never trusts that it
//! was called for a reason, so a lost or repeated touch costs time and nothing else. A step ends
//! when nothing is left or its budget is spent; either way the draft is a legal transaction.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use model::ids::{AppId, DeploymentId, InstanceId, MoveId, NodeId, VolumeId};
use model::movement::Phase;
use model::time::Time;
use model::{Action, App, AppSpec, Draft, State, Touched};
use scheduler::Wish;

use crate::waiting::Waiting;
use crate::{relocate, rollout, upkeep};

/// What a step may spend: changes decided, and nodes examined for placements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    pub changes: usize,
    pub nodes: usize,
}

impl Default for Budget {
    /// Some milliseconds of work.
    fn default() -> Self {
        Self {
            changes: 1024,
            nodes: 50_000,
        }
    }
}

/// Whether a step left work behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum More {
    /// The budget is spent: step again, after what else waits.
    Again,
    /// Nothing to do until something is touched or a deadline passes.
    Quiet,
}

/// Subjects whose turn it is, and deadlines. Not durable: a new leader rebuilds it.
#[derive(Clone, Debug, Default)]
pub struct Agenda {
    instances: BTreeSet<InstanceId>,
    nodes: BTreeSet<NodeId>,
    volumes: BTreeSet<VolumeId>,
    moves: BTreeSet<MoveId>,
    deployments: BTreeSet<DeploymentId>,
    apps: VecDeque<AppId>,
    queued: BTreeSet<AppId>,
    deadlines: BTreeSet<(Time, Subject)>,
    /// Apps without room.
    pub(crate) waiting: Waiting,
    /// Apps that wait for a claim that another instance or app holds.
    hindered: BTreeSet<AppId>,
    wishes: BTreeMap<AppId, Wish>,
    /// When an app's last move was abandoned.
    rested: BTreeMap<AppId, Time>,
    /// When the last lost node was given up.
    pub(crate) gave_up: Option<Time>,
    /// Nodes looked at in this step.
    pub(crate) examined: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    App(AppId),
    Node(NodeId),
    Move(MoveId),
}

enum Turn {
    Instance(InstanceId),
    Node(NodeId),
    Volume(VolumeId),
    Move(MoveId),
    Deployment(DeploymentId),
    App(AppId),
}

/// Works through the agenda until nothing is left or the budget is spent. The caller touches
/// the agenda with what *other* drafts touched; what this draft holds is noticed here.
pub fn step(agenda: &mut Agenda, draft: &mut Draft, budget: Budget) -> More {
    let before = draft.changes().len();
    agenda.examined = 0;
    agenda.ring(draft.now());
    loop {
        draft.hear(|fresh| agenda.touch(fresh));
        let left = budget
            .changes
            .saturating_sub(draft.changes().len() - before);
        if left == 0 || agenda.examined >= budget.nodes {
            return More::Again;
        }
        let Some(turn) = agenda.next() else {
            return More::Quiet;
        };
        match turn {
            Turn::Instance(id) => upkeep::settle(draft, id),
            Turn::Node(id) => upkeep::watch_node(agenda, draft, id, left),
            Turn::Volume(id) => upkeep::watch_volume(agenda, draft, &id),
            Turn::Move(id) => relocate::advance(agenda, draft, id),
            Turn::Deployment(id) => rollout::advance(agenda, draft, id),
            Turn::App(id) => upkeep::advance(agenda, draft, &id, left),
        }
    }
}

/// Who leads an app's instances. Asked here and nowhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lead {
    /// A move, from ready to finish: nobody else starts or stops anything.
    Move,
    /// A move after its hand-over: what is missing starts at the target, all else waits.
    Settling,
    /// Keep the wanted number.
    Upkeep,
    /// A deployment's step is at this app.
    Rollout,
    /// A deployment has not come to this app yet: keep what it had, at most this many.
    Pending { keep: u32 },
}

pub(crate) fn lead(state: &State, app: &App) -> Lead {
    let phase = state.move_of_app(&app.id).map(|movement| &movement.phase);
    if phase.is_some_and(Phase::leads) {
        return Lead::Move;
    }
    if phase.is_some_and(Phase::is_past) {
        return Lead::Settling;
    }
    let Some(deployment) = app.deployment.and_then(|id| state.deployment(id)) else {
        return Lead::Upkeep;
    };
    let acts = |step: &model::Step| {
        let mut actions = step.actions.iter();
        actions.any(|(id, action)| *id == app.id && *action != Action::Start)
    };
    if deployment.step().is_some_and(acts) {
        return Lead::Rollout;
    }
    let later = deployment
        .steps
        .iter()
        .skip(deployment.current as usize + 1);
    if !later.into_iter().any(acts) {
        return Lead::Upkeep;
    }
    let before = deployment.before.iter().find(|(id, _)| *id == app.id);
    let before = before.and_then(|(_, spec)| spec.as_ref());
    Lead::Pending {
        keep: before.map_or(0, |spec| spec.instances.min(app.spec.instances)),
    }
}

impl Agenda {
    /// Everything there is has its turn: how a leadership begins.
    pub fn rebuild(state: &State) -> Self {
        let mut agenda = Self {
            nodes: state.nodes().map(|node| node.id).collect(),
            volumes: state.volumes().map(|volume| volume.id.clone()).collect(),
            moves: state.moves().map(|movement| movement.id).collect(),
            deployments: state.deployments().map(|d| d.id).collect(),
            ..Self::default()
        };
        let unsettled = state.instances().filter(|i| i.is_unsettled());
        agenda.instances.extend(unsettled.map(|i| i.id));
        for app in state.apps() {
            agenda.queue(app.id.clone());
        }
        agenda
    }

    /// What changed has its turn.
    pub fn touch(&mut self, touched: &Touched) {
        self.instances.extend(&touched.unsettled);
        self.nodes.extend(&touched.freed);
        self.volumes.extend(touched.volumes.iter().cloned());
        self.moves.extend(&touched.moves);
        self.deployments.extend(&touched.deployments);
        for app in &touched.apps {
            self.queue(app.clone());
        }
    }

    /// When the next step is due though nothing is touched.
    pub fn next_deadline(&self) -> Option<Time> {
        self.deadlines.first().map(|(time, _)| *time)
    }

    pub(crate) fn queue(&mut self, app: AppId) {
        if self.queued.insert(app.clone()) {
            self.apps.push_back(app);
        }
    }

    pub(crate) fn queue_deployment(&mut self, deployment: DeploymentId) {
        self.deployments.insert(deployment);
    }

    pub(crate) fn queue_move(&mut self, movement: MoveId) {
        self.moves.insert(movement);
    }

    pub(crate) fn queue_node(&mut self, node: NodeId) {
        self.nodes.insert(node);
    }

    pub(crate) fn remind(&mut self, at: Time, subject: Subject) {
        self.deadlines.insert((at, subject));
    }

    /// Moves of the app that nobody asked for begin only later again.
    pub(crate) fn rest(&mut self, app: AppId, now: Time) {
        self.rested.insert(app, now);
    }

    pub(crate) fn rested(&self, app: &AppId) -> Option<Time> {
        self.rested.get(app).copied()
    }

    /// The app waits until some claim is free.
    pub(crate) fn wait_for_claim(&mut self, app: AppId) {
        self.hindered.insert(app);
    }

    pub(crate) fn wait_no_more(&mut self, app: &AppId) {
        self.waiting.leave(app);
        self.hindered.remove(app);
    }

    pub(crate) fn claims_freed(&mut self) {
        for app in std::mem::take(&mut self.hindered) {
            self.queue(app);
        }
    }

    /// The app's wish, compiled once per spec; `None` if its constraints cannot be read, which
    /// requests refuse.
    pub(crate) fn wish(&mut self, app: &AppId, spec: &Arc<AppSpec>) -> Option<Wish> {
        let known = self.wishes.get(app);
        if let Some(wish) = known.filter(|wish| Arc::ptr_eq(&wish.spec, spec)) {
            return Some(wish.clone());
        }
        let wish = Wish::compile(app, spec).ok()?;
        self.wishes.insert(app.clone(), wish.clone());
        Some(wish)
    }

    pub(crate) fn forget(&mut self, app: &AppId) {
        self.wishes.remove(app);
        self.rested.remove(app);
        self.wait_no_more(app);
    }

    /// Queues what is due.
    fn ring(&mut self, now: Time) {
        while let Some((time, _)) = self.deadlines.first()
            && *time <= now
            && let Some((_, subject)) = self.deadlines.pop_first()
        {
            match subject {
                Subject::App(app) => self.queue(app),
                Subject::Node(node) => drop(self.nodes.insert(node)),
                Subject::Move(movement) => drop(self.moves.insert(movement)),
            }
        }
    }

    /// What was seen comes first, then what follows from it.
    fn next(&mut self) -> Option<Turn> {
        if let Some(id) = self.instances.pop_first() {
            return Some(Turn::Instance(id));
        }
        if let Some(id) = self.nodes.pop_first() {
            return Some(Turn::Node(id));
        }
        if let Some(id) = self.volumes.pop_first() {
            return Some(Turn::Volume(id));
        }
        if let Some(id) = self.moves.pop_first() {
            return Some(Turn::Move(id));
        }
        if let Some(id) = self.deployments.pop_first() {
            return Some(Turn::Deployment(id));
        }
        if let Some(app) = self.apps.pop_front() {
            self.queued.remove(&app);
            return Some(Turn::App(app));
        }
        self.waiting.next().map(Turn::App)
    }
}
