//! Names, as a script of questions and answers.

use model::{AppEntry, DirectoryPort, InstanceId, Interface, NodeEntry, NodeId};

use super::*;

fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 32, 0, last)
}

/// App, last octet (0: on the node's network), hostname, running, healthy.
fn directory(apps: &[(&str, u8, Option<&str>, bool, bool)]) -> Directory {
    let mut directory = Directory::default();
    directory.nodes.insert(
        NodeId(1),
        NodeEntry {
            name: "n1".to_owned(),
            hostname: "10.0.15.11".to_owned(),
            underlay: Ipv4Addr::new(10, 0, 15, 11),
            overlay: address(11),
        },
    );
    for (birth, (app, last, hostname, running, healthy)) in apps.iter().enumerate() {
        let interface = Interface {
            network: NetworkKind::Overlay,
            address: address(*last),
            prefix: 12,
        };
        let entry = Entry {
            app: AppId::parse(app).expect("a valid id"),
            node: NodeId(1),
            interfaces: (*last != 0).then_some(interface).into_iter().collect(),
            hostname: hostname.map(str::to_owned),
            running: *running,
            healthy: *healthy,
            ports: vec![DirectoryPort {
                name: Some("http".to_owned()),
                protocol: Protocol::Tcp,
                container: 80,
                host: Some(31080),
            }],
        };
        let id = InstanceId {
            birth: birth as u64,
            slot: 0,
        };
        directory.instances.insert(id, entry);
    }
    directory
}

fn shop() -> Names {
    let mut directory = directory(&[
        ("/shop/db/mongo", 2, Some("mongo.weave.local"), true, true),
        ("/shop/db/mongo", 3, Some("mongo.weave.local"), true, false),
        ("/blog/mongo", 4, Some("Mongo.Weave.Local"), true, false),
        ("/shop/web/front", 5, None, true, true),
        ("/sick", 6, None, true, false),
        ("/waiting", 7, None, false, false),
        ("/host", 0, None, true, true),
        ("/cache", 8, Some("redis.weave.local"), true, true),
        ("/shop/db/old/search", 9, None, true, true),
        ("/green/search", 10, None, true, true),
        ("/green/web", 12, Some("quiet.weave.local"), true, true),
        ("/shop/mail", 13, Some("mail.example.com"), true, true),
        ("/starting", 14, Some("new.example.com"), false, false),
    ]);
    for (id, hostname) in [
        ("/cache", Some("keys.weave.local")),
        ("/shop/idle", Some("Hushed.Weave.Local")),
        ("/shop/web/search", None),
        ("/blue/search", None),
        ("/blue/web", Some("quiet.a.weave.local")),
        ("/mute", Some("db.example.com")),
    ] {
        let id = AppId::parse(id).expect("a valid id");
        let hostname = hostname.map(str::to_owned);
        directory.apps.insert(id, AppEntry { hostname });
    }
    Names::of(&directory, Subnet::new(address(0), 12))
}

fn ask(asker: u8, name: &str, kind: Kind) -> String {
    match shop().answer(address(asker), &Question { name, kind }, 7) {
        Answer::NoSuchName => "no such name".to_owned(),
        Answer::Elsewhere => "elsewhere".to_owned(),
        Answer::Records(records) => {
            let mut lines: Vec<String> = records
                .iter()
                .map(|record| match record {
                    Record::Address(address) => address.to_string(),
                    Record::Pointer(name) => name.clone(),
                    Record::Service { port, target, .. } => format!("{port} {target}"),
                })
                .collect();
            lines.sort();
            lines.join(", ")
        }
    }
}

#[test]
fn an_app_answers_to_all_its_names_with_its_healthy_instances() {
    let a = |name| ask(5, name, Kind::Address);
    assert_eq!(a("mongo.db.shop.tandem.local"), "10.32.0.2");
    assert_eq!(a("mongo-db-shop.marathon.mesos"), "10.32.0.2");
    assert_eq!(
        a("mongo.weave.local"),
        "10.32.0.2, 10.32.0.4",
        "all apps of a hostname"
    );
    assert_eq!(
        a("sick"),
        "10.32.0.6",
        "none is healthy, so the running ones"
    );
    assert_eq!(a("host.tandem.local"), "10.0.15.11", "its node's address");
}

#[test]
fn a_bare_name_is_the_nearest_apps() {
    assert_eq!(
        ask(5, "mongo", Kind::Address),
        "10.32.0.2",
        "same top group"
    );
    assert_eq!(ask(5, "mongo.tandem.local", Kind::Address), "10.32.0.2");
    assert_eq!(ask(4, "mongo", Kind::Address), "10.32.0.4", "own group");
    assert_eq!(
        ask(6, "mongo", Kind::Address),
        "10.32.0.4",
        "a tie: the smallest id"
    );
    assert_eq!(
        ask(99, "redis", Kind::Address),
        "10.32.0.8",
        "a hostname's first label"
    );
    assert_eq!(ask(99, "redis.tandem.local", Kind::Address), "10.32.0.8");
}

