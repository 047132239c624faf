//! The ladder up and down, what blocks it, and what must never be done.

use super::*;
use std::sync::Arc;

use model::ids::{AppId, Epoch, Generation};
use model::instance::{Exit, ExitStatus, Placement};
use model::sighting::Subject;
use model::spec::{Container, ImageContainer, Mount, MountSource, VolumeForm};
use model::{AppSpec, Mebibytes};

use crate::observed::{Failure, InFlight, Link, LocalVolume};

const ID: InstanceId = InstanceId { birth: 1, slot: 0 };

fn assigned(goal: Goal, mounts: &[&str]) -> Assigned {
    let mount = |name: &&str| Mount {
        path: format!("/{name}"),
        source: MountSource::Volume {
            volume: VolumeId::parse(name).unwrap(),
            size: None,
            form: VolumeForm::Flocker,
        },
        read_only: false,
    };
    Assigned {
        app: AppId::parse("/web").unwrap(),
        slot: 0,
        version: Time(1),
        spec: Arc::new(AppSpec {
            container: Container::Image(Box::new(ImageContainer {
                image: "web:1".into(),
                ..ImageContainer::default()
            })),
            mounts: mounts.iter().map(mount).collect(),
            ..AppSpec::default()
        }),
        placement: Placement {
            address: Some([10, 32, 1, 1].into()),
            ..Placement::default()
        },
        goal,
    }
}

fn assignment(goal: Goal) -> Assignment {
    Assignment {
        instances: [(ID, assigned(goal, &[]))].into(),
        ..Assignment::default()
    }
}

fn stop(grace: u64) -> Goal {
    Goal::Stop {
        cause: StopCause::ScaledDown,
        grace: Millis(grace),
    }
}

fn at(stage: Stage) -> Observed {
    let local = Local {
        stage,
        ..Local::default()
    };
    Observed {
        link: Link::Assigned { epoch: Epoch(1) },
        instances: [(ID, local)].into(),
        ..Observed::default()
    }
}

fn ended() -> Stage {
    Stage::Ended(Exit {
        status: ExitStatus::Code(1),
        out_of_memory: false,
        last_line: None,
    })
}

const RUNNING: Stage = Stage::Running {
    pid: 7,
    since: Time(5),
};
const CREATED: Stage = Stage::Created { pid: 7 };

#[test]
fn an_instance_climbs_one_step_at_a_time_and_rests_when_it_runs_or_has_ended() {
    let steps: Vec<Vec<Action>> = [
        Stage::Nothing,
        Stage::Pulled,
        Stage::Rooted,
        Stage::Attached,
        CREATED,
        RUNNING,
        ended(),
        Stage::Removed(None),
    ]
    .into_iter()
    .map(|stage| converge(&assignment(Goal::Run), &at(stage), Time(9)))
    .collect();
    let instance = ID;
    assert_eq!(
        steps,
        vec![
            vec![Action::PullImage { instance }],
            vec![Action::PrepareRoot { instance }],
            vec![Action::AttachNetwork { instance }],
            vec![Action::Create { instance }],
            vec![Action::Start { instance }],
            vec![],
            vec![],
            vec![],
        ]
    );
}

#[test]
fn an_heir_is_prepared_and_gets_no_process() {
    let prepared = converge(&assignment(Goal::Prepare), &at(Stage::Attached), Time(9));
    assert_eq!(prepared, vec![]);
}

#[test]
fn without_this_sessions_assignment_nothing_climbs_and_what_runs_is_kept() {
    for link in [Link::Down, Link::Joined { epoch: Epoch(1) }] {
        for stage in [Stage::Nothing, Stage::Attached, CREATED, RUNNING] {
            let observed = Observed { link, ..at(stage) };
            assert_eq!(converge(&assignment(Goal::Run), &observed, Time(9)), vec![]);
            // An agent that lost its assignment kills nothing.
            assert_eq!(converge(&Assignment::default(), &observed, Time(9)), vec![]);
        }
        let told = Observed {
            link,
            ..at(RUNNING)
        };
        let grace = Millis(10);
        assert_eq!(
            converge(&assignment(stop(10)), &told, Time(9)),
            vec![Action::Stop {
                instance: ID,
                grace
            }]
        );
    }
}

#[test]
fn a_stopped_instance_is_killed_when_its_grace_is_over() {
    let instance = ID;
    let mut observed = at(RUNNING);
    let order = assignment(stop(10));
    observed.instances.get_mut(&ID).unwrap().stopping = Some(Time(100));
    assert_eq!(converge(&order, &observed, Time(109)), vec![]);
    assert_eq!(wake_at(&order, &observed, Time(109)), Some(Time(110)));
    let kill = vec![Action::Kill { instance }];
    assert_eq!(converge(&order, &observed, Time(110)), kill);
    // No grace, nobody's any more, or replaced elsewhere: at once.
    for order in [
        assignment(stop(0)),
        Assignment::default(),
        assignment(Goal::Stop {
            cause: StopCause::NodeLost,
            grace: Millis(60_000),
        }),
    ] {
        assert_eq!(converge(&order, &at(RUNNING), Time(9)), kill);
    }
}

#[test]
fn what_is_left_is_removed_only_when_the_master_has_the_exit() {
    let order = assignment(stop(10));
    let mut observed = at(ended());
    assert_eq!(converge(&order, &observed, Time(9)), vec![]);
    observed.instances.get_mut(&ID).unwrap().reported = true;
    let remove = vec![Action::Remove { instance: ID }];
    assert_eq!(converge(&order, &observed, Time(9)), remove);
    // Nobody waits for the exit of what is not assigned any more.
    assert_eq!(
        converge(&Assignment::default(), &at(ended()), Time(9)),
        remove
    );
    // What was stopped before it began is removed, so that its removal can be confirmed.
    let none = Observed {
        instances: Default::default(),
        ..at(Stage::Nothing)
    };
    assert_eq!(converge(&order, &none, Time(9)), remove);
}

