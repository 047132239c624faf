//! What volumes must never lose, and what moves must never do.
//!
//! - Every write that was acknowledged is in the copy of its volume's home, durable, at every
//!   instant: live there, sealed there, or landed there.
//! - Nothing is acknowledged on a copy that lacks an earlier write, nor on one that is not its
//!   node's to write.
//! - What a recovery gives up is lost to nobody: what its node had, and may go on writing for as
//!   long as it does not hear, stays there until a command names it.
//! - Generations never fall, and none has two homes.
//! - A move's phases go forward, or to abandon; after the hand-over never to that.

use std::collections::{BTreeMap, BTreeSet};

use model::ids::{Generation, InstanceId, MoveId, NodeId, VolumeId};
use model::volume::RoleFile;
use model::{CopyRole, Recovery, State, Time, Volume};

use crate::data::Data;
use crate::machine::Paper;

#[derive(Clone, Debug, Default)]
pub struct Ledger {
    acknowledged: BTreeMap<VolumeId, u64>,
    /// The newest recovery of each volume.
    recovered: BTreeMap<VolumeId, Recovery>,
    /// What a machine has of a volume that the truth lacks.
    strays: BTreeMap<(VolumeId, usize), u64>,
    /// By volume and when it was made: the name may be used again.
    homes: BTreeMap<(VolumeId, Time), BTreeMap<Generation, NodeId>>,
    phases: BTreeMap<MoveId, (u32, Option<u32>)>,
}

impl Ledger {
    /// Every process that runs acknowledges one more write on each of its volumes.
    pub fn write(&mut self, machines: &mut [Paper], violations: &mut BTreeSet<String>) {
        for (machine, paper) in machines.iter_mut().enumerate() {
            for (id, process) in &paper.kernel.processes {
                if process.since.is_none() || process.frozen {
                    continue;
                }
                let assigned = paper.disk.remembered.assignment.whole.instances.get(id);
                for (volume, _) in assigned.iter().flat_map(|a| a.spec.volumes()) {
                    let Some(data) = paper.disk.volumes.get_mut(volume) else {
                        continue;
                    };
                    match self.has_strayed(volume, data) {
                        true => self.write_astray(machine, volume, data),
                        false => self.write_one(*id, volume, data, violations),
                    }
                }
            }
        }
    }

    fn write_one(
        &mut self,
        id: InstanceId,
        volume: &VolumeId,
        data: &mut Data,
        violations: &mut BTreeSet<String>,
    ) {
        let role = data.file.map(|file| file.role);
        if !matches!(role, Some(CopyRole::Live | CopyRole::Sealed)) {
            violations.insert(format!("{id} writes {volume}, which is {role:?}"));
        }
        let known = self.acknowledged.entry(volume.clone()).or_insert(0);
        let content = data.live.get_or_insert(0);
        if *content != *known {
            violations.insert(format!(
                "{id} has {content} writes of {volume}, and {known} were acknowledged"
            ));
        }
        *content += 1;
        *known = *content;
    }

    /// Whoever gave up the machine was told that its clients may still be answered.
    fn write_astray(&mut self, machine: usize, volume: &VolumeId, data: &mut Data) {
        if let Some(content) = &mut data.live {
            *content += 1;
            self.strays.insert((volume.clone(), machine), *content);
        }
    }

    /// Whether a machine writes on though the volume was recovered elsewhere.
    pub fn has_strayed(&self, volume: &VolumeId, data: &Data) -> bool {
        let recovery = self.recovered.get(volume);
        let older = |file: RoleFile| recovery.is_some_and(|r| file.generation < r.generation);
        data.file.is_some_and(older)
    }

