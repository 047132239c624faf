//! The agents' side: what `agent` does around the deciders of `node`, on paper.

use model::ids::InstanceId;
use model::instance::{Exit, ExitStatus, Health};
use model::session::{FromAgent, FromMaster};
use model::sighting::Subject;
use model::{Millis, Time};
use node::retry::{self, Outcome};
use node::session::Effect;
use node::{Action, InFlight, Link, Stage, level};

use super::{Event, Master, World};
use crate::machine::{Said, never_ran, signalled};

/// An agent that has not heard its master for so long connects anew.
///
/// It must have given up before the master gives its instances' claims away, or it might start
/// one then: node timeout (5 s), less a heartbeat, less its own second, less the longest start.
const PATIENCE: Millis = Millis(2500);

impl World {
    pub fn power_on(&mut self, machine: usize) {
        let paper = &mut self.machines[machine];
        if paper.powered {
            return;
        }
        paper.powered = true;
        paper.machine.boot = format!("boot {}", self.queued);
        self.start_agent(machine);
    }

    /// The power goes. It comes back only by [`World::power_on`].
    pub fn power_off(&mut self, machine: usize) {
        self.settle_flights(machine);
        self.machines[machine].kill(&mut self.pace);
    }

    pub fn start_agent(&mut self, machine: usize) {
        let paper = &mut self.machines[machine];
        if !paper.powered || paper.agent.is_some() {
            return;
        }
        paper.start_agent();
        let run = paper.run;
        self.beat(machine, run);
    }

    pub fn kill_agent(&mut self, machine: usize) {
        self.settle_flights(machine);
        self.machines[machine].kill_agent();
    }

    /// What was under way when its agent died has happened, or has not.
    fn settle_flights(&mut self, machine: usize) {
        let Some(agent) = &mut self.machines[machine].agent else {
            return;
        };
        for (_, flight) in std::mem::take(&mut agent.observed.in_flight) {
            if self.pace.coin(500) {
                self.act(machine, &flight.action).ok();
            }
        }
    }

    pub(super) fn beat(&mut self, machine: usize, run: u64) {
        let now = self.now;
        let paper = &mut self.machines[machine];
        if paper.run != run {
            return;
        }
        let Some(agent) = &mut paper.agent else {
            return;
        };
        if agent.connection.is_some() && now - agent.heard > PATIENCE {
            agent.session.lost();
            agent.connection = None;
        }
        match agent.connection {
            None => self.greet(machine),
            Some(connection) if agent.session.link() != Link::Down => {
                self.say(connection, Said::ByAgent(FromAgent::Heartbeat));
            }
            Some(_) => {}
        }
        self.pump(machine);
        self.after(Millis(1000), Event::Beat { machine, run });
    }

    fn greet(&mut self, machine: usize) {
        let Some(connection) = self.connect(machine) else {
            return;
        };
        let paper = &mut self.machines[machine];
        if let Some(agent) = &mut paper.agent {
            agent.connection = Some(connection);
            agent.heard = self.now;
            let hello = agent.session.connected(paper.machine.clone());
            self.say(connection, Said::ByAgent(FromAgent::Hello(hello.into())));
        }
    }

    pub(super) fn agent_hears(&mut self, machine: usize, connection: u64, message: FromMaster) {
        let now = self.now;
        let Some(agent) = &mut self.machines[machine].agent else {
            return;
        };
        if agent.connection != Some(connection) {
            return;
        }
        agent.heard = now;
        for effect in agent.session.received(message) {
            if self.pace.mishap(2) {
                self.kill_agent(machine);
                let wait = self.pace.span(500);
                self.after(wait, Event::AgentStarts { machine });
                return;
            }
            self.effect(machine, effect);
        }
        self.pump(machine);
    }

