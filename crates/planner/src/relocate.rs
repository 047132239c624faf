//! Moves: one step at a time, by what the nodes have seen.
//!
//! *Flow* is in [`model::movement`]. A turn looks at the newest sightings and either enters the
//! next phase, waits for its deadline, or abandons; what each node is to do in a phase is derived
//! from the record ([`order`]).
//!
//! *Guarantees.* Handed over only when the last snapshot of every volume landed at the target, in
//! this move and under this generation: only a sealed source gives it, whether or not it can say
//! so itself. Abandoned only before that, and only over when the source has obeyed the word that it is live again (or was never
//! told to seal). From ready to finish nothing else starts or stops the app's instances.
//!
//! *Assumptions.* A sighting of a role follows what the node has on disk; a node obeys
//! assignments in order.

mod begin;
mod order;

use model::ids::{InstanceId, MoveId, NodeId};
use model::instance::{Goal, StopCause};
use model::movement::{Move, Parcel, Phase, Reason};
use model::time::{Millis, Time};
use model::{Change, Copy, CopyRole, Draft, Instance, Presence, RecordedInstance, State};
use scheduler::Wish;

pub use begin::Plan;
pub(crate) use begin::{begin, drain, evade, plan};
pub(crate) use order::order;

use crate::leader::{Agenda, Subject};
use crate::{rollout, start, stop};

/// Rounds at most while the app runs, the one after the hook included.
const ROUNDS: u32 = 8;
/// A round this short is followed by the last.
const SHORT: Millis = Millis(150);
/// How long the app has to stay well at the target.
const SETTLE: Millis = Millis::seconds(5);

/// A move's turn.
pub(crate) fn advance(agenda: &mut Agenda, draft: &mut Draft, id: MoveId) {
    let Some(movement) = draft.state().movement(id).cloned() else {
        return;
    };
    match next(draft.state(), &movement) {
        Next::Wait => agenda.remind(movement.deadline, Subject::Move(id)),
        Next::Enter(phase) => enter(draft, &movement, phase),
        Next::Prepare { round } => prepare(draft, &movement, round),
        Next::HandOver => draft.apply(Change::HandedOver {
            movement: id,
            deadline: draft.now() + Millis::seconds(60),
        }),
        Next::Abandon(reason) => {
            abandon(draft, id, reason);
        }
        Next::End => {
            if let (Phase::Abandon { .. }, Some(app)) = (&movement.phase, &movement.app) {
                agenda.rest(app.clone(), draft.now());
            }
            draft.apply(Change::MoveEnded { movement: id });
        }
    }
}

enum Next {
    Wait,
    Enter(Phase),
    /// Enter *ready*, with an heir if anything runs.
    Prepare {
        round: u32,
    },
    HandOver,
    Abandon(Reason),
    End,
}

/// What the sightings say. Progress comes before obstacles: what is done is done.
fn next(state: &State, movement: &Move) -> Next {
    let open = movement.phase.is_open();
    if let Some(reason) = void(state, movement).filter(|_| open) {
        return Next::Abandon(reason);
    }
    if let Some(next) = progress(state, movement) {
        return next;
    }
    if let Some(reason) = obstacle(state, movement).filter(|_| open) {
        return Next::Abandon(reason);
    }
    let late = movement.deadline <= state.now;
    match &movement.phase {
        Phase::Resume { .. } if late => Next::End,
        phase if late && open => Next::Abandon(Reason::Deadline(phase.to_string())),
        _ => Next::Wait,
    }
}

fn progress(state: &State, movement: &Move) -> Option<Next> {
    let sides = Sides { state, movement };
    match movement.phase {
        Phase::Reserve => (sides.source(|copy, parcel| {
            copy.role == CopyRole::Live && copy.generation == parcel.generation
        }) && sides.target(|copy, _| copy.role == CopyRole::Landing))
        .then_some(Next::Enter(Phase::Seed { round: 0 })),
        Phase::Seed { round } if sides.arrived(round) => {
            let again = round + 2 < ROUNDS && is_worth_another(&sides, movement);
            match again {
                true => Some(Next::Enter(Phase::Seed { round: round + 1 })),
                false => ready(state, movement, round + 1),
            }
        }
        Phase::Ready { round } => (sides.arrived(round) && is_heir_ready(state, movement))
            .then_some(Next::Enter(Phase::Seal { round: round + 1 })),
        Phase::Seal { round } => (sides.sealed(round) || sides.landed(round))
            .then_some(Next::Enter(Phase::Finish { round })),
        Phase::Finish { round } => {
            let there = is_here(state, movement.to);
            (there && sides.landed(round)).then_some(Next::HandOver)
        }
        Phase::Resume { round } => (sides.promoted() && is_well(state, movement))
            .then_some(Next::Enter(Phase::Settle { round })),
        Phase::Settle { .. } => (movement.deadline <= state.now).then_some(Next::End),
        Phase::Abandon { sealed, .. } => {
            let never_told = !sealed && !is_here(state, movement.from);
            (never_told || sides.unsealed()).then_some(Next::End)
        }
        Phase::Seed { .. } => None,
    }
}