    pub fn look(&mut self, durable: &State, machines: &[Paper], violations: &mut BTreeSet<String>) {
        let there = |id: &VolumeId| durable.volume(id).is_some_and(|v| !v.removing);
        self.acknowledged.retain(|id, _| there(id));
        self.recovered.retain(|id, _| there(id));
        self.homes.retain(|(id, _), _| durable.volume(id).is_some());
        for volume in durable.volumes() {
            self.go_on(durable, volume, machines);
        }
        for (id, known) in &self.acknowledged {
            let volume = durable.volume(id);
            let paper = volume
                .and_then(|volume| volume.home)
                .and_then(|home| machines.get(machine_of(durable, home, machines)?));
            let data = paper.and_then(|paper| paper.disk.volumes.get(id));
            let recovery = volume.and_then(Volume::recovery);
            // What was only landing is chosen by a recovery alone.
            let chosen = || data?.synced(recovery?.snapshot);
            let safe = data.and_then(|data| data.safe()).or_else(chosen);
            if safe.is_none_or(|safe| safe < *known) {
                violations.insert(format!(
                    "{known} writes of {id} were acknowledged, and its home has {safe:?}"
                ));
            }
        }
        self.strays.retain(|(id, machine), stray| {
            let named = is_named(durable, id, *machine, machines);
            let data = machines[*machine].disk.volumes.get(id);
            let safe = data.and_then(|data| data.safe());
            if !named && safe.is_none_or(|safe| safe < *stray) {
                violations.insert(format!(
                    "machine {machine} had {stray} writes of {id}, and has {safe:?}"
                ));
            }
            !named
        });
    }

    /// After a recovery the truth is what was chosen; whatever is newer has strayed.
    fn go_on(&mut self, durable: &State, volume: &Volume, machines: &[Paper]) {
        let Some(recovery) = volume.recovery().filter(|_| !volume.removing) else {
            return;
        };
        let known = self.recovered.insert(volume.id.clone(), *recovery);
        let home = volume
            .home
            .and_then(|home| machine_of(durable, home, machines));
        let Some(home) = home.filter(|_| known != Some(*recovery)) else {
            return;
        };
        let chosen = machines[home].disk.volumes.get(&volume.id);
        let chosen = chosen.and_then(|data| data.snapshots.get(&recovery.snapshot));
        let chosen = chosen.map_or(0, |held| held.content);
        self.acknowledged.insert(volume.id.clone(), chosen);
        for (machine, paper) in machines.iter().enumerate().filter(|(n, _)| *n != home) {
            let data = paper.disk.volumes.get(&volume.id);
            if let Some(safe) = data.and_then(Data::safe).filter(|safe| *safe > chosen) {
                self.strays.insert((volume.id.clone(), machine), safe);
            }
        }
    }

    /// As [`Ledger::look`], for what changes only with the state.
    pub fn read(&mut self, durable: &State, violations: &mut BTreeSet<String>) {
        for volume in durable.volumes() {
            let Some(home) = volume.home else { continue };
            let made = (volume.id.clone(), volume.created);
            let homes = self.homes.entry(made).or_default();
            if homes
                .last_key_value()
                .is_some_and(|(g, _)| *g > volume.generation)
            {
                violations.insert(format!("the generation of {} fell", volume.id));
            }
            let known = *homes.entry(volume.generation).or_insert(home);
            if known != home {
                violations.insert(format!(
                    "generation {} of {} was at {known} and is at {home}",
                    volume.generation, volume.id
                ));
            }
        }
        for movement in durable.moves() {
            let now = (movement.phase.rank(), movement.phase.round());
            let was = self.phases.insert(movement.id, now).unwrap_or_default();
            let past = (5..7).contains(&was.0);
            if now.0 < was.0 || (past && now.0 == 7) || (now.0 == was.0 && now.1 < was.1) {
                violations.insert(format!("{} went from {was:?} to {now:?}", movement.id));
            }
        }
    }
}

fn machine_of(durable: &State, node: NodeId, machines: &[Paper]) -> Option<usize> {
    let name = &durable.node(node)?.machine.name;
    machines
        .iter()
        .position(|paper| paper.machine.name == *name)
}

/// Whether somebody asked for the removal of what a machine has of a volume, or of all of it.
fn is_named(durable: &State, id: &VolumeId, machine: usize, machines: &[Paper]) -> bool {
    let Some(volume) = durable.volume(id).filter(|volume| !volume.removing) else {
        return true;
    };
    let unwanted = |(node, copy): (&NodeId, &model::Copy)| {
        copy.unwanted && machine_of(durable, *node, machines) == Some(machine)
    };
    volume.copies.iter().any(unwanted)
}
