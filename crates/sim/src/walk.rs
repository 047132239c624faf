//! A random walk: requests and faults from a seed, then peace, in which everything must settle
//! to what was asked.

use model::ids::{InstanceId, NodeId, VolumeId};
use model::instance::Health;
use model::{AppId, Millis, State, Volume};

use planner::request::Force;
use scheduler::Wish;

use crate::pace::Pace;
use crate::random::Random;
use crate::script::{check, mount, on, paper_machine, paper_spec, port};
use crate::story::Story;
use crate::world::{Master, Request, World, code};

/// What went wrong under a seed, and all that had happened.
#[derive(Debug, thiserror::Error)]
#[error("{transcript}seed {seed}: {why}")]
pub struct Broken {
    pub seed: u64,
    pub why: String,
    pub transcript: String,
}

const NODES: usize = 3;
/// How many requests and faults.
const DEEDS: u64 = 50;
/// How long everything may take to settle when faults have ceased. Backoff may have grown, and
/// the leader gives many lost nodes time.
const PEACE: Millis = Millis::seconds(900);

/// Walks once. `tell`: whether to write a transcript, which costs time; a broken walk is walked
/// again with it.
pub fn walk(seed: u64, course: Course) -> Result<(), Broken> {
    Walk::new(seed, course, false)
        .run()
        .or_else(|_| Walk::new(seed, course, true).run())
}

/// What a walk is full of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Course {
    /// All sorts of requests and faults.
    Everything,
    /// Two apps with volumes that are moved again and again, and recovered, and faults at every
    /// step of it.
    Moves,
}

struct Walk {
    seed: u64,
    course: Course,
    world: World,
    random: Random,
    apps: Vec<AppId>,
    deeds: u64,
    story: Option<Story>,
    transcript: String,
}

impl Walk {
    fn new(seed: u64, course: Course, tell: bool) -> Self {
        let apps = ["/web", "/db", "/shop/api"];
        Self {
            seed,
            course,
            world: World::new(Pace::seeded(seed)),
            random: Random::new(!seed),
            apps: apps.iter().filter_map(|id| AppId::parse(id).ok()).collect(),
            deeds: 0,
            story: tell.then(Story::default),
            transcript: String::new(),
        }
    }

    fn run(mut self) -> Result<(), Broken> {
        match self.through() {
            Ok(()) => Ok(()),
            Err(why) => Err(Broken {
                seed: self.seed,
                why,
                transcript: self.transcript,
            }),
        }
    }

    fn through(&mut self) -> Result<(), String> {
        self.world.start_master();
        for n in 0..NODES {
            self.world
                .add_machine(paper_machine(&format!("n{}", n + 1), n));
        }
        if self.course == Course::Moves {
            self.put_database("/db", None);
        }
        for _ in 0..DEEDS {
            self.pass()?;
            match self.course {
                Course::Moves if self.random.chance(500) => self.move_database(),
                Course::Moves | Course::Everything => self.deed(),
            }
        }
        self.peace();
        self.settle()
    }

    /// Some time passes; often hardly any, sometimes more than a node may be silent.
    fn pass(&mut self) -> Result<(), String> {
        let span = match self.random.below(10) {
            0..=8 if self.course == Course::Moves => self.random.below(600),
            0..=4 => self.random.below(50),
            5..=8 => self.random.below(2000),
            _ => self.random.below(12_000),
        };
        let until = self.world.now + Millis(span);
        while self.step(until)? {}
        Ok(())
    }

    fn step(&mut self, until: model::Time) -> Result<bool, String> {
        let more = self.world.step(until);
        let answers = std::mem::take(&mut self.world.clients.answers);
        if let Some(story) = &mut self.story {
            let mut lines = answers;
            if let Some(master) = &self.world.master {
                lines.extend(story.tell(master.durable()));
            }
            for line in lines {
                self.tell(&line);
            }
        }
        match self.world.watch.violations.first() {
            Some(violation) => Err(violation.clone()),
            None => Ok(more),
        }
    }

    fn tell(&mut self, line: &str) {
        if self.story.is_some() {
            let at = self.world.age().0;
            let line = format!("{:>6}.{:03}  {line}\n", at / 1000, at % 1000);
            self.transcript.push_str(&line);
        }
    }

