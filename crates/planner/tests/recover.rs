//! Recoveries: what is refused, what becomes the truth, and what comes of the home that was given
//! up.

mod common;

use common::{Cluster, app, spec, volume, with_volume};
use model::ids::NodeId;
use model::sighting::{NodeLevel, VolumeLevel};
use model::spec::{Constraint, Operator};
use model::time::Millis;
use model::{Change, CopyRole, Level, Sighting, State};
use planner::request::{self, MoveRefusal, RecoverRefusal, Refusal};
use planner::session;

fn node(cluster: &Cluster, name: &str) -> NodeId {
    let node = cluster.state().node_named(name);
    node.expect("the node exists").id
}

fn recover(cluster: &mut Cluster) -> Result<request::Recovered, Refusal> {
    cluster.ask(|draft| request::recover_volume(draft, &volume("pg"), None))
}

fn home(cluster: &Cluster) -> Option<NodeId> {
    cluster.state().volume(&volume("pg"))?.home
}

/// `/db` with `pg`, moved from n1 to n2.
fn moved() -> Cluster {
    let mut cluster = Cluster::new(3);
    cluster.put("/db", &with_volume("pg"));
    cluster.settle();
    let to = node(&cluster, "n2");
    let moved = cluster.ask(|draft| request::move_app(draft, &app("/db"), to));
    assert!(matches!(moved, Ok(Some(_))));
    cluster.pass(Millis::seconds(6));
    assert_eq!(cluster.show("/db"), "n2:running");
    cluster
}

/// And n2 dies.
fn lost() -> Cluster {
    let mut cluster = moved();
    cluster.kill("n2");
    cluster.pass(Millis::seconds(6));
    cluster
}

/// n1 tells of its copy of `pg`, which was kept.
fn tell_of_kept(cluster: &mut Cluster, change: impl FnOnce(&mut VolumeLevel)) {
    let n1 = node(cluster, "n1");
    let copy = &cluster.state().volume(&volume("pg")).expect("it is").copies[&n1];
    let (incarnation, sequence) = copy.sighted;
    let mut level = VolumeLevel {
        role: Some(CopyRole::Kept),
        generation: copy.generation,
        movement: copy.movement,
        last: copy.last,
        snapshots: copy.snapshots.clone(),
        ..VolumeLevel::default()
    };
    change(&mut level);
    let seen = [Sighting {
        incarnation,
        sequence: sequence + 1000,
        level: Level::Volume(volume("pg"), level),
    }];
    cluster.decide(|draft| session::sightings(draft, n1, &seen));
}

#[test]
fn a_home_that_failed_once_may_yet_go_on_and_one_that_lacks_the_snapshot_never_will() {
    let mut cluster = lost();
    recover(&mut cluster).expect("n1 kept a copy");
    let generation = cluster
        .state()
        .volume(&volume("pg"))
        .expect("it is")
        .generation;
    tell_of_kept(&mut cluster, |level| level.trouble = Some("no room".into()));
    let n3 = node(&cluster, "n3");
    assert_eq!(
        request::plan_volume_move(cluster.state(), &volume("pg"), n3).map(|_| ()),
        Err(Refusal::Move(MoveRefusal::NotMade(volume("pg"))))
    );
    assert!(matches!(
        recover(&mut cluster),
        Err(Refusal::Recover(RecoverRefusal::Reachable { .. }))
    ));
    tell_of_kept(&mut cluster, |level| level.snapshots.clear());
    let refused = recover(&mut cluster).expect_err("there is no other");
    assert_eq!(
        refused.to_string(),
        "there is no copy of volume pg but the one on n1 that the volume could go on with (n2 is \
         to set one aside): nothing was changed"
    );
    let now = cluster
        .state()
        .volume(&volume("pg"))
        .expect("it is")
        .generation;
    assert_eq!(now, generation);
}