/// The last round before the seal: an heir if something runs, once it is clear whether it does.
fn ready(state: &State, movement: &Move, round: u32) -> Option<Next> {
    let leaving = holder(state, movement).is_some_and(|holder| holder.goal.is_stop());
    (!leaving).then_some(Next::Prepare { round })
}

/// What makes a move pointless, however far it has come.
fn void(state: &State, movement: &Move) -> Option<Reason> {
    if let Some(app) = &movement.app {
        match state.app(app) {
            Some(app) if !app.removing => {}
            _ => return Some(Reason::AppRemoved),
        }
    }
    let heir = movement.heir?;
    let heir = state.instance(heir);
    let lives = heir.is_some_and(|heir| heir.goal == Goal::Prepare && !heir.has_ended());
    (!lives).then_some(Reason::HeirLost)
}

fn obstacle(state: &State, movement: &Move) -> Option<Reason> {
    if !is_here(state, movement.to) {
        return Some(Reason::TargetLost);
    }
    let sealing = matches!(movement.phase, Phase::Seal { .. } | Phase::Finish { .. });
    if !sealing && !is_here(state, movement.from) {
        return Some(Reason::SourceLost);
    }
    movement.volumes.keys().find_map(|volume| {
        let copy = state.volume(volume)?.copies.get(&movement.to)?;
        let ours = copy.movement == Some(movement.id);
        let trouble = copy.trouble.clone().filter(|_| ours)?;
        Some(Reason::Trouble(trouble))
    })
}

fn is_here(state: &State, node: NodeId) -> bool {
    state
        .node(node)
        .is_some_and(|node| node.presence == Presence::Here)
}

/// What both nodes were last seen to have of each volume.
struct Sides<'a> {
    state: &'a State,
    movement: &'a Move,
}

impl Sides<'_> {
    fn all(&self, node: NodeId, holds: impl Fn(&Copy, &Parcel) -> bool) -> bool {
        self.movement.volumes.iter().all(|(id, parcel)| {
            let volume = self.state.volume(id);
            let copy = volume.and_then(|volume| volume.copies.get(&node));
            copy.is_some_and(|copy| holds(copy, parcel))
        })
    }

    fn source(&self, holds: impl Fn(&Copy, &Parcel) -> bool) -> bool {
        self.all(self.movement.from, holds)
    }

    /// At the target, of this move under this generation.
    fn target(&self, holds: impl Fn(&Copy, &Parcel) -> bool) -> bool {
        let id = self.movement.id;
        self.all(self.movement.to, |copy, parcel| {
            copy.movement == Some(id) && copy.generation == parcel.generation && holds(copy, parcel)
        })
    }

    fn arrived(&self, round: u32) -> bool {
        let snapshot = self.movement.snapshot(round);
        self.target(|copy, _| copy.snapshots.contains(&snapshot))
    }

    fn sealed(&self, round: u32) -> bool {
        let snapshot = self.movement.snapshot(round);
        self.source(|copy, parcel| {
            copy.role == CopyRole::Sealed
                && copy.movement == Some(self.movement.id)
                && copy.generation == parcel.generation
                && copy.snapshots.contains(&snapshot)
        })
    }

    fn landed(&self, round: u32) -> bool {
        let snapshot = self.movement.snapshot(round);
        self.target(|copy, _| copy.role == CopyRole::Landed && copy.last == Some(snapshot))
    }

    fn promoted(&self) -> bool {
        self.all(self.movement.to, |copy, parcel| {
            copy.role == CopyRole::Live && copy.generation > parcel.generation
        })
    }

    fn unsealed(&self) -> bool {
        let id = self.movement.id;
        self.source(|copy, _| copy.role == CopyRole::Live && copy.movement == Some(id))
    }

    /// How long the newest round took at the slowest volume.
    fn took(&self) -> Option<Millis> {
        let volumes = self.movement.volumes.keys();
        let copies = volumes.filter_map(|id| self.state.volume(id)?.copies.get(&self.movement.to));
        copies.filter_map(|copy| copy.took).max()
    }
}

/// Whether what changed during the newest round is too much for the last one, and shrinking.
fn is_worth_another(sides: &Sides, movement: &Move) -> bool {
    let Some(took) = sides.took() else {
        return false;
    };
    let shrinks = movement
        .took
        .is_none_or(|before| took.0 * 10 < before.0 * 8);
    took >= SHORT && shrinks
}

/// The instance that writes the move's volumes, other than the heir.
fn holder<'a>(state: &'a State, movement: &Move) -> Option<&'a Instance> {
    movement.volumes.keys().find_map(|volume| {
        let holder = state.volume(volume)?.holding?.holder;
        let holder = state.instance(holder)?;
        (Some(holder.id) != movement.heir && !holder.has_ended()).then_some(holder)
    })
}

