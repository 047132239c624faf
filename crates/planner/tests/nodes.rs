//! Nodes that fall silent, die, come back, are drained and given up; presence and sessions.

mod common;

use common::{Cluster, app, machine, spec, volume, with_volume};
use model::ids::{ClusterId, Epoch, Incarnation, NodeId};
use model::instance::{ExitStatus, Rung};
use model::session::{Hello, PROTOCOL};
use model::sighting::InstanceLevel;
use model::spec::{FixedAddress, Unreachable};
use model::time::{Millis, Time};
use model::{Change, Level, Presence, Sighting};
use planner::presence::Watch;
use planner::request::{self, Force, Refusal};
use planner::session;

#[test]
fn a_cut_nodes_instances_run_elsewhere_and_nothing_runs_twice_when_it_is_back() {
    let mut cluster = Cluster::new(4);
    let fixed = FixedAddress {
        address: "10.255.0.10".parse().unwrap(),
        prefix: 24,
    };
    let mut web = spec(1);
    web.fixed_addresses = vec![fixed];
    cluster.put("/web", &web);
    cluster.put("/many", &spec(4));
    cluster.settle();
    assert_eq!(cluster.show("/web"), "n1:running");
    cluster.cut("n1");
    cluster.pass(Millis(4500));
    assert_eq!(cluster.show("/web"), "n1:running");
    cluster.pass(Millis(1500));
    assert_eq!(cluster.show("/web"), "n1:running(NodeLost) n3:running");
    assert_eq!(cluster.active("/many").len(), 4);
    let holder = cluster.state().fixed_address_holder(fixed.address);
    assert_eq!(holder, Some(cluster.active("/web")[0]));

    cluster.connect("n1");
    cluster.settle();
    assert_eq!(cluster.show("/web"), "n3:running");
    assert_eq!(cluster.active("/many").len(), 4);
    let n1 = cluster.state().node_named("n1").unwrap();
    assert_eq!((n1.presence, n1.instances.len()), (Presence::Here, 0));
}

#[test]
fn a_volume_waits_for_its_node() {
    let mut cluster = Cluster::new(3);
    cluster.put("/db", &with_volume("pg"));
    cluster.settle();
    let before = cluster.active("/db");
    assert_eq!(cluster.show("/db"), "n1:running");
    cluster.cut("n1");
    cluster.pass(Millis::seconds(60));
    assert_eq!(cluster.show("/db"), "n1:running");
    cluster.connect("n1");
    cluster.settle();
    assert_eq!(cluster.active("/db"), before);

    cluster.kill("n1");
    cluster.pass(Millis::seconds(60));
    assert_eq!(cluster.active("/db"), before);
    cluster.connect("n1");
    let state = cluster.state();
    let ended = state.instance(before[0]).unwrap();
    assert_eq!(ended.rung, Rung::Ended);
    assert_eq!(
        ended.exit.as_ref().map(|exit| &exit.status),
        Some(&ExitStatus::Unknown)
    );
    cluster.settle();
    assert_eq!(cluster.show("/db"), "n1:running");
    assert_ne!(cluster.active("/db"), before);
}

#[test]
fn a_volume_has_one_tenant_until_that_is_gone() {
    let mut cluster = Cluster::new(2);
    cluster.put("/db", &with_volume("pg"));
    cluster.settle();
    cluster.put("/other", &with_volume("pg"));
    cluster.settle();
    assert_eq!(cluster.show("/other"), "");
    assert_eq!(
        cluster.ask(|draft| request::remove_volume(draft, &volume("pg"))),
        Err(Refusal::VolumeInUse {
            volume: volume("pg"),
            tenant: app("/db")
        })
    );
    cluster.stubborn.insert(app("/db"));
    cluster
        .ask(|draft| request::remove_app(draft, &app("/db"), Force::No))
        .unwrap();
    cluster.settle();
    assert_eq!(cluster.show("/other"), "");
    cluster.stubborn.clear();
    cluster.settle();
    assert_eq!(cluster.show("/other"), "n1:running");

    cluster
        .ask(|draft| request::remove_app(draft, &app("/other"), Force::No))
        .unwrap();
    cluster.settle();
    cluster
        .ask(|draft| request::remove_volume(draft, &volume("pg")))
        .unwrap();
    cluster.settle();
    assert_eq!(cluster.state().volume(&volume("pg")), None);
    assert!(cluster.agents["n1"].volumes.is_empty());
}