#[test]
fn a_recovery_gives_up_one_volume_and_no_other() {
    let mut cluster = Cluster::new(3);
    let mut both = with_volume("pg");
    both.mounts.extend(with_volume("wal").mounts);
    cluster.put("/db", &both);
    cluster.settle();
    let to = node(&cluster, "n2");
    let moved = cluster.ask(|draft| request::move_app(draft, &app("/db"), to));
    assert!(matches!(moved, Ok(Some(_))));
    cluster.pass(Millis::seconds(6));
    let writer = cluster.active("/db")[0];
    cluster.kill("n2");
    cluster.pass(Millis::seconds(6));
    recover(&mut cluster).expect("n1 kept a copy");
    let restored = State::restore(cluster.state().records(), cluster.state().revision);
    let restored = restored.expect("a state has the spec of every instance");
    for state in [cluster.state(), &restored] {
        assert_eq!(state.volume_holder(&volume("pg")), None);
        assert_eq!(state.volume_holder(&volume("wal")), Some(writer));
    }
    let wal = |draft: &mut _| request::recover_volume(draft, &volume("wal"), None);
    cluster.ask(wal).expect("n1 kept a copy");
    assert_eq!(cluster.state().volume_holder(&volume("wal")), None);
    cluster.settle();
    assert_eq!(cluster.show("/db"), "n1:running n2:running(Recovered)");
}

#[test]
fn nothing_is_received_over_what_is_still_to_be_set_aside() {
    let mut cluster = lost();
    recover(&mut cluster).expect("n1 kept a copy");
    cluster.settle();
    cluster.connect("n2");
    let to = node(&cluster, "n2");
    let moved = cluster.ask(|draft| request::move_app(draft, &app("/db"), to));
    let strayed = MoveRefusal::Strayed {
        volume: volume("pg"),
        node: "n2".into(),
    };
    assert_eq!(moved, Err(Refusal::Move(strayed)));
}

#[test]
fn what_landed_before_its_source_died_becomes_the_truth() {
    let mut cluster = Cluster::new(2);
    cluster.put("/db", &with_volume("pg"));
    cluster.settle();
    cluster.unprepared.insert(app("/db"));
    let to = node(&cluster, "n2");
    let moved = cluster.ask(|draft| request::move_app(draft, &app("/db"), to));
    assert!(matches!(moved, Ok(Some(_))));
    cluster.settle();
    cluster.kill("n1");
    cluster.pass(Millis::seconds(7));
    let plan = recover(&mut cluster).expect("rounds landed on n2");
    let there = &cluster.state().volume(&volume("pg")).expect("it is").copies[&to];
    assert_eq!(there.snapshots.last(), Some(&plan.snapshot));
    assert_eq!((plan.node, plan.snapshot.round), (to, 1));
    cluster.unprepared.clear();
    cluster.settle();
    assert_eq!(cluster.show("/db"), "n1:running(Recovered) n2:running");
}

#[test]
fn a_volume_without_another_copy_stays_as_it_is() {
    let mut cluster = Cluster::new(3);
    cluster.put("/db", &with_volume("pg"));
    cluster.settle();
    assert!(matches!(
        recover(&mut cluster),
        Err(Refusal::Recover(RecoverRefusal::Reachable { .. }))
    ));
    cluster.kill("n1");
    cluster.pass(Millis::seconds(6));
    let before = cluster.state().volume(&volume("pg")).cloned();
    let refused = recover(&mut cluster).expect_err("there is no copy");
    assert_eq!(
        refused.to_string(),
        "there is no copy of volume pg but the one on n1: nothing was changed"
    );
    assert_eq!(cluster.state().volume(&volume("pg")).cloned(), before);
}

#[test]
fn what_was_kept_becomes_the_truth_and_the_home_sets_its_data_aside() {
    let mut cluster = lost();
    let plan = recover(&mut cluster).expect("n1 kept a copy");
    assert!(plan.silent.is_some() && plan.left.is_some());
    assert_eq!((plan.node, plan.newer), (node(&cluster, "n1"), Vec::new()));
    cluster.settle();
    assert_eq!(cluster.show("/db"), "n1:running n2:running(Recovered)");
    cluster.connect("n2");
    cluster.pass(Millis::seconds(1));
    assert_eq!(cluster.show("/db"), "n1:running");
    let to = node(&cluster, "n2");
    let copies = &cluster.state().volume(&volume("pg")).expect("it is").copies;
    assert_eq!(copies[&to].role, CopyRole::Aside);
    assert!(matches!(
        cluster.ask(|draft| request::move_app(draft, &app("/db"), to)),
        Err(Refusal::Move(MoveRefusal::SetAside { .. }))
    ));
    let named = |copy| move |draft: &mut _| request::remove_copy(draft, &volume("pg"), to, copy);
    assert!(matches!(
        cluster.ask(named("pg.g1")),
        Err(Refusal::VolumeCopyMissing { .. })
    ));
    assert_eq!(cluster.ask(named("pg.g2")), Ok(()));
    cluster.settle();
    let copies = &cluster.state().volume(&volume("pg")).expect("it is").copies;
    assert!(!copies.contains_key(&to));
}

