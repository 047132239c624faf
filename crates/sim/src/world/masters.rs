//! The master's side: what `master` and `store` do around the deciders of `planner`, on paper.
//! Nothing leaves before what it read is durable.

use std::collections::{BTreeMap, VecDeque};

use model::ids::{ClusterId, Epoch, Incarnation, InstanceId, NodeId, Revision, VolumeId};
use model::session::{FromAgent, FromMaster, Hello, Welcome};
use model::{AppId, AppSpec, Directory, Draft, Millis, State, Time, Tip, Touched, Transaction};
use planner::leader::{self, Agenda, Budget, More};
use planner::request::{self, Force, Kill};
use planner::{derive, presence, session};

use super::{Event, World};
use crate::clients::{Shape, shape};
use crate::machine::Said;

pub struct Master {
    tip: Tip,
    agenda: Agenda,
    presence: presence::Watch,
    sessions: BTreeMap<NodeId, Session>,
    /// What leaves when the log has reached a revision.
    waiting: VecDeque<(Revision, Outgoing)>,
    syncing: bool,
    lead_at: Option<Time>,
}

struct Session {
    connection: u64,
    /// The revisions of the assignment and the directory sent last.
    assignment: Revision,
    directory: Revision,
}

enum Outgoing {
    Welcome {
        connection: u64,
        welcome: Box<Welcome>,
    },
    Refused {
        connection: u64,
        why: String,
    },
    Acknowledged {
        connection: u64,
        incarnation: Incarnation,
        sequence: u64,
    },
    Answer {
        /// The request about an app, by its number.
        accepted: Option<(AppId, u64)>,
        refusal: Option<String>,
    },
}

/// What a client asks for.
#[derive(Clone, Debug)]
pub enum Request {
    Put(AppId, Box<AppSpec>),
    Scale(AppId, u32),
    Remove(AppId),
    Restart(AppId),
    Kill(InstanceId),
    RemoveVolume(VolumeId),
    RemoveCopy(VolumeId, NodeId, String),
    Recover(VolumeId, Option<NodeId>),
    Move(AppId, NodeId),
    MoveVolume(VolumeId, NodeId),
    CancelMove(AppId),
    Drain(NodeId),
    Undrain(NodeId),
}

/// Between two looks at the clock; presence must be decided at least twice a second.
const TICK: Millis = Millis(400);
const CLUSTER: ClusterId = ClusterId(42);

impl Master {
    pub fn newest(&self) -> &State {
        self.tip.newest()
    }

    pub fn durable(&self) -> &State {
        self.tip.durable()
    }

    pub fn directory(state: &State) -> Directory {
        derive::directory(state)
    }

    fn node_of(&self, connection: u64) -> Option<NodeId> {
        self.sessions
            .iter()
            .find(|(_, session)| session.connection == connection)
            .map(|(node, _)| *node)
    }
}

impl Request {
    pub fn brief(&self) -> String {
        match self {
            Self::Put(app, spec) => {
                format!("put {app} instances={} {:?}", spec.instances, spec.labels)
            }
            Self::Scale(app, n) => format!("scale {app} {n}"),
            Self::Remove(app) => format!("remove {app}"),
            Self::Restart(app) => format!("restart {app}"),
            Self::Kill(instance) => format!("stop {instance}"),
            Self::RemoveVolume(volume) => format!("remove volume {volume}"),
            Self::RemoveCopy(volume, node, copy) => format!("remove {copy} of {volume} on {node}"),
            Self::Recover(volume, None) => format!("recover {volume}"),
            Self::Recover(volume, Some(node)) => format!("recover {volume} on {node}"),
            Self::Move(app, node) => format!("move {app} {node}"),
            Self::MoveVolume(volume, node) => format!("move volume {volume} {node}"),
            Self::CancelMove(app) => format!("cancel move {app}"),
            Self::Drain(node) => format!("drain {node}"),
            Self::Undrain(node) => format!("undrain {node}"),
        }
    }

    /// The app that changes by it, and into what; `None` for a request that changes none.
    fn aim(&self, state: &State) -> Option<(AppId, Shape)> {
        let spec = |app: &AppId| state.app(app).map(|app| app.spec.as_ref().clone());
        match self {
            Self::Put(app, spec) => Some((app.clone(), shape(spec))),
            Self::Scale(app, instances) => {
                let spec = spec(app).map(|spec| AppSpec {
                    instances: *instances,
                    ..spec
                });
                Some((app.clone(), spec.as_ref().and_then(shape)))
            }
            Self::Remove(app) => Some((app.clone(), None)),
            Self::Restart(app) => Some((app.clone(), spec(app).as_ref().and_then(shape))),
            Self::Kill(_)
            | Self::RemoveVolume(_)
            | Self::RemoveCopy(..)
            | Self::Recover(..)
            | Self::Move(..)
            | Self::MoveVolume(..)
            | Self::CancelMove(_)
            | Self::Drain(_)
            | Self::Undrain(_) => None,
        }
    }

