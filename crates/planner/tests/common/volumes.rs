//! A node's copies on paper: what is ordered is so at once, but for what a source has yet to give.

use std::collections::BTreeMap;

use model::ids::{NodeId, VolumeId};
use model::sighting::VolumeLevel;
use model::time::{Millis, Time};
use model::volume::{Aside, VolumeOrder};
use model::{Assignment, CopyRole, Level, Snapshot};

pub type Volumes = BTreeMap<VolumeId, VolumeLevel>;

/// Obeys every order; gives what is news. `others` have the copies that are streamed from.
pub fn obey<'a>(
    assignment: &Assignment,
    volumes: &mut Volumes,
    others: impl Fn(NodeId) -> Option<&'a Volumes>,
) -> Vec<Level> {
    let mut news = Vec::new();
    for (id, order) in &assignment.volumes {
        let is = volumes.get(id).cloned().unwrap_or_default();
        assert!(
            order.generation() >= is.generation,
            "{id}: {order:?} came after {is:?}"
        );
        let next = match order {
            VolumeOrder::Land { from, .. } => {
                let source = others(from.node).and_then(|volumes| volumes.get(id));
                landing(id, order, &is, source)
            }
            _ => obeyed(id, order, &is),
        };
        if next == is && (volumes.contains_key(id) || next.role.is_some()) {
            continue;
        }
        match next.role {
            Some(_) => drop(volumes.insert(id.clone(), next.clone())),
            None => drop(volumes.remove(id)),
        }
        news.push(Level::Volume(id.clone(), next));
    }
    news
}

fn obeyed(id: &VolumeId, order: &VolumeOrder, is: &VolumeLevel) -> VolumeLevel {
    let mut next = is.clone();
    next.generation = order.generation();
    match order {
        VolumeOrder::Live { fresh, .. } => {
            assert!(*fresh || is.role == Some(CopyRole::Live), "{id}: {is:?}");
            next.role = Some(CopyRole::Live);
        }
        VolumeOrder::Remove { .. } | VolumeOrder::Discard { .. } => {
            next = VolumeLevel {
                generation: order.generation(),
                ..VolumeLevel::default()
            };
        }
        VolumeOrder::Seed { snapshot, .. } => {
            assert_eq!(is.role, Some(CopyRole::Live), "{id}");
            next.snapshots.insert(*snapshot);
        }
        VolumeOrder::Seal { snapshot, .. } => {
            next.role = Some(CopyRole::Sealed);
            next.movement = Some(snapshot.movement);
            next.snapshots.insert(*snapshot);
        }
        VolumeOrder::Unseal { movement, .. } => {
            next.role = Some(CopyRole::Live);
            next.movement = Some(*movement);
        }
        VolumeOrder::Keep { movement, .. } => {
            assert_ne!(is.role, Some(CopyRole::Live), "{id}");
            if matches!(is.role, Some(CopyRole::Landing | CopyRole::Landed)) {
                next.snapshots.retain(|s| Some(s.movement) != is.movement);
            }
            next.role = Some(CopyRole::Kept);
            next.movement = Some(*movement);
            next.last = next.snapshots.last().copied();
        }
        VolumeOrder::Land { .. } => unreachable!("it takes two"),
        VolumeOrder::Promote { snapshot, .. } => {
            let landed = match is.role {
                Some(CopyRole::Landed | CopyRole::Kept) => is.last == Some(*snapshot),
                Some(CopyRole::Landing) => is.snapshots.contains(snapshot),
                _ => false,
            };
            let live = is.role == Some(CopyRole::Live);
            assert!(live || landed, "{id}: {is:?}");
            next.role = Some(CopyRole::Live);
            next.last = None;
        }
        VolumeOrder::SetAside { .. } => {
            next.role = Some(CopyRole::Aside);
            next.generation = is.generation;
            next.aside.get_or_insert_with(|| Aside {
                name: format!("{id}.g{}", is.generation),
                made: Time(0),
            });
        }
        VolumeOrder::Clear { aside, .. } => {
            let known = is.aside.as_ref().map(|aside| &aside.name);
            assert_eq!(known, Some(aside), "{id}");
            next = VolumeLevel {
                generation: order.generation(),
                ..VolumeLevel::default()
            };
        }
    }
    next
}

/// At the target: what the source has arrives at once; the last of it once that is sealed.
fn landing(
    id: &VolumeId,
    order: &VolumeOrder,
    is: &VolumeLevel,
    source: Option<&VolumeLevel>,
) -> VolumeLevel {
    let VolumeOrder::Land {
        generation,
        movement,
        snapshot,
        last,
        ..
    } = *order
    else {
        unreachable!("{order:?} lands nothing");
    };
    assert_ne!(is.role, Some(CopyRole::Live), "{id}");
    if is.role == Some(CopyRole::Landed) && is.movement == Some(movement) {
        return is.clone();
    }
    let mut next = VolumeLevel {
        generation,
        role: Some(CopyRole::Landing),
        movement: Some(movement),
        last: None,
        ..is.clone()
    };
    let gives = |snapshot: &Snapshot| {
        let sealed = |source: &VolumeLevel| {
            source.role == Some(CopyRole::Sealed) && source.movement == Some(movement)
        };
        source
            .is_some_and(|source| source.snapshots.contains(snapshot) && (!last || sealed(source)))
    };
    if let Some(snapshot) = snapshot.filter(|it| !is.snapshots.contains(it) && gives(it)) {
        next.snapshots.insert(snapshot);
        next.took = Some(Millis(20));
    }
    if let Some(snapshot) = snapshot.filter(|it| last && next.snapshots.contains(it)) {
        next.role = Some(CopyRole::Landed);
        next.last = Some(snapshot);
    }
    next
}