#[test]
fn an_app_that_may_not_be_where_its_data_is_waits_and_says_why() {
    let mut cluster = moved();
    let mut pinned = with_volume("pg");
    pinned.constraints = vec![Constraint {
        field: "hostname".into(),
        operator: Operator::Unlike,
        value: Some("10.0.15.11".into()),
    }];
    cluster.put("/db", &pinned);
    cluster.pass(Millis::seconds(1));
    cluster.kill("n2");
    cluster.pass(Millis::seconds(6));
    recover(&mut cluster).expect("n1 kept a copy");
    cluster.pass(Millis::seconds(1));
    assert_eq!(cluster.active("/db"), []);
    let state = cluster.state();
    let record = state.app(&app("/db")).expect("it is there");
    let wish = scheduler::Wish::compile(&record.id, &record.spec).expect("it can be read");
    let why = scheduler::explain(state, &wish).to_string();
    assert!(why.contains("hostname is 10.0.15.11"), "{why}");
}

#[test]
fn a_node_that_is_given_up_goes_once_no_volume_is_at_home_there() {
    let mut cluster = lost();
    let dead = node(&cluster, "n2");
    cluster
        .ask(|draft| request::node_lost(draft, dead))
        .expect("it is silent");
    assert!(cluster.state().node(dead).is_some());
    recover(&mut cluster).expect("n1 kept a copy");
    cluster
        .ask(|draft| request::node_lost(draft, dead))
        .expect("it is silent");
    cluster.settle();
    assert!(cluster.state().node(dead).is_none());
    assert_eq!(home(&cluster), Some(node(&cluster, "n1")));
    assert_eq!(cluster.show("/db"), "n1:running");
}

#[test]
fn volumes_that_came_apart_are_moved_together_again() {
    let mut cluster = Cluster::new(3);
    let mut both = with_volume("pg");
    both.mounts.extend(with_volume("wal").mounts);
    cluster.put("/db", &both);
    cluster.settle();
    let (n1, n3) = (node(&cluster, "n1"), node(&cluster, "n3"));
    cluster.decide(|draft| {
        draft.apply(Change::VolumeHome {
            volume: volume("wal"),
            home: n3,
            generation: model::Generation(1),
        });
    });
    cluster.put("/other", &spec(1));
    let plan = request::plan_volume_move(cluster.state(), &volume("pg"), n3);
    let plan = plan.expect("it may go").expect("it is elsewhere");
    assert_eq!((plan.from, plan.volumes.len()), (n1, 1));
}

#[test]
fn a_move_needs_room_at_its_target() {
    const MIB: u64 = 1 << 20;
    let mut cluster = Cluster::new(2);
    cluster.put("/db", &with_volume("pg"));
    cluster.settle();
    let (from, to) = (node(&cluster, "n1"), node(&cluster, "n2"));
    let seen = |level| Sighting {
        incarnation: model::Incarnation(1),
        sequence: 1000,
        level,
    };
    let live = VolumeLevel {
        role: Some(CopyRole::Live),
        generation: model::Generation(1),
        bytes: Some(100 * MIB),
        ..VolumeLevel::default()
    };
    let holds = [seen(Level::Volume(volume("pg"), live))];
    let machine = cluster.agents["n2"].machine.clone();
    let room = NodeLevel {
        machine,
        room: Some(124 * MIB),
    };
    let has = [seen(Level::Node(Box::new(room)))];
    cluster.decide(|draft| session::sightings(draft, from, &holds));
    cluster.decide(|draft| session::sightings(draft, to, &has));
    let refused = cluster.ask(|draft| request::move_app(draft, &app("/db"), to));
    assert_eq!(
        refused.expect_err("it does not fit").to_string(),
        "volume pg cannot move to n2: 124 MiB free, 125 MiB needed"
    );
}
