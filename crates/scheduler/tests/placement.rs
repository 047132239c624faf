//! Where instances go, and the words for why not.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use model::ids::{AppId, NodeId, VolumeId};
use model::machine::{Machine, Resources};
use model::quantity::Quantity;
use model::spec::{
    Constraint, Container, HostPort, ImageContainer, Mount, MountSource, Network, Operator, Port,
    Protocols, Wanted,
};
use model::state::Settings;
use model::time::Time;
use model::{
    AppSpec, Change, Draft, Goal, Health, Presence, RecordedInstance, Rung, State, Volume,
};
use scheduler::{Hindrance, Kind, NoRoom, Tally, Wish, explain, place};

fn web() -> AppId {
    AppId::parse("/web").expect("valid")
}

fn machine(n: u8, attributes: &[(&str, &str)]) -> Machine {
    let attributes = attributes.iter();
    Machine {
        name: format!("n{n}"),
        hostname: format!("10.0.15.{}", 10 + n),
        address: Ipv4Addr::new(10, 0, 15, 10 + n),
        resources: Resources {
            cpus: Quantity::whole(4),
            mem: Quantity::whole(1024),
            disk: Quantity::whole(100),
        },
        attributes: attributes
            .map(|(k, v)| ((*k).into(), (*v).into()))
            .collect(),
        ports: (31000, 31003),
        stream_port: 4434,
        allow: Vec::new(),
        boot: String::new(),
        version: String::new(),
    }
}

fn cluster(machines: Vec<Machine>) -> Draft {
    let mut draft = Draft::new(State::default(), Time(1000));
    draft.apply(Change::Founded {
        cluster: model::ClusterId(1),
        settings: Settings::default(),
    });
    for (n, machine) in machines.into_iter().enumerate() {
        draft.apply(Change::NodeJoined {
            node: NodeId(n as u32),
            overlay: Ipv4Addr::new(10, 32, 0, 10 + n as u8),
            machine: Box::new(machine),
        });
    }
    draft
}

/// Nodes n1, n2, … with these values of the attribute `zone`; an empty one lacks it.
fn zones(values: &[&str]) -> Draft {
    let machines = values.iter().enumerate().map(|(n, value)| match *value {
        "" => machine(n as u8 + 1, &[]),
        value => machine(n as u8 + 1, &[("zone", value)]),
    });
    cluster(machines.collect())
}

fn spec() -> AppSpec {
    AppSpec {
        instances: 4,
        resources: Wanted {
            cpus: Quantity(100),
            mem: Quantity::whole(32),
            ..Wanted::default()
        },
        ..AppSpec::default()
    }
}

fn constrained(field: &str, operator: Operator, value: &str) -> AppSpec {
    AppSpec {
        constraints: vec![Constraint {
            field: field.into(),
            operator,
            value: Some(value.into()),
        }],
        ..spec()
    }
}

/// Puts the app and places up to `count` instances; gives their nodes' names and what stopped
/// it.
fn fill(draft: &mut Draft, spec: AppSpec, count: usize) -> (Vec<String>, Option<NoRoom>) {
    let spec = Arc::new(spec);
    let known = draft.state().app(&web()).filter(|app| app.spec == spec);
    let known = known.map(|app| app.version);
    let version = known.unwrap_or(draft.next_version());
    if known.is_none() {
        draft.apply(Change::AppPut {
            app: web(),
            spec: Arc::clone(&spec),
            version,
            config: true,
        });
    }
    let wish = Wish::compile(&web(), &spec).expect("the constraints are valid");
    let mut tally = Tally::of(draft.state(), &wish);
    let mut nodes = Vec::new();
    for slot in 0..count {
        let placement = match place(draft.state(), &wish, &mut tally) {
            Ok(placement) => placement,
            Err(why) => return (nodes, Some(why)),
        };
        let node = placement.node;
        let instance = RecordedInstance {
            id: draft.state().next_instance(),
            app: web(),
            app_slot: draft.state().app(&web()).expect("it was put").slot,
            slot: slot as u32,
            version,
            spec: None,
            placement,
            goal: Goal::Run,
            rung: Rung::Placed,
            health: Health::Unknown,
            detail: None,
            exit: None,
            placed_at: draft.now(),
            running_at: None,
            ended_at: None,
            health_at: None,
            sighted: Default::default(),
        };
        draft.apply(Change::InstancePlaced {
            instance: Box::new(instance),
        });
        let record = draft.state().node(node).expect("it was chosen");
        nodes.push(record.machine.name.clone());
    }
    (nodes, None)
}

