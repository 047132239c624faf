//! What the master is told: of each subject the newest level, made from what was observed. The
//! [`crate::Outbox`] drops what it already told.

use model::ids::{InstanceId, VolumeId};
use model::instance::{Exit, Health, Rung};
use model::sighting::Subject;
use model::volume::VolumeOrder;
use model::{Assignment, InstanceLevel, Level, VolumeLevel};

use crate::action::Action;
use crate::converge::{is_prepared, waits_for};
use crate::observed::{Failure, Local, LocalVolume, Observed, Stage};
use crate::volume;

/// The level of every instance and volume that there is anything to say of.
pub fn levels(assignment: &Assignment, observed: &Observed) -> Vec<Level> {
    let volumes = observed.volumes_with(assignment);
    let instances = observed.instances_with(assignment);
    let of_volumes = volumes.into_iter().filter_map(|id| {
        of_volume(id, assignment, observed).map(|level| Level::Volume(id.clone(), level))
    });
    let of_instances = instances.into_iter().filter_map(|id| {
        of_instance(id, assignment, observed).map(|level| Level::Instance(id, level))
    });
    of_volumes.chain(of_instances).collect()
}

/// `None`: nothing has happened to it yet.
pub fn of_instance(
    id: InstanceId,
    assignment: &Assignment,
    observed: &Observed,
) -> Option<InstanceLevel> {
    let none = Local::default();
    let local = observed.instances.get(&id).unwrap_or(&none);
    let subject = Subject::Instance(id);
    let flight = observed.in_flight.get(&subject).map(|f| &f.action);
    let failure = observed.failures.get(&subject);
    let assigned = assignment.instances.get(&id);
    let prepared = assigned.is_some_and(|assigned| is_prepared(assigned, &local.stage));
    let rung = rung(local, flight, failure.map(|f| &f.action), prepared);
    let mut level = InstanceLevel {
        rung,
        health: Health::Unknown,
        detail: None,
        exit: exit(&local.stage).cloned(),
    };
    if rung == Rung::Running {
        level.health = local.health;
    }
    // A retry does not change the words back and forth: each change is written to the log.
    level.detail = match (failure, flight) {
        (Some(failure), None) => Some(failure.why.clone()),
        (Some(failure), Some(flight)) if failure.action == *flight => Some(failure.why.clone()),
        (_, Some(flight)) => Some(flight.verb().to_owned()),
        (None, None) if rung == Rung::Running => {
            let ailment = local.ailment.as_ref();
            ailment.map(|why| format!("a health check fails: {why}"))
        }
        (None, None) => waiting(id, local, assignment, observed),
    };
    (rung > Rung::Placed || level.detail.is_some()).then_some(level)
}

fn rung(local: &Local, flight: Option<&Action>, failed: Option<&Action>, prepared: bool) -> Rung {
    let doing = |is: fn(&Action) -> bool| flight.is_some_and(is) || failed.is_some_and(is);
    let is_down = |a: &Action| matches!(a, Action::Stop { .. } | Action::Kill { .. });
    match &local.stage {
        Stage::Nothing if doing(Action::climbs) => Rung::Preparing,
        Stage::Nothing => Rung::Placed,
        Stage::Rooted | Stage::Attached if prepared => Rung::Starting,
        Stage::Pulled | Stage::Rooted | Stage::Attached => Rung::Preparing,
        Stage::Created { .. } | Stage::Running { .. }
            if local.stopping.is_some() || doing(is_down) =>
        {
            Rung::Stopping
        }
        Stage::Created { .. } => Rung::Starting,
        Stage::Running { .. } => Rung::Running,
        Stage::Ended(_) => Rung::Ended,
        Stage::Removed(_) => Rung::Gone,
    }
}

fn exit(stage: &Stage) -> Option<&Exit> {
    match stage {
        Stage::Ended(exit) => Some(exit),
        Stage::Removed(exit) => exit.as_ref(),
        _ => None,
    }
}

