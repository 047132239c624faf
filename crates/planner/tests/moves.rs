//! Moves: the whole way, what abandons one, what is refused, and what meets one under way.

mod common;

use common::{Cluster, app, changed, check, spec, volume, with_volume};
use model::ids::{Generation, NodeId};
use model::movement::Phase;
use model::quantity::Quantity;
use model::spec::{Constraint, FixedAddress, Operator};
use model::time::Millis;
use model::{AppSpec, CopyRole, Goal};
use planner::leader::Agenda;
use planner::request::{self, Force, MoveRefusal, Refusal};

fn on(mut spec: AppSpec, hostname: &str) -> AppSpec {
    spec.constraints = vec![Constraint {
        field: "hostname".into(),
        operator: Operator::Like,
        value: Some(hostname.into()),
    }];
    spec
}

fn node(cluster: &Cluster, name: &str) -> NodeId {
    cluster
        .state()
        .node_named(name)
        .expect("the node exists")
        .id
}

fn phase(cluster: &Cluster) -> Option<String> {
    let movement = cluster.state().moves().next();
    movement.map(|movement| movement.phase.to_string())
}

/// The home and generation of `pg`, and who has what of it.
fn pg(cluster: &Cluster) -> String {
    let state = cluster.state();
    let record = state.volume(&volume("pg")).expect("it exists");
    let name = |id: &NodeId| state.node(*id).expect("it exists").machine.name.clone();
    let copies = record.copies.iter();
    let copies: Vec<String> = copies
        .map(|(node, copy)| format!("{}:{:?}", name(node), copy.role).to_lowercase())
        .collect();
    let home = record.home.as_ref().map(name).unwrap_or_default();
    format!("{home} g{} {}", record.generation, copies.join(" "))
}

/// `/db` with `pg` on n1, of three nodes.
fn database() -> Cluster {
    let mut cluster = Cluster::new(3);
    cluster.put("/db", &with_volume("pg"));
    cluster.settle();
    assert_eq!(cluster.show("/db"), "n1:running");
    cluster
}

fn move_db(cluster: &mut Cluster, to: &str) {
    let to = node(cluster, to);
    let id = cluster.ask(|draft| request::move_app(draft, &app("/db"), to));
    assert!(matches!(id, Ok(Some(_))));
}

/// A move to n2 that waits in *ready* for its heir.
fn at_ready() -> Cluster {
    let mut cluster = database();
    cluster.unprepared.insert(app("/db"));
    move_db(&mut cluster, "n2");
    cluster.settle();
    assert_eq!(phase(&cluster).as_deref(), Some("ready"));
    cluster
}

#[test]
fn an_app_moves_with_its_volume_and_the_source_keeps_a_copy() {
    let mut cluster = database();
    let before = cluster.active("/db");
    move_db(&mut cluster, "n2");
    cluster.settle();
    assert_eq!(phase(&cluster).as_deref(), Some("settle"));
    assert_eq!(cluster.show("/db"), "n2:running");
    cluster.pass(Millis::seconds(6));
    assert_eq!(phase(&cluster), None);
    assert_eq!(pg(&cluster), "n2 g2 n1:kept n2:live");
    assert_ne!(cluster.active("/db"), before);
    assert!(
        cluster
            .state()
            .app(&app("/db"))
            .unwrap()
            .last_failure
            .is_none()
    );

    // Back, as the difference to what both have; then on to a third, and only the last source
    // keeps a copy.
    move_db(&mut cluster, "n1");
    let movement = cluster.state().moves().next().unwrap();
    assert!(movement.volumes[&volume("pg")].base.is_some());
    cluster.pass(Millis::seconds(6));
    move_db(&mut cluster, "n3");
    cluster.pass(Millis::seconds(6));
    assert_eq!(pg(&cluster), "n3 g4 n1:kept n3:live");
    assert_eq!(cluster.show("/db"), "n3:running");
}