fn why(draft: &Draft, spec: AppSpec) -> scheduler::Why {
    let wish = Wish::compile(&web(), &Arc::new(spec)).expect("the constraints are valid");
    explain(draft.state(), &wish)
}

#[test]
fn constraints_choose_as_marathon_says() {
    use Operator::{Cluster, GroupBy, Is, Like, MaxPer, Unique, Unlike};
    // zones of n1.. │ constraint on zone │ where four instances go, sorted
    let table: &[(&[&str], Operator, &str, &[&str])] = &[
        (&["a", "a", "b", ""], Unique, "", &["n1", "n3"]),
        (
            &["a", "a", "b", ""],
            Cluster,
            "b",
            &["n3", "n3", "n3", "n3"],
        ),
        (&["a", "b", "", ""], Cluster, "", &["n1", "n1", "n1", "n1"]),
        (
            &["a1", "a2", "ba1", ""],
            Like,
            "a\\d",
            &["n1", "n1", "n2", "n2"],
        ),
        (
            &["a1", "a2", "ba1", ""],
            Unlike,
            "a\\d",
            &["n3", "n3", "n4", "n4"],
        ),
        (&["a", "ab", "", ""], Is, "a", &["n1", "n1", "n1", "n1"]),
        (
            &["1.50", "1.5", "2", ""],
            Is,
            "1.500",
            &["n1", "n1", "n2", "n2"],
        ),
        (&["a", "a", "b", ""], MaxPer, "1", &["n1", "n3"]),
        (&["a", "a", "b", ""], MaxPer, "2", &["n1", "n2", "n3", "n3"]),
        (&["a", "a", "b", ""], GroupBy, "", &["n1", "n2", "n3", "n3"]),
        (
            &["a", "b", "c", ""],
            GroupBy,
            "2",
            &["n1", "n1", "n2", "n2"],
        ),
        (&["a", "a", "a", ""], GroupBy, "2", &["n1", "n2"]),
        (
            &["a", "b", "c", ""],
            GroupBy,
            "3",
            &["n1", "n1", "n2", "n3"],
        ),
    ];
    for (values, operator, value, expected) in table {
        let mut draft = zones(values);
        let (mut nodes, stopped) = fill(&mut draft, constrained("zone", *operator, value), 4);
        nodes.sort();
        assert_eq!(nodes, *expected, "{operator:?} {value} over {values:?}");
        assert_eq!(
            stopped.is_some(),
            expected.len() < 4,
            "{operator:?} {value}"
        );
    }
}

#[test]
fn hostnames_are_a_field_like_any_other() {
    let mut draft = zones(&["", "", ""]);
    let (nodes, _) = fill(
        &mut draft,
        constrained("hostname", Operator::Like, "10.0.15.1[23]"),
        2,
    );
    assert_eq!(nodes, ["n2", "n3"]);
    let mut draft = zones(&["", "", ""]);
    let (nodes, stopped) = fill(&mut draft, constrained("hostname", Operator::Unique, ""), 4);
    assert_eq!((nodes.len(), stopped), (3, Some(NoRoom::NoNode)));
}

#[test]
fn instances_go_where_fewest_are_then_where_most_is_free() {
    let mut small = machine(1, &[]);
    small.resources.mem = Quantity::whole(512);
    let mut draft = cluster(vec![small, machine(2, &[]), machine(3, &[])]);
    let (nodes, _) = fill(&mut draft, spec(), 7);
    assert_eq!(nodes, ["n2", "n3", "n1", "n2", "n3", "n1", "n2"]);
}