/// What an instance that could be created waits for.
fn waiting(
    id: InstanceId,
    local: &Local,
    assignment: &Assignment,
    observed: &Observed,
) -> Option<String> {
    if !matches!(local.stage, Stage::Rooted | Stage::Attached) {
        return None;
    }
    let assigned = assignment.instances.get(&id)?;
    match assigned.goal {
        model::Goal::Prepare => Some("prepared".to_owned()),
        model::Goal::Run => {
            let volume = waits_for(assigned, assignment, observed)?;
            Some(match trouble(volume, assignment, observed) {
                Some(why) => format!("waiting for volume {volume}: {why}"),
                None => format!("waiting for volume {volume}"),
            })
        }
        model::Goal::Stop { .. } => None,
    }
}

/// `None`: it is not there yet, or not any more and nobody asks.
pub fn of_volume(
    id: &VolumeId,
    assignment: &Assignment,
    observed: &Observed,
) -> Option<VolumeLevel> {
    let order = assignment.volumes.get(id);
    let none = LocalVolume::default();
    let local = observed.volumes.get(id).unwrap_or(&none);
    let trouble = trouble(id, assignment, observed);
    match (local.file, order) {
        (Some(file), _) => Some(VolumeLevel {
            role: Some(file.role),
            generation: file.generation,
            movement: file.movement,
            last: file.last,
            snapshots: local.snapshots.clone(),
            took: local.took,
            bytes: local.bytes,
            aside: local.aside.clone(),
            trouble,
        }),
        // That nothing is left is the answer to a removal, under the removal's generation.
        (
            None,
            Some(
                VolumeOrder::Remove { generation }
                | VolumeOrder::Discard { generation }
                | VolumeOrder::Clear { generation, .. },
            ),
        ) => Some(VolumeLevel {
            generation: *generation,
            trouble,
            ..VolumeLevel::default()
        }),
        (None, Some(order)) => trouble.is_some().then(|| VolumeLevel {
            generation: order.generation(),
            trouble,
            ..VolumeLevel::default()
        }),
        (None, None) => None,
    }
}

/// A stream that breaks is asked for again; only the third time it is worth giving up a move.
fn is_trouble(failure: &Failure) -> bool {
    let receiving = matches!(
        failure.action,
        Action::Receive { .. } | Action::SyncReceived { .. }
    );
    !receiving || failure.times >= 3
}

/// What keeps a volume from being as ordered: the last failure, else why the order is refused.
fn trouble(id: &VolumeId, assignment: &Assignment, observed: &Observed) -> Option<String> {
    let failure = observed.failures.get(&Subject::Volume(id.clone()));
    let failure = failure.filter(|failure| is_trouble(failure));
    let failure = failure.map(|failure| failure.why.clone());
    failure.or_else(|| {
        let none = LocalVolume::default();
        let local = observed.volumes.get(id).unwrap_or(&none);
        let order = assignment.volumes.get(id)?;
        let refusal = volume::judge(order, local, volume::Use::default()).err()?;
        Some(refusal.to_string())
    })
}

/// What is told of an amount that changes all the time: what was told last, as long as that is
/// right to an eighth or to 8 MiB. Every change is written to the master's log.
pub fn settled(told: Option<u64>, seen: u64) -> u64 {
    const FINEST: u64 = 8 << 20;
    let near = |told: &u64| told.abs_diff(seen) <= (told / 8).max(FINEST);
    told.filter(near).unwrap_or(seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_told_anew_only_when_it_is_off_by_more_than_an_eighth() {
        const MIB: u64 = 1 << 20;
        assert_eq!(settled(None, 5), 5);
        assert_eq!(settled(Some(5), 8 * MIB), 5);
        assert_eq!(settled(Some(5), 9 * MIB), 9 * MIB);
        assert_eq!(settled(Some(800 * MIB), 899 * MIB), 800 * MIB);
        assert_eq!(settled(Some(800 * MIB), 699 * MIB), 699 * MIB);
    }
}
