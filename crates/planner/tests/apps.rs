//! Apps over time: deployments, upkeep, backoff, removal, conflicts.

mod common;

use common::{Cluster, app, changed, check, machine, spec};
use model::instance::ExitStatus;
use model::quantity::Quantity;
use model::spec::{Command, Container, HostPort, ImageContainer, Network, Port, UpgradeStrategy};
use model::time::{Millis, Time};
use model::{Action, AppSpec, Change, Revision};
use planner::derive;
use planner::request::{self, Force, Kill, Refusal};

fn port(host: HostPort) -> Port {
    Port {
        name: None,
        protocol: Default::default(),
        container: 80,
        host,
        service: 0,
        labels: Default::default(),
        published: false,
    }
}

#[test]
fn instances_are_spread_and_scaled() {
    let mut cluster = Cluster::new(3);
    let accepted = cluster.put("/web", &spec(3));
    assert!(accepted.created && accepted.changed);
    let deployment = cluster.state().deployment(accepted.deployment).unwrap();
    let actions: Vec<_> = deployment.steps.iter().map(|s| s.actions[0].1).collect();
    assert_eq!(actions, [Action::Start, Action::Scale]);
    cluster.settle();
    assert_eq!(cluster.show("/web"), "n1:running n2:running n3:running");
    assert_eq!(cluster.state().deployments().count(), 0);

    let first = cluster.active("/web");
    cluster.put("/web", &spec(5));
    cluster.settle();
    let five = cluster.active("/web");
    assert!(five.len() == 5 && first.iter().all(|id| five.contains(id)));
    cluster.put("/web", &spec(2));
    cluster.settle();
    let two = cluster.active("/web");
    assert!(
        two.len() == 2 && two.iter().all(|id| first.contains(id)),
        "youngest first"
    );
    assert_eq!(cluster.state().instance_count(), 2);
}

#[test]
fn the_same_put_twice_changes_nothing() {
    let mut cluster = Cluster::new(1);
    let web = AppSpec {
        network: Network::Bridge,
        ports: vec![port(HostPort::Dynamic), port(HostPort::None)],
        ..spec(2)
    };
    let first = cluster.put("/web", &web);
    assert_eq!(
        cluster.put("/web", &web).deployment,
        first.deployment,
        "still under way"
    );
    cluster.settle();
    let (before, revision) = (cluster.active("/web"), cluster.state().revision);
    let second = cluster.put("/web", &web);
    assert_eq!(
        (second.version, second.changed, second.created),
        (first.version, false, false)
    );
    assert_eq!(cluster.state().deployment(second.deployment), None);
    cluster.settle();
    assert_eq!(
        (cluster.active("/web"), cluster.state().revision),
        (before, revision)
    );
    let services: Vec<u16> = cluster
        .state()
        .app(&app("/web"))
        .unwrap()
        .spec
        .ports
        .iter()
        .map(|p| p.service)
        .collect();
    assert_eq!(services, [10_000, 10_001]);
}

#[test]
fn a_changed_app_keeps_its_minimum_of_ready_instances() {
    for (instances, minimum, over) in [
        (4, 1000, 1000),
        (4, 500, 0),
        (3, 1000, 0),
        (3, 0, 0),
        (2, 1000, 500),
    ] {
        let mut cluster = Cluster::new(3);
        let web = AppSpec {
            upgrade: UpgradeStrategy {
                minimum_health: Quantity(minimum),
                maximum_over: Quantity(over),
            },
            health_checks: vec![check()],
            ..spec(instances)
        };
        cluster.put("/web", &web);
        cluster.settle();
        let old = cluster.active("/web");
        cluster.put("/web", &changed(&web, "2"));
        cluster.settle();
        let new = cluster.active("/web");
        assert_eq!(new.len(), instances as usize);
        assert!(new.iter().all(|id| !old.contains(id)));
        assert_eq!(cluster.state().deployments().count(), 0, "{minimum} {over}");
    }
}