#[test]
fn a_node_takes_what_it_has_room_for() {
    let mut draft = zones(&[""]);
    let mut big = spec();
    big.resources.mem = Quantity::whole(400);
    let (nodes, stopped) = fill(&mut draft, big.clone(), 4);
    assert_eq!((nodes.len(), stopped), (2, Some(NoRoom::NoNode)));
    let why = why(&draft, big);
    assert_eq!(why.to_string(), "1 node: 224 MB of memory free, 400 wanted");
    assert_eq!(why.kinds(), BTreeMap::from([(Kind::Memory, 1)]));
}

#[test]
fn reasons_are_counted_per_node() {
    let disk = |n, kind| machine(n, &[("disk", kind)]);
    let mut full = disk(4, "ssd");
    full.resources.mem = Quantity::whole(96);
    let draft = cluster(vec![
        disk(1, "spinning"),
        disk(2, "spinning"),
        disk(3, "spinning"),
        full,
    ]);
    let mut wanted = constrained("disk", Operator::Cluster, "ssd");
    wanted.resources.mem = Quantity::whole(128);
    assert_eq!(
        why(&draft, wanted).to_string(),
        "3 nodes: attribute disk is spinning, wanted ssd; 1 node: 96 MB of memory free, 128 wanted"
    );
}

#[test]
fn nodes_that_are_away_take_nothing() {
    let mut draft = zones(&["", ""]);
    draft.apply(Change::NodeDraining {
        node: NodeId(0),
        draining: true,
    });
    draft.apply(Change::NodePresence {
        node: NodeId(1),
        presence: Presence::Lost { since: Time(1000) },
    });
    assert_eq!(
        why(&draft, spec()).to_string(),
        "1 node: silent since 1970-01-01T00:00:01.000Z; 1 node: being drained"
    );
    assert_eq!(fill(&mut draft, spec(), 1).1, Some(NoRoom::NoNode));
}

#[test]
fn what_a_node_does_not_allow_it_does_not_get() {
    let mut open = machine(2, &[]);
    open.allow = vec!["privileged".into(), "/data".into()];
    let mut draft = cluster(vec![machine(1, &[]), open]);
    let wanted = AppSpec {
        container: Container::Image(Box::new(ImageContainer {
            image: "x".into(),
            privileged: true,
            ..ImageContainer::default()
        })),
        mounts: vec![Mount {
            path: "/x".into(),
            source: MountSource::Host("/data/x".into()),
            read_only: false,
        }],
        ..spec()
    };
    let why = why(&draft, wanted.clone());
    assert_eq!(why.to_string(), "1 node: [agent] allow lacks privileged");
    assert_eq!(fill(&mut draft, wanted, 2).0, ["n2", "n2"]);
}

fn port(host: HostPort, protocol: Protocols) -> Port {
    Port {
        name: None,
        protocol,
        container: 80,
        host,
        service: 0,
        labels: BTreeMap::new(),
        published: false,
    }
}