/// Nobody waits for an heir's image while nothing runs: the outage would only be longer.
fn is_heir_ready(state: &State, movement: &Move) -> bool {
    let heir = movement.heir.and_then(|heir| state.instance(heir));
    heir.is_none_or(Instance::is_prepared) || holder(state, movement).is_none()
}

/// Whether the app has at the target what it is to have.
fn is_well(state: &State, movement: &Move) -> bool {
    let app = movement.app.as_ref().and_then(|app| state.app(app));
    app.is_none_or(|app| app.removing || rollout::ready(app) >= app.spec.instances)
}

fn enter(draft: &mut Draft, movement: &Move, phase: Phase) {
    let mut deadline = draft.now() + patience(&phase);
    if matches!(phase, Phase::Seal { .. })
        && let Some(holder) = holder(draft.state(), movement)
        && !holder.spec.freezes_for_a_move()
    {
        let id = holder.id;
        deadline = deadline + stop::grace(&holder.spec);
        stop::stop(draft, id, StopCause::Moving);
    }
    let sides = Sides {
        state: draft.state(),
        movement,
    };
    let took = sides.took();
    draft.apply(Change::MovePhase {
        movement: movement.id,
        phase,
        deadline,
        heir: movement.heir,
        took,
    });
}

/// How long a phase may last before it is given up.
fn patience(phase: &Phase) -> Millis {
    match phase {
        Phase::Reserve => Millis::seconds(30),
        // Terabytes; what fails for good is reported as trouble.
        Phase::Seed { .. } => Millis::seconds(4 * 3600),
        // An image may have to be pulled.
        Phase::Ready { .. } => Millis::seconds(600),
        Phase::Seal { .. } => Millis::seconds(10),
        Phase::Finish { .. } | Phase::Resume { .. } => Millis::seconds(60),
        Phase::Settle { .. } => SETTLE,
        Phase::Abandon { .. } => Millis(0),
    }
}

/// Enters *ready*: places the heir, if the app runs.
fn prepare(draft: &mut Draft, movement: &Move, round: u32) {
    let heir = match heir(draft.state(), movement) {
        Ok(heir) => heir,
        Err(reason) => {
            abandon(draft, movement.id, reason);
            return;
        }
    };
    let id = heir.as_ref().map(|heir| heir.id);
    if let Some(heir) = heir {
        draft.apply(Change::InstancePlaced {
            instance: Box::new(heir),
        });
    }
    let deadline = draft.now() + patience(&Phase::Ready { round });
    draft.apply(Change::MovePhase {
        movement: movement.id,
        phase: Phase::Ready { round },
        deadline,
        heir: id,
        took: None,
    });
}

fn heir(state: &State, movement: &Move) -> Result<Option<RecordedInstance>, Reason> {
    let app = movement.app.as_ref().and_then(|app| state.app(app));
    let (Some(app), Some(node)) = (app, state.node(movement.to)) else {
        return Ok(None);
    };
    let stays = |id| {
        let here = || {
            state
                .volume(id)
                .is_some_and(|v| v.home == Some(movement.from))
        };
        !movement.volumes.contains_key(id) && here()
    };
    if app.spec.volumes().any(|(id, _)| stays(id)) || app.spec.volumes().next().is_none() {
        return Err(Reason::OtherVolumes);
    }
    let refuse = |why: String| Reason::NoRoom(why);
    let wish = Wish::compile(&app.id, &app.spec).map_err(|fault| refuse(fault.to_string()))?;
    let refusals = scheduler::refusals(state, &wish, node);
    if let Some(first) = refusals.first() {
        return Err(refuse(first.to_string()));
    }
    let Some(holder) = holder(state, movement).filter(|_| app.spec.instances > 0) else {
        return Ok(None);
    };
    let placement = scheduler::place_heir(state, &wish, node);
    let placement = placement.map_err(|why| refuse(why.to_string()))?;
    let heir = start::placed(state, app, holder.slot, placement, Goal::Prepare);
    Ok(Some(heir))
}

/// Abandons a move that has not been handed over; false when it has, or was abandoned before.
pub(crate) fn abandon(draft: &mut Draft, id: MoveId, reason: Reason) -> bool {
    let Some(movement) = draft.state().movement(id) else {
        return false;
    };
    if !movement.phase.is_open() {
        return false;
    }
    let heir: Option<InstanceId> = movement.heir;
    draft.apply(Change::MoveAbandoned {
        movement: id,
        reason,
    });
    if let Some(heir) = heir {
        stop::stop(draft, heir, StopCause::Abandoned);
    }
    true
}

/// When automatic moves of an app may begin again after one was abandoned.
pub(crate) fn rests_until(abandoned: Time) -> Time {
    abandoned + Millis::seconds(30)
}