    fn decide(self, draft: &mut Draft, force: Force) -> Result<(), request::Refusal> {
        match self {
            Self::Put(app, spec) => request::put_app(draft, app, *spec, force).map(drop),
            Self::Scale(app, n) => request::scale(draft, &app, n, force).map(drop),
            Self::Remove(app) => request::remove_app(draft, &app, force).map(drop),
            Self::Restart(app) => request::restart_app(draft, &app, force).map(drop),
            Self::Kill(id) => request::kill_instances(draft, &[id], Kill::default()).map(drop),
            Self::RemoveVolume(volume) => request::remove_volume(draft, &volume),
            Self::RemoveCopy(volume, node, copy) => {
                request::remove_copy(draft, &volume, node, &copy)
            }
            Self::Recover(volume, node) => request::recover_volume(draft, &volume, node).map(drop),
            Self::Move(app, node) => request::move_app(draft, &app, node).map(drop),
            Self::MoveVolume(volume, node) => request::move_volume(draft, &volume, node).map(drop),
            Self::CancelMove(app) => request::cancel_move(draft, &app),
            Self::Drain(node) => request::drain(draft, node),
            Self::Undrain(node) => request::undrain(draft, node),
        }
    }
}

impl World {
    pub fn start_master(&mut self) {
        if self.master.is_some() {
            return;
        }
        let mut state = self.log.replay();
        // From a checkpoint instead of the whole history.
        if self.pace.coin(500) {
            state = State::restore(state.records(), state.revision)
                .expect("a state has the spec of every instance");
        }
        self.master_run += 1;
        let run = self.master_run;
        self.master = Some(Master {
            agenda: Agenda::rebuild(&state),
            tip: Tip::new(state),
            presence: presence::Watch::begin(self.now),
            sessions: BTreeMap::new(),
            waiting: VecDeque::new(),
            syncing: false,
            lead_at: None,
        });
        self.decide(|draft| {
            request::found(draft, CLUSTER, model::state::Settings::default())
                .expect("every master of a world has the same settings");
            request::lead(draft)
        });
        self.after(TICK, Event::Tick { run });
    }

    /// The master dies, and of what its log has not synced something is lost.
    pub fn crash_master(&mut self) {
        if self.master.take().is_some() {
            self.master_run += 1;
            self.log.crash(&mut self.pace);
            self.close_all();
        }
    }

    /// A client asks; false when nobody answers.
    pub fn ask(&mut self, request: Request, force: Force) -> bool {
        let Some(master) = &self.master else {
            return false;
        };
        let aim = request.aim(master.newest());
        let decided = self.decide(|draft| request.decide(draft, force));
        let Some((decided, revision)) = decided else {
            return false;
        };
        let refusal = decided.err().map(|refusal| refusal.to_string());
        let accepted = aim.map(|(app, shape)| {
            let request = self.clients.asks(&app, shape);
            if refusal.is_some() {
                // It will never hold, whether the client learns of it or not.
                self.clients.void(&app, request);
            }
            (app, request)
        });
        self.leaves(revision, Outgoing::Answer { accepted, refusal });
        true
    }

    /// Decides on a draft of the newest state and appends what came of it. Gives the revision
    /// that the decision has read.
    fn decide<R>(&mut self, decision: impl FnOnce(&mut Draft) -> R) -> Option<(R, Revision)> {
        let now = self.now;
        let master = self.master.as_mut()?;
        let mut draft = master.tip.draft(now);
        let decided = decision(&mut draft);
        draft.hear(|fresh| master.agenda.touch(fresh));
        let transaction = master.tip.accept(draft);
        let revision = master.tip.newest().revision;
        if let Some(transaction) = transaction {
            self.append(transaction);
            self.lead_by(now);
        }
        Some((decided, revision))
    }

    fn append(&mut self, transaction: Transaction) {
        self.log.append(transaction);
        self.sync();
    }

