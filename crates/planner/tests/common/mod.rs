//! A cluster on paper, small: the real requests, leader and session, with agents that climb the
//! ladder at once. After every transaction the invariants are checked.

#![allow(dead_code, reason = "every test file uses another part of it")]

use std::collections::{BTreeMap, BTreeSet};

use model::ids::{AppId, ClusterId, Incarnation, InstanceId, NodeId, VolumeId};
use model::instance::{Exit, ExitStatus, Goal, StopCause};
use model::machine::{Machine, Resources};
use model::quantity::Quantity;
use model::session::{Hello, PROTOCOL};
use model::sighting::InstanceLevel;
use model::spec::{Command, HealthCheck, Mount, MountSource, Probe, ProbePort, VolumeForm, Wanted};
use model::state::Settings;
use model::time::{Millis, Time};
use model::{
    AppSpec, Assignment, CopyRole, Directory, Draft, Health, Level, Revision, Rung, Sighting,
    State, Tip, Touched,
};
use planner::leader::{Agenda, Budget, More, step};
use planner::presence::Watch;
use planner::{derive, request, session};

mod volumes;

use volumes::Volumes;

pub struct Cluster {
    pub tip: Tip,
    pub agenda: Agenda,
    pub watch: Watch,
    pub now: Time,
    pub agents: BTreeMap<String, Agent>,
    pub directory: Directory,
    /// Apps whose instances exit at once with this code.
    pub crashing: BTreeMap<AppId, i32>,
    /// Apps whose checks fail.
    pub sick: BTreeSet<AppId>,
    /// Apps whose instances need to be told when they have stopped.
    pub stubborn: BTreeSet<AppId>,
    /// Apps whose heirs never get ready.
    pub unprepared: BTreeSet<AppId>,
}

pub struct Agent {
    pub node: NodeId,
    pub machine: Machine,
    pub connected: bool,
    /// Not only cut off: it gives nobody anything.
    pub dead: bool,
    pub incarnation: u64,
    pub sequence: u64,
    pub assignment: Assignment,
    /// What it has, as far up as it is.
    pub has: BTreeMap<InstanceId, InstanceLevel>,
    pub volumes: Volumes,
}

pub fn app(id: &str) -> AppId {
    AppId::parse(id).expect("a test's app id is valid")
}

pub fn volume(id: &str) -> VolumeId {
    VolumeId::parse(id).expect("a test's volume name is valid")
}

pub fn spec(instances: u32) -> AppSpec {
    AppSpec {
        instances,
        command: Command::Shell("sleep 1000".into()),
        resources: Wanted {
            cpus: Quantity(100),
            mem: Quantity::whole(32),
            ..Wanted::default()
        },
        ..AppSpec::default()
    }
}

pub fn with_volume(name: &str) -> AppSpec {
    AppSpec {
        mounts: vec![Mount {
            path: "/data".into(),
            source: MountSource::Volume {
                volume: volume(name),
                size: None,
                form: VolumeForm::Flocker,
            },
            read_only: false,
        }],
        ..spec(1)
    }
}

pub fn changed(spec: &AppSpec, env: &str) -> AppSpec {
    let mut spec = spec.clone();
    spec.env.insert("V".into(), env.into());
    spec
}

pub fn check() -> HealthCheck {
    HealthCheck {
        probe: Probe::Tcp {
            port: ProbePort::Number(80),
        },
        grace: Millis::seconds(300),
        interval: Millis::seconds(60),
        timeout: Millis::seconds(20),
        max_failures: 3,
        delay: Millis::seconds(15),
        ignore_http_1xx: false,
        protocol: "TCP".into(),
    }
}

pub fn machine(name: &str) -> Machine {
    let number: u8 = name[1..].parse().expect("test nodes are called n1, n2, …");
    Machine {
        name: name.into(),
        hostname: format!("10.0.15.{}", 10 + number),
        address: std::net::Ipv4Addr::new(10, 0, 15, 10 + number),
        resources: Resources {
            cpus: Quantity::whole(4),
            mem: Quantity::whole(1024),
            disk: Quantity::whole(1024),
        },
        attributes: BTreeMap::new(),
        ports: (31000, 32000),
        stream_port: 4434,
        allow: Vec::new(),
        boot: "1".into(),
        version: "0.1.0".into(),
    }
}