    fn deed(&mut self) {
        self.deeds += 1;
        let machine = self.random.below(NODES as u64) as usize;
        match self.random.below(22) {
            20 => self.process_sickens(machine),
            21 => {
                self.tell(&format!("> cut n{} master", machine + 1));
                self.world.cut_from_master(machine);
            }
            0..=6 => self.request(),
            7 | 8 => self.process_ends(machine),
            9 => {
                self.tell(&format!("> kill n{}", machine + 1));
                self.world.power_off(machine);
            }
            10 | 11 => {
                self.tell(&format!("> start n{}", machine + 1));
                self.world.power_on(machine);
            }
            12 => {
                self.tell(&format!("> cut n{}", machine + 1));
                self.world.cut(machine);
            }
            13 | 14 => {
                self.tell(&format!("> heal n{}", machine + 1));
                self.world.heal(machine);
            }
            15 => {
                self.tell(&format!("> crash agent n{}", machine + 1));
                self.world.kill_agent(machine);
            }
            16 | 17 => {
                self.tell("> start agents");
                (0..NODES).for_each(|m| self.world.start_agent(m));
            }
            18 => {
                self.tell("> crash master");
                self.world.crash_master();
            }
            _ => {
                self.tell("> start master");
                self.world.start_master();
            }
        }
    }

    fn move_database(&mut self) {
        let node = NodeId(self.random.below(NODES as u64) as u32);
        let name = if self.random.chance(700) {
            "/db"
        } else {
            "/shop/api"
        };
        let Ok(app) = AppId::parse(name) else { return };
        match self.random.below(14) {
            0 => self.put_database(name, Some(node)),
            1 => self.put_database(name, None),
            2 => self.ask(Request::CancelMove(app)),
            3 => self.ask(Request::Remove(app)),
            4 => self.ask(Request::Drain(node)),
            5 => self.ask(Request::Undrain(node)),
            6 | 7 => self.recover(),
            8 => self.tidy_up(),
            _ => self.ask(Request::Move(app, node)),
        }
    }

    /// Gives up some volume's home, which is refused while that is here.
    fn recover(&mut self) {
        let node = NodeId(self.random.below(NODES as u64) as u32);
        let node = self.random.chance(200).then_some(node);
        let volumes = self.volumes(|_| true);
        if let Some(volume) = self.random.pick(&volumes).cloned() {
            self.ask(Request::Recover(volume, node));
        }
    }

    fn volumes(&self, which: impl Fn(&Volume) -> bool) -> Vec<VolumeId> {
        let state = self.world.master.as_ref().map(Master::durable);
        let volumes = state.into_iter().flat_map(State::volumes);
        let volumes = volumes.filter(|volume| which(volume));
        volumes.map(|volume| volume.id.clone()).collect()
    }

    /// Removes everything that is set aside.
    fn tidy_up(&mut self) {
        let state = self.world.master.as_ref().map(Master::durable);
        let volumes = state.into_iter().flat_map(State::volumes);
        let asides = volumes.flat_map(|volume| {
            let copies = volume.copies.iter().filter(|(_, copy)| !copy.unwanted);
            copies.filter_map(|(node, copy)| {
                let name = copy.aside.as_ref()?.name.clone();
                Some(Request::RemoveCopy(volume.id.clone(), *node, name))
            })
        });
        let asides: Vec<Request> = asides.collect();
        asides.into_iter().for_each(|request| self.ask(request));
    }

    /// The database has two volumes, the queue one.
    fn put_database(&mut self, name: &str, node: Option<NodeId>) {
        let Ok(app) = AppId::parse(name) else { return };
        let mut spec = paper_spec(1);
        spec.kill_grace = Some(Millis(self.random.below(2000)));
        let volumes: &[&str] = match name {
            "/db" => &["pg", "wal"],
            _ => &["queue"],
        };
        spec.mounts
            .extend(volumes.iter().flat_map(|name| mount(name)));
        if self.random.chance(600) {
            let (label, value) = ("tandem/move-stop".into(), "freeze".into());
            spec.labels.insert(label, value);
        }
        if self.random.chance(300) {
            let (label, value) = ("tandem/move-hook".into(), "CHECKPOINT".into());
            spec.labels.insert(label, value);
        }
        let hostname = |node: NodeId| on(&format!("10.0.15.{}", 11 + node.0));
        spec.constraints.extend(node.map(hostname));
        self.ask(Request::Put(app, spec.into()));
    }