#[test]
fn the_old_version_stays_while_the_new_one_is_unhealthy() {
    let mut cluster = Cluster::new(3);
    let web = AppSpec {
        health_checks: vec![check()],
        ..spec(2)
    };
    cluster.put("/web", &web);
    cluster.settle();
    let old = cluster.active("/web");
    let mut never_ready = web.clone();
    never_ready.env.insert("NEVER_READY".into(), "1".into());
    let accepted = cluster.put("/web", &never_ready);
    cluster.pass(Millis::seconds(60));
    let counters = cluster.state().app(&app("/web")).unwrap().counters;
    assert_eq!(
        (counters.active, counters.current, counters.healthy),
        (4, 2, 2)
    );
    assert!(old.iter().all(|id| cluster.active("/web").contains(id)));
    assert!(cluster.state().deployment(accepted.deployment).is_some());

    cluster
        .ask(|draft| request::cancel_deployment(draft, accepted.deployment, Force::No))
        .unwrap();
    cluster.settle();
    assert_eq!(cluster.active("/web").len(), 2);
    assert_eq!(cluster.state().deployments().count(), 0);
}

#[test]
fn an_app_with_a_host_port_stops_the_old_before_it_starts_the_new() {
    let mut cluster = Cluster::new(1);
    let web = AppSpec {
        network: Network::Bridge,
        ports: vec![port(HostPort::Fixed(9080))],
        ..spec(1)
    };
    cluster.put("/web", &web);
    cluster.settle();
    cluster.stubborn.insert(app("/web"));
    cluster.put("/web", &changed(&web, "2"));
    cluster.settle();
    assert_eq!(cluster.show("/web"), "n1:stopping(Replaced)");
    cluster.stubborn.clear();
    cluster.settle();
    assert_eq!(cluster.show("/web"), "n1:running");
    assert_eq!(cluster.state().deployments().count(), 0);
}

#[test]
fn what_ends_by_itself_is_started_again_with_growing_delays() {
    let mut cluster = Cluster::new(1);
    cluster.crashing.insert(app("/bad"), 37);
    cluster.put("/bad", &spec(1));
    cluster.settle();
    let span = |cluster: &Cluster| {
        cluster
            .state()
            .app(&app("/bad"))
            .unwrap()
            .delay
            .map(|d| d.span)
    };
    assert_eq!(span(&cluster), Some(Millis(1000)));
    assert_eq!(cluster.show("/bad"), "");
    assert_eq!(
        cluster.agenda.next_deadline(),
        Some(cluster.now + Millis(1000))
    );
    cluster.pass(Millis(1000));
    assert_eq!(span(&cluster), Some(Millis(1150)));
    cluster.pass(Millis(1500));
    assert_eq!(span(&cluster), Some(Millis(1322)));
    let failure = cluster
        .state()
        .app(&app("/bad"))
        .unwrap()
        .last_failure
        .clone()
        .unwrap();
    assert_eq!(
        (failure.hostname.as_str(), failure.exit.last_line.as_deref()),
        ("10.0.15.11", Some("cannot go on"))
    );

    // A change of configuration begins afresh; a change of scale does not.
    cluster
        .ask(|draft| request::scale(draft, &app("/bad"), 2, Force::Yes))
        .unwrap();
    assert_eq!(span(&cluster), Some(Millis(1322)));
    cluster.crashing.clear();
    cluster
        .ask(|draft| request::reset_delay(draft, &app("/bad")))
        .unwrap();
    cluster.settle();
    assert_eq!(cluster.show("/bad"), "n1:running n1:running");
}

#[test]
fn a_backoff_is_forgotten() {
    let mut cluster = Cluster::new(1);
    let mut short = spec(1);
    short.backoff.max = Millis(3000);
    cluster.crashing.insert(app("/bad"), 1);
    cluster.put("/bad", &short);
    cluster.settle();
    cluster.crashing.clear();
    cluster.pass(Millis(1500));
    assert_eq!(cluster.show("/bad"), "n1:running");
    assert!(cluster.state().app(&app("/bad")).unwrap().delay.is_some());
    cluster.pass(Millis(6000));
    assert_eq!(cluster.state().app(&app("/bad")).unwrap().delay, None);
}