#[test]
fn what_only_one_may_have_passes_to_the_heir_in_the_hand_over() {
    let fixed = FixedAddress {
        address: "10.255.0.10".parse().unwrap(),
        prefix: 24,
    };
    let mut cluster = Cluster::new(2);
    let mut db = with_volume("pg");
    db.fixed_addresses = vec![fixed];
    db.labels.insert("tandem/move-stop".into(), "freeze".into());
    cluster.put("/db", &db);
    cluster.settle();
    let holder = cluster.active("/db")[0];
    move_db(&mut cluster, "n2");
    cluster.pass(Millis::seconds(6));
    let heir = cluster.active("/db")[0];
    assert_ne!(heir, holder);
    assert_eq!(
        cluster.state().fixed_address_holder(fixed.address),
        Some(heir)
    );
    assert_eq!(cluster.state().volume_holder(&volume("pg")), Some(heir));
    let heir = cluster.state().instance(heir).unwrap();
    assert_eq!((heir.slot, heir.goal), (0, Goal::Run));
}

#[test]
fn a_move_is_abandoned_when_the_target_dies_before_hand_over() {
    let mut cluster = at_ready();
    cluster.kill("n2");
    cluster.pass(Millis::seconds(7));
    assert_eq!(phase(&cluster), None);
    assert_eq!(cluster.show("/db"), "n1:running n2:placed(Abandoned)");
    assert_eq!(pg(&cluster), "n1 g1 n1:live n2:landing");
    cluster.connect("n2");
    cluster.settle();
    assert_eq!(cluster.show("/db"), "n1:running");
    assert_eq!(pg(&cluster), "n1 g1 n1:live");
}

#[test]
fn a_move_whose_source_is_lost_while_it_is_seeded_is_abandoned_and_waits_for_it() {
    let mut cluster = at_ready();
    cluster.cut("n1");
    cluster.pass(Millis::seconds(7));
    assert_eq!(phase(&cluster), None);
    assert_eq!(pg(&cluster), "n1 g1 n1:live n2:landing");
    assert_eq!(cluster.show("/db"), "n1:running");
    // What landed is of no use once the source is back.
    cluster.connect("n1");
    cluster.pass(Millis::seconds(1));
    assert_eq!(pg(&cluster), "n1 g1 n1:live");
}

#[test]
fn a_move_that_takes_too_long_is_abandoned() {
    let mut cluster = at_ready();
    let before = cluster.active("/db");
    cluster.pass(Millis::seconds(599));
    assert_eq!(phase(&cluster).as_deref(), Some("ready"));
    cluster.pass(Millis::seconds(2));
    assert_eq!(phase(&cluster), None);
    assert_eq!(cluster.active("/db"), before);
}

#[test]
fn a_cancelled_move_leaves_everything_where_it_was() {
    let mut cluster = at_ready();
    let before = cluster.active("/db");
    let cancel =
        |cluster: &mut Cluster| cluster.ask(|draft| request::cancel_move(draft, &app("/db")));
    assert_eq!(cancel(&mut cluster), Ok(()));
    cluster.settle();
    assert_eq!(cluster.active("/db"), before);
    assert_eq!(pg(&cluster), "n1 g1 n1:live");
    let none = MoveRefusal::NotMoving(app("/db"));
    assert_eq!(cancel(&mut cluster), Err(Refusal::Move(none)));

    cluster.unprepared.clear();
    move_db(&mut cluster, "n2");
    cluster.settle();
    let past = MoveRefusal::HandedOver(app("/db"));
    assert_eq!(cancel(&mut cluster), Err(Refusal::Move(past)));
}

#[test]
fn what_cannot_be_moved_is_refused_with_the_reason() {
    let mut cluster = database();
    cluster.put("/web", &spec(1));
    cluster.put("/pinned", &on(with_volume("pinned"), "10.0.15.11"));
    let mut big = with_volume("big");
    big.resources.mem = Quantity::whole(800);
    cluster.put("/big", &big);
    cluster.settle();
    cluster.cut("n3");
    cluster.pass(Millis::seconds(7));
    let mut refusal = |id: &str, to: u32| {
        let to = NodeId(to);
        let answer = cluster.ask(|draft| request::move_app(draft, &app(id), to));
        answer.map_err(|refusal| refusal.to_string())
    };
    let words = [
        ("/no", 1, "app /no does not exist"),
        (
            "/web",
            1,
            "/web has no volume; to have it elsewhere, change its constraints",
        ),
        ("/db", 9, "node node-9 does not exist"),
        ("/db", 2, "node n3 is lost"),
        (
            "/pinned",
            1,
            "/pinned cannot be on n2: hostname is 10.0.15.12, wanted like 10.0.15.11",
        ),
    ];
    for (id, to, why) in words {
        assert_eq!(refusal(id, to), Err(why.to_owned()));
    }
    assert_eq!(refusal("/db", 0), Ok(None));
}