    fn ask(&mut self, request: Request) {
        self.tell(&format!("> {}", request.brief()));
        let force = Force::from(self.random.chance(300));
        if !self.world.ask(request, force) {
            self.tell("nobody answers");
        }
    }

    fn request(&mut self) {
        let Some(app) = self.random.pick(&self.apps).cloned() else {
            return;
        };
        let node = NodeId(self.random.below(NODES as u64) as u32);
        if self.random.chance(30) {
            return self.recover();
        }
        let request = match self.random.below(19) {
            14..=17 => {
                let Some(db) = self.apps.get(1).cloned() else {
                    return;
                };
                Request::Move(db, node)
            }
            18 => match self.apps.get(1).cloned() {
                Some(db) => Request::CancelMove(db),
                None => return,
            },
            10 => match VolumeId::parse("pg") {
                Ok(volume) => Request::RemoveVolume(volume),
                Err(_) => return,
            },
            11 => Request::Drain(node),
            12 | 13 => Request::Undrain(node),
            0..=4 => {
                let mut spec = paper_spec(self.random.below(4) as u32);
                spec.kill_grace = Some(Millis(self.random.below(4000)));
                let version = self.random.below(3).to_string();
                spec.labels.insert("v".into(), version);
                if app.name() == "web" {
                    spec.ports.push(port(9080));
                    spec.instances = spec.instances.min(2);
                }
                if app.name() == "api" && self.random.chance(500) {
                    spec.health_checks.push(check());
                }
                if app.name() == "db" {
                    spec.instances = spec.instances.min(1);
                    spec.mounts.extend(mount("pg").ok());
                    if self.random.chance(500) {
                        let (label, value) = ("tandem/move-stop".into(), "freeze".into());
                        spec.labels.insert(label, value);
                    }
                    if self.random.chance(200) {
                        let hostname = format!("10.0.15.{}", 11 + node.0);
                        spec.constraints.push(on(&hostname));
                    }
                }
                Request::Put(app, spec.into())
            }
            5 | 6 => {
                let most = match app.name() {
                    "db" => 2,
                    "web" => 3,
                    _ => 5,
                };
                Request::Scale(app, self.random.below(most) as u32)
            }
            7 => Request::Remove(app),
            8 => Request::Restart(app),
            _ => match self.some_instance() {
                Some(id) => Request::Kill(id),
                None => return,
            },
        };
        self.ask(request);
    }

    fn some_instance(&mut self) -> Option<InstanceId> {
        let state = self.world.master.as_ref()?.durable();
        let all: Vec<InstanceId> = state.instances().map(|instance| instance.id).collect();
        self.random.pick(&all).copied()
    }

    fn process_ends(&mut self, machine: usize) {
        let processes = &self.world.machines[machine].kernel.processes;
        let all: Vec<InstanceId> = processes.keys().copied().collect();
        if let Some(id) = self.random.pick(&all).copied() {
            self.tell(&format!("> exit {id} 1"));
            self.world.ends(machine, id, code(1));
        }
    }

    fn process_sickens(&mut self, machine: usize) {
        let paper = &self.world.machines[machine];
        let processes = paper.kernel.processes.keys().copied();
        let all: Vec<InstanceId> = processes.filter(|id| paper.is_checked(*id)).collect();
        if let Some(id) = self.random.pick(&all).copied() {
            self.tell(&format!("> sick {id}"));
            self.world.becomes(machine, id, Health::Unhealthy);
        }
    }

    /// Faults cease: everything is switched on and connected, and nothing fails any more.
    fn peace(&mut self) {
        self.tell("> peace");
        self.world.pace.faults = false;
        self.world.start_master();
        for machine in 0..NODES {
            self.world.heal(machine);
            self.world.power_on(machine);
            self.world.start_agent(machine);
            let undrain = Request::Undrain(NodeId(machine as u32));
            self.world.ask(undrain, Force::No);
        }
    }

    fn settle(&mut self) -> Result<(), String> {
        let end = self.world.now + PEACE;
        loop {
            let until = self.world.now + Millis(1000);
            while self.step(until)? {}
            match self.unsettled() {
                None => return Ok(()),
                Some(why) if self.world.now > end => {
                    return Err(format!("{} s after the last fault {why}", PEACE.0 / 1000));
                }
                Some(_) => self.mend(),
            }
        }
    }

