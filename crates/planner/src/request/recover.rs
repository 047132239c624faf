//! Going on with another copy of a volume whose home is silent, one that was kept or one that was
//! landing when a move was cut short: an operator's word that what was
//! written there since is given up, until the home comes back and sets it aside.

use model::ids::{AppId, NodeId, VolumeId};
use model::time::Time;
use model::{
    Change, Copy, CopyRole, Draft, Generation, Phase, Presence, Recovery, Snapshot, State,
    StopCause, Volume,
};

use crate::request::{MoveRefusal, Refusal};
use crate::stop;

/// Why a volume is not recovered. Each is a 409.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecoverRefusal {
    #[error("volume {0} is on no node yet; its first use decides")]
    Nowhere(VolumeId),
    #[error(
        "node {home}, which has volume {volume}, is here: only what a silent node had is recovered"
    )]
    Reachable { volume: VolumeId, home: String },
    #[error(
        "there is no copy of volume {volume} but the one on {home}{}: nothing was changed",
        besides(.others)
    )]
    NoCopy {
        volume: VolumeId,
        home: String,
        /// What there is besides, and where.
        others: Vec<String>,
    },
    #[error("{node} has no copy of volume {volume}; there is one on {}", .others.join(", "))]
    NoCopyThere {
        volume: VolumeId,
        node: String,
        others: Vec<String>,
    },
    #[error("{node}, which has a copy of volume {volume}, is silent too, since {since}")]
    Silent {
        volume: VolumeId,
        node: String,
        since: Time,
    },
}

/// What a recovery goes on with, and what it gives up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The home that is given up, and since when it is silent.
    pub from: NodeId,
    pub silent: Option<Time>,
    /// The new home.
    pub node: NodeId,
    pub snapshot: Snapshot,
    /// When its copy was the newest state; `None`: long ago.
    pub left: Option<Time>,
    pub bytes: Option<u64>,
    pub generation: Generation,
    pub tenant: Option<AppId>,
    /// Silent nodes with newer copies.
    pub newer: Vec<NodeId>,
}

/// Makes the newest copy that can be reached, or the one on `node`, the truth, there: nobody has
/// to be asked, and what the home wrote since is lost to everybody but the home. What still runs
/// there is told to end, and writes nothing that counts. 202; 404; 409 while the home is here.
pub fn recover_volume(
    draft: &mut Draft,
    id: &VolumeId,
    node: Option<NodeId>,
) -> Result<Recovered, Refusal> {
    let plan = plan_recovery(draft.state(), id, node)?;
    if plan.node != plan.from
        && let Some(holder) = draft.state().volume_holder(id)
    {
        stop::stop(draft, holder, StopCause::Recovered);
    }
    draft.apply(Change::VolumeRecovered {
        volume: id.clone(),
        home: plan.node,
        recovery: Recovery {
            id: draft.next_move(),
            generation: plan.generation,
            snapshot: plan.snapshot,
        },
    });
    Ok(plan)
}

/// What [`recover_volume`] would do.
pub fn plan_recovery(
    state: &State,
    id: &VolumeId,
    node: Option<NodeId>,
) -> Result<Recovered, Refusal> {
    let volume = state.volume(id);
    let volume = volume.ok_or_else(|| Refusal::NoVolume(id.clone()))?;
    if volume.removing {
        return Err(Refusal::VolumeGoing(id.clone()));
    }
    let home = volume.home;
    let home = home.ok_or_else(|| RecoverRefusal::Nowhere(id.clone()))?;
    // What is not abandoned may still end well, and does not last long without its nodes.
    if let Some(movement) = state.move_of_volume(id)
        && !matches!(movement.phase, Phase::Abandon { .. })
    {
        let phase = movement.phase.to_string();
        let volume = id.clone();
        return Err(MoveRefusal::UnderWay { volume, phase }.into());
    }
    let silent = silence(state, volume, home)?;
    let candidates = candidates(volume, home);
    let node = choose(state, volume, home, node, &candidates)?;
    let chosen = candidates.iter().find(|(its, _)| *its == node);
    let snapshot = chosen.expect("it was chosen among them").1;
    let newer = candidates.iter().filter(|(_, other)| *other > snapshot);
    Ok(Recovered {
        from: home,
        silent,
        node,
        snapshot,
        left: volume.left.get(&snapshot).copied(),
        bytes: volume.copies.get(&node).and_then(|copy| copy.bytes),
        generation: Generation(volume.generation.0 + 1),
        tenant: volume.tenant.clone(),
        newer: newer.map(|(node, _)| *node).collect(),
    })
}

