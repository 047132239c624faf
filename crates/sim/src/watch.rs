//! What must hold after every event, whatever has gone wrong.
//!
//! - No two runnable instances hold one claim, and no two processes that are not frozen have one
//!   volume, save one that has not heard of a recovery elsewhere. What else moves promise is in [`crate::ledger`].
//! - No node is given more than it has.
//! - An instance never changes node or app, never climbs down, never runs twice, and is never
//!   taken for ended while its process lives.
//! - An instance that goes was reported to have ended as its exit record says.
//! - A node never obeys an assignment older than the one it has, nor one that a crash can take.
//! - No instance begins after its claims were given away.
//! - What a client was told is on disk.

use std::collections::{BTreeMap, BTreeSet};

use model::ids::{Epoch, InstanceId, NodeId, Revision, VolumeId};
use model::instance::{Exit, Goal, Rung, StopCause};
use model::{AppId, Instance, Resources, State};
use node::Link;

use crate::clients::Clients;
use crate::ledger::Ledger;
use crate::machine::Paper;

#[derive(Clone, Debug, Default)]
pub struct Watch {
    pub violations: BTreeSet<String>,
    seen: Option<(Revision, Revision)>,
    started: BTreeSet<InstanceId>,
    obeyed: BTreeMap<usize, (Epoch, Revision)>,
    climbed: BTreeMap<InstanceId, (Rung, NodeId, AppId)>,
    /// What the exit records say, and what the master has.
    exits: BTreeMap<InstanceId, Exit>,
    told: BTreeMap<InstanceId, Option<Exit>>,
    ledger: Ledger,
}

impl Watch {
    /// A process was let go.
    pub fn started(&mut self, id: InstanceId, newest: Option<&State>) {
        let given_up = newest.is_some_and(|state| {
            let goal = state.instance(id).map(|instance| instance.goal);
            matches!(
                goal,
                Some(Goal::Stop {
                    cause: StopCause::NodeLost | StopCause::Recovered,
                    ..
                })
            )
        });
        if given_up {
            self.violations.insert(format!(
                "instance {id} began after its claims were given away"
            ));
        }
        if !self.started.insert(id) {
            self.violations.insert(format!("instance {id} ran twice"));
        }
    }

    /// An agent obeys an assignment.
    pub fn assigned(&mut self, machine: usize, link: Link, revision: Revision, durable: Revision) {
        if revision > durable {
            self.violations.insert(format!(
                "machine {machine} obeyed revision {revision}, and {durable} is durable"
            ));
        }
        let (Link::Assigned { epoch } | Link::Joined { epoch }) = link else {
            return;
        };
        let newest = self.obeyed.entry(machine).or_default();
        if (epoch, revision) < *newest {
            self.violations.insert(format!(
                "machine {machine} obeyed epoch {epoch} revision {revision} after {newest:?}"
            ));
        }
        *newest = (epoch, revision);
    }

    pub fn look(
        &mut self,
        newest: Option<&State>,
        durable: Option<&State>,
        machines: &mut [Paper],
        clients: &Clients,
    ) {
        self.ledger.write(machines, &mut self.violations);
        let machines: &[Paper] = machines;
        let (Some(newest), Some(durable)) = (newest, durable) else {
            self.seen = None;
            return;
        };
        self.processes(durable, machines);
        self.ledger.look(durable, machines, &mut self.violations);
        let now = (newest.revision, durable.revision);
        if self.seen == Some(now) {
            return;
        }
        self.seen = Some(now);
        self.claims(newest);
        self.room(newest);
        self.ladder(durable);
        self.endings(durable);
        self.ledger.read(durable, &mut self.violations);
        self.violations.extend(clients.disagree(durable));
    }