#[test]
fn creating_a_volume_again_changes_nothing_and_differing_wishes_are_refused() {
    let mut cluster = Cluster::new(2);
    let n2 = cluster.agents["n2"].node;
    let mut create = |size: Option<u64>, node| {
        let size = size.map(model::Quantity::whole);
        cluster.ask(|draft| request::create_volume(draft, volume("pg"), size, node))
    };
    assert_eq!(create(None, Some(n2)), Ok(true));
    assert_eq!(create(None, None), Ok(false));
    assert_eq!(create(Some(1024), Some(n2)), Ok(false));
    let differs = create(Some(5), None).map_err(|refusal| refusal.to_string());
    assert_eq!(differs, Err("volume pg exists with 1 GiB on n2".to_owned()));
    assert_eq!(
        create(None, Some(NodeId(9))),
        Err(Refusal::NoNode(NodeId(9)))
    );
    cluster.put("/db", &with_volume("pg"));
    cluster.settle();
    assert_eq!(cluster.show("/db"), "n2:running");
    let mut two = with_volume("pg");
    two.instances = 2;
    let refused = cluster.ask(|d| request::put_app(d, app("/db"), two, Force::No));
    assert!(matches!(
        refused,
        Err(Refusal::VolumeShared { instances: 2, .. })
    ));
}

#[test]
fn a_changed_app_with_a_volume_stops_before_it_starts() {
    let mut cluster = Cluster::new(2);
    let db = with_volume("pg");
    cluster.put("/db", &db);
    cluster.settle();
    cluster.stubborn.insert(app("/db"));
    cluster.put("/db", &common::changed(&db, "2"));
    cluster.settle();
    assert_eq!(cluster.show("/db"), "n1:stopping(Replaced)");
    cluster.stubborn.clear();
    cluster.settle();
    assert_eq!(cluster.show("/db"), "n1:running");
}

#[test]
fn unreachable_strategies_are_honoured() {
    let mut cluster = Cluster::new(2);
    let mut patient = spec(1);
    patient.unreachable = Some(Unreachable::After {
        inactive: Millis::seconds(20),
        expunge: Millis::seconds(20),
    });
    let mut never = spec(1);
    never.unreachable = Some(Unreachable::Disabled);
    cluster.put("/patient", &patient);
    cluster.settle();
    assert_eq!(cluster.show("/patient"), "n1:running");
    // Spread puts the second on the other node: make both be on n1.
    cluster.ask(|d| request::drain(d, NodeId(1))).unwrap();
    cluster.put("/never", &never);
    cluster.settle();
    cluster.ask(|d| request::undrain(d, NodeId(1))).unwrap();
    cluster.cut("n1");
    cluster.pass(Millis::seconds(24));
    assert_eq!(cluster.show("/patient"), "n1:running");
    cluster.pass(Millis::seconds(3));
    assert_eq!(cluster.show("/patient"), "n1:running(NodeLost) n2:running");
    cluster.pass(Millis::seconds(300));
    assert_eq!(cluster.show("/never"), "n1:running");
}

#[test]
fn many_nodes_lost_together_are_given_up_late_and_one_by_one() {
    let mut cluster = Cluster::new(4);
    cluster.put("/web", &spec(4));
    cluster.settle();
    for name in ["n1", "n2", "n3"] {
        cluster.kill(name);
    }
    cluster.pass(Millis(9500));
    assert_eq!(cluster.active("/web").len(), 4);
    assert!(!cluster.show("/web").contains("NodeLost"));
    cluster.pass(Millis(500));
    let lost = |cluster: &Cluster| cluster.show("/web").matches("NodeLost").count();
    assert_eq!(lost(&cluster), 1);
    cluster.pass(Millis(1000));
    assert_eq!(lost(&cluster), 2);
    cluster.pass(Millis(1000));
    assert_eq!((lost(&cluster), cluster.active("/web").len()), (3, 4));
}

#[test]
fn a_drained_node_is_emptied_one_by_one() {
    let mut cluster = Cluster::new(3);
    cluster.put("/web", &spec(3));
    cluster.put("/db", &with_volume("pg"));
    cluster.settle();
    for name in ["n1", "n2"] {
        let node = cluster.agents[name].node;
        cluster.ask(|draft| request::drain(draft, node)).unwrap();
    }
    cluster.settle();
    assert_eq!(cluster.show("/web"), "n3:running n3:running n3:running");
    // What has a volume goes with it.
    let n3 = cluster.agents["n3"].node;
    let home = cluster.state().volume(&volume("pg")).unwrap().home;
    assert_eq!(home, Some(n3));
    assert_eq!(cluster.show("/db"), "n3:running");
}

