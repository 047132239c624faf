//! What to do next, so that this node comes to have what it is assigned.
//!
//! ```text
//!            Prepare ends here ┐
//! nothing → pulled → rooted → attached → created → running → ended → removed
//!    climbing needs this session's assignment │ stop, kill, remove do not
//! ```
//!
//! A move's source adds a way down that can be taken back, and its target waits at *attached*:
//!
//! ```text
//! running ── sealed: signal, else freeze ──▶ frozen ── Unseal ──▶ thawed
//!                                              └── handed over ──▶ killed, then released
//! ```
//! *Guarantees.* At most one action for one subject; none for a subject in flight. An instance
//! that has ended, or whose machine has booted since, is never started. Without a session
//! nothing climbs and what runs is kept, save what was already told to stop. An assigned
//! instance's remains are removed only when the master has its exit.
//!
//! *Assumptions.* [`Observed`] is what the kernel and the disk say, not what was hoped for; the
//! assignment is on disk before it is acted on (see [`crate::session`]).

use model::ids::{InstanceId, VolumeId};
use model::instance::{Goal, StopCause};
use model::sighting::Subject;
use model::volume::{CopyRole, RoleFile, VolumeOrder};
use model::{Assigned, Assignment, Millis, Time};

use crate::action::Action;
use crate::observed::{Local, LocalVolume, Observed, Stage};
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

/// Volumes of which a snapshot is being received that no order asks for any more: its source may
/// let whoever asks for it wait for ever.
pub fn unwanted_receives(assignment: &Assignment, observed: &Observed) -> Vec<VolumeId> {
    let is_wanted = |action: &Action| {
        let Action::Receive {
            volume,
            generation,
            from,
            snapshot,
            ..
        } = action
        else {
            return true;
        };
        matches!(assignment.volumes.get(volume), Some(VolumeOrder::Land {
            generation: ordered,
            from: source,
            snapshot: Some(wanted),
            ..
        }) if (ordered, source, wanted) == (generation, from, snapshot))
    };
    if !observed.link.is_assigned() {
        return Vec::new();
    }
    let flights = observed.in_flight.iter();
    flights
        .filter(|(_, flight)| !is_wanted(&flight.action))
        .filter_map(|(subject, _)| match subject {
            Subject::Volume(volume) => Some(volume.clone()),
            Subject::Instance(_) | Subject::Node(_) => None,
        })
        .collect()
}

/// The first volume that an instance needs and that is not open under the ordered generation.
pub fn waits_for<'a>(
    assigned: &'a Assigned,
    assignment: &Assignment,
    observed: &Observed,
) -> Option<&'a VolumeId> {
    assigned.spec.volumes().map(|(id, _)| id).find(|id| {
        let order = assignment.volumes.get(*id);
        let Some(generation) = order.and_then(VolumeOrder::usable) else {
            return true;
        };
        let ready = |file: &RoleFile| file.role == CopyRole::Live && file.generation == generation;
        !observed
            .volumes
            .get(*id)
            .is_some_and(|local| local.open && local.file.as_ref().is_some_and(ready))
    })
}

/// As [`converge`], without regard to earlier failures.
fn wanted(assignment: &Assignment, observed: &Observed, now: Time) -> Vec<Action> {
    let volumes = observed.volumes_with(assignment);
    let instances = observed.instances_with(assignment);
    let for_volumes = volumes
        .into_iter()
        .filter_map(|id| volume_action(id, assignment, observed));
    let for_instances = instances
        .into_iter()
        .filter_map(|id| instance_action(id, assignment, observed, now));
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
        None => descend(id, None, local, Seal::None, now),
        Some(assigned) => {
            let seal = seal(assigned, assignment, observed);
            if assigned.goal.is_stop() {
                return descend(id, Some(assigned), local, seal, now);
            }
            let waits = waits_for(assigned, assignment, observed).is_some();
            stand(id, local, seal, waits).unwrap_or_else(|| {
                climb(id, assigned, &local.stage).filter(|action| match action {
                    Action::Create { .. } => assigned.goal == Goal::Run && !waits,
                    Action::Start { .. } => !waits,
                    _ => true,
                })
            })
        }
    }
}

