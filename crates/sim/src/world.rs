//! The cluster on paper: a clock, a queue of what will happen, machines, a wire between them and
//! the master, and a master or none.
//!
//! Everything happens in the order of (time, number), so a run is a function of its script and
//! seed. The parts are in [`wire`], [`agents`] and [`masters`]; what must hold after every event
//! is in [`crate::watch`].

mod agents;
mod masters;
mod streams;
mod wire;

use std::collections::BTreeMap;

use model::ids::{InstanceId, Revision};
use model::instance::{Exit, Health};
use model::{Machine, Millis, Time};
use node::Action;

use crate::clients::Clients;
use crate::log::Log;
use crate::machine::{Paper, Said};
use crate::pace::Pace;
use crate::watch::Watch;

pub use agents::code;
pub use masters::{Master, Request};

/// A cluster begins in 2026, as real ones do: versions are times.
const BEGIN: Time = Time(1_795_000_000_000);

pub struct World {
    pub now: Time,
    pub pace: Pace,
    events: BTreeMap<(Time, u64), Event>,
    queued: u64,
    pub machines: Vec<Paper>,
    connections: BTreeMap<u64, wire::Connection>,
    pub log: Log,
    pub master: Option<Master>,
    /// Number of the newest master process.
    master_run: u64,
    pub clients: Clients,
    pub watch: Watch,
}

#[derive(Clone, Debug)]
enum Event {
    Arrives {
        connection: u64,
        said: Said,
    },
    Closed {
        connection: u64,
    },
    /// An agent's second.
    Beat {
        machine: usize,
        run: u64,
    },
    /// A retry or the end of a grace.
    Wake {
        machine: usize,
        run: u64,
    },
    Done {
        machine: usize,
        run: u64,
        action: Action,
        since: Time,
    },
    Ends {
        machine: usize,
        instance: InstanceId,
        exit: Exit,
    },
    /// A process's checks pass or fail from now on.
    Turns {
        machine: usize,
        instance: InstanceId,
        health: Health,
    },
    AgentStarts {
        machine: usize,
    },
    /// The master's second.
    Tick {
        run: u64,
    },
    /// The leader's turn.
    Lead {
        run: u64,
    },
    Synced {
        run: u64,
        revision: Revision,
    },
}

impl World {
    pub fn new(pace: Pace) -> Self {
        Self {
            now: BEGIN,
            pace,
            events: BTreeMap::new(),
            queued: 0,
            machines: Vec::new(),
            connections: BTreeMap::new(),
            log: Log::default(),
            master: None,
            master_run: 0,
            clients: Clients::default(),
            watch: Watch::default(),
        }
    }

    /// How long the cluster has existed.
    pub fn age(&self) -> Millis {
        self.now - BEGIN
    }

    pub fn add_machine(&mut self, machine: Machine) {
        self.machines.push(Paper::new(machine));
        self.power_on(self.machines.len() - 1);
    }

    pub fn machine_named(&self, name: &str) -> Option<usize> {
        self.machines
            .iter()
            .position(|paper| paper.machine.name == name)
    }

    fn after(&mut self, span: Millis, event: Event) {
        self.queued += 1;
        self.events.insert((self.now + span, self.queued), event);
    }

    /// The next thing happens, if it does so by `until`; false when nothing more does.
    pub fn step(&mut self, until: Time) -> bool {
        match self.events.first_key_value() {
            Some(((at, _), _)) if *at <= until => {}
            _ => {
                self.now = self.now.max(until);
                return false;
            }
        }
        if let Some(((at, _), event)) = self.events.pop_first() {
            self.now = self.now.max(at);
            self.happens(event);
            self.observe();
        }
        true
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Arrives { connection, said } => self.arrives(connection, said),
            Event::Closed { connection } => self.closed(connection),
            Event::Beat { machine, run } => self.beat(machine, run),
            Event::Wake { machine, run } if self.machines[machine].run == run => {
                self.pump(machine);
            }
            Event::Wake { .. } => {}
            Event::Done {
                machine,
                run,
                action,
                since,
            } => self.done(machine, run, action, since),
            Event::Ends {
                machine,
                instance,
                exit,
            } => self.ends(machine, instance, exit),
            Event::Turns {
                machine,
                instance,
                health,
            } => drop(self.becomes(machine, instance, health)),
            Event::AgentStarts { machine } => self.start_agent(machine),
            Event::Tick { run } => self.tick(run),
            Event::Lead { run } => self.lead(run),
            Event::Synced { run, revision } => self.synced(run, revision),
        }
    }

    /// Holds the invariants against what is now.
    fn observe(&mut self) {
        let newest = self.master.as_ref().map(Master::newest);
        let durable = self.master.as_ref().map(Master::durable);
        self.watch
            .look(newest, durable, &mut self.machines, &self.clients);
    }
}