#[test]
fn a_node_given_up_by_its_operator_is_gone_unless_data_is_there() {
    let mut cluster = Cluster::new(3);
    cluster.put("/db", &with_volume("pg"));
    cluster.put("/web", &spec(3));
    cluster.settle();
    let (n1, n2) = (cluster.agents["n1"].node, cluster.agents["n2"].node);
    assert_eq!(
        cluster.ask(|draft| request::node_lost(draft, n2)),
        Err(Refusal::NodeIsHere("n2".into()))
    );
    cluster.kill("n1");
    cluster.kill("n2");
    cluster.pass(Millis::seconds(20));
    for node in [n1, n2] {
        cluster
            .ask(|draft| request::node_lost(draft, node))
            .unwrap();
    }
    cluster.settle();
    assert_eq!(cluster.state().node(n2), None);
    assert!(cluster.state().node(n1).is_some(), "the volume's home");
    assert_eq!(cluster.show("/web"), "n3:running n3:running n3:running");
    assert_eq!(cluster.show("/db"), "");
    cluster.connect("n1");
    cluster.settle();
    assert_eq!(cluster.show("/db"), "n1:running");
}

fn hello(name: &str, incarnation: u64) -> Hello {
    Hello {
        protocol: PROTOCOL,
        cluster: Some(ClusterId(7)),
        epoch: Epoch(1),
        incarnation: Incarnation(incarnation),
        machine: machine(name),
    }
}

#[test]
fn nodes_join_with_addresses_of_their_own_and_strangers_are_refused() {
    let mut cluster = Cluster::new(2);
    let first = cluster
        .ask(|draft| session::hello(draft, &hello("n3", 1), "n3"))
        .unwrap();
    assert_eq!(
        (first.node, first.overlay.to_string().as_str()),
        (NodeId(2), "10.32.0.12")
    );
    let again = cluster
        .ask(|draft| session::hello(draft, &hello("n3", 1), "n3"))
        .unwrap();
    assert_eq!(again, first);

    let mut stranger = hello("n4", 1);
    stranger.cluster = Some(ClusterId(8));
    let mut ask = |hello: &Hello, identity: &str| {
        cluster
            .ask(|draft| session::hello(draft, hello, identity))
            .unwrap_err()
    };
    assert!(matches!(
        ask(&stranger, "n4"),
        session::Refusal::OtherCluster { .. }
    ));
    assert!(matches!(
        ask(&hello("n4", 1), "n5"),
        session::Refusal::OtherName { .. }
    ));
    assert!(matches!(
        ask(&hello("n3", 0), "n3"),
        session::Refusal::OldIncarnation { .. }
    ));
    stranger.protocol = 99;
    assert!(matches!(
        ask(&stranger, "n4"),
        session::Refusal::Protocol { theirs: 99, .. }
    ));

    let mut restored = hello("n3", 2);
    restored.epoch = Epoch(40);
    let welcome = cluster
        .ask(|draft| session::hello(draft, &restored, "n3"))
        .unwrap();
    assert_eq!(welcome.epoch, Epoch(41), "above what the agents obeyed");
}

#[test]
fn sightings_only_climb_and_never_come_twice() {
    let mut cluster = Cluster::new(2);
    cluster.put("/web", &spec(1));
    cluster.settle();
    let id = cluster.active("/web")[0];
    let see = |cluster: &mut Cluster, node: u32, sequence, rung| {
        let sighting = Sighting {
            incarnation: Incarnation(1),
            sequence,
            level: Level::Instance(
                id,
                InstanceLevel {
                    rung,
                    ..InstanceLevel::default()
                },
            ),
        };
        let before = cluster.state().revision;
        cluster.decide(|draft| session::sightings(draft, NodeId(node), &[sighting]));
        cluster.state().revision != before
    };
    assert!(
        !see(&mut cluster, 0, 100, Rung::Starting),
        "down the ladder"
    );
    assert!(!see(&mut cluster, 0, 101, Rung::Running), "nothing new");
    assert!(!see(&mut cluster, 0, 1, Rung::Ended), "stale");
    assert!(!see(&mut cluster, 1, 102, Rung::Ended), "another node's");
    assert!(see(&mut cluster, 0, 103, Rung::Ended));
    assert!(!see(&mut cluster, 0, 104, Rung::Running), "never again");
}

