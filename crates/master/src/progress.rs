//! How far the volumes of moves are, as their targets said last. In memory only: a new leader
//! hears it within a second.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use model::session::Arriving;
use model::{Millis, MoveId, NodeId, State, VolumeId};

/// What of a move has arrived at its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// Of all its volumes and rounds.
    pub bytes: u64,
    /// Of the newest round.
    pub bytes_per_second: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Progress(Mutex<BTreeMap<VolumeId, Rounds>>);

/// Of a volume's newest move.
#[derive(Debug)]
struct Rounds {
    movement: MoveId,
    rounds: BTreeMap<u32, (u64, Millis)>,
}

impl Progress {
    /// Takes what the target of a move says of it, and forgets the moves that are over.
    pub fn heard(&self, state: &State, node: NodeId, arriving: Vec<Arriving>) {
        let mut volumes = self.volumes();
        volumes.retain(|_, known| state.movement(known.movement).is_some());
        for it in arriving {
            let movement = it.snapshot.movement;
            let is_told = |m: &model::Move| m.to == node && m.volumes.contains_key(&it.volume);
            if !state.movement(movement).is_some_and(is_told) {
                continue;
            }
            let none = || Rounds {
                movement,
                rounds: BTreeMap::new(),
            };
            let known = volumes.entry(it.volume).or_insert_with(none);
            if known.movement != movement {
                *known = none();
            }
            known.rounds.insert(it.snapshot.round, (it.bytes, it.took));
        }
    }

    /// `None`: nothing has.
    pub fn of(&self, movement: &model::Move) -> Option<Arrived> {
        let volumes = self.volumes();
        let of_it = movement.volumes.keys().filter_map(|id| volumes.get(id));
        let of_it: Vec<&Rounds> = of_it.filter(|it| it.movement == movement.id).collect();
        let newest = of_it
            .iter()
            .filter_map(|it| it.rounds.keys().last())
            .max()?;
        let all = of_it.iter().flat_map(|it| it.rounds.values());
        let newest = of_it.iter().filter_map(|it| it.rounds.get(newest));
        Some(Arrived {
            bytes: all.map(|(bytes, _)| bytes).sum(),
            bytes_per_second: newest
                .map(|(bytes, took)| bytes.saturating_mul(1000) / took.0.max(1))
                .sum(),
        })
    }

    fn volumes(&self) -> MutexGuard<'_, BTreeMap<VolumeId, Rounds>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