/// Since when the home is silent; `None` where it is not, or is no more, and has nothing.
fn silence(state: &State, volume: &Volume, home: NodeId) -> Result<Option<Time>, RecoverRefusal> {
    let Some(node) = state.node(home) else {
        return Ok(None);
    };
    match node.presence {
        Presence::Lost { since } => Ok(Some(since)),
        Presence::Here if is_hopeless(volume, home) => Ok(None),
        Presence::Here => Err(RecoverRefusal::Reachable {
            volume: volume.id.clone(),
            home: node.machine.name.clone(),
        }),
    }
}

/// Whether a home was to go on with a copy that it turned out not to have: it will refuse for ever.
/// What it failed to do, it may do yet.
fn is_hopeless(volume: &Volume, home: NodeId) -> bool {
    let Some(copy) = volume.copies.get(&home) else {
        return true;
    };
    let Some(recovery) = volume.recovery() else {
        return false;
    };
    match copy.role {
        CopyRole::Live | CopyRole::Sealed => false,
        CopyRole::Aside => true,
        CopyRole::Landing => !copy.snapshots.contains(&recovery.snapshot),
        CopyRole::Landed | CopyRole::Kept => holds(copy) != Some(recovery.snapshot),
    }
}

/// The newest state that a copy can go on with.
fn holds(copy: &Copy) -> Option<Snapshot> {
    let newest = match copy.role {
        CopyRole::Kept | CopyRole::Landed => copy.last,
        CopyRole::Landing => copy.snapshots.last().copied(),
        CopyRole::Live | CopyRole::Sealed | CopyRole::Aside => None,
    };
    newest.filter(|newest| copy.snapshots.contains(newest))
}

/// The copies that hand-overs left behind, and what came of a move that was cut short. A home that
/// lacks what it was to go on with may have something else.
fn candidates(volume: &Volume, home: NodeId) -> Vec<(NodeId, Snapshot)> {
    let fit = volume
        .copies
        .iter()
        .filter(|(node, copy)| match **node == home {
            true => is_hopeless(volume, home),
            false => !volume.has_strayed(copy),
        });
    fit.filter_map(|(node, copy)| Some((*node, holds(copy)?)))
        .collect()
}

fn choose(
    state: &State,
    volume: &Volume,
    home: NodeId,
    wanted: Option<NodeId>,
    candidates: &[(NodeId, Snapshot)],
) -> Result<NodeId, RecoverRefusal> {
    let name = |id: NodeId| {
        let node = state.node(id);
        node.map_or_else(|| id.to_string(), |node| node.machine.name.clone())
    };
    let id = || volume.id.clone();
    let suitable = candidates
        .iter()
        .filter(|(node, _)| wanted.is_none_or(|wanted| wanted == *node));
    let mut silent = None;
    let mut best: Option<(Snapshot, NodeId)> = None;
    for (node, snapshot) in suitable {
        match state.node(*node).map(|node| node.presence) {
            Some(Presence::Here) => best = best.max(Some((*snapshot, *node))),
            Some(Presence::Lost { since }) => silent = Some((*node, since)),
            None => {}
        }
    }
    match (best, silent, wanted) {
        (Some((_, node)), ..) => Ok(node),
        (None, Some((node, since)), _) => Err(RecoverRefusal::Silent {
            volume: id(),
            node: name(node),
            since,
        }),
        (None, None, Some(node)) if !candidates.is_empty() => Err(RecoverRefusal::NoCopyThere {
            volume: id(),
            node: name(node),
            others: candidates.iter().map(|(node, _)| name(*node)).collect(),
        }),
        (None, None, _) => Err(RecoverRefusal::NoCopy {
            volume: id(),
            home: name(home),
            others: others(volume, home, name),
        }),
    }
}

/// What is not fit to go on with: data that was set aside, or is going to be, and copies that
/// hold nothing yet.
fn others(volume: &Volume, home: NodeId, name: impl Fn(NodeId) -> String) -> Vec<String> {
    let others = volume.copies.iter().filter(|(node, _)| **node != home);
    let words = others.map(|(node, copy)| match &copy.aside {
        Some(aside) => format!("{} is set aside on {}", aside.name, name(*node)),
        None if volume.has_strayed(copy) => format!("{} is to set one aside", name(*node)),
        None => {
            let role = format!("{:?}", copy.role).to_lowercase();
            format!("the one on {} is {role}", name(*node))
        }
    });
    words.collect()
}

fn besides(others: &[String]) -> String {
    match others {
        [] => String::new(),
        others => format!(" that the volume could go on with ({})", others.join("; ")),
    }
}