#[test]
fn an_unhealthy_instance_is_killed_and_replaced() {
    let mut cluster = Cluster::new(1);
    let web = AppSpec {
        health_checks: vec![check()],
        ..spec(1)
    };
    cluster.put("/web", &web);
    cluster.settle();
    let old = cluster.active("/web");
    cluster.sick.insert(app("/web"));
    cluster.stubborn.insert(app("/web"));
    cluster.settle();
    let failure = cluster
        .state()
        .app(&app("/web"))
        .unwrap()
        .last_failure
        .clone();
    let why = failure.map(|failure| failure.exit.status);
    assert!(matches!(why, Some(ExitStatus::Unhealthy(_))), "{why:?}");
    assert!(
        cluster.show("/web").contains("(Unhealthy)"),
        "{}",
        cluster.show("/web")
    );
    cluster.sick.clear();
    cluster.stubborn.clear();
    cluster.settle();
    assert_eq!(
        cluster.show("/web"),
        "",
        "sickness counts towards the backoff"
    );
    cluster.pass(Millis(1000));
    assert_eq!(cluster.show("/web"), "n1:running");
    assert_ne!(cluster.active("/web"), old);
}

#[test]
fn an_app_put_again_during_its_removal_starts_when_the_old_has_ended() {
    let mut cluster = Cluster::new(2);
    cluster.put("/web", &spec(1));
    cluster.settle();
    cluster.stubborn.insert(app("/web"));
    cluster
        .ask(|draft| request::remove_app(draft, &app("/web"), Force::No))
        .unwrap();
    cluster.settle();
    assert_eq!(cluster.show("/web"), "n1:stopping(AppRemoved)");
    let again = cluster
        .ask(|draft| request::post_app(draft, app("/web"), spec(2), Force::No))
        .unwrap();
    assert!(again.created);
    cluster.settle();
    assert_eq!(cluster.show("/web"), "n1:stopping(AppRemoved)");
    cluster.stubborn.clear();
    cluster.settle();
    assert_eq!(cluster.show("/web"), "n1:running n2:running");
    assert_eq!(cluster.state().deployments().count(), 0);

    // Overtaken before the leader even saw the removal.
    let old = cluster.active("/web");
    cluster
        .ask(|draft| request::remove_app(draft, &app("/web"), Force::No))
        .unwrap();
    cluster.put("/web", &spec(2));
    cluster.settle();
    assert!(cluster.active("/web").iter().all(|id| !old.contains(id)));
}

/// Every delta on the way was held against the whole by [`Cluster`].
#[test]
fn an_app_is_in_the_directory_from_its_first_word_until_it_is_removed() {
    let known = |cluster: &Cluster| {
        let entry = cluster.directory.apps.get(&app("/web"))?;
        Some(entry.hostname.clone().unwrap_or_default())
    };
    let named = |instances, hostname: Option<&str>| {
        let mut image = ImageContainer::default();
        image.options.hostname = hostname.map(str::to_owned);
        AppSpec {
            command: Command::Image,
            container: Container::Image(Box::new(image)),
            ..spec(instances)
        }
    };
    let mut cluster = Cluster::new(1);
    assert_eq!(known(&cluster), None);
    cluster.put("/web", &named(0, None));
    assert_eq!(known(&cluster), Some(String::new()), "before any instance");
    cluster.settle();
    cluster.put("/web", &named(1, Some("web.weave.local")));
    cluster.settle();
    assert_eq!(known(&cluster), Some("web.weave.local".into()));

    let before = cluster.state().clone();
    cluster
        .ask(|draft| request::scale(draft, &app("/web"), 0, Force::No))
        .unwrap();
    cluster.settle();
    assert_eq!(cluster.state().instance_count(), 0);
    assert_eq!(known(&cluster), Some("web.weave.local".into()));
    // What was scaled only has the same names.
    let mut scaled = before;
    let touched = scaled.apply(&Change::AppPut {
        app: app("/web"),
        spec: named(5, Some("web.weave.local")).into(),
        version: Time(9),
        config: false,
    });
    assert!(touched.app_entries.is_empty());
    assert_eq!(
        derive::directory_delta(&scaled, &touched, Revision(1)),
        None
    );

    cluster
        .ask(|draft| request::remove_app(draft, &app("/web"), Force::No))
        .unwrap();
    cluster.settle();
    assert_eq!(known(&cluster), None);
}