impl Cluster {
    /// A founded cluster with nodes `n1` to `n<nodes>`.
    pub fn new(nodes: usize) -> Self {
        let now = Time(1_795_263_726_000);
        let mut cluster = Self {
            tip: Tip::new(State::default()),
            agenda: Agenda::default(),
            watch: Watch::begin(now),
            now,
            agents: BTreeMap::new(),
            directory: Directory::default(),
            crashing: BTreeMap::new(),
            sick: BTreeSet::new(),
            stubborn: BTreeSet::new(),
            unprepared: BTreeSet::new(),
        };
        cluster.decide(|draft| {
            request::found(draft, ClusterId(7), Settings::default()).expect("a new one");
            request::lead(draft);
        });
        for n in 1..=nodes {
            cluster.join(machine(&format!("n{n}")));
        }
        cluster
    }

    pub fn state(&self) -> &State {
        self.tip.newest()
    }

    /// One transaction. What it refuses must have changed nothing.
    pub fn ask<T, E: std::fmt::Debug>(
        &mut self,
        request: impl FnOnce(&mut Draft) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut draft = self.tip.draft(self.now);
        let answer = request(&mut draft);
        if answer.is_err() {
            assert_eq!(draft.changes(), &[], "a refused request changes nothing");
        }
        self.accept(draft, true);
        answer
    }

    pub fn decide<T>(&mut self, decide: impl FnOnce(&mut Draft) -> T) -> T {
        let mut draft = self.tip.draft(self.now);
        let answer = decide(&mut draft);
        self.accept(draft, true);
        answer
    }

    fn accept(&mut self, draft: Draft, touch: bool) {
        let Some(transaction) = self.tip.accept(draft) else {
            return;
        };
        let touched = self.tip.settle(transaction.revision);
        if touch {
            self.agenda.touch(&touched);
        }
        self.deliver(&touched, transaction.revision);
        self.verify();
    }

    /// Brings every connected agent's assignment and the directory up to date by deltas, which
    /// must lead to the whole.
    fn deliver(&mut self, touched: &Touched, revision: Revision) {
        let state = self.tip.durable();
        let base = self.directory.revision;
        match derive::directory_delta(state, touched, base) {
            Some(delta) => {
                self.directory = self.directory.after(&delta).expect("the delta fits");
            }
            None => self.directory.revision = revision,
        }
        assert_eq!(self.directory, derive::directory(state));
        for agent in self.agents.values_mut().filter(|agent| agent.connected) {
            let whole = derive::assignment(state, agent.node);
            let base = agent.assignment.revision;
            let delta = derive::assignment_delta(state, touched, agent.node, base);
            match touched.assignments.contains(&agent.node) {
                true => {
                    agent.assignment = agent.assignment.after(&delta).expect("the delta fits");
                }
                false => agent.assignment.revision = revision,
            }
            assert_eq!(agent.assignment, whole);
        }
    }

    pub fn join(&mut self, machine: Machine) {
        let name = machine.name.clone();
        self.agents.insert(
            name.clone(),
            Agent {
                node: NodeId(0),
                machine,
                connected: false,
                dead: false,
                incarnation: 0,
                sequence: 0,
                assignment: Assignment::default(),
                has: BTreeMap::new(),
                volumes: Volumes::new(),
            },
        );
        self.connect(&name);
    }

    /// Opens a session for an agent that was started anew.
    pub fn connect(&mut self, name: &str) {
        let epoch = self.state().epoch;
        let agent = self.agents.get_mut(name).expect("the agent exists");
        agent.incarnation += 1;
        agent.sequence = 0;
        let hello = Hello {
            protocol: PROTOCOL,
            cluster: Some(ClusterId(7)),
            epoch,
            incarnation: Incarnation(agent.incarnation),
            machine: agent.machine.clone(),
        };
        let welcome = self
            .ask(|draft| session::hello(draft, &hello, name))
            .expect("the agent is welcome");
        let whole = derive::assignment(self.state(), welcome.node);
        let agent = self.agents.get_mut(name).expect("the agent exists");
        agent.node = welcome.node;
        agent.connected = true;
        agent.dead = false;
        agent.assignment = whole;
        self.watch.heard(welcome.node, self.now);
    }

    /// The cable is cut: what runs there goes on.
    pub fn cut(&mut self, name: &str) {
        self.agents.get_mut(name).expect("it exists").connected = false;
    }

    /// The machine dies, and with it what ran there.
    pub fn kill(&mut self, name: &str) {
        let agent = self.agents.get_mut(name).expect("it exists");
        agent.connected = false;
        agent.dead = true;
        agent.has.clear();
        agent.machine.boot.push('+');
    }

