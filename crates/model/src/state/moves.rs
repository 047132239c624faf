//! Moves in the state: their records, who is part of which, and the hand-over; and what nodes see
//! of their copies.

use std::collections::BTreeMap;

use crate::change::Touched;
use crate::ids::{AppId, Generation, Incarnation, InstanceId, MoveId, NodeId, VolumeId};
use crate::instance::{Goal, StopCause};
use crate::movement::{Move, Phase, Reason};
use crate::sighting::VolumeLevel;
use crate::state::State;
use crate::time::{Millis, Time};
use crate::volume::Copy;

impl State {
    pub fn movement(&self, id: MoveId) -> Option<&Move> {
        self.moves.get(&id)
    }

    pub fn moves(&self) -> impl Iterator<Item = &Move> {
        self.moves.values()
    }

    pub fn move_of_app(&self, app: &AppId) -> Option<&Move> {
        self.movement(*self.moving_apps.get(app)?)
    }

    pub fn move_of_volume(&self, volume: &VolumeId) -> Option<&Move> {
        self.movement(*self.moving_volumes.get(volume)?)
    }

    pub(super) fn put_move(&mut self, movement: Move) {
        if let Some(app) = &movement.app {
            self.moving_apps.insert(app.clone(), movement.id);
        }
        for volume in movement.volumes.keys() {
            self.moving_volumes.insert(volume.clone(), movement.id);
        }
        self.moves.insert(movement.id, movement);
    }

    pub(super) fn move_began(&mut self, movement: &Move, touched: &mut Touched) {
        self.drawn = self.drawn.max((movement.id.0 as u32).wrapping_add(1));
        self.put_move(movement.clone());
        touch(touched, movement);
    }

    pub(super) fn with_move(
        &mut self,
        id: MoveId,
        touched: &mut Touched,
        change: impl FnOnce(&mut Move),
    ) {
        if let Some(movement) = self.moves.get_mut(&id) {
            change(movement);
            touch(touched, movement);
        }
    }

    pub(super) fn move_abandoned(&mut self, id: MoveId, reason: &Reason, touched: &mut Touched) {
        self.with_move(id, touched, |movement| {
            // Whoever came first has decided: what was handed over is not given back.
            if movement.phase.is_open() {
                let sealed = matches!(movement.phase, Phase::Seal { .. } | Phase::Finish { .. });
                movement.phase = Phase::Abandon {
                    reason: reason.clone(),
                    sealed,
                };
            }
        });
    }

    pub(super) fn handed_over(&mut self, id: MoveId, deadline: Time, touched: &mut Touched) {
        let finish = |m: &&Move| matches!(m.phase, Phase::Finish { .. });
        let Some(movement) = self.movement(id).filter(finish).cloned() else {
            return;
        };
        let heir = movement.heir;
        let mut holders: Vec<InstanceId> = Vec::new();
        for (volume, parcel) in &movement.volumes {
            if let Some(record) = self.volumes.get_mut(volume) {
                record.generation = Generation(parcel.generation.0 + 1);
                record.home = Some(movement.to);
                holders.extend(record.holding.map(|held| held.holder));
                touched.assignments.extend(record.copies.keys());
            }
        }
        holders.retain(|holder| Some(*holder) != heir);
        holders.dedup();
        for holder in holders {
            self.change_instance(holder, touched, |instance| {
                instance.goal = Goal::Stop {
                    cause: StopCause::Moved,
                    grace: Millis(0),
                };
            });
        }
        if let Some(heir) = heir.and_then(|heir| self.instance(heir)).cloned() {
            self.hand_over_claims(&heir);
            self.change_instance(heir.id, touched, |instance| {
                if instance.goal == Goal::Prepare {
                    instance.goal = Goal::Run;
                }
            });
        }
        self.with_move(id, touched, |movement| {
            if let Phase::Finish { round } = movement.phase {
                movement.phase = Phase::Resume { round };
                movement.deadline = deadline;
            }
        });
    }

    pub(super) fn move_ended(&mut self, id: MoveId, touched: &mut Touched) {
        let Some(movement) = self.moves.remove(&id) else {
            return;
        };
        if let Some(app) = &movement.app {
            self.moving_apps.remove(app);
        }
        for volume in movement.volumes.keys() {
            self.moving_volumes.remove(volume);
            let copies = self.volumes.get(volume).map(|volume| &volume.copies);
            touched
                .assignments
                .extend(copies.into_iter().flat_map(|copies| copies.keys()));
        }
        touch(touched, &movement);
        // A node that is being drained may send the next one.
        touched.freed.extend([movement.from, movement.to]);
    }
}

fn touch(touched: &mut Touched, movement: &Move) {
    touched.moves.insert(movement.id);
    touched.apps.extend(movement.app.clone());
    touched.volumes.extend(movement.volumes.keys().cloned());
    touched.assignments.extend([movement.from, movement.to]);
}

/// Notes what a node saw of its copy, unless something newer is known.
pub(super) fn seen_copy(
    copies: &mut BTreeMap<NodeId, Copy>,
    node: NodeId,
    sighted: (Incarnation, u64),
    level: &VolumeLevel,
) {
    if copies
        .get(&node)
        .is_some_and(|copy| sighted <= copy.sighted)
    {
        return;
    }
    match level.role {
        None => drop(copies.remove(&node)),
        Some(role) => drop(copies.insert(
            node,
            Copy {
                role,
                generation: level.generation,
                movement: level.movement,
                last: level.last,
                snapshots: level.snapshots.clone(),
                took: level.took,
                trouble: level.trouble.clone(),
                sighted,
            },
        )),
    }
}