#[test]
fn a_removed_app_is_gone_with_its_last_instance() {
    let mut cluster = Cluster::new(2);
    cluster.put("/web", &spec(3));
    cluster.settle();
    let accepted = cluster
        .ask(|draft| request::remove_app(draft, &app("/web"), Force::No))
        .unwrap();
    assert_eq!(
        cluster.ask(|draft| request::remove_app(draft, &app("/web"), Force::No)),
        Err(Refusal::NoApp(app("/web")))
    );
    cluster.settle();
    assert_eq!(cluster.show("/web"), "none");
    assert_eq!(cluster.state().deployment(accepted.deployment), None);
    assert_eq!(cluster.state().instance_count(), 0);
}

#[test]
fn a_deployment_holds_its_app_against_others_without_force() {
    let mut cluster = Cluster::new(1);
    let big = AppSpec {
        instances: 100,
        ..spec(1)
    };
    let first = cluster.put("/web", &big);
    cluster.settle();
    assert_eq!(cluster.active("/web").len(), 32, "1024 MB are full");
    assert_eq!(
        cluster.ask(|draft| request::scale(draft, &app("/web"), 1, Force::No)),
        Err(Refusal::Locked(vec![first.deployment]))
    );
    assert_eq!(
        cluster.ask(|draft| request::post_app(draft, app("/web"), spec(1), Force::No)),
        Err(Refusal::AlreadyExists(app("/web")))
    );
    let second = cluster
        .ask(|draft| request::scale(draft, &app("/web"), 1, Force::Yes))
        .unwrap();
    assert_eq!(cluster.state().deployment(first.deployment), None);
    cluster.settle();
    assert_eq!(cluster.active("/web").len(), 1);
    assert_eq!(cluster.state().deployment(second.deployment), None);
}

#[test]
fn what_waits_for_room_starts_when_there_is_some() {
    let mut cluster = Cluster::new(1);
    let half = |mem| {
        let mut half = spec(1);
        half.resources.mem = Quantity::whole(mem);
        half
    };
    cluster.put("/a", &half(800));
    cluster.put("/b", &half(700));
    cluster.settle();
    assert_eq!(
        (cluster.show("/a"), cluster.show("/b")),
        ("n1:running".into(), String::new())
    );
    cluster.join(machine("n2"));
    cluster.settle();
    assert_eq!(cluster.show("/b"), "n2:running");
    cluster.put("/c", &half(500));
    cluster.settle();
    assert_eq!(cluster.show("/c"), "");
    cluster
        .ask(|draft| request::remove_app(draft, &app("/b"), Force::No))
        .unwrap();
    cluster.settle();
    assert_eq!(cluster.show("/c"), "n2:running");
}

#[test]
fn dependencies_order_a_deployment_and_cycles_are_refused() {
    let mut cluster = Cluster::new(1);
    let on = |dependency: &str| AppSpec {
        dependencies: vec![app(dependency)],
        ..spec(1)
    };
    let apps = vec![
        (app("/shop/web"), on("/shop/db")),
        (app("/shop/db/pg"), spec(1)),
    ];
    let accepted = cluster
        .ask(|draft| request::put_apps(draft, apps, Force::No))
        .unwrap();
    let deployment = cluster.state().deployment(accepted.deployment).unwrap();
    let steps: Vec<Vec<&str>> = deployment
        .steps
        .iter()
        .map(|s| s.actions.iter().map(|(a, _)| a.as_str()).collect())
        .collect();
    assert_eq!(
        steps,
        [
            vec!["/shop/db/pg", "/shop/web"],
            vec!["/shop/db/pg"],
            vec!["/shop/web"]
        ]
    );
    cluster.settle();
    assert_eq!(
        (
            cluster.show("/shop/web"),
            cluster.state().deployments().count()
        ),
        ("n1:running".into(), 0)
    );

    let refusal = cluster
        .ask(|draft| request::put_app(draft, app("/shop/db/pg"), on("/shop/web"), Force::No));
    assert!(matches!(&refusal, Err(Refusal::Cyclic(_))), "{refusal:?}");
}