    /// Time passes, in ticks of half a second.
    pub fn pass(&mut self, span: Millis) {
        let end = self.now + span;
        self.settle();
        while self.now < end {
            self.now = (self.now + Millis(500)).min(end);
            for agent in self.agents.values().filter(|agent| agent.connected) {
                self.watch.heard(agent.node, self.now);
            }
            let changes = self.watch.tick(self.tip.newest(), self.now);
            self.decide(|draft| changes.into_iter().for_each(|c| draft.apply(c)));
            self.settle();
        }
    }

    /// Leader and agents act until nobody has anything to do.
    pub fn settle(&mut self) {
        for _ in 0..1000 {
            let before = self.state().revision;
            self.lead();
            self.act();
            if self.state().revision == before {
                return;
            }
        }
        assert_eq!("the cluster", "settles within 1000 rounds");
    }

    fn lead(&mut self) {
        loop {
            let mut draft = self.tip.draft(self.now);
            // Small, so that steps are interrupted everywhere.
            let budget = Budget {
                changes: 3,
                nodes: 100,
            };
            let more = step(&mut self.agenda, &mut draft, budget);
            self.accept(draft, false);
            if more == More::Quiet {
                return;
            }
        }
    }

    fn act(&mut self) {
        for name in self.agents.keys().cloned().collect::<Vec<_>>() {
            let seen = self.converge(&name);
            let node = self.agents[&name].node;
            if !seen.is_empty() {
                self.decide(|draft| session::sightings(draft, node, &seen));
            }
        }
    }

    /// What one connected agent does at once, and what it saw then.
    fn converge(&mut self, name: &str) -> Vec<Sighting> {
        let agent = self.agents.get_mut(name).expect("the agent exists");
        if !agent.connected {
            return Vec::new();
        }
        let mut levels = Vec::new();
        agent
            .has
            .retain(|id, _| agent.assignment.instances.contains_key(id));
        for (id, assigned) in &agent.assignment.instances {
            let level = match (assigned.goal, agent.has.get(id)) {
                (Goal::Stop { .. }, _) if self.stubborn.contains(&assigned.app) => InstanceLevel {
                    rung: Rung::Stopping,
                    ..InstanceLevel::default()
                },
                (Goal::Stop { .. }, _) => InstanceLevel {
                    rung: Rung::Gone,
                    ..InstanceLevel::default()
                },
                (Goal::Run, None) => {
                    started(&assigned.app, &assigned.spec, &self.crashing, &self.sick)
                }
                (Goal::Run, Some(level))
                    if matches!(level.rung, Rung::Placed | Rung::Starting | Rung::Running) =>
                {
                    started(&assigned.app, &assigned.spec, &self.crashing, &self.sick)
                }
                (Goal::Run, Some(level)) => level.clone(),
                (Goal::Prepare, _) if self.unprepared.contains(&assigned.app) => {
                    InstanceLevel::default()
                }
                (Goal::Prepare, _) => InstanceLevel {
                    rung: Rung::Starting,
                    ..InstanceLevel::default()
                },
            };
            if agent.has.get(id) != Some(&level) {
                agent.has.insert(*id, level.clone());
                levels.push(Level::Instance(*id, level));
            }
        }
        let mut volumes = std::mem::take(&mut agent.volumes);
        let others = |node| {
            let mut agents = self.agents.values();
            let agent = agents.find(|agent| agent.node == node && !agent.dead)?;
            Some(&agent.volumes)
        };
        let assignment = &self.agents[name].assignment;
        levels.extend(volumes::obey(assignment, &mut volumes, others));
        let agent = self.agents.get_mut(name).expect("the agent exists");
        agent.volumes = volumes;
        let sightings = levels.into_iter().map(|level| {
            agent.sequence += 1;
            Sighting {
                incarnation: Incarnation(agent.incarnation),
                sequence: agent.sequence,
                level,
            }
        });
        sightings.collect()
    }

    /// The text form of where an app's living instances are: `n1:running n2:placed`.
    pub fn show(&self, id: &str) -> String {
        let state = self.state();
        let Some(record) = state.app(&app(id)) else {
            return "none".into();
        };
        let mut parts: Vec<String> = state
            .instances_of(record)
            .filter(|instance| !instance.has_ended())
            .map(|instance| {
                let node = state.node(instance.placement.node);
                let node = node.map_or("?", |node| node.machine.name.as_str());
                let rung = format!("{:?}", instance.rung).to_lowercase();
                match instance.goal {
                    Goal::Stop { cause, .. } => format!("{node}:{rung}({cause:?})"),
                    _ => format!("{node}:{rung}"),
                }
            })
            .collect();
        parts.sort();
        parts.join(" ")
    }