#[test]
fn host_ports_are_given_once_per_node() {
    let mut draft = zones(&["", ""]);
    let fixed = AppSpec {
        network: Network::Bridge,
        ports: vec![port(HostPort::Fixed(80), Protocols::Tcp)],
        ..spec()
    };
    let (nodes, stopped) = fill(&mut draft, fixed.clone(), 4);
    assert_eq!((nodes.len(), stopped), (2, Some(NoRoom::NoNode)));
    let text = why(&draft, fixed).to_string();
    assert_eq!(text, "2 nodes: host port 80/tcp is taken by /web");

    // Four dynamic ports a node, two an instance, and a fixed one among them.
    let mut draft = zones(&["", ""]);
    let dynamic = AppSpec {
        network: Network::Bridge,
        ports: vec![
            port(HostPort::Dynamic, Protocols::Both),
            port(HostPort::None, Protocols::Tcp),
            port(HostPort::Dynamic, Protocols::Tcp),
        ],
        ..spec()
    };
    let (nodes, stopped) = fill(&mut draft, dynamic.clone(), 5);
    assert_eq!((nodes.len(), stopped), (4, Some(NoRoom::NoNode)));
    let mut given: Vec<_> = draft.state().instances().map(|i| &i.placement).collect();
    given.sort_by_key(|placement| placement.node);
    let mut ports: Vec<u16> = given[..2]
        .iter()
        .flat_map(|p| p.host_ports.clone())
        .collect();
    ports.sort_unstable();
    assert_eq!(ports, [0, 0, 31000, 31001, 31002, 31003]);
    let text = why(&draft, dynamic).to_string();
    assert_eq!(text, "2 nodes: no dynamic host port left");
    let addresses: Vec<_> = draft
        .state()
        .instances()
        .filter_map(|i| i.placement.address)
        .collect();
    assert_eq!(
        addresses[..2],
        [Ipv4Addr::new(10, 32, 1, 1), Ipv4Addr::new(10, 32, 1, 2)]
    );
}

#[test]
fn an_app_goes_to_its_volumes_and_waits_for_what_others_have() {
    let mut draft = zones(&["", ""]);
    let pg = VolumeId::parse("pg").expect("valid");
    let wanted = AppSpec {
        mounts: vec![Mount {
            path: "/data".into(),
            source: MountSource::Volume {
                volume: pg.clone(),
                size: None,
                form: model::spec::VolumeForm::Flocker,
            },
            read_only: false,
        }],
        ..spec()
    };
    assert_eq!(
        why(&draft, wanted.clone()).to_string(),
        "volume pg does not exist"
    );
    let volume = |tenant: Option<&str>| Volume {
        home: Some(NodeId(1)),
        tenant: tenant.map(|t| AppId::parse(t).expect("valid")),
        ..Volume::empty(pg.clone(), Quantity::whole(1), Time(0))
    };
    draft.apply(Change::VolumePut {
        volume: Box::new(volume(Some("/db"))),
    });
    assert_eq!(
        why(&draft, wanted.clone()).to_string(),
        "volume pg belongs to /db; 1 node: volume pg is on n2"
    );
    draft.apply(Change::VolumePut {
        volume: Box::new(volume(None)),
    });
    let (nodes, stopped) = fill(&mut draft, wanted, 2);
    assert_eq!(nodes, ["n2"]);
    let held = matches!(&stopped, Some(NoRoom::Hindered(Hindrance::VolumeHeld { volume, .. })) if *volume == pg);
    assert!(held, "{stopped:?}");
}

#[test]
fn a_node_fits_exactly_when_nothing_is_said_against_it() {
    let mut state = 0x1234_5678_u64;
    let mut below = |n: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % n
    };
    for _ in 0..2000 {
        let mut draft = zones(&[["a", "b", ""][below(3) as usize]]);
        let operators = [
            Operator::Unique,
            Operator::Cluster,
            Operator::Like,
            Operator::Unlike,
        ];
        let mut wanted = constrained("zone", operators[below(4) as usize], "a");
        wanted.resources.mem = Quantity::whole(below(2048));
        wanted.resources.cpus = Quantity(below(8000));
        if below(2) == 0 {
            wanted.network = Network::Bridge;
            let host = [HostPort::None, HostPort::Dynamic, HostPort::Fixed(80)][below(3) as usize];
            wanted.ports = vec![port(host, Protocols::Tcp); below(6) as usize];
        }
        let mut said = why(&draft, wanted.clone());
        for _ in 0..3 {
            let (placed, stopped) = fill(&mut draft, wanted.clone(), 1);
            let fits = said.nodes[0].reasons.is_empty();
            assert_eq!(fits, placed.len() == 1, "{said} {stopped:?} {wanted:?}");
            said = why(&draft, wanted.clone());
        }
    }
}