#[test]
fn a_change_while_a_move_leads_is_refused_and_with_force_abandons_it() {
    let mut cluster = at_ready();
    let next = changed(&with_volume("pg"), "2");
    let mut put = |force| {
        let spec = next.clone();
        let answer = cluster.ask(|draft| request::put_app(draft, app("/db"), spec, force));
        answer.map(|accepted| accepted.changed)
    };
    let leads = MoveRefusal::Leads {
        app: app("/db"),
        phase: "ready".into(),
    };
    assert_eq!(put(Force::No), Err(Refusal::Move(leads)));
    assert_eq!(put(Force::Yes), Ok(true));
    cluster.settle();
    assert_eq!(phase(&cluster), None);
    assert_eq!(cluster.show("/db"), "n1:running");
    assert_eq!(pg(&cluster), "n1 g1 n1:live");
}

#[test]
fn a_removal_abandons_a_move_and_goes_on() {
    let mut cluster = at_ready();
    let removed = cluster.ask(|draft| request::remove_app(draft, &app("/db"), Force::No));
    assert!(removed.is_ok());
    cluster.settle();
    assert_eq!(
        (phase(&cluster), cluster.show("/db")),
        (None, "none".into())
    );
    assert_eq!(pg(&cluster), "n1 g1 n1:live");
}

#[test]
fn after_the_hand_over_a_removal_waits_for_the_move_to_settle() {
    let mut cluster = database();
    move_db(&mut cluster, "n2");
    cluster.settle();
    let removed = cluster.ask(|draft| request::remove_app(draft, &app("/db"), Force::No));
    assert!(removed.is_ok());
    cluster.settle();
    assert_eq!(cluster.show("/db"), "n2:running");
    cluster.pass(Millis::seconds(6));
    assert_eq!(cluster.show("/db"), "none");
    assert_eq!(pg(&cluster), "n2 g2 n1:kept n2:live");
}

/// A move to n2 that was handed over, where the app does not get well.
fn at_resume() -> Cluster {
    let mut cluster = Cluster::new(3);
    let mut spec = with_volume("pg");
    spec.health_checks.push(check());
    cluster.put("/db", &spec);
    cluster.settle();
    cluster.sick.insert(app("/db"));
    move_db(&mut cluster, "n2");
    cluster.settle();
    assert_eq!(phase(&cluster).as_deref(), Some("resume"));
    cluster
}

#[test]
fn after_the_hand_over_a_removal_does_not_wait_for_the_app_to_be_well() {
    let mut cluster = at_resume();
    let removed = cluster.ask(|draft| request::remove_app(draft, &app("/db"), Force::No));
    assert!(removed.is_ok());
    cluster.pass(Millis::seconds(6));
    assert_eq!(phase(&cluster), None);
    assert_eq!(cluster.show("/db"), "none");
}

#[test]
fn an_app_has_one_move_at_a_time_whatever_volumes_it_has_by_now() {
    let mut cluster = at_resume();
    let (n1, n3) = (node(&cluster, "n1"), node(&cluster, "n3"));
    let made = cluster.ask(|draft| request::create_volume(draft, volume("mongo"), None, Some(n1)));
    assert!(made.is_ok());
    cluster.settle();
    let put =
        cluster.ask(|draft| request::put_app(draft, app("/db"), with_volume("mongo"), Force::Yes));
    assert!(put.is_ok());
    cluster.settle();
    let second = cluster.ask(|draft| request::move_volume(draft, &volume("mongo"), n3));
    let under_way = MoveRefusal::UnderWay {
        volume: volume("pg"),
        phase: "settle".into(),
    };
    assert_eq!(second, Err(Refusal::Move(under_way)));
    cluster.pass(Millis::seconds(90));
    assert_eq!(phase(&cluster), None);
    let second = cluster.ask(|draft| request::move_volume(draft, &volume("mongo"), n3));
    assert!(matches!(second, Ok(Some(_))), "{second:?}");
}

#[test]
fn an_app_removed_and_put_with_a_constraint_against_the_home_moves_cold() {
    let mut cluster = database();
    let removed = cluster.ask(|draft| request::remove_app(draft, &app("/db"), Force::No));
    assert!(removed.is_ok());
    cluster.put("/db", &on(with_volume("pg"), "10.0.15.13"));
    cluster.pass(Millis::seconds(6));
    assert_eq!(cluster.show("/db"), "n3:running");
    assert_eq!(pg(&cluster), "n3 g2 n1:kept n3:live");
    assert_eq!(cluster.state().deployments().count(), 0);
}