#[test]
fn what_was_assigned_before_a_boot_counts_as_ended() {
    let mut observed = at(RUNNING);
    let other = InstanceId { birth: 2, slot: 1 };
    observed.count_as_over(&[ID, other].into());
    let unknown = Stage::Ended(crate::observed::unknown_exit());
    assert_eq!(observed.instances[&ID].stage, unknown);
    assert_eq!(observed.instances[&other].stage, unknown);
    observed.instances.remove(&other);
    assert_eq!(converge(&assignment(Goal::Run), &observed, Time(9)), vec![]);
}

#[test]
fn a_subject_in_flight_is_left_alone_but_an_unwanted_pull_is_cancelled() {
    let mut observed = at(Stage::Nothing);
    let action = Action::PullImage { instance: ID };
    observed.in_flight.insert(
        Subject::Instance(ID),
        InFlight {
            action,
            since: Time(1),
        },
    );
    assert_eq!(converge(&assignment(Goal::Run), &observed, Time(9)), vec![]);
    assert_eq!(cancelled(&assignment(Goal::Run), &observed), vec![]);
    assert_eq!(converge(&assignment(stop(0)), &observed, Time(9)), vec![]);
    assert_eq!(cancelled(&assignment(stop(0)), &observed), vec![ID]);
}

#[test]
fn a_snapshot_that_no_order_asks_for_any_more_is_waited_for_no_longer() {
    let id = VolumeId::parse("pg").unwrap();
    let snapshot = |round| model::Snapshot {
        movement: model::MoveId(7),
        round,
    };
    let from = model::volume::Source {
        node: model::NodeId(1),
        address: "10.0.15.11:4434".parse().unwrap(),
    };
    let land = |round| VolumeOrder::Land {
        generation: Generation(1),
        movement: model::MoveId(7),
        from,
        snapshot: Some(snapshot(round)),
        base: None,
        last: true,
        needed: 0,
    };
    let mut observed = at(Stage::Nothing);
    let action = Action::Receive {
        volume: id.clone(),
        generation: Generation(1),
        from,
        snapshot: snapshot(3),
        base: None,
        needed: 0,
    };
    let flight = InFlight {
        action,
        since: Time(1),
    };
    observed
        .in_flight
        .insert(Subject::Volume(id.clone()), flight);
    let mut assignment = Assignment::default();
    assignment.volumes.insert(id.clone(), land(3));
    assert_eq!(unwanted_receives(&assignment, &observed), vec![]);
    assignment.volumes.insert(id.clone(), land(4));
    assert_eq!(unwanted_receives(&assignment, &observed), vec![id.clone()]);
    assignment.volumes.clear();
    assert_eq!(unwanted_receives(&assignment, &observed), vec![id]);
    // Whether it is asked for is not known.
    observed.link = Link::Down;
    assert_eq!(unwanted_receives(&assignment, &observed), vec![]);
}

#[test]
fn a_failed_action_waits_for_its_time_and_does_not_hold_up_a_removal() {
    let mut observed = at(Stage::Nothing);
    let action = Action::PullImage { instance: ID };
    observed.failures.insert(
        Subject::Instance(ID),
        Failure {
            action: action.clone(),
            why: "registry answered 404".into(),
            times: 1,
            retry_at: Time(50),
        },
    );
    let order = assignment(Goal::Run);
    assert_eq!(converge(&order, &observed, Time(49)), vec![]);
    assert_eq!(wake_at(&order, &observed, Time(49)), Some(Time(50)));
    assert_eq!(converge(&order, &observed, Time(50)), vec![action]);
    assert_eq!(
        converge(&assignment(stop(0)), &observed, Time(49)),
        vec![Action::Remove { instance: ID }]
    );
}

#[test]
fn an_instance_waits_for_its_volumes_under_the_ordered_generation() {
    let pg = VolumeId::parse("pg").unwrap();
    let (generation, size) = (Generation(2), Mebibytes::whole(64));
    let order = Assignment {
        instances: [(ID, assigned(Goal::Run, &["pg"]))].into(),
        volumes: [(
            pg.clone(),
            VolumeOrder::Live {
                generation,
                size,
                fresh: false,
            },
        )]
        .into(),
        ..Assignment::default()
    };
    let with = |generation, open| {
        let mut observed = at(Stage::Attached);
        let local = LocalVolume {
            file: Some(RoleFile::live(generation)),
            open,
            ..LocalVolume::default()
        };
        observed.volumes.insert(pg.clone(), local);
        observed
    };
    let role = RoleFile::live(generation);
    let volume = pg.clone();
    assert_eq!(
        converge(&order, &with(Generation(1), true), Time(9)),
        vec![Action::PersistRole { volume, role }]
    );
    let volume = pg.clone();
    assert_eq!(
        converge(&order, &with(generation, false), Time(9)),
        vec![Action::OpenVolume {
            volume,
            generation,
            size
        }]
    );
    assert_eq!(
        converge(&order, &with(generation, true), Time(9)),
        vec![Action::Create { instance: ID }]
    );
    // Data that nobody names any more is closed, and kept.
    let mut unnamed = with(generation, true);
    unnamed.instances.clear();
    assert_eq!(
        converge(&Assignment::default(), &unnamed, Time(9)),
        vec![Action::CloseVolume { volume: pg }]
    );
}