    fn effect(&mut self, machine: usize, effect: Effect) {
        let paper = &mut self.machines[machine];
        let Some(agent) = &mut paper.agent else {
            return;
        };
        let remembered = &mut paper.disk.remembered;
        match effect {
            Effect::PersistMemory => remembered.memory = agent.session.memory().clone(),
            Effect::PersistAssignment => {
                remembered.assignment = agent.session.kept_assignment().clone();
            }
            Effect::PersistDirectory => {
                remembered.directory = agent.session.kept_directory().clone();
            }
            Effect::Joined { all } => agent.outbox.rejoined(all),
            Effect::Assigned => self.watch.assigned(
                machine,
                agent.session.link(),
                agent.session.assignment().revision,
                self.log.durable(),
            ),
            Effect::Directed => agent.observed.directory = agent.session.directory().revision,
            Effect::Acknowledged {
                incarnation,
                sequence,
            } => agent.outbox.acknowledged(incarnation, sequence),
            Effect::Say(message) => {
                if let Some(connection) = agent.connection {
                    self.say(connection, Said::ByAgent(message));
                }
            }
            Effect::Leave(_) => agent.connection = None,
        }
    }

    /// Whatever follows from what the agent knows now: actions begin, sightings leave.
    pub(super) fn pump(&mut self, machine: usize) {
        let now = self.now;
        let paper = &mut self.machines[machine];
        let run = paper.run;
        let Some(agent) = &mut paper.agent else {
            return;
        };
        let (session, observed) = (&agent.session, &mut agent.observed);
        let assignment = session.assignment();
        observed.link = session.link();
        observed.forget(assignment);
        agent.outbox.put_all(level::levels(assignment, observed));
        for (id, local) in &mut observed.instances {
            local.reported = agent.outbox.is_settled(&Subject::Instance(*id));
        }
        for instance in node::converge::cancelled(assignment, observed) {
            observed.in_flight.remove(&Subject::Instance(instance));
        }
        for volume in node::converge::unwanted_receives(assignment, observed) {
            observed.in_flight.remove(&Subject::Volume(volume));
        }
        let actions = node::converge(assignment, observed, now);
        for action in &actions {
            let flight = InFlight {
                action: action.clone(),
                since: now,
            };
            observed.in_flight.insert(action.subject(), flight);
        }
        // What has begun is a new level (pulling, stopping).
        agent.outbox.put_all(level::levels(assignment, observed));
        let wake = node::converge::wake_at(assignment, observed, now);
        let batch = match (agent.connection, session.link()) {
            (None, _) | (_, Link::Down) => None,
            (Some(connection), _) => Some((connection, agent.outbox.take(32))),
        };
        if let Some((connection, sightings)) = batch.filter(|(_, batch)| !batch.is_empty()) {
            self.say(connection, Said::ByAgent(FromAgent::Sightings(sightings)));
        }
        for action in actions {
            let span = self.pace.span(usual(&action));
            let done = Event::Done {
                machine,
                run,
                action,
                since: now,
            };
            self.after(span, done);
        }
        if let Some(at) = wake {
            self.after(at - now, Event::Wake { machine, run });
        }
    }

    pub(super) fn done(&mut self, machine: usize, run: u64, action: Action, since: Time) {
        let paper = &self.machines[machine];
        if paper.run != run {
            return;
        }
        let Some(agent) = &paper.agent else {
            return;
        };
        let subject = action.subject();
        let flight = InFlight {
            action: action.clone(),
            since,
        };
        if agent.observed.in_flight.get(&subject) != Some(&flight) {
            return;
        }
        if self.is_awaited(machine, &action) {
            let span = self.pace.span(usual(&action));
            let again = Event::Done {
                machine,
                run,
                action,
                since,
            };
            return self.after(span, again);
        }
        if let Some(agent) = &mut self.machines[machine].agent {
            agent.observed.in_flight.remove(&subject);
        }
        let outcome = match self.pace.mishap(15) {
            true => Err("as bad luck would have it".to_owned()),
            false => self.act(machine, &action),
        };
        match outcome {
            Ok(()) => {
                let paper = &mut self.machines[machine];
                if let Some(agent) = &mut paper.agent {
                    agent.observed.failures.remove(&subject);
                }
                paper.note(&action, self.now);
            }
            Err(why) => self.failed(machine, action, why),
        }
        self.pump(machine);
    }