#[test]
fn known_names_without_records_exist_and_unknown_ones_of_ours_do_not() {
    assert_eq!(ask(5, "waiting", Kind::Address), "");
    assert_eq!(ask(5, "mongo", Kind::Other), "");
    assert_eq!(ask(5, "tandem.local", Kind::Address), "");
    for unknown in [
        "nobody",
        "nobody.tandem.local",
        "a.b.marathon.mesos",
        "x.weave.local",
    ] {
        assert_eq!(ask(5, unknown, Kind::Address), "no such name", "{unknown}");
    }
    for other in ["example.com", "mytandem.local", ""] {
        assert_eq!(ask(5, other, Kind::Address), "elsewhere", "{other}");
    }
    assert_eq!(ask(5, "com", Kind::Other), "elsewhere");
}

#[test]
fn an_app_without_instances_is_known_by_all_its_names() {
    for name in [
        "idle",
        "idle.tandem.local",
        "idle.shop.tandem.local",
        "idle-shop.marathon.mesos",
        "hushed.weave.local",
        "hushed",
    ] {
        for kind in [Kind::Address, Kind::Service, Kind::Other] {
            assert_eq!(ask(5, name, kind), "", "{name} {kind:?}");
        }
    }
    for service in [
        "_http._tcp.idle.shop.tandem.local",
        "_idle-shop._tcp.marathon.mesos",
    ] {
        assert_eq!(ask(5, service, Kind::Service), "", "{service}");
    }
    let target = "10-32-0-9.idle.shop.tandem.local";
    assert_eq!(ask(5, target, Kind::Address), "no such name");
}

#[test]
fn an_app_without_instances_hides_those_farther_away() {
    assert_eq!(ask(5, "search", Kind::Address), "", "its own group's");
    assert_eq!(ask(2, "search", Kind::Address), "10.32.0.9", "nearer");
}

#[test]
fn an_app_without_instances_hides_none_as_near() {
    for asker in [4, 99] {
        assert_eq!(ask(asker, "search", Kind::Address), "10.32.0.10", "{asker}");
        assert_eq!(ask(asker, "quiet", Kind::Address), "10.32.0.12", "{asker}");
    }
    assert_eq!(ask(99, "quiet.a.weave.local", Kind::Address), "");
}

#[test]
fn a_hostname_of_the_outside_is_an_apps_while_it_has_instances() {
    assert_eq!(ask(99, "mail.example.com", Kind::Address), "10.32.0.13");
    assert_eq!(ask(99, "mail.example.com", Kind::Other), "");
    assert_eq!(ask(99, "new.example.com", Kind::Address), "", "starting");
    for kind in [Kind::Address, Kind::Other] {
        assert_eq!(ask(99, "db.example.com", kind), "elsewhere", "{kind:?}");
    }
}

#[test]
fn a_new_hostname_counts_at_once_and_an_old_one_until_it_is_replaced() {
    for name in ["keys.weave.local", "redis.weave.local"] {
        assert_eq!(ask(99, name, Kind::Address), "10.32.0.8", "{name}");
    }
}

#[test]
fn services_name_ports_and_targets_that_resolve() {
    let target = "10-32-0-5.front.web.shop.tandem.local";
    for name in [
        "_http._tcp.front",
        "_http._tcp.front.web.shop.tandem.local",
        "front",
    ] {
        assert_eq!(
            ask(5, name, Kind::Service),
            format!("80 {target}"),
            "{name}"
        );
    }
    let mesos = "_front-web-shop._tcp.marathon.mesos";
    assert_eq!(ask(5, mesos, Kind::Service), format!("80 {target}"));
    assert_eq!(ask(5, target, Kind::Address), "10.32.0.5");
    assert_eq!(ask(5, "_other._tcp.front", Kind::Service), "");
    assert_eq!(
        ask(5, "_http._tcp.nobody.tandem.local", Kind::Service),
        "no such name"
    );
    assert_eq!(
        ask(5, "_http._tcp.host.tandem.local", Kind::Service),
        "31080 10-0-15-11.host.tandem.local"
    );
}

#[test]
fn addresses_lead_back_to_names() {
    let ptr = |name| ask(5, name, Kind::Pointer);
    assert_eq!(ptr("2.0.32.10.in-addr.arpa"), "mongo.db.shop.tandem.local");
    assert_eq!(ptr("200.0.32.10.in-addr.arpa"), "no such name");
    assert_eq!(ptr("1.1.1.1.in-addr.arpa"), "elsewhere");
    assert_eq!(ask(5, "2.0.32.10.in-addr.arpa", Kind::Address), "");
}

#[test]
fn several_answers_come_in_every_order() {
    let names = shop();
    let question = Question {
        name: "mongo.weave.local",
        kind: Kind::Address,
    };
    let orders: BTreeSet<String> = (0..64)
        .map(|seed| format!("{:?}", names.answer(address(5), &question, seed)))
        .collect();
    assert_eq!(orders.len(), 2);
}
