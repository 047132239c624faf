//! What starts a move: an operator, a drain, or a deployment whose app may not stay where its
//! volumes are. Whether it can be is decided once, here; a dry run ends with the plan.

use std::collections::{BTreeMap, BTreeSet};

use model::ids::{AppId, MoveId, NodeId, VolumeId};
use model::movement::{Move, Parcel, Phase, Why};
use model::{App, Change, CopyRole, Draft, Presence, Snapshot, State, Volume};
use scheduler::Wish;

use crate::leader::{Agenda, Subject};
use crate::relocate::{patience, rests_until};
use crate::request::MoveRefusal;

/// At most so many moves leave a node that is being drained at once.
const DRAINING: usize = 2;

/// What a move would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub app: Option<AppId>,
    pub from: NodeId,
    pub to: NodeId,
    pub volumes: BTreeMap<VolumeId, Parcel>,
    /// Nothing runs, so that nothing has to be stopped.
    pub cold: bool,
}

/// The move of these volumes, with the app that has them. `None`: they are there already.
pub(crate) fn plan(
    state: &State,
    app: Option<&App>,
    volumes: &BTreeSet<VolumeId>,
    to: NodeId,
) -> Result<Option<Plan>, MoveRefusal> {
    // Also when it is of volumes that the app had before: its instances follow one move.
    if let Some(movement) = app.and_then(|app| state.move_of_app(&app.id))
        && let Some(volume) = movement.volumes.keys().next()
    {
        return Err(MoveRefusal::UnderWay {
            volume: volume.clone(),
            phase: movement.phase.to_string(),
        });
    }
    let mut from: Option<NodeId> = None;
    let mut parcels = BTreeMap::new();
    let mut nowhere = None;
    for id in volumes {
        let volume = state
            .volume(id)
            .ok_or_else(|| MoveRefusal::NoVolume(id.clone()))?;
        let home = check(state, app, volume)?;
        // One without data follows the others; one that a recovery brought there is there.
        let Some(home) = home else {
            nowhere = Some(id.clone());
            continue;
        };
        if home == to {
            continue;
        }
        if from.is_some_and(|from| from != home) {
            return Err(MoveRefusal::Apart(id.clone()));
        }
        from = Some(home);
        is_free(state, volume, to)?;
        let parcel = Parcel {
            generation: volume.generation,
            base: common(volume, home, to),
            needed: needed(volume, home),
        };
        parcels.insert(id.clone(), parcel);
    }
    let Some(from) = from else {
        return match nowhere {
            Some(volume) if volumes.len() == 1 => Err(MoveRefusal::Nowhere(volume)),
            Some(_) | None => Ok(None),
        };
    };
    nodes(state, app, from, to)?;
    room(state, &parcels, to)?;
    let cold = !volumes.iter().any(|id| state.volume_holder(id).is_some());
    Ok(Some(Plan {
        app: app.map(|app| app.id.clone()),
        from,
        to,
        volumes: parcels,
        cold,
    }))
}

/// Gives the volume's home, if it has one.
fn check(state: &State, app: Option<&App>, volume: &Volume) -> Result<Option<NodeId>, MoveRefusal> {
    let id = &volume.id;
    if let Some(movement) = state.move_of_volume(id) {
        return Err(MoveRefusal::UnderWay {
            volume: id.clone(),
            phase: movement.phase.to_string(),
        });
    }
    if volume.removing {
        return Err(MoveRefusal::Going(id.clone()));
    }
    if let Some(tenant) = &volume.tenant
        && app.is_none_or(|app| app.id != *tenant)
    {
        return Err(MoveRefusal::Taken {
            volume: id.clone(),
            tenant: tenant.clone(),
        });
    }
    // What the home may still have to make must not be taken for lost by another's copy; nor can a
    // move be abandoned back to a home that was not live when it began.
    let is_live = |home| volume.copies.get(home).map(|copy| copy.role) == Some(CopyRole::Live);
    match volume.home {
        Some(home) if !is_live(&home) => Err(MoveRefusal::NotMade(id.clone())),
        home => Ok(home),
    }
}

/// Whether the target has nothing of the volume that the truth lacks: nothing is received over
/// that.
fn is_free(state: &State, volume: &Volume, to: NodeId) -> Result<(), MoveRefusal> {
    let Some(copy) = volume.copies.get(&to) else {
        return Ok(());
    };
    let id = volume.id.clone();
    match &copy.aside {
        Some(aside) => Err(MoveRefusal::SetAside {
            volume: id,
            copy: aside.name.clone(),
        }),
        None if copy.role == CopyRole::Aside || volume.has_strayed(copy) => {
            let node = state.node(to);
            Err(MoveRefusal::Strayed {
                volume: id,
                node: node.map_or_else(|| to.to_string(), |node| node.machine.name.clone()),
            })
        }
        None => Ok(()),
    }
}

