//! Which words of a master are obeyed, and in what order what follows is done.

use super::*;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use model::ids::{NodeId, Revision};
use model::instance::{Goal, Placement};
use model::{AppId, AppSpec, Assigned, Resources, Time};

fn machine() -> Machine {
    Machine {
        name: "n1".into(),
        hostname: "n1".into(),
        address: Ipv4Addr::LOCALHOST,
        resources: Resources::default(),
        attributes: BTreeMap::new(),
        ports: (31_000, 32_000),
        stream_port: 4434,
        allow: Vec::new(),
        boot: "a".into(),
        version: "1".into(),
    }
}

fn welcome(cluster: u64, epoch: u64) -> FromMaster {
    FromMaster::Welcome(Box::new(Welcome {
        cluster: ClusterId(cluster),
        epoch: Epoch(epoch),
        node: NodeId(1),
        subnet: (Ipv4Addr::new(10, 32, 0, 0), 12),
        overlay: Ipv4Addr::new(10, 32, 0, 11),
    }))
}

fn assignment(revision: u64, births: &[u64]) -> Assignment {
    let assigned = Assigned {
        app: AppId::parse("/web").unwrap(),
        slot: 0,
        version: Time(1),
        spec: AppSpec::default().into(),
        placement: Placement::default(),
        goal: Goal::Run,
    };
    let id = |birth: &u64| InstanceId {
        birth: *birth,
        slot: 0,
    };
    Assignment {
        revision: Revision(revision),
        instances: births
            .iter()
            .map(|birth| (id(birth), assigned.clone()))
            .collect(),
        ..Assignment::default()
    }
}

fn whole(epoch: u64, whole: Assignment) -> FromMaster {
    FromMaster::Assignment {
        epoch: Epoch(epoch),
        whole: Box::new(whole),
    }
}

fn delta(epoch: u64, base: &Assignment, next: &Assignment) -> FromMaster {
    let added = next
        .instances
        .iter()
        .filter(|(id, _)| !base.instances.contains_key(id))
        .map(|(id, assigned)| (*id, Some(assigned.clone())));
    FromMaster::AssignmentDelta {
        epoch: Epoch(epoch),
        delta: Box::new(AssignmentDelta {
            base: base.revision,
            revision: next.revision,
            instances: added.collect(),
            volumes: BTreeMap::new(),
            fingerprint: next.fingerprint(),
        }),
    }
}

fn joined(epoch: u64) -> Session {
    let mut session = Session::start(Remembered::default(), "a");
    session.connected(machine());
    assert_eq!(
        session.received(welcome(1, epoch)),
        vec![Effect::PersistMemory, Effect::Joined { all: true }]
    );
    session
}

#[test]
fn an_assignment_is_persisted_before_it_is_acted_on() {
    let mut session = joined(1);
    assert_eq!(session.link(), Link::Joined { epoch: Epoch(1) });
    let first = assignment(5, &[1]);
    assert_eq!(
        session.received(whole(1, first.clone())),
        vec![Effect::PersistAssignment, Effect::Assigned]
    );
    assert_eq!(session.link(), Link::Assigned { epoch: Epoch(1) });
    let second = assignment(7, &[1, 2]);
    let change = delta(1, &first, &second);
    assert_eq!(
        session.received(change.clone()),
        vec![Effect::PersistAssignment, Effect::Assigned]
    );
    assert_eq!(session.assignment(), &second);
    // The same again changes nothing, and neither does an older whole.
    assert_eq!(session.received(change), vec![]);
    assert_eq!(session.received(whole(1, first)), vec![]);
    assert_eq!(session.assignment(), &second);
}

#[test]
fn a_delta_that_does_not_fit_asks_for_the_whole_once_and_nothing_climbs_meanwhile() {
    let mut session = joined(1);
    session.received(whole(1, assignment(5, &[1])));
    let ask = vec![Effect::Say(FromAgent::WholeAssignment)];
    let stray = delta(1, &assignment(6, &[1]), &assignment(8, &[1, 2]));
    assert_eq!(session.received(stray.clone()), ask);
    assert_eq!(session.received(stray), vec![]);
    assert_eq!(session.link(), Link::Joined { epoch: Epoch(1) });
    session.received(whole(1, assignment(8, &[1, 2])));
    assert_eq!(session.link(), Link::Assigned { epoch: Epoch(1) });
}

