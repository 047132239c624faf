//! Scripts: commands one a line, each with what came of it.
//!
//! ```text
//! > node n1 mem=4096                 a machine with an agent is switched on
//! > put /web instances=2 mem=128     also cpus= port= volume= v= (a label) grace= (ms) checked
//! > scale /web 3 | remove /web | restart /web      each may end with force
//! > move /db n2 | move volume pg n2 | cancel move /db      put: freeze (label) on= (hostname)
//! > tick until seal                until a move is in that phase
//! > remove volume pg | drain n1 | undrain n1
//! > recover pg [n1] | remove copy pg n2      what n2 has set aside
//! > kill n1 | start n1               its power goes, comes back
//! > crash master | start master      likewise with the log's volatile end
//! > crash agent n1 | start agent n1
//! > cut n1 [master] | heal [n1]      its cable, or only its way to the master
//! > exit /web.0 1                    the process in slot 0 ends with that code
//! > sick /web.0 | well /web.0        what its health checks say from now on
//! > tick 3s | tick until quiet       time passes
//! > show                             what runs where
//! ```

use model::ids::{AppId, NodeId, VolumeId};
use model::instance::Health;
use model::quantity::Quantity;
use model::spec::{
    Constraint, HealthCheck, HostPort, Mount, MountSource, Network, Operator, Port, Probe,
    ProbePort, VolumeForm,
};
use model::{AppSpec, Instance, Machine, Millis, Resources, State, Time};

use planner::request::Force;

use crate::pace::Pace;
use crate::story::{Story, name};
use crate::world::{Master, Request, World, code};

/// Why a line of a script cannot be carried out.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Fault {
    #[error("'{0}' is no command")]
    Unknown(String),
    #[error("'{line}' lacks {what}")]
    Lacks { line: String, what: &'static str },
    #[error("'{0}' means nothing here")]
    Word(String),
    #[error("there is no {0}")]
    Nothing(String),
    #[error("after {0} s things still happen")]
    NeverQuiet(u64),
    #[error("it breaks an invariant: {0}")]
    Broken(String),
}

/// Runs the commands of a script, on a cluster where nothing varies; gives them back with their
/// transcript, or what is wrong with
/// what had happened by then. Lines that are neither commands nor comments are ignored.
pub fn run(script: &str) -> Result<String, (Fault, String)> {
    let mut player = Player {
        world: World::new(Pace::steady()),
        story: Story::default(),
        transcript: String::new(),
    };
    player.world.start_master();
    for line in script.lines() {
        if line.starts_with('#') || line.is_empty() {
            player.line(line);
        } else if let Some(command) = line.strip_prefix("> ") {
            player.line(line);
            if let Err(fault) = player.command(command) {
                return Err((fault, player.transcript));
            }
        }
    }
    Ok(player.transcript)
}

struct Player {
    world: World,
    story: Story,
    transcript: String,
}

/// Quiet: nothing has changed for so long, which is more than the node timeout.
const QUIET: Millis = Millis::seconds(12);
const TOO_LONG: Millis = Millis::seconds(900);

impl Player {
    fn line(&mut self, line: &str) {
        self.transcript.push_str(line);
        self.transcript.push('\n');
    }