#[test]
fn the_watch_distrusts_itself_first() {
    let cluster = Cluster::new(3);
    let state = cluster.state();
    let start = cluster.now;
    let at = |ms: u64| Time(start.0 + ms);
    let lost = |n: u32, ms| Change::NodePresence {
        node: NodeId(n),
        presence: Presence::Lost { since: at(ms) },
    };
    let run = |watch: &mut Watch, from: u64, to: u64, heard: &[u32]| {
        let mut seen = Vec::new();
        for ms in (from..=to).step_by(500) {
            for node in heard {
                watch.heard(NodeId(*node), at(ms));
            }
            seen.extend(watch.tick(state, at(ms)));
        }
        seen
    };
    // One silent node is lost after the timeout.
    let mut watch = Watch::begin(start);
    assert_eq!(run(&mut watch, 0, 4500, &[0, 1]), []);
    assert_eq!(run(&mut watch, 5000, 5000, &[0, 1]), [lost(2, 5000)]);
    // Two of three together are waited for once more.
    let mut watch = Watch::begin(start);
    assert_eq!(run(&mut watch, 0, 9500, &[0]), []);
    assert_eq!(
        run(&mut watch, 10_000, 10_000, &[0]),
        [lost(1, 10_000), lost(2, 10_000)]
    );
    // A watch that slept begins anew.
    let mut watch = Watch::begin(start);
    assert_eq!(run(&mut watch, 0, 4500, &[0, 1]), []);
    assert_eq!(run(&mut watch, 15_000, 19_500, &[0, 1]), []);
    assert_eq!(run(&mut watch, 20_000, 20_000, &[0, 1]), [lost(2, 20_000)]);
}

#[test]
fn a_lost_node_that_is_heard_again_is_here() {
    let mut cluster = Cluster::new(3);
    cluster.put("/web", &spec(3));
    cluster.settle();
    cluster.cut("n1");
    cluster.pass(Millis::seconds(6));
    assert!(cluster.show("/web").contains("n1:running(NodeLost)"));
    // The same session goes on: orders that waited in it arrive.
    let node = cluster.agents["n1"].node;
    let whole = planner::derive::assignment(cluster.state(), node);
    let agent = cluster.agents.get_mut("n1").unwrap();
    agent.connected = true;
    agent.assignment = whole;
    cluster.pass(Millis::seconds(1));
    assert_eq!(cluster.state().node(node).unwrap().presence, Presence::Here);
    assert_eq!(cluster.active("/web").len(), 3);
    assert!(!cluster.show("/web").contains("NodeLost"));
}

#[test]
fn tokens_are_spent_once() {
    let mut cluster = Cluster::new(1);
    cluster.decide(|draft| request::make_token(draft, "abc".into(), Millis::seconds(60)));
    let spend = |cluster: &mut Cluster, digest: &str, by: &str| {
        cluster.ask(|draft| request::use_token(draft, digest, by))
    };
    assert_eq!(spend(&mut cluster, "xyz", "n1"), Err(Refusal::NoToken));
    assert_eq!(
        spend(&mut cluster, "abc", "n1"),
        Err(Refusal::NameTaken("n1".into())),
        "a clone of a machine that is here"
    );
    assert_eq!(spend(&mut cluster, "abc", "n2"), Ok(()));
    assert_eq!(
        spend(&mut cluster, "abc", "n2"),
        Ok(()),
        "the answer was lost"
    );
    assert_eq!(
        spend(&mut cluster, "abc", "n3"),
        Err(Refusal::TokenUsed("n2".into()))
    );
    cluster.now = cluster.now + Millis::seconds(60);
    assert!(matches!(
        spend(&mut cluster, "abc", "n2"),
        Err(Refusal::TokenExpired(_))
    ));
}

#[test]
fn a_cluster_follows_its_leaders_settings_but_keeps_its_network() {
    let mut cluster = Cluster::new(1);
    let (founded, mut settings) = (cluster.state().cluster, cluster.state().settings.clone());
    settings.node_timeout = Millis::seconds(30);
    let taken = cluster.decide(|draft| request::found(draft, ClusterId(8), settings.clone()));
    assert_eq!(taken, Ok(()));
    assert_eq!(cluster.state().cluster, founded);
    assert_eq!(cluster.state().settings, settings);

    settings.subnet = ([10, 99, 0, 0].into(), 16);
    let refused = cluster.decide(|draft| request::found(draft, ClusterId(8), settings));
    let said = refused.map_err(|fault| fault.to_string());
    let told = "its network is 10.32.0.0/12 for its life, not 10.99.0.0/16";
    assert_eq!(said, Err(told.to_owned()));
}
