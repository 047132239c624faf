//! What volumes must never lose, and what moves must never do.
//!
//! - Every write that was acknowledged is in the copy of its volume's home, durable, at every
//!   instant: live there, sealed there, or landed there.
//! - Nothing is acknowledged on a copy that lacks an earlier write, nor on one that is not its
//!   node's to write.
//! - Generations never fall, and none has two homes.
//! - A move's phases go forward, or to abandon; after the hand-over never to that.

use std::collections::{BTreeMap, BTreeSet};

use model::ids::{Generation, MoveId, NodeId, VolumeId};
use model::{CopyRole, State, Time};

use crate::machine::Paper;

#[derive(Clone, Debug, Default)]
pub struct Ledger {
    acknowledged: BTreeMap<VolumeId, u64>,
    /// By volume and when it was made: the name may be used again.
    homes: BTreeMap<(VolumeId, Time), BTreeMap<Generation, NodeId>>,
    phases: BTreeMap<MoveId, (u32, Option<u32>)>,
}

impl Ledger {
    /// Every process that runs acknowledges one more write on each of its volumes.
    pub fn write(&mut self, machines: &mut [Paper], violations: &mut BTreeSet<String>) {
        for paper in machines {
            for (id, process) in &paper.kernel.processes {
                if process.since.is_none() || process.frozen {
                    continue;
                }
                let assigned = paper.disk.remembered.assignment.whole.instances.get(id);
                for (volume, _) in assigned.iter().flat_map(|a| a.spec.volumes()) {
                    let Some(data) = paper.disk.volumes.get_mut(volume) else {
                        continue;
                    };
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
            }
        }
    }

    pub fn look(&mut self, durable: &State, machines: &[Paper], violations: &mut BTreeSet<String>) {
        self.acknowledged
            .retain(|id, _| durable.volume(id).is_some_and(|v| !v.removing));
        self.homes.retain(|(id, _), _| durable.volume(id).is_some());
        for (id, known) in &self.acknowledged {
            let home = durable.volume(id).and_then(|volume| volume.home);
            let home = home.and_then(|home| durable.node(home));
            let paper = machines
                .iter()
                .find(|paper| home.is_some_and(|home| home.machine.name == paper.machine.name));
            let data = paper.and_then(|paper| paper.disk.volumes.get(id));
            let safe = data.and_then(|data| data.safe());
            if safe.is_none_or(|safe| safe < *known) {
                violations.insert(format!(
                    "{known} writes of {id} were acknowledged, and its home has {safe:?}"
                ));
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