    fn command(&mut self, command: &str) -> Result<(), Fault> {
        let mut words: Vec<&str> = command.split_whitespace().collect();
        let force = Force::from(words.last() == Some(&"force"));
        words.pop_if(|last| *last == "force");
        match words.as_slice() {
            ["node", name, options @ ..] => {
                let machine = machine(name, self.world.machines.len(), options)?;
                self.world.add_machine(machine);
                self.tick(Millis(100))?;
            }
            ["put", app, options @ ..] => {
                self.ask(Request::Put(id(app)?, spec(options)?.into()), force)?
            }
            ["scale", app, n] => self.ask(Request::Scale(id(app)?, number(n)? as u32), force)?,
            ["remove", "volume", name] => {
                self.ask(Request::RemoveVolume(volume(name)?), force)?;
            }
            ["remove", "copy", name, node] => {
                let (volume, node) = (volume(name)?, self.node(node)?);
                let copy = self.aside(&volume, node)?;
                self.ask(Request::RemoveCopy(volume, node, copy), force)?;
            }
            ["recover", name] => self.ask(Request::Recover(volume(name)?, None), force)?,
            ["recover", name, node] => {
                let node = Some(self.node(node)?);
                self.ask(Request::Recover(volume(name)?, node), force)?;
            }
            ["move", "volume", name, node] => {
                self.ask(Request::MoveVolume(volume(name)?, self.node(node)?), force)?;
            }
            ["move", app, node] => self.ask(Request::Move(id(app)?, self.node(node)?), force)?,
            ["cancel", "move", app] => self.ask(Request::CancelMove(id(app)?), force)?,
            ["drain", node] => self.ask(Request::Drain(self.node(node)?), force)?,
            ["undrain", node] => self.ask(Request::Undrain(self.node(node)?), force)?,
            ["remove", app] => self.ask(Request::Remove(id(app)?), force)?,
            ["restart", app] => self.ask(Request::Restart(id(app)?), force)?,
            ["crash", "master"] => self.world.crash_master(),
            ["start", "master"] => self.world.start_master(),
            ["crash", "agent", node] => {
                let machine = self.machine(node)?;
                self.world.kill_agent(machine);
            }
            ["start", "agent", node] => {
                let machine = self.machine(node)?;
                self.world.start_agent(machine);
            }
            ["kill", node] => {
                let machine = self.machine(node)?;
                self.world.power_off(machine);
            }
            ["start", node] => {
                let machine = self.machine(node)?;
                self.world.power_on(machine);
            }
            ["cut", node] => {
                let machine = self.machine(node)?;
                self.world.cut(machine);
            }
            ["cut", node, "master"] => {
                let machine = self.machine(node)?;
                self.world.cut_from_master(machine);
            }
            ["heal", node] => {
                let machine = self.machine(node)?;
                self.world.heal(machine);
            }
            ["heal"] => (0..self.world.machines.len()).for_each(|m| self.world.heal(m)),
            ["exit", instance, status] => {
                let (machine, id) = self.instance(instance)?;
                let status = number(status)? as i32;
                self.world.ends(machine, id, code(status));
            }
            ["sick", instance] => self.health(instance, Health::Unhealthy)?,
            ["well", instance] => self.health(instance, Health::Healthy)?,
            ["tick", "until", "quiet"] => self.tick_until_quiet()?,
            ["tick", "until", phase] => self.tick_until_phase(phase)?,
            ["tick", span] => self.tick(millis(span)?)?,
            ["show"] => self.show(),
            _ => return Err(Fault::Unknown(command.to_owned())),
        }
        Ok(())
    }

    fn ask(&mut self, request: Request, force: Force) -> Result<(), Fault> {
        if !self.world.ask(request, force) {
            self.line("nobody answers");
        }
        self.tick(Millis(0))
    }

    fn health(&mut self, instance: &str, health: Health) -> Result<(), Fault> {
        let (machine, id) = self.instance(instance)?;
        match self.world.becomes(machine, id, health) {
            true => Ok(()),
            false => Err(Fault::Nothing(format!("process of {instance}"))),
        }
    }

    fn tick(&mut self, span: Millis) -> Result<(), Fault> {
        let until = self.world.now + span;
        while self.step(until)? {}
        Ok(())
    }

    fn tick_until_quiet(&mut self) -> Result<(), Fault> {
        let began = self.world.now;
        let mut last = (self.world.pulse(), began);
        while self.world.now - last.1 < QUIET {
            if self.world.now - began > TOO_LONG {
                return Err(Fault::NeverQuiet(TOO_LONG.0 / 1000));
            }
            self.step(self.world.now + Millis(1000))?;
            let pulse = self.world.pulse();
            if pulse != last.0 {
                last = (pulse, self.world.now);
            }
        }
        Ok(())
    }

