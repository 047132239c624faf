//! What to do next, so that this node comes to have what it is assigned.
//!
//! ```text
//!            Prepare ends here ┐
//! nothing → pulled → rooted → attached → created → running → ended → removed
//!    climbing needs this session's assignment │ stop, kill, remove do not
//! ```
//!
//! *Guarantees.* At most one action for one subject; none for a subject in flight. An instance
//! that has ended, or whose machine has booted since, is never started. Without a session
//! nothing climbs and what runs is kept, save what was already told to stop. An assigned
//! instance's remains are removed only when the master has its exit.
//!
//! *Assumptions.* [`Observed`] is what the kernel and the disk say, not what was hoped for; the
//! assignment is on disk before it is acted on (see [`crate::session`]).

use std::collections::BTreeSet;

use model::ids::{InstanceId, VolumeId};
use model::instance::{Goal, StopCause};
use model::volume::{CopyRole, RoleFile, VolumeOrder};
use model::{Assigned, Assignment, Millis, Time};

use crate::action::Action;
use crate::observed::{Local, Observed, Stage};
use crate::volume;

/// The next action of every subject that needs one, volumes first.
pub fn converge(assignment: &Assignment, observed: &Observed, now: Time) -> Vec<Action> {
    wanted(assignment, observed, now)
        .into_iter()
        .filter(|action| retry_at(observed, action).is_none_or(|at| at <= now))
        .collect()
}

/// When to converge again though nothing changed: the next retry or end of a grace.
pub fn wake_at(assignment: &Assignment, observed: &Observed, now: Time) -> Option<Time> {
    let retries = wanted(assignment, observed, now)
        .into_iter()
        .filter_map(|action| retry_at(observed, &action))
        .filter(|at| *at > now);
    let graces = observed.instances.iter().filter_map(|(id, local)| {
        let sent = local.stopping.filter(|_| local.stage.is_alive())?;
        Some(sent + grace(assignment.instances.get(id))).filter(|at| *at > now)
    });
    retries.chain(graces).min()
}

/// Instances whose pull is under way and no longer wanted; the agent cancels these tasks.
pub fn cancelled(assignment: &Assignment, observed: &Observed) -> Vec<InstanceId> {
    let unwanted = |id: &InstanceId| match assignment.instances.get(id) {
        Some(assigned) => assigned.goal.is_stop(),
        None => observed.link.is_assigned(),
    };
    observed
        .in_flight
        .values()
        .filter_map(|flight| match &flight.action {
            Action::PullImage { instance } => Some(*instance),
            _ => None,
        })
        .filter(unwanted)
        .collect()
}

/// The first volume that an instance needs and that is not open under the ordered generation.
pub fn waits_for<'a>(
    assigned: &'a Assigned,
    assignment: &Assignment,
    observed: &Observed,
) -> Option<&'a VolumeId> {
    assigned.spec.volumes().map(|(id, _)| id).find(|id| {
        let Some(VolumeOrder::Live { generation, .. }) = assignment.volumes.get(*id) else {
            return true;
        };
        let ready = RoleFile {
            generation: *generation,
            role: CopyRole::Live,
        };
        !observed
            .volumes
            .get(*id)
            .is_some_and(|local| local.open && local.file == Some(ready))
    })
}

/// As [`converge`], without regard to earlier failures.
fn wanted(assignment: &Assignment, observed: &Observed, now: Time) -> Vec<Action> {
    let volumes: BTreeSet<&VolumeId> = assignment
        .volumes
        .keys()
        .chain(observed.volumes.keys())
        .collect();
    let instances: BTreeSet<&InstanceId> = assignment
        .instances
        .keys()
        .chain(observed.instances.keys())
        .collect();
    let for_volumes = volumes
        .into_iter()
        .filter_map(|id| volume_action(id, assignment, observed));
    let for_instances = instances
        .into_iter()
        .filter_map(|id| instance_action(*id, assignment, observed, now));
    for_volumes
        .chain(for_instances)
        .filter(|action| !action.climbs() || observed.link.is_assigned())
        .filter(|action| !observed.in_flight.contains_key(&action.subject()))
        .collect()
}

/// When a failed action is to be tried again; `None` when this very action has not just failed.
fn retry_at(observed: &Observed, action: &Action) -> Option<Time> {
    observed
        .failures
        .get(&action.subject())
        .filter(|failure| failure.action == *action)
        .map(|failure| failure.retry_at)
}

