//! What each node of a move is to do, derived from the record: a phase is an order to the source
//! and one to the target.

use std::net::SocketAddrV4;

use model::ids::{MoveId, NodeId};
use model::movement::{Move, Phase};
use model::volume::{Source, VolumeOrder};
use model::{Copy, CopyRole, Presence, Snapshot, State, Volume};

/// What the node is to do about a volume; nothing where it has no business with it.
pub(crate) fn order(state: &State, volume: &Volume, node: NodeId) -> Option<VolumeOrder> {
    if volume.removing {
        return volume
            .copies
            .contains_key(&node)
            .then_some(VolumeOrder::Remove {
                generation: volume.generation,
            });
    }
    let movement = state.move_of_volume(&volume.id);
    let moving = match movement {
        Some(movement) if movement.from == node => to_source(movement, volume, state),
        Some(movement) if movement.to == node => to_target(movement, volume, state),
        Some(_) | None => None,
    };
    moving.or_else(|| at_rest(state, volume, node))
}

fn to_source(movement: &Move, volume: &Volume, state: &State) -> Option<VolumeOrder> {
    let parcel = movement.volumes.get(&volume.id)?;
    let (generation, to) = (parcel.generation, movement.to);
    match movement.phase {
        Phase::Seed { round } | Phase::Ready { round } => Some(VolumeOrder::Seed {
            generation,
            size: volume.size,
            to,
            snapshot: movement.snapshot(round),
            base: movement.base(parcel, round),
            hook: matches!(movement.phase, Phase::Ready { .. }) && has_hook(movement, state),
        }),
        Phase::Seal { round } | Phase::Finish { round } => Some(VolumeOrder::Seal {
            generation,
            to,
            snapshot: movement.snapshot(round),
            base: movement.base(parcel, round),
        }),
        Phase::Abandon { .. } => Some(VolumeOrder::Unseal {
            generation,
            size: volume.size,
            movement: movement.id,
        }),
        Phase::Reserve | Phase::Resume { .. } | Phase::Settle { .. } => None,
    }
}

fn has_hook(movement: &Move, state: &State) -> bool {
    let app = movement.app.as_ref().and_then(|app| state.app(app));
    movement.heir.is_some() && app.is_some_and(|app| app.spec.move_hook().is_some())
}

fn to_target(movement: &Move, volume: &Volume, state: &State) -> Option<VolumeOrder> {
    let parcel = movement.volumes.get(&volume.id)?;
    let (round, last) = match movement.phase {
        Phase::Reserve => (None, false),
        Phase::Seed { round } | Phase::Ready { round } => (Some(round), false),
        // Asked for before it exists, so that nobody waits for a word between the two.
        Phase::Seal { round } | Phase::Finish { round } => (Some(round), true),
        Phase::Resume { .. } | Phase::Settle { .. } | Phase::Abandon { .. } => return None,
    };
    let source = state.node(movement.from)?;
    Some(VolumeOrder::Land {
        generation: parcel.generation,
        movement: movement.id,
        from: Source {
            node: source.id,
            address: SocketAddrV4::new(source.machine.address, source.machine.stream_port),
        },
        snapshot: round.map(|round| movement.snapshot(round)),
        base: round.and_then(|round| movement.base(parcel, round)),
        last,
        // Later rounds are what changed meanwhile.
        needed: if round == Some(0) { parcel.needed } else { 0 },
    })
}

/// Between moves, and for nodes that a move has left behind.
fn at_rest(state: &State, volume: &Volume, node: NodeId) -> Option<VolumeOrder> {
    let (generation, size) = (volume.generation, volume.size);
    let copy = volume.copies.get(&node);
    if volume.home == Some(node) {
        return Some(match copy.and_then(|copy| ready_to_go_live(volume, copy)) {
            Some((movement, snapshot)) => VolumeOrder::Promote {
                generation,
                size,
                movement,
                snapshot,
            },
            None => VolumeOrder::Live {
                generation,
                size,
                // Only what never was anywhere may be made; a lost copy must not be replaced by
                // an empty one.
                fresh: volume.copies.is_empty() && volume.recoveries.is_empty(),
            },
        });
    }
    let copy = copy?;
    match copy.role {
        // Data that the truth may lack goes by name only.
        CopyRole::Aside => {
            let aside = copy.aside.as_ref().filter(|_| copy.unwanted);
            Some(match aside {
                Some(aside) => VolumeOrder::Clear {
                    generation,
                    aside: aside.name.clone(),
                },
                None => VolumeOrder::SetAside { generation },
            })
        }
        _ if volume.has_strayed(copy) => Some(VolumeOrder::SetAside { generation }),
        CopyRole::Sealed => copy.movement.map(|movement| VolumeOrder::Keep {
            generation,
            movement,
        }),
        // It may be all that is left of the newest state.
        CopyRole::Landing | CopyRole::Landed if !is_safe_at_home(state, volume) => None,
        // What it had before the move that was abandoned is still good.
        CopyRole::Landing | CopyRole::Landed if had_before(copy) => {
            copy.movement.map(|movement| VolumeOrder::Keep {
                generation,
                movement,
            })
        }
        CopyRole::Landing | CopyRole::Landed => Some(VolumeOrder::Discard { generation }),
        CopyRole::Kept
            if state.move_of_volume(&volume.id).is_none() && is_superseded(volume, copy) =>
        {
            Some(VolumeOrder::Discard { generation })
        }
        CopyRole::Kept | CopyRole::Live => None,
    }
}

/// What the home is to go on with, when it has not gone live yet: what landed, or, after a
/// recovery, the snapshot that was chosen.
fn ready_to_go_live(volume: &Volume, copy: &Copy) -> Option<(MoveId, Snapshot)> {
    match (volume.recovery(), copy.role) {
        (_, CopyRole::Live) => None,
        (Some(recovery), _) => Some((recovery.id, recovery.snapshot)),
        (None, CopyRole::Landed) => Some((copy.movement?, copy.last?)),
        (None, _) => None,
    }
}

/// Whether nothing newer than what is live at home can be anywhere else: no move goes on, and the
/// home is here and has it.
fn is_safe_at_home(state: &State, volume: &Volume) -> bool {
    let home = volume.home.and_then(|home| state.node(home));
    let here = home.filter(|home| home.presence == Presence::Here);
    let copy = here.and_then(|home| volume.copies.get(&home.id));
    state.move_of_volume(&volume.id).is_none() && copy.is_some_and(|copy| is_newest(volume, copy))
}

fn is_newest(volume: &Volume, copy: &Copy) -> bool {
    copy.role == CopyRole::Live && copy.generation == volume.generation
}

/// Whether a target has a snapshot from before the move that it obeyed last.
fn had_before(copy: &Copy) -> bool {
    let older = |snapshot: &Snapshot| Some(snapshot.movement) != copy.movement;
    copy.snapshots.iter().any(older)
}

/// Whether a newer copy is kept elsewhere, and the newest is live at home.
fn is_superseded(volume: &Volume, copy: &Copy) -> bool {
    let home = volume.home.and_then(|home| volume.copies.get(&home));
    let newer = |other: &Copy| {
        other.role == CopyRole::Kept && other.last > copy.last && !volume.has_strayed(other)
    };
    home.is_some_and(|home| is_newest(volume, home)) && volume.copies.values().any(newer)
}