    /// Until some move is in that phase, for the master's clients.
    fn tick_until_phase(&mut self, phase: &str) -> Result<(), Fault> {
        let end = self.world.now + TOO_LONG;
        loop {
            let state = self.world.master.as_ref().map(Master::durable);
            let is = |state: &State| state.moves().any(|m| m.phase.to_string() == phase);
            if state.is_some_and(is) {
                return Ok(());
            }
            if self.world.now >= end {
                return Err(Fault::Nothing(format!("move in phase {phase}")));
            }
            self.step(end)?;
        }
    }

    fn step(&mut self, until: Time) -> Result<bool, Fault> {
        let more = self.world.step(until);
        let at = self.world.age().0;
        let mut lines = std::mem::take(&mut self.world.clients.answers);
        if let Some(master) = &self.world.master {
            lines.extend(self.story.tell(master.durable()));
        }
        for line in lines {
            let line = format!("{:>6}.{:03}  {line}", at / 1000, at % 1000);
            self.line(&line);
        }
        match self.world.watch.violations.first() {
            Some(violation) => Err(Fault::Broken(violation.clone())),
            None => Ok(more),
        }
    }

    fn show(&mut self) {
        for paper in &self.world.machines {
            let processes = paper.kernel.processes.iter();
            let names: Vec<String> = processes
                .filter(|(_, process)| process.since.is_some())
                .map(|(id, process)| {
                    let name = self.story.name_of(*id).map(str::to_owned);
                    let name = name.unwrap_or_else(|| id.to_string());
                    match process.frozen {
                        true => format!("{name} (frozen)"),
                        false => name,
                    }
                })
                .collect();
            let what = match (paper.powered, names.is_empty()) {
                (false, _) => "off".to_owned(),
                (true, true) => "idle".to_owned(),
                (true, false) => names.join(" "),
            };
            let line = format!("{}: {what}\n", paper.machine.name);
            self.transcript.push_str(&line);
        }
    }

    fn machine(&self, name: &str) -> Result<usize, Fault> {
        let found = self.world.machine_named(name);
        found.ok_or_else(|| Fault::Nothing(format!("node {name}")))
    }

    fn node(&self, name: &str) -> Result<NodeId, Fault> {
        let state = self.world.master.as_ref().map(Master::durable);
        let node = state.and_then(|state| state.node_named(name));
        let node = node.ok_or_else(|| Fault::Nothing(format!("node {name}")))?;
        Ok(node.id)
    }

    /// What a node has set aside.
    fn aside(&self, volume: &VolumeId, node: NodeId) -> Result<String, Fault> {
        let state = self.world.master.as_ref().map(Master::durable);
        let volume = state.and_then(|state| state.volume(volume));
        let copy = volume.and_then(|volume| volume.copies.get(&node));
        let aside = copy.and_then(|copy| copy.aside.clone());
        aside
            .map(|aside| aside.name)
            .ok_or_else(|| Fault::Nothing(format!("data set aside on {node}")))
    }

    /// The instance that a script means by `/web.0`: the newest in that slot that has not ended.
    fn instance(&self, text: &str) -> Result<(usize, model::InstanceId), Fault> {
        let fault = || Fault::Nothing(format!("instance {text}"));
        let state: &State = self
            .world
            .master
            .as_ref()
            .map(Master::durable)
            .ok_or_else(fault)?;
        let found: Option<&Instance> = state
            .instances()
            .filter(|instance| name(instance) == text && !instance.has_ended())
            .max_by_key(|instance| instance.id);
        let instance = found.ok_or_else(fault)?;
        let node = state.node(instance.placement.node).ok_or_else(fault)?;
        Ok((self.machine(&node.machine.name)?, instance.id))
    }
}

fn id(text: &str) -> Result<AppId, Fault> {
    AppId::parse(text).map_err(|_| Fault::Word(text.to_owned()))
}

fn volume(name: &str) -> Result<VolumeId, Fault> {
    VolumeId::parse(name).map_err(|_| Fault::Word(name.to_owned()))
}

fn number(text: &str) -> Result<u64, Fault> {
    text.parse().map_err(|_| Fault::Word(text.to_owned()))
}