fn instance_action(
    id: InstanceId,
    assignment: &Assignment,
    observed: &Observed,
    now: Time,
) -> Option<Action> {
    let none = Local::default();
    let local = observed.instances.get(&id).unwrap_or(&none);
    match assignment.instances.get(&id) {
        // An agent that lost its assignment must not take what runs for unwanted.
        None if !observed.link.is_assigned() => None,
        None => descend(id, None, local, now),
        Some(assigned) if assigned.goal.is_stop() => descend(id, Some(assigned), local, now),
        Some(assigned) => match climb(id, assigned, &local.stage)? {
            Action::Create { .. } if assigned.goal == Goal::Prepare => None,
            Action::Create { .. } if waits_for(assigned, assignment, observed).is_some() => None,
            action => Some(action),
        },
    }
}

/// The next step towards running.
fn climb(instance: InstanceId, assigned: &Assigned, stage: &Stage) -> Option<Action> {
    let placement = &assigned.placement;
    let on_a_network = placement.address.is_some() || !placement.fixed_addresses.is_empty();
    match stage {
        Stage::Nothing if assigned.spec.image().is_some() => Some(Action::PullImage { instance }),
        Stage::Nothing | Stage::Pulled => Some(Action::PrepareRoot { instance }),
        Stage::Rooted if on_a_network => Some(Action::AttachNetwork { instance }),
        Stage::Rooted | Stage::Attached => Some(Action::Create { instance }),
        Stage::Created { .. } => Some(Action::Start { instance }),
        Stage::Running { .. } | Stage::Ended(_) | Stage::Removed(_) => None,
    }
}

/// The next step towards nothing being left. `None` for `assigned`: nobody asks for it any more.
fn descend(
    instance: InstanceId,
    assigned: Option<&Assigned>,
    local: &Local,
    now: Time,
) -> Option<Action> {
    match &local.stage {
        Stage::Created { .. } => Some(Action::Kill { instance }),
        Stage::Running { .. } => {
            let grace = grace(assigned);
            match local.stopping {
                _ if grace == Millis(0) => Some(Action::Kill { instance }),
                None => Some(Action::Stop { instance, grace }),
                Some(sent) if sent + grace <= now => Some(Action::Kill { instance }),
                Some(_) => None,
            }
        }
        // Its directory is the only place that knows how it ended.
        Stage::Ended(_) if assigned.is_some() && !local.reported => None,
        Stage::Nothing | Stage::Pulled | Stage::Rooted | Stage::Attached | Stage::Ended(_) => {
            Some(Action::Remove { instance })
        }
        Stage::Removed(_) => None,
    }
}

/// How long an instance has between the stop signal and SIGKILL.
fn grace(assigned: Option<&Assigned>) -> Millis {
    match assigned.map(|assigned| assigned.goal) {
        // Its replacement holds its addresses: every moment of it answers in another's name.
        Some(Goal::Stop {
            cause: StopCause::NodeLost,
            ..
        }) => Millis(0),
        Some(Goal::Stop { grace, .. }) => grace,
        Some(Goal::Prepare | Goal::Run) | None => Millis(0),
    }
}

fn volume_action(id: &VolumeId, assignment: &Assignment, observed: &Observed) -> Option<Action> {
    let local = observed.volumes.get(id).copied().unwrap_or_default();
    let uses = |assigned: &Assigned| assigned.spec.volumes().any(|(volume, _)| volume == id);
    let use_of_it = volume::Use {
        wanted: assignment
            .instances
            .values()
            .any(|assigned| assigned.goal == Goal::Run && uses(assigned)),
        // What is not assigned any more may still be using it, and nobody can say that not.
        held: observed.instances.iter().any(|(instance, local)| {
            local.stage.is_alive() && assignment.instances.get(instance).is_none_or(uses)
        }) || observed.in_flight.values().any(|flight| {
            matches!(&flight.action, Action::Create { instance }
                if assignment.instances.get(instance).is_none_or(uses))
        }),
    };
    let act = |step| match step {
        volume::Step::Make { role, size } => Action::MakeVolume {
            volume: id.clone(),
            role,
            size,
        },
        volume::Step::Adopt(role) => Action::AdoptVolume {
            volume: id.clone(),
            role,
        },
        volume::Step::Open { generation, size } => Action::OpenVolume {
            volume: id.clone(),
            generation,
            size,
        },
        volume::Step::Close => Action::CloseVolume { volume: id.clone() },
        volume::Step::Destroy { generation } => Action::DestroyVolume {
            volume: id.clone(),
            generation,
        },
    };
    match assignment.volumes.get(id) {
        Some(order) => volume::judge(order, local, use_of_it).ok()?.map(act),
        // Data that nobody names is closed and kept; only an order that names it destroys it.
        None => (local.open && !use_of_it.held && observed.link.is_assigned())
            .then(|| act(volume::Step::Close)),
    }
}

#[cfg(test)]
mod tests;