#[test]
fn a_running_app_whose_new_constraint_refuses_the_home_moves_and_is_replaced_there() {
    let mut cluster = database();
    let next = on(changed(&with_volume("pg"), "2"), "10.0.15.12");
    cluster.put("/db", &next);
    cluster.pass(Millis::seconds(6));
    assert_eq!(cluster.show("/db"), "n2:running");
    let now = cluster.active("/db")[0];
    assert_eq!(*cluster.state().instance(now).unwrap().spec, next);
    assert_eq!(cluster.state().deployments().count(), 0);
}

#[test]
fn an_instance_that_crashes_while_it_is_seeded_is_started_again_at_the_source() {
    let mut cluster = at_ready();
    // Its process ends while the heir is still being prepared: nobody waits for the heir.
    cluster.crashing.insert(app("/db"), 1);
    cluster.settle();
    cluster.crashing.clear();
    cluster.unprepared.clear();
    cluster.pass(Millis::seconds(10));
    assert_eq!(cluster.show("/db"), "n2:running");
    assert_eq!(pg(&cluster), "n2 g2 n1:kept n2:live");
}

#[test]
fn a_drained_nodes_volumes_leave_it_two_at_a_time() {
    let mut cluster = Cluster::new(1);
    for name in ["a", "b", "c"] {
        cluster.put(&format!("/{name}"), &with_volume(name));
    }
    cluster.settle();
    for name in ["n2", "n3"] {
        cluster.join(common::machine(name));
    }
    let n1 = node(&cluster, "n1");
    cluster.ask(|draft| request::drain(draft, n1)).unwrap();
    cluster.settle();
    assert_eq!(cluster.state().moves().count(), 2);
    cluster.pass(Millis::seconds(15));
    assert_eq!(cluster.state().moves().count(), 0);
    let homes = cluster.state().volumes().filter(|v| v.home == Some(n1));
    assert_eq!(homes.count(), 0);
    assert!(!cluster.show("/a").contains("n1"));
}

#[test]
fn a_volume_nobody_has_moves_alone_and_is_not_removed_meanwhile() {
    let mut cluster = database();
    let _ = cluster.ask(|draft| request::remove_app(draft, &app("/db"), Force::No));
    cluster.settle();
    let to = node(&cluster, "n2");
    let moved = cluster.ask(|draft| request::move_volume(draft, &volume("pg"), to));
    assert!(moved.unwrap().is_some());
    let removed = cluster.ask(|draft| request::remove_volume(draft, &volume("pg")));
    assert!(matches!(
        removed,
        Err(Refusal::Move(MoveRefusal::UnderWay { .. }))
    ));
    cluster.pass(Millis::seconds(6));
    assert_eq!(pg(&cluster), "n2 g2 n1:kept n2:live");
}

#[test]
fn a_new_leader_goes_on_with_a_move_where_the_old_one_was() {
    let mut cluster = at_ready();
    cluster.decide(request::lead);
    cluster.agenda = Agenda::rebuild(cluster.state());
    cluster.unprepared.clear();
    cluster.pass(Millis::seconds(6));
    assert_eq!(pg(&cluster), "n2 g2 n1:kept n2:live");
}

#[test]
fn what_was_handed_over_is_not_abandoned_and_the_reverse() {
    let mut cluster = at_ready();
    let movement = cluster.state().moves().next().unwrap().clone();
    let hand_over = model::Change::HandedOver {
        movement: movement.id,
        deadline: cluster.now,
    };
    // Not before *finish*, whoever says so.
    cluster.decide(|draft| draft.apply(hand_over));
    let record = cluster.state().volume(&volume("pg")).unwrap();
    assert_eq!(record.generation, Generation(1));
    cluster.unprepared.clear();
    cluster.settle();
    let abandoned = model::Change::MoveAbandoned {
        movement: movement.id,
        reason: model::movement::Reason::Cancelled,
    };
    cluster.decide(|draft| draft.apply(abandoned));
    let movement = cluster.state().moves().next().unwrap();
    assert!(matches!(movement.phase, Phase::Settle { .. }));
    let copies = &cluster.state().volume(&volume("pg")).unwrap().copies;
    assert_eq!(copies[&movement.to].role, CopyRole::Live);
}