/// How far an instance's volumes are with being sealed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seal {
    /// No order says so.
    None,
    /// The role is not on disk yet, so that nothing may be stopped for it.
    Ordered,
    Persisted,
}

fn seal(assigned: &Assigned, assignment: &Assignment, observed: &Observed) -> Seal {
    let mut seal = Seal::None;
    for (id, _) in assigned.spec.volumes() {
        let Some(VolumeOrder::Seal { snapshot, .. }) = assignment.volumes.get(id) else {
            continue;
        };
        let persisted = observed.volumes.get(id).is_some_and(|local| {
            let sealed = |file: &RoleFile| {
                file.role == CopyRole::Sealed && file.movement == Some(snapshot.movement)
            };
            local.file.as_ref().is_some_and(sealed)
                && (local.flushed == Some(*snapshot) || local.snapshots.contains(snapshot))
        });
        seal = match (seal, persisted) {
            (Seal::Ordered, _) | (_, false) => Seal::Ordered,
            (Seal::None | Seal::Persisted, true) => Seal::Persisted,
        };
    }
    seal
}

/// What a seal, or its end, asks of an instance that is to run. The outer `None`: nothing.
fn stand(instance: InstanceId, local: &Local, seal: Seal, waits: bool) -> Option<Option<Action>> {
    match (&local.stage, seal) {
        (Stage::Created { .. }, Seal::Persisted) => Some(Some(Action::Kill { instance })),
        (Stage::Created { .. }, Seal::Ordered) => Some(None),
        (Stage::Running { .. }, _) if local.killed => Some(Some(Action::Release { instance })),
        (Stage::Running { .. }, Seal::Persisted) if !local.frozen => {
            Some(Some(Action::Freeze { instance }))
        }
        // Only the leader's word, that the volumes are live here again, thaws.
        (Stage::Running { .. }, Seal::None) if local.frozen && !waits => {
            Some(Some(Action::Thaw { instance }))
        }
        (Stage::Running { .. }, _) => Some(None),
        _ => None,
    }
}

/// Whether an instance has everything but its process.
pub(crate) fn is_prepared(assigned: &Assigned, stage: &Stage) -> bool {
    let next = climb(InstanceId::default(), assigned, stage);
    matches!(next, Some(Action::Create { .. }))
}