/// As between neighbouring versions, of which one knows kinds of entries that the other does not.
#[test]
fn a_directory_of_which_less_is_known_here_is_taken_whole_after_each_delta() {
    let mut session = joined(1);
    let directory = |revision| Directory {
        revision: Revision(revision),
        ..Directory::default()
    };
    let whole = |revision| FromMaster::Directory {
        epoch: Epoch(1),
        whole: Box::new(directory(revision)),
    };
    session.received(whole(5));
    for base in 5..8 {
        let delta = FromMaster::DirectoryDelta {
            epoch: Epoch(1),
            delta: Box::new(DirectoryDelta {
                base: Revision(base),
                revision: Revision(base + 1),
                fingerprint: 4711,
                ..DirectoryDelta::default()
            }),
        };
        let ask = vec![Effect::Say(FromAgent::WholeDirectory)];
        assert_eq!(session.received(delta.clone()), ask);
        assert_eq!(session.received(delta), vec![], "once");
        let took = vec![Effect::PersistDirectory, Effect::Directed];
        assert_eq!(session.received(whole(base + 1)), took);
        assert_eq!(session.directory(), &directory(base + 1));
    }
}

#[test]
fn orders_of_another_leadership_are_not_obeyed() {
    let mut session = joined(2);
    session.received(whole(2, assignment(5, &[1])));
    assert_eq!(session.received(whole(1, assignment(9, &[]))), vec![]);
    assert_eq!(session.assignment(), &assignment(5, &[1]));
    let newer = Reason::NewerLeadership {
        joined: Epoch(2),
        spoken: Epoch(3),
    };
    assert_eq!(
        session.received(whole(3, assignment(9, &[]))),
        vec![Effect::Leave(newer)]
    );
    assert_eq!(session.link(), Link::Down);

    session.connected(machine());
    let older = Reason::OlderLeadership {
        ours: Epoch(2),
        theirs: Epoch(1),
    };
    assert_eq!(session.received(welcome(1, 1)), vec![Effect::Leave(older)]);
}

#[test]
fn a_restored_master_is_obeyed_under_its_higher_epoch_though_its_revision_is_lower() {
    let mut session = joined(2);
    session.received(whole(2, assignment(50, &[1])));
    session.connected(machine());
    session.received(welcome(1, 3));
    session.received(whole(3, assignment(10, &[2])));
    assert_eq!(session.assignment(), &assignment(10, &[2]));
}

#[test]
fn a_master_of_another_cluster_is_refused_by_name() {
    let mut session = joined(2);
    session.lost();
    session.connected(machine());
    let other = Reason::OtherCluster {
        ours: ClusterId(1),
        theirs: ClusterId(9),
    };
    assert_eq!(session.received(welcome(9, 7)), vec![Effect::Leave(other)]);
    assert_eq!(session.memory().epoch, Epoch(2));
}

#[test]
fn a_session_that_comes_back_under_the_same_leadership_repeats_only_the_unacknowledged() {
    let mut session = joined(2);
    session.lost();
    assert_eq!(session.link(), Link::Down);
    let hello = session.connected(machine());
    assert_eq!((hello.cluster, hello.epoch), (Some(ClusterId(1)), Epoch(2)));
    assert_eq!(
        session.received(welcome(1, 2)),
        vec![Effect::Joined { all: false }]
    );
}

#[test]
fn after_a_boot_what_was_assigned_is_over_until_it_is_assigned_no_more() {
    let mut session = joined(1);
    session.received(whole(1, assignment(5, &[1, 2])));
    let remembered = session.remembered.clone();

    let restarted = Session::start(remembered.clone(), "a");
    assert_eq!(restarted.over().count(), 0);
    assert_eq!(restarted.incarnation(), Incarnation(2));

    let mut booted = Session::start(remembered, "b");
    assert_eq!(booted.over().count(), 2);
    // Once more, before anybody was told: it is on disk with the boot.
    let again = Session::start(booted.remembered.clone(), "b");
    assert_eq!(again.over().count(), 2);

    booted.connected(machine());
    booted.received(welcome(1, 1));
    assert_eq!(
        booted.received(whole(1, assignment(6, &[2]))),
        vec![
            Effect::PersistAssignment,
            Effect::PersistMemory,
            Effect::Assigned
        ]
    );
    assert_eq!(booted.over().map(|id| id.birth).collect::<Vec<_>>(), [2]);
}