    fn failed(&mut self, machine: usize, action: Action, why: String) {
        let now = self.now;
        let paper = &mut self.machines[machine];
        let Some(agent) = &mut paper.agent else {
            return;
        };
        let subject = action.subject();
        let failures = &mut agent.observed.failures;
        match (
            retry::after(action, failures.get(&subject), why, now),
            subject,
        ) {
            (Outcome::Again(failure), subject) => drop(failures.insert(subject, failure)),
            (Outcome::Over(exit), Subject::Instance(id)) if !paper.end(id, exit.clone()) => {
                let directory = paper.disk.directories.entry(id).or_default();
                let exit = directory.exit.get_or_insert(exit).clone();
                if let Some(agent) = &mut paper.agent {
                    agent.local(id).stage = Stage::Ended(exit);
                }
            }
            (Outcome::Over(_), _) => {}
        }
    }

    /// Performs an action on the machine, with what the world makes of it.
    fn act(&mut self, machine: usize, action: &Action) -> Result<(), String> {
        let now = self.now;
        match action {
            Action::Receive { .. } => self.receive(machine, action)?,
            _ => self.machines[machine].perform(action, now)?,
        }
        match action {
            Action::Start { instance } => {
                let newest = self.master.as_ref().map(Master::newest);
                self.watch.started(*instance, newest);
                if self.machines[machine].is_checked(*instance) {
                    let turns = Event::Turns {
                        machine,
                        instance: *instance,
                        health: Health::Healthy,
                    };
                    let span = self.pace.span(100);
                    self.after(span, turns);
                }
                if self.pace.mishap(60) {
                    let span = self.pace.span(3000);
                    self.end_later(machine, span, *instance, code(1));
                }
            }
            // Some programs do not listen.
            Action::Stop { instance, .. } if !self.pace.coin(300) => {
                let span = self.pace.span(20);
                self.end_later(machine, span, *instance, signalled(15));
            }
            _ => {}
        }
        Ok(())
    }

    fn end_later(&mut self, machine: usize, span: Millis, instance: InstanceId, exit: Exit) {
        let ends = Event::Ends {
            machine,
            instance,
            exit,
        };
        self.after(span, ends);
    }

    pub fn ends(&mut self, machine: usize, instance: InstanceId, exit: Exit) {
        let paper = &mut self.machines[machine];
        let at_the_door = paper
            .kernel
            .processes
            .get(&instance)
            .is_some_and(|process| process.since.is_none());
        let frozen = paper.kernel.processes.get(&instance);
        if frozen.is_some_and(|process| process.frozen) {
            return;
        }
        let exit = match at_the_door {
            true => never_ran("it was never let go"),
            false => exit,
        };
        if paper.end(instance, exit) {
            self.pump(machine);
        }
    }

    /// A process's health as the checks see it; false when there is no such process.
    pub fn becomes(&mut self, machine: usize, instance: InstanceId, health: Health) -> bool {
        let paper = &mut self.machines[machine];
        let Some(process) = paper.kernel.processes.get_mut(&instance) else {
            return false;
        };
        process.health = health;
        if let Some(agent) = &mut paper.agent {
            agent.local(instance).health = health;
        }
        self.pump(machine);
        true
    }
}

pub fn code(code: i32) -> Exit {
    Exit {
        status: ExitStatus::Code(code),
        out_of_memory: false,
        last_line: None,
    }
}

/// Milliseconds that an action usually takes.
fn usual(action: &Action) -> u64 {
    match action {
        Action::PullImage { .. } => 200,
        Action::MakeVolume { .. } | Action::DestroyVolume { .. } => 20,
        Action::Receive { .. } => 40,
        Action::SyncReceived { .. } | Action::Promote { .. } | Action::Snapshot { .. } => 20,
        _ => 5,
    }
}