    fn sync(&mut self) {
        let (run, revision) = (self.master_run, self.log.newest());
        let Some(master) = &mut self.master else {
            return;
        };
        if !master.syncing && revision > master.durable().revision {
            master.syncing = true;
            let span = self.pace.span(3);
            self.after(span, Event::Synced { run, revision });
        }
    }

    pub(super) fn synced(&mut self, run: u64, revision: Revision) {
        if self.master_run != run {
            return;
        }
        self.log.synced(revision);
        let Some(master) = &mut self.master else {
            return;
        };
        master.syncing = false;
        let touched = master.tip.settle(revision);
        self.tell_nodes(&touched);
        self.flush();
        self.sync();
    }

    fn lead_by(&mut self, at: Time) {
        let (now, run) = (self.now, self.master_run);
        let Some(master) = &mut self.master else {
            return;
        };
        if master.lead_at.is_none_or(|known| at < known) {
            master.lead_at = Some(at);
            self.after(at - now, Event::Lead { run });
        }
    }

    pub(super) fn lead(&mut self, run: u64) {
        let now = self.now;
        // Small steps in walks: every one must leave a legal state.
        let budget = match self.pace.coin(700) {
            true => Budget {
                changes: 1 + self.pace.below(6) as usize,
                ..Budget::default()
            },
            false => Budget::default(),
        };
        let due = |master: &&mut Master| master.lead_at.is_some_and(|at| at <= now);
        let Some(master) = self.master.as_mut().filter(due) else {
            return;
        };
        if self.master_run != run {
            return;
        }
        master.lead_at = None;
        let mut draft = master.tip.draft(now);
        let more = leader::step(&mut master.agenda, &mut draft, budget);
        let deadline = master.agenda.next_deadline();
        if let Some(transaction) = master.tip.accept(draft) {
            self.append(transaction);
        }
        match (more, deadline) {
            (More::Again, _) => self.lead_by(now + Millis(1)),
            (More::Quiet, Some(at)) => self.lead_by(at.max(now + Millis(1))),
            (More::Quiet, None) => {}
        }
    }

    pub(super) fn tick(&mut self, run: u64) {
        let now = self.now;
        let Some(master) = self.master.as_mut().filter(|_| self.master_run == run) else {
            return;
        };
        let changes = master.presence.tick(master.tip.newest(), now);
        let connections: Vec<u64> = master.sessions.values().map(|s| s.connection).collect();
        if !changes.is_empty() {
            self.decide(|draft| changes.into_iter().for_each(|change| draft.apply(change)));
        }
        for connection in connections {
            self.say(connection, Said::ByMaster(FromMaster::Heartbeat));
        }
        self.after(TICK, Event::Tick { run });
    }

    pub(super) fn master_hears(&mut self, machine: usize, connection: u64, message: FromAgent) {
        let now = self.now;
        let Some(master) = &mut self.master else {
            return;
        };
        if let FromAgent::Hello(hello) = message {
            self.greeted(machine, connection, &hello);
            return;
        }
        // What arrives for a session that was replaced is not heard.
        let Some(node) = master.node_of(connection) else {
            return;
        };
        master.presence.heard(node, now);
        match message {
            FromAgent::Sightings(sightings) => {
                let Some(last) = sightings.last() else { return };
                let (incarnation, sequence) = (last.incarnation, last.sequence);
                let decided = self.decide(|draft| session::sightings(draft, node, &sightings));
                if let Some(((), revision)) = decided {
                    self.leaves(
                        revision,
                        Outgoing::Acknowledged {
                            connection,
                            incarnation,
                            sequence,
                        },
                    );
                }
            }
            FromAgent::WholeAssignment => self.send_assignment(node),
            FromAgent::WholeDirectory => self.send_directory(node),
            FromAgent::Hello(_)
            | FromAgent::Heartbeat
            | FromAgent::Arriving(_)
            | FromAgent::Answer { .. } => {}
        }
    }

    fn greeted(&mut self, machine: usize, connection: u64, hello: &Hello) {
        let identity = self.machines[machine].machine.name.clone();
        let Some((answer, revision)) = self.decide(|draft| session::hello(draft, hello, &identity))
        else {
            return;
        };
        let outgoing = match answer {
            Ok(welcome) => {
                if let Some(master) = &mut self.master {
                    master.presence.heard(welcome.node, self.now);
                    // From now on the earlier session is not heard.
                    master.sessions.remove(&welcome.node);
                }
                Outgoing::Welcome {
                    connection,
                    welcome: Box::new(welcome),
                }
            }
            Err(refusal) => Outgoing::Refused {
                connection,
                why: refusal.to_string(),
            },
        };
        self.leaves(revision, outgoing);
    }