/// Whether its volumes are being sealed, or are: its checks rest, and no command is run in it.
pub fn is_sealed(assigned: &Assigned, assignment: &Assignment, observed: &Observed) -> bool {
    let sealed = |file: &RoleFile| file.role == CopyRole::Sealed;
    let of_it = |id: &VolumeId| {
        observed
            .volumes
            .get(id)
            .and_then(|local| local.file.as_ref())
    };
    seal(assigned, assignment, observed) != Seal::None
        || assigned
            .spec
            .volumes()
            .any(|(id, _)| of_it(id).is_some_and(sealed))
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
    seal: Seal,
    now: Time,
) -> Option<Action> {
    match &local.stage {
        Stage::Created { .. } => Some(Action::Kill { instance }),
        Stage::Running { .. } if local.frozen => match (local.killed, seal) {
            (true, _) => Some(Action::Release { instance }),
            // It may yet be wanted again, and answers nobody.
            (false, Seal::Ordered | Seal::Persisted) => None,
            (false, Seal::None) => Some(Action::KillAll { instance }),
        },
        Stage::Running { .. } if seal == Seal::Ordered && is_moving(assigned) => None,
        Stage::Running { .. } => {
            let grace = grace(assigned);
            match local.stopping {
                Some(sent) if seal == Seal::Persisted => {
                    (sent + grace <= now).then_some(Action::Freeze { instance })
                }
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

fn is_moving(assigned: Option<&Assigned>) -> bool {
    let goal = assigned.map(|assigned| assigned.goal);
    matches!(
        goal,
        Some(Goal::Stop {
            cause: StopCause::Moving,
            ..
        })
    )
}

/// How long an instance has between the stop signal and SIGKILL.
fn grace(assigned: Option<&Assigned>) -> Millis {
    match assigned.map(|assigned| assigned.goal) {
        // Its replacement holds its addresses: every moment of it answers in another's name. What
        // it writes to a volume that was recovered elsewhere is of no use to it.
        Some(Goal::Stop {
            cause: StopCause::NodeLost | StopCause::Recovered,
            ..
        }) => Millis(0),
        Some(Goal::Stop { grace, .. }) => grace,
        Some(Goal::Prepare | Goal::Run) | None => Millis(0),
    }
}

fn volume_action(id: &VolumeId, assignment: &Assignment, observed: &Observed) -> Option<Action> {
    let none = LocalVolume::default();
    let local = observed.volumes.get(id).unwrap_or(&none);
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
        awake: observed.instances.iter().any(|(instance, local)| {
            local.stage.is_alive()
                && !local.frozen
                && assignment.instances.get(instance).is_none_or(uses)
        }) || observed.in_flight.values().any(|flight| {
            matches!(&flight.action, Action::Create { instance } | Action::Thaw { instance }
                if assignment.instances.get(instance).is_none_or(uses))
        }),
        starting: assignment.instances.iter().any(|(instance, assigned)| {
            let local = observed.instances.get(instance);
            let stage = local.map(|local| &local.stage);
            let begun = matches!(
                stage,
                Some(Stage::Running { .. } | Stage::Ended(_) | Stage::Removed(_))
            );
            assigned.goal == Goal::Run && uses(assigned) && !begun
        }),
    };
    let act = |step| match step {
        volume::Step::Make { role, size } => Action::MakeVolume {
            volume: id.clone(),
            role,
            size,
        },
        volume::Step::Persist(role) => Action::PersistRole {
            volume: id.clone(),
            role,
        },
        volume::Step::Hook(snapshot) => match hooked(id, assignment, observed) {
            Some(instance) => Action::RunHook {
                instance,
                volume: id.clone(),
                snapshot,
            },
            None => Action::Snapshot {
                volume: id.clone(),
                snapshot,
            },
        },
        volume::Step::Flush(snapshot) => Action::SyncVolume {
            volume: id.clone(),
            snapshot,
        },
        volume::Step::CheckStill(snapshot) => Action::CheckStill {
            volume: id.clone(),
            snapshot,
        },
        volume::Step::Snapshot(snapshot) => Action::Snapshot {
            volume: id.clone(),
            snapshot,
        },
        volume::Step::Receive {
            generation,
            from,
            snapshot,
            base,
            needed,
        } => Action::Receive {
            volume: id.clone(),
            generation,
            from,
            snapshot,
            base,
            needed,
        },
        volume::Step::SyncReceived(snapshot) => Action::SyncReceived {
            volume: id.clone(),
            snapshot,
        },
        volume::Step::Promote { snapshot, size } => Action::Promote {
            volume: id.clone(),
            snapshot,
            size,
        },
        volume::Step::Drop(snapshot) => Action::DropSnapshot {
            volume: id.clone(),
            snapshot,
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
        volume::Step::SetAside { generation } => Action::SetAside {
            volume: id.clone(),
            generation,
            last: local.file.and_then(|file| file.last),
        },
    };
    match assignment.volumes.get(id) {
        Some(order) => volume::judge(order, local, use_of_it).ok()?.map(act),
        // Data that nobody names is closed and kept; only an order that names it destroys it.
        None => (local.open && !use_of_it.held && observed.link.is_assigned())
            .then(|| act(volume::Step::Close)),
    }
}

/// The running instance whose hook comes before a snapshot of the volume.
fn hooked(id: &VolumeId, assignment: &Assignment, observed: &Observed) -> Option<InstanceId> {
    let mut running = observed
        .instances
        .iter()
        .filter(|(_, local)| matches!(local.stage, Stage::Running { .. }) && !local.frozen);
    let has = |assigned: &Assigned| {
        assigned.spec.move_hook().is_some() && assigned.spec.volumes().any(|(v, _)| v == id)
    };
    let found = running.find(|(id, _)| assignment.instances.get(id).is_some_and(has));
    found.map(|(id, _)| *id)
}

#[cfg(test)]
mod tests;