    /// What the kernels say against what the master believes.
    fn processes(&mut self, durable: &State, machines: &[Paper]) {
        let mut writers: BTreeMap<VolumeId, InstanceId> = BTreeMap::new();
        for paper in machines {
            for (id, directory) in &paper.disk.directories {
                if let Some(exit) = directory
                    .exit
                    .as_ref()
                    .filter(|_| self.started.contains(id))
                {
                    self.exits.entry(*id).or_insert_with(|| exit.clone());
                }
            }
            for (id, process) in &paper.kernel.processes {
                if process.since.is_none() || process.frozen {
                    continue;
                }
                if durable.instance(*id).is_some_and(Instance::has_ended) {
                    self.violations
                        .insert(format!("instance {id} runs, though it was seen ended"));
                }
                let assigned = paper.disk.remembered.assignment.whole.instances.get(id);
                for (volume, _) in assigned.iter().flat_map(|a| a.spec.volumes()) {
                    let data = paper.disk.volumes.get(volume);
                    if data.is_some_and(|data| self.ledger.has_strayed(volume, data)) {
                        continue;
                    }
                    if let Some(other) = writers.insert(volume.clone(), *id) {
                        self.violations
                            .insert(format!("{id} and {other} both have volume {volume}"));
                    }
                }
            }
        }
    }

    fn claims(&mut self, state: &State) {
        let mut holders: BTreeMap<String, InstanceId> = BTreeMap::new();
        let runnable = state
            .instances()
            .filter(|i| i.goal != Goal::Prepare && state.is_runnable(i.id));
        for instance in runnable {
            for claim in claims(instance) {
                if let Some(other) = holders.insert(claim.clone(), instance.id) {
                    self.violations
                        .insert(format!("{other} and {} both hold {claim}", instance.id));
                }
            }
        }
    }

    fn room(&mut self, state: &State) {
        let mut used: BTreeMap<NodeId, Resources> = BTreeMap::new();
        for instance in state.instances() {
            let wanted = &instance.spec.resources;
            let sum = used.entry(instance.placement.node).or_default();
            *sum = sum.plus(Resources {
                cpus: wanted.cpus,
                mem: wanted.mem,
                disk: wanted.disk,
            });
        }
        for node in state.nodes() {
            let (sum, has) = (
                used.remove(&node.id).unwrap_or_default(),
                node.machine.resources,
            );
            if sum.cpus > has.cpus || sum.mem > has.mem || sum.disk > has.disk {
                self.violations.insert(format!(
                    "{} has {has:?} and was given {sum:?}",
                    node.machine.name
                ));
            }
            if sum != node.used {
                self.violations.insert(format!(
                    "{} counts {:?} as used, its instances {sum:?}",
                    node.machine.name, node.used
                ));
            }
        }
    }

    fn ladder(&mut self, durable: &State) {
        for instance in durable.instances() {
            let is = (instance.rung, instance.placement.node, instance.app.clone());
            if let Some(was) = self.climbed.insert(instance.id, is.clone())
                && (is.0 < was.0 || (&is.1, &is.2) != (&was.1, &was.2))
            {
                self.violations.insert(format!(
                    "instance {} went from {was:?} to {is:?}",
                    instance.id
                ));
            }
        }
    }
}

impl Watch {
    fn endings(&mut self, durable: &State) {
        for instance in durable.instances() {
            self.told.insert(instance.id, instance.exit.clone());
        }
        let Self {
            told,
            exits,
            violations,
            ..
        } = self;
        told.retain(|id, told| {
            let there = durable.instance(*id).is_some();
            if !there
                && let Some(exit) = exits.remove(id)
                && told.as_ref() != Some(&exit)
            {
                violations.insert(format!("instance {id}: {exit:?}, told was {told:?}"));
            }
            there
        });
    }
}

fn claims(instance: &Instance) -> Vec<String> {
    let placement = &instance.placement;
    let slot = format!("slot {} of {}", instance.slot, instance.app);
    let address = placement.address.map(|a| format!("address {a}"));
    let fixed = placement
        .fixed_addresses
        .iter()
        .map(|fixed| format!("fixed address {}", fixed.address));
    let ports = instance
        .published()
        .map(|(protocol, port, _)| format!("{protocol:?} port {port} of {}", placement.node));
    let volumes = instance
        .spec
        .volumes()
        .map(|(volume, _)| format!("volume {volume}"));
    [slot]
        .into_iter()
        .chain(address)
        .chain(fixed)
        .chain(ports)
        .chain(volumes)
        .collect()
}
