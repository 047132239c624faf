//! Moves in the state: their records, who is part of which, and the hand-over.

use crate::change::Touched;
use crate::ids::{AppId, Generation, InstanceId, MoveId, VolumeId};
use crate::instance::{Goal, StopCause};
use crate::movement::{Move, Phase, Reason};
use crate::state::State;
use crate::time::{Millis, Time};
use crate::volume::{Snapshot, Volume};

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
        let (heir, now) = (movement.heir, self.now);
        let last = movement.phase.round().map(|round| movement.snapshot(round));
        let mut holders: Vec<InstanceId> = Vec::new();
        for (volume, parcel) in &movement.volumes {
            if let Some(record) = self.volumes.get_mut(volume) {
                record.generation = Generation(parcel.generation.0 + 1);
                record.home = Some(movement.to);
                leave_behind(record, last, now);
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

    /// Takes a volume out of the move that it is part of, which is over when none is left.
    pub(super) fn leave_move(&mut self, volume: &VolumeId, touched: &mut Touched) {
        let Some(id) = self.moving_volumes.remove(volume) else {
            return;
        };
        self.with_move(id, touched, |movement| {
            movement.volumes.remove(volume);
        });
        if self.movement(id).is_some_and(|m| m.volumes.is_empty()) {
            self.move_ended(id, touched);
        }
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

/// Remembers since when a snapshot is no longer the newest state.
fn leave_behind(record: &mut Volume, last: Option<Snapshot>, now: Time) {
    let Volume { copies, left, .. } = record;
    left.retain(|snapshot, _| {
        copies
            .values()
            .any(|copy| copy.snapshots.contains(snapshot))
    });
    left.extend(last.map(|last| (last, now)));
}