    pub fn active(&self, id: &str) -> Vec<InstanceId> {
        let state = self.state();
        let record = state.app(&app(id)).expect("the app exists");
        let active = state.instances_of(record).filter(|i| i.is_active());
        active.map(|i| i.id).collect()
    }

    pub fn put(&mut self, id: &str, spec: &AppSpec) -> request::Accepted {
        let (id, spec) = (app(id), spec.clone());
        self.ask(|draft| request::put_app(draft, id, spec, request::Force::No))
            .expect("the app is accepted")
    }

    /// What must hold in every state.
    pub fn verify(&self) {
        let state = self.state();
        let restored = State::restore(state.records(), state.revision);
        let restored = restored.expect("a state has the spec of every instance");
        assert_eq!(
            state.directory_fingerprint(),
            derive::directory(state).fingerprint()
        );
        assert_eq!(
            state.directory_fingerprint(),
            restored.directory_fingerprint()
        );
        for (a, b) in state.apps().zip(restored.apps()) {
            assert_eq!(a.counters, b.counters, "{}", a.id);
            assert_eq!(a.on_nodes, b.on_nodes, "{}", a.id);
        }
        for (a, b) in state.nodes().zip(restored.nodes()) {
            assert_eq!((a.used, a.fingerprint), (b.used, b.fingerprint), "{}", a.id);
        }
        self.verify_claims();
        self.verify_world();
    }

    /// Invariant 11: no two runnable instances hold one claim.
    fn verify_claims(&self) {
        let state = self.state();
        let mut claims = BTreeSet::new();
        let mut take = |claim: String| assert!(claims.insert(claim.clone()), "twice: {claim}");
        for instance in state.instances() {
            let sealed = matches!(
                instance.goal,
                Goal::Prepare
                    | Goal::Stop {
                        cause: StopCause::Moved | StopCause::Abandoned | StopCause::Recovered,
                        ..
                    }
            );
            if !instance.has_ended() && !sealed {
                let volumes = instance.spec.volumes();
                volumes.for_each(|(volume, _)| take(format!("volume {volume}")));
            }
            if !state.is_runnable(instance.id) || sealed {
                continue;
            }
            take(format!("slot {} of {}", instance.slot, instance.app));
            if let Some(address) = instance.placement.address {
                take(format!("address {address}"));
            }
            for fixed in &instance.placement.fixed_addresses {
                take(format!("fixed address {}", fixed.address));
            }
            for (protocol, port, _) in instance.published() {
                take(format!("{} {protocol:?} {port}", instance.placement.node));
            }
        }
    }

    /// Of what really runs on nodes that have a session, nothing fills one slot twice, and no
    /// volume has two writers anywhere.
    fn verify_world(&self) {
        let mut slots = BTreeSet::new();
        let mut writers = BTreeSet::new();
        for agent in self.agents.values() {
            for (id, level) in &agent.has {
                let Some(assigned) = agent.assignment.instances.get(id) else {
                    continue;
                };
                if level.rung != Rung::Running {
                    continue;
                }
                for (volume, _) in assigned.spec.volumes() {
                    let copy = agent.volumes.get(volume);
                    if copy.is_some_and(|copy| copy.role == Some(CopyRole::Live)) {
                        assert!(writers.insert(volume.clone()), "two write {volume}");
                    }
                }
                let lost = matches!(
                    assigned.goal,
                    Goal::Stop {
                        cause: StopCause::NodeLost,
                        ..
                    }
                );
                if agent.connected && !lost {
                    let slot = (assigned.app.clone(), assigned.slot);
                    assert!(slots.insert(slot.clone()), "two run in {slot:?}");
                }
            }
        }
    }
}

fn started(
    app: &AppId,
    spec: &AppSpec,
    crashing: &BTreeMap<AppId, i32>,
    sick: &BTreeSet<AppId>,
) -> InstanceLevel {
    let unknown = spec.health_checks.is_empty() || spec.env.contains_key("NEVER_READY");
    let health = match (unknown, sick.contains(app)) {
        (true, _) => Health::Unknown,
        (false, true) => Health::Unhealthy,
        (false, false) => Health::Healthy,
    };
    match crashing.get(app) {
        Some(code) => InstanceLevel {
            rung: Rung::Ended,
            exit: Some(Exit {
                status: ExitStatus::Code(*code),
                out_of_memory: false,
                last_line: Some("cannot go on".into()),
            }),
            ..InstanceLevel::default()
        },
        None => InstanceLevel {
            rung: Rung::Running,
            health,
            ..InstanceLevel::default()
        },
    }
}