#[test]
fn a_cancelled_deployment_goes_back() {
    let mut cluster = Cluster::new(1);
    cluster.put("/web", &spec(1));
    cluster.settle();
    let first = cluster.active("/web");
    let mut big = spec(1);
    big.resources.mem = Quantity::whole(5000);
    let accepted = cluster.put("/web", &big);
    cluster.settle();
    let back = cluster
        .ask(|draft| request::cancel_deployment(draft, accepted.deployment, Force::No))
        .unwrap()
        .unwrap();
    assert_eq!(cluster.state().deployment(accepted.deployment), None);
    cluster.settle();
    assert_eq!(cluster.state().deployment(back.deployment), None);
    assert_eq!(cluster.show("/web"), "n1:running");
    assert_ne!(cluster.active("/web"), first);

    let created = cluster.put("/new", &big);
    cluster.settle();
    cluster
        .ask(|draft| request::cancel_deployment(draft, created.deployment, Force::No))
        .unwrap();
    cluster.settle();
    assert_eq!(cluster.show("/new"), "none");
    assert_eq!(
        cluster.ask(|draft| request::cancel_deployment(draft, created.deployment, Force::No)),
        Err(Refusal::NoDeployment(created.deployment))
    );
}

#[test]
fn killed_instances_are_replaced_or_make_the_app_smaller() {
    let mut cluster = Cluster::new(2);
    cluster.put("/web", &spec(3));
    cluster.settle();
    let before = cluster.active("/web");
    let killed = cluster
        .ask(|draft| request::kill_instances(draft, &before[..1], Kill::default()))
        .unwrap();
    assert_eq!(
        (killed.instances.as_slice(), killed.accepted),
        (&before[..1], None)
    );
    cluster.settle();
    let after = cluster.active("/web");
    assert!(after.len() == 3 && !after.contains(&before[0]));
    let kill = Kill {
        scale: true,
        ..Kill::default()
    };
    let killed = cluster
        .ask(|draft| request::kill_instances(draft, &after[1..], kill))
        .unwrap();
    assert!(killed.accepted.is_some());
    cluster.settle();
    assert_eq!(cluster.active("/web"), after[..1]);
    assert_eq!(cluster.state().app(&app("/web")).unwrap().spec.instances, 1);
    let both = Kill { wipe: true, ..kill };
    assert_eq!(
        cluster.ask(|draft| request::kill_instances(draft, &after, both)),
        Err(Refusal::ScaleAndWipe)
    );
}

#[test]
fn a_restart_replaces_every_instance() {
    let mut cluster = Cluster::new(2);
    cluster.put("/web", &spec(2));
    cluster.settle();
    let before = cluster.active("/web");
    let accepted = cluster
        .ask(|draft| request::restart_app(draft, &app("/web"), Force::No))
        .unwrap();
    cluster.settle();
    let after = cluster.active("/web");
    assert!(after.len() == 2 && after.iter().all(|id| !before.contains(id)));
    assert_eq!(cluster.state().deployment(accepted.deployment), None);
    assert_eq!(
        cluster.state().app(&app("/web")).unwrap().version,
        accepted.version
    );
}

#[test]
fn a_new_leader_goes_on_where_the_old_one_was() {
    let mut cluster = Cluster::new(3);
    cluster.put("/web", &spec(4));
    cluster.settle();
    cluster.put("/web", &changed(&spec(5), "2"));
    cluster.decide(|draft| {
        request::lead(draft);
    });
    cluster.agenda = planner::leader::Agenda::rebuild(cluster.state());
    cluster.settle();
    assert_eq!(cluster.active("/web").len(), 5);
    assert_eq!(cluster.state().deployments().count(), 0);
}
