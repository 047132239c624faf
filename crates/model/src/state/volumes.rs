//! Volumes in the state: where each is at home, what nodes see of their copies, and recoveries.

use crate::change::{Change, Touched};
use crate::ids::{Generation, Incarnation, NodeId, VolumeId};
use crate::sighting::VolumeLevel;
use crate::state::State;
use crate::volume::{Copy, CopyRole, Recovery, Volume};

impl State {
    pub(super) fn apply_to_volume(&mut self, change: &Change, touched: &mut Touched) {
        match change {
            Change::VolumePut { volume } => {
                let home = volume.home;
                self.volumes
                    .insert(volume.id.clone(), volume.as_ref().clone());
                touched.volumes.insert(volume.id.clone());
                touched.assignments.extend(home);
            }
            Change::VolumeHome {
                volume,
                home,
                generation,
            } => self.with_volume(volume, touched, |record, touched| {
                record.home = Some(*home);
                record.generation = *generation;
                touched.assignments.insert(*home);
            }),
            Change::VolumeTenant { volume, tenant } => {
                if let Some(record) = self.volumes.get_mut(volume) {
                    record.tenant = tenant.clone();
                    touched.volumes.insert(volume.clone());
                }
            }
            Change::VolumeSeen {
                volume,
                node,
                sighted,
                level,
            } => {
                touched.moves.extend(self.moving_volumes.get(volume));
                self.with_volume(volume, touched, |record, touched| {
                    touched.assignments.insert(*node);
                    seen(record, *node, *sighted, level);
                });
            }
            Change::VolumeRecovered {
                volume,
                home,
                recovery,
            } => self.volume_recovered(volume, *home, recovery, touched),
            Change::VolumeCopyUnwanted { volume, node } => {
                self.with_volume(volume, touched, |record, _| {
                    if let Some(copy) = record.copies.get_mut(node) {
                        copy.unwanted = true;
                    }
                });
            }
            Change::VolumeRemoving { volume, generation } => {
                self.with_volume(volume, touched, |record, _| {
                    record.removing = true;
                    record.generation = *generation;
                    // Its home may have made a copy that it has not told of: it must confirm.
                    if let Some(home) = record.home {
                        let unseen = unseen(*generation);
                        record.copies.entry(home).or_insert(unseen);
                    }
                });
            }
            Change::VolumeRemoved { volume } => {
                if let Some(record) = self.volumes.remove(volume) {
                    touched.assignments.extend(record.home);
                    touched.volumes.insert(volume.clone());
                }
            }
            _ => {}
        }
    }

    /// Changes a volume. What each node is told of it follows from its copies: the first is no
    /// longer fresh, the landed one is to be promoted, the kept ones superseded.
    fn with_volume(
        &mut self,
        id: &VolumeId,
        touched: &mut Touched,
        change: impl FnOnce(&mut Volume, &mut Touched),
    ) {
        if let Some(record) = self.volumes.get_mut(id) {
            touched.assignments.extend(record.home);
            change(record, touched);
            touched.assignments.extend(record.home);
            touched.assignments.extend(record.copies.keys());
            touched.volumes.insert(id.clone());
        }
    }

    pub(super) fn forget_copies(&mut self, node: NodeId, touched: &mut Touched) {
        let there = self.volumes.values();
        let there = there.filter(|volume| volume.copies.contains_key(&node));
        let there: Vec<VolumeId> = there.map(|volume| volume.id.clone()).collect();
        for id in there {
            self.with_volume(&id, touched, |record, _| drop(record.copies.remove(&node)));
        }
    }

    /// What landed elsewhere of volumes at home on a node is kept as long as that is silent.
    pub(super) fn touch_landings(&self, home: NodeId, touched: &mut Touched) {
        for volume in self.volumes.values().filter(|v| v.home == Some(home)) {
            for (node, copy) in &volume.copies {
                if matches!(copy.role, CopyRole::Landing | CopyRole::Landed) {
                    touched.assignments.insert(*node);
                    touched.volumes.insert(volume.id.clone());
                }
            }
        }
    }

    fn volume_recovered(
        &mut self,
        id: &VolumeId,
        home: NodeId,
        recovery: &Recovery,
        touched: &mut Touched,
    ) {
        self.drawn = self.drawn.max((recovery.id.0 as u32).wrapping_add(1));
        self.leave_move(id, touched);
        self.with_volume(id, touched, |record, _| {
            // Whoever wrote it elsewhere holds it no more.
            if record.home != Some(home) {
                record.holding = None;
            }
            record.home = Some(home);
            record.generation = recovery.generation;
            record.recoveries.push(*recovery);
        });
    }
}

/// Notes what a node saw of its copy, unless something newer is known.
fn seen(record: &mut Volume, node: NodeId, sighted: (Incarnation, u64), level: &VolumeLevel) {
    let known = record.copies.get(&node);
    if known.is_some_and(|copy| sighted <= copy.sighted) {
        return;
    }
    let unwanted = known.is_some_and(|copy| copy.unwanted && copy.aside == level.aside);
    match level.role {
        None => drop(record.copies.remove(&node)),
        Some(role) => drop(record.copies.insert(
            node,
            Copy {
                role,
                generation: level.generation,
                movement: level.movement,
                last: level.last,
                snapshots: level.snapshots.clone(),
                took: level.took,
                bytes: level.bytes,
                aside: level.aside.clone(),
                unwanted,
                trouble: level.trouble.clone(),
                sighted,
            },
        )),
    }
}

/// A copy that its node may have, and has not told of.
fn unseen(generation: Generation) -> Copy {
    Copy {
        role: CopyRole::Live,
        generation,
        movement: None,
        last: None,
        snapshots: Default::default(),
        took: None,
        bytes: None,
        aside: None,
        unwanted: false,
        trouble: None,
        sighted: Default::default(),
    }
}