    /// Leaves when the log has `revision`; at once if it has.
    fn leaves(&mut self, revision: Revision, outgoing: Outgoing) {
        if let Some(master) = &mut self.master {
            master.waiting.push_back((revision, outgoing));
        }
        self.flush();
    }

    fn flush(&mut self) {
        loop {
            let Some(master) = &mut self.master else {
                return;
            };
            let durable = master.durable().revision;
            match master.waiting.pop_front() {
                Some((revision, outgoing)) if revision <= durable => self.release(outgoing),
                Some(early) => {
                    master.waiting.push_front(early);
                    return;
                }
                None => return,
            }
        }
    }

    fn release(&mut self, outgoing: Outgoing) {
        match outgoing {
            Outgoing::Welcome {
                connection,
                welcome,
            } => self.open_session(connection, welcome),
            Outgoing::Refused { connection, why } => {
                self.say(connection, Said::ByMaster(FromMaster::Refused(why)));
            }
            Outgoing::Acknowledged {
                connection,
                incarnation,
                sequence,
            } => {
                let message = FromMaster::Acknowledged {
                    incarnation,
                    sequence,
                };
                self.say(connection, Said::ByMaster(message));
            }
            Outgoing::Answer {
                accepted: Some((app, request)),
                refusal: None,
            } => self.clients.accepted(&app, request),
            Outgoing::Answer {
                accepted: None,
                refusal: None,
            } => {}
            Outgoing::Answer {
                refusal: Some(why), ..
            } => self.clients.answers.push(format!("refused: {why}")),
        }
    }

    fn open_session(&mut self, connection: u64, welcome: Box<Welcome>) {
        let node = welcome.node;
        self.say(connection, Said::ByMaster(FromMaster::Welcome(welcome)));
        if let Some(master) = &mut self.master {
            let session = Session {
                connection,
                assignment: Revision(0),
                directory: Revision(0),
            };
            master.sessions.insert(node, session);
        }
        self.send_assignment(node);
        self.send_directory(node);
    }

    fn send_assignment(&mut self, node: NodeId) {
        self.send(node, |state, session| {
            session.assignment = state.revision;
            Some(FromMaster::Assignment {
                epoch: state.epoch,
                whole: Box::new(derive::assignment(state, node)),
            })
        });
    }

    fn send_directory(&mut self, node: NodeId) {
        self.send(node, |state, session| {
            session.directory = state.revision;
            Some(FromMaster::Directory {
                epoch: state.epoch,
                whole: Box::new(derive::directory(state)),
            })
        });
    }

    /// What became durable goes to the nodes that it concerns.
    fn tell_nodes(&mut self, touched: &Touched) {
        let nodes: Vec<NodeId> = match &self.master {
            Some(master) => master.sessions.keys().copied().collect(),
            None => return,
        };
        for node in nodes {
            if touched.assignments.contains(&node) {
                self.send(node, |state, session| {
                    let base = session.assignment;
                    session.assignment = state.revision;
                    let delta = derive::assignment_delta(state, touched, node, base);
                    Some(FromMaster::AssignmentDelta {
                        epoch: state.epoch,
                        delta: Box::new(delta),
                    })
                });
            }
            self.send(node, |state, session| {
                let delta = derive::directory_delta(state, touched, session.directory)?;
                session.directory = state.revision;
                Some(FromMaster::DirectoryDelta {
                    epoch: state.epoch,
                    delta: Box::new(delta),
                })
            });
        }
    }

    fn send(
        &mut self,
        node: NodeId,
        message: impl FnOnce(&State, &mut Session) -> Option<FromMaster>,
    ) {
        let Some(master) = &mut self.master else {
            return;
        };
        let Some(session) = master.sessions.get_mut(&node) else {
            return;
        };
        let connection = session.connection;
        if let Some(message) = message(master.tip.durable(), session) {
            self.say(connection, Said::ByMaster(message));
        }
    }

    /// What changes whenever anything of note happens.
    pub fn pulse(&self) -> (Option<Revision>, Epoch, usize, usize) {
        let newest = self.master.as_ref().map(Master::newest);
        let processes = self.machines.iter().map(|m| m.kernel.processes.len());
        let agents = self.machines.iter().filter_map(|m| m.agent.as_ref());
        (
            newest.map(|state| state.revision),
            newest.map_or(Epoch(0), |state| state.epoch),
            processes.sum(),
            agents.map(|agent| agent.observed.in_flight.len()).sum(),
        )
    }
}