    /// What an operator would do about what recoveries left: what was set aside is in the way of
    /// moves, an app's volumes may have come apart, or be where its constraints do not let it go.
    fn mend(&mut self) {
        self.tidy_up();
        let node = NodeId(self.random.below(NODES as u64) as u32);
        let Some(state) = self.world.master.as_ref().map(Master::durable) else {
            return;
        };
        let stuck = state.apps().filter(|app| {
            state.move_of_app(&app.id).is_none() && (is_apart(state, app) || is_refused(state, app))
        });
        let volumes = stuck.flat_map(|app| app.spec.volumes().map(|(id, _)| id.clone()));
        let volumes: Vec<VolumeId> = volumes.collect();
        for volume in volumes {
            self.ask(Request::MoveVolume(volume, node));
        }
    }

    /// What is not yet as it was asked for.
    fn unsettled(&self) -> Option<String> {
        let Some(master) = &self.world.master else {
            return Some("there is no master".into());
        };
        let state = master.durable();
        if state.revision != Master::newest(master).revision {
            return Some("the log is not written".into());
        }
        if let Some(deployment) = state.deployments().next() {
            let apps: Vec<String> = deployment.apps().map(ToString::to_string).collect();
            return Some(format!("the deployment of {} goes on", apps.join(", ")));
        }
        if let Some(movement) = state.moves().next() {
            return Some(format!("a move is in {}", movement.phase));
        }
        state
            .apps()
            .find_map(|app| self.app_unsettled(state, app))
            .or_else(|| {
                let volume = state.volumes().find(|volume| volume.removing)?;
                Some(format!("volume {} is not removed", volume.id))
            })
            .or_else(|| self.machines_unsettled(state))
    }

    fn app_unsettled(&self, state: &State, app: &model::App) -> Option<String> {
        if app.removing {
            return Some(format!("{} is still there", app.id));
        }
        let counters = (app.counters.running, app.counters.current);
        let wanted = app.spec.instances;
        if counters != (wanted, wanted) || app.instances.len() != wanted as usize {
            return Some(format!(
                "{} wants {wanted} instances, {} run, {} are current, {} are left",
                app.id,
                counters.0,
                counters.1,
                app.instances.len()
            ));
        }
        let runs = |instance: &model::Instance| {
            self.world.machines.iter().any(|paper| {
                let node = state.node(instance.placement.node);
                node.is_some_and(|node| node.machine.name == paper.machine.name)
                    && paper
                        .kernel
                        .processes
                        .get(&instance.id)
                        .is_some_and(|process| process.since.is_some())
            })
        };
        state
            .instances_of(app)
            .find(|instance| !runs(instance))
            .map(|instance| format!("instance {} of {} has no process", instance.id, app.id))
    }

    /// What runs, or is left over, though nobody asked for it; a directory that differs.
    fn machines_unsettled(&self, state: &State) -> Option<String> {
        for paper in &self.world.machines {
            let name = &paper.machine.name;
            let unknown = |id: &&InstanceId| state.instance(**id).is_none();
            if let Some(id) = paper.kernel.processes.keys().find(unknown) {
                return Some(format!("{id} runs on {name}, and nobody asked for it"));
            }
            if let Some(id) = paper.disk.directories.keys().find(unknown) {
                return Some(format!("{id} left its directory on {name}"));
            }
            let Some(agent) = &paper.agent else {
                return Some(format!("{name} has no agent"));
            };
            if !agent.outbox.is_empty() {
                return Some(format!("{name} has more to tell"));
            }
            let session = &agent.session;
            if session.directory().fingerprint() != Master::directory(state).fingerprint() {
                return Some(format!("{name} has another directory"));
            }
        }
        None
    }
}

fn is_apart(state: &State, app: &model::App) -> bool {
    let homes = app.spec.volumes();
    let mut homes = homes.filter_map(|(id, _)| state.volume(id)?.home);
    let first = homes.next();
    homes.any(|home| Some(home) != first)
}

fn is_refused(state: &State, app: &model::App) -> bool {
    let wish = Wish::compile(&app.id, &app.spec);
    wish.is_ok_and(|wish| scheduler::home_is_refused(state, &wish))
}