fn millis(text: &str) -> Result<Millis, Fault> {
    match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(ms), _) => number(ms).map(Millis),
        (None, Some(seconds)) => number(seconds).map(Millis::seconds),
        (None, None) => Err(Fault::Word(text.to_owned())),
    }
}

fn option(word: &str) -> (&str, &str) {
    word.split_once('=').unwrap_or((word, ""))
}

fn machine(name: &str, number_of_it: usize, options: &[&str]) -> Result<Machine, Fault> {
    let mut machine = paper_machine(name, number_of_it);
    for word in options {
        match option(word) {
            ("mem", n) => machine.resources.mem = Quantity::whole(number(n)?),
            ("cpus", n) => machine.resources.cpus = Quantity::whole(number(n)?),
            (key, value) if !value.is_empty() => {
                machine.attributes.insert(key.to_owned(), value.to_owned());
            }
            _ => return Err(Fault::Word((*word).to_owned())),
        }
    }
    Ok(machine)
}

/// The n-th machine: four cores, 4 GiB.
pub fn paper_machine(name: &str, n: usize) -> Machine {
    let address = [10, 0, 15, 11_u8.saturating_add(n as u8)].into();
    Machine {
        name: name.to_owned(),
        hostname: std::net::Ipv4Addr::to_string(&address),
        address,
        resources: Resources {
            cpus: Quantity::whole(4),
            mem: Quantity::whole(4096),
            disk: Quantity::whole(10_000),
        },
        attributes: Default::default(),
        ports: (31_000, 32_000),
        stream_port: 4434,
        allow: Vec::new(),
        boot: String::new(),
        version: "paper".into(),
    }
}

fn spec(options: &[&str]) -> Result<AppSpec, Fault> {
    let mut spec = paper_spec(1);
    for word in options {
        match option(word) {
            ("instances", n) => spec.instances = number(n)? as u32,
            ("mem", n) => spec.resources.mem = Quantity::whole(number(n)?),
            ("cpus", n) => spec.resources.cpus = Quantity::whole(number(n)?),
            ("grace", n) => spec.kill_grace = Some(Millis(number(n)?)),
            ("port", n) => spec.ports.push(port(number(n)? as u16)),
            ("volume", name) => spec.mounts.push(mount(name)?),
            ("freeze", "") => {
                let (label, value) = ("tandem/move-stop".into(), "freeze".into());
                spec.labels.insert(label, value);
            }
            ("on", hostname) => spec.constraints.push(on(hostname)),
            ("checked", "") => spec.health_checks.push(check()),
            ("v", value) => drop(spec.labels.insert("v".into(), value.into())),
            _ => return Err(Fault::Word((*word).to_owned())),
        }
    }
    Ok(spec)
}

/// A command on the overlay network, with a tenth of a core.
pub fn paper_spec(instances: u32) -> AppSpec {
    let mut spec = AppSpec {
        instances,
        network: Network::Bridge,
        ..AppSpec::default()
    };
    spec.resources.cpus = Quantity(100);
    spec
}

/// A port of the container that every node it runs on publishes under that number.
pub fn port(host: u16) -> Port {
    Port {
        name: None,
        protocol: Default::default(),
        container: 80,
        host: HostPort::Fixed(host),
        service: 0,
        labels: Default::default(),
        published: false,
    }
}

/// Only on that node.
pub fn on(hostname: &str) -> Constraint {
    Constraint {
        field: "hostname".into(),
        operator: Operator::Like,
        value: Some(hostname.into()),
    }
}

pub fn mount(name: &str) -> Result<Mount, Fault> {
    Ok(Mount {
        path: format!("/data/{name}"),
        source: MountSource::Volume {
            volume: volume(name)?,
            size: None,
            form: VolumeForm::Flocker,
        },
        read_only: false,
    })
}

/// One failure is enough.
pub fn check() -> HealthCheck {
    HealthCheck {
        probe: Probe::Tcp {
            port: ProbePort::Number(80),
        },
        grace: Millis(0),
        interval: Millis(1000),
        timeout: Millis(1000),
        max_failures: 1,
        delay: Millis(0),
        ignore_http_1xx: false,
        protocol: "MESOS_TCP".into(),
    }
}