fn nodes(state: &State, app: Option<&App>, from: NodeId, to: NodeId) -> Result<(), MoveRefusal> {
    let name = |id: NodeId| {
        let node = state.node(id);
        node.map_or_else(|| id.to_string(), |node| node.machine.name.clone())
    };
    let target = state
        .node(to)
        .ok_or_else(|| MoveRefusal::NoNode(name(to)))?;
    if target.presence != Presence::Here {
        return Err(MoveRefusal::Lost(name(to)));
    }
    if target.draining {
        return Err(MoveRefusal::Draining(name(to)));
    }
    let source = state.node(from);
    if source.is_none_or(|source| source.presence != Presence::Here) {
        return Err(MoveRefusal::SourceLost(name(from)));
    }
    let Some(app) = app else { return Ok(()) };
    let refused = |reason: String| MoveRefusal::Refused {
        app: app.id.clone(),
        node: name(to),
        reason,
    };
    let wish = Wish::compile(&app.id, &app.spec).map_err(|fault| refused(fault.to_string()))?;
    let refusals = scheduler::refusals(state, &wish, target);
    if refusals.is_empty() {
        return Ok(());
    }
    let all: Vec<String> = refusals.iter().map(ToString::to_string).collect();
    Err(refused(all.join("; ")))
}

/// Whether the target's pool can take what comes, as far as nodes have told. It looks again before
/// it receives.
fn room(
    state: &State,
    parcels: &BTreeMap<VolumeId, Parcel>,
    to: NodeId,
) -> Result<(), MoveRefusal> {
    let Some((node, mut free)) = state.node(to).and_then(|node| Some((node, node.room?))) else {
        return Ok(());
    };
    for (volume, Parcel { needed, .. }) in parcels {
        free = free
            .checked_sub(*needed)
            .ok_or_else(|| MoveRefusal::NoSpace {
                volume: volume.clone(),
                target: node.machine.name.clone(),
                free: free >> 20,
                needed: needed.div_ceil(1 << 20),
            })?;
    }
    Ok(())
}

/// A quarter more than what the home told of its data: that may be an eighth too low, and what the
/// target has of it may all have been written anew. 0 where the home has not told.
fn needed(volume: &Volume, home: NodeId) -> u64 {
    let copy = volume.copies.get(&home);
    let used = copy.and_then(|copy| copy.bytes).unwrap_or(0);
    used.saturating_add(used / 4)
}

/// The newest snapshot that both nodes have.
fn common(volume: &Volume, from: NodeId, to: NodeId) -> Option<Snapshot> {
    let (source, target) = (volume.copies.get(&from)?, volume.copies.get(&to)?);
    let both = source.snapshots.intersection(&target.snapshots);
    both.max().copied()
}

pub(crate) fn begin(draft: &mut Draft, plan: Plan, why: Why) -> MoveId {
    let id = draft.next_move();
    let now = draft.now();
    draft.apply(Change::MoveBegan {
        movement: Box::new(Move {
            id,
            volumes: plan.volumes,
            app: plan.app,
            from: plan.from,
            to: plan.to,
            phase: Phase::Reserve,
            deadline: now + patience(&Phase::Reserve),
            heir: None,
            why,
            began: now,
            took: None,
        }),
    });
    id
}

/// Lets an app go whose constraints refuse the node that its volumes are on, if another node
/// would have it. True while such a move is under way, or may begin soon: what runs is left to
/// it. Only deployments ask.
pub(crate) fn evade(agenda: &mut Agenda, draft: &mut Draft, app: &App) -> bool {
    if app.spec.volumes().next().is_none() {
        return false;
    }
    let Some(wish) = agenda.wish(&app.id, &app.spec) else {
        return false;
    };
    if !scheduler::home_is_refused(draft.state(), &wish) {
        return false;
    }
    if draft.state().move_of_app(&app.id).is_some() {
        return true;
    }
    start(agenda, draft, app, &wish, Why::Deployment)
}

/// Sends an app off a node that is being drained, if the node may send another.
pub(crate) fn drain(agenda: &mut Agenda, draft: &mut Draft, app: &App) {
    let state = draft.state();
    let Some((first, _)) = app.spec.volumes().next() else {
        return;
    };
    let home = state.volume(first).and_then(|volume| volume.home);
    let Some(home) = home.and_then(|home| state.node(home)) else {
        return;
    };
    let leaving = state.moves().filter(|m| m.from == home.id).count();
    if !home.draining || leaving >= DRAINING || state.move_of_app(&app.id).is_some() {
        return;
    }
    if let Some(wish) = agenda.wish(&app.id, &app.spec) {
        start(agenda, draft, app, &wish, Why::Drain);
    }
}

/// Begins a move to the best node; false when there is none. After one was abandoned it waits.
fn start(agenda: &mut Agenda, draft: &mut Draft, app: &App, wish: &Wish, why: Why) -> bool {
    let Some(to) = scheduler::destination(draft.state(), wish) else {
        return false;
    };
    let volumes = app.spec.volumes().map(|(id, _)| id.clone()).collect();
    let Ok(Some(plan)) = plan(draft.state(), Some(app), &volumes, to) else {
        return false;
    };
    if let Some(until) = agenda.rested(&app.id).map(rests_until)
        && until > draft.now()
    {
        agenda.remind(until, Subject::App(app.id.clone()));
        return true;
    }
    begin(draft, plan, why);
    true
}
