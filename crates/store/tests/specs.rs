//! What logs and checkpoints hold of instances' specs: each once, with its app, and every instance
//! gets back the one that it had. What an earlier release wrote is read too.

#![allow(clippy::unwrap_used)]

use std::net::Ipv4Addr;
use std::sync::Arc;

use model::instance::{Goal, Placement};
use model::machine::{Machine, Resources};
use model::records::Record;
use model::{
    App, AppId, AppSpec, Change, Health, Incarnation, Instance, InstanceId, NodeId,
    RecordedInstance, Revision, Rung, State, Time, Transaction, fingerprint,
};
use store::{Log, RedbLog, codec};

/// A record of each kind, as the release before this one wrote them.
const FORMAT_1: &str = include_str!("golden/format-1.jsonl");

fn web() -> AppId {
    AppId::parse("/shop/web").unwrap()
}

/// A spec that is far longer than an instance's record without it.
fn spec(number: u32) -> Arc<AppSpec> {
    let words = "a value of some length ".repeat(200);
    Arc::new(AppSpec {
        instances: 1000,
        env: [("NUMBER".to_owned(), format!("{words}{number}"))].into(),
        ..AppSpec::default()
    })
}

fn joined() -> Change {
    let machine = Machine {
        name: "n1".into(),
        hostname: "n1.example".into(),
        address: Ipv4Addr::new(10, 0, 15, 11),
        resources: Resources::default(),
        attributes: Default::default(),
        ports: (31_000, 32_000),
        stream_port: 4434,
        allow: Vec::new(),
        boot: "1".into(),
        version: "0.1.0".into(),
    };
    Change::NodeJoined {
        node: NodeId(0),
        overlay: Ipv4Addr::new(10, 32, 0, 2),
        machine: Box::new(machine),
    }
}

fn put(spec: &Arc<AppSpec>, version: u64) -> Change {
    Change::AppPut {
        app: web(),
        spec: Arc::clone(spec),
        version: Time(version),
        config: true,
    }
}

fn id(slot: u32) -> InstanceId {
    InstanceId {
        birth: u64::from(slot) + 1,
        slot,
    }
}

/// Instance number `slot` of a version; with a spec of its own, if one is given.
fn placed(slot: u32, version: u64, spec: Option<&Arc<AppSpec>>) -> Change {
    let instance = RecordedInstance {
        id: id(slot),
        app: web(),
        app_slot: 0,
        slot,
        version: Time(version),
        spec: spec.cloned(),
        placement: Placement {
            node: NodeId(0),
            address: Some(Ipv4Addr::from(0x0a21_0000 + slot)),
            host_ports: vec![31_000],
            ..Placement::default()
        },
        goal: Goal::Run,
        rung: Rung::Running,
        health: Health::Unknown,
        detail: Some("running".into()),
        exit: None,
        placed_at: Time(3),
        running_at: Some(Time(4)),
        ended_at: None,
        health_at: None,
        sighted: (Incarnation(1), 2),
    };
    Change::InstancePlaced {
        instance: Box::new(instance),
    }
}

fn state(changes: impl IntoIterator<Item = Change>) -> State {
    let mut state = State::default();
    for change in changes {
        state.apply(&change);
    }
    state.numbered(Revision(9))
}

/// Written down as bytes and read back; and how long the instances' records are.
fn read_back(state: &State) -> (State, usize) {
    let dir = tempfile::tempdir().unwrap();
    let log = RedbLog::open(dir.path()).unwrap();
    log.checkpoint(state).unwrap();
    let read = log.latest_checkpoint().unwrap().unwrap();
    assert_eq!(records(&read), records(state));
    assert_eq!(instances(&read), instances(state));
    assert_eq!(
        read.directory_fingerprint(),
        state.directory_fingerprint(),
        "all else is as it was too"
    );
    for (read, known) in read.apps().zip(state.apps()) {
        assert_eq!(read, known, "its counters are counted again");
    }
    let instances = state.records().filter(|r| matches!(r, Record::Instance(_)));
    let bytes = instances.map(|record| codec::encode_record(&record).len());
    (read, bytes.sum())
}

fn records(state: &State) -> Vec<Record> {
    state.records().collect()
}

fn instances(state: &State) -> Vec<Instance> {
    state.instances().cloned().collect()
}

fn app(state: &State) -> &App {
    state.app(&web()).unwrap()
}

fn spec_of(state: &State, slot: u32) -> &Arc<AppSpec> {
    &state.instance(id(slot)).unwrap().spec
}

#[test]
fn instances_share_the_specs_of_their_apps_versions() {
    let (old, new) = (spec(1), spec(2));
    let before = state(
        [joined(), put(&old, 1)]
            .into_iter()
            .chain((0..500).map(|slot| placed(slot, 1, None)))
            .chain([put(&new, 2)])
            .chain((500..1000).map(|slot| placed(slot, 2, None))),
    );
    let (after, bytes) = read_back(&before);
    assert!(bytes < 1000 * 500, "{bytes} bytes hold no spec");
    for state in [&before, &after] {
        for slot in 0..500 {
            assert!(Arc::ptr_eq(spec_of(state, slot), &app(state).history[0].1));
        }
        for slot in 500..1000 {
            assert!(Arc::ptr_eq(spec_of(state, slot), &app(state).spec));
        }
    }
}

#[test]
fn a_version_that_the_app_has_forgotten_goes_with_its_instance() {
    let later = (2..=2 + App::HISTORY as u64).map(|version| put(&spec(version as u32), version));
    let changes = [joined(), put(&spec(1), 1), placed(0, 1, None)];
    let before = state(changes.into_iter().chain(later));
    assert_eq!(app(&before).spec_at(Time(1)), None);
    let (after, bytes) = read_back(&before);
    assert!(bytes > 4000, "{bytes} bytes hold its spec");
    assert_eq!(*spec_of(&after, 0), spec(1));
}

#[test]
fn the_spec_of_an_app_that_is_gone_goes_with_its_instance() {
    let removed = Change::AppRemoved { app: web() };
    let before = state([joined(), put(&spec(1), 1), placed(0, 1, None), removed]);
    let (after, _) = read_back(&before);
    assert_eq!(*spec_of(&after, 0), spec(1));

    // Another app in its slot, of the same version, is not its app.
    let other = Change::AppPut {
        app: AppId::parse("/other").unwrap(),
        spec: spec(2),
        version: Time(1),
        config: true,
    };
    let mut before = before;
    before.apply(&other);
    let (after, _) = read_back(&before);
    assert_eq!(*spec_of(&after, 0), spec(1));
}

#[test]
fn a_spec_that_differs_from_its_versions_is_kept_and_an_equal_one_is_shared() {
    let mine = spec(1);
    let changes = [
        joined(),
        put(&mine, 1),
        placed(0, 1, Some(&spec(7))),
        placed(1, 1, Some(&spec(1))),
    ];
    let before = state(changes);
    let (after, _) = read_back(&before);
    for state in [&before, &after] {
        assert_eq!(*spec_of(state, 0), spec(7));
        assert!(Arc::ptr_eq(spec_of(state, 1), &app(state).spec));
    }
}

#[test]
fn what_is_read_back_from_the_log_shares_too_and_is_short() {
    let transaction = Transaction {
        revision: Revision(1),
        at: Time(1),
        changes: vec![joined(), put(&spec(1), 1), placed(0, 1, None)],
    };
    let bytes = codec::encode_transaction(&transaction);
    let read = codec::decode_transaction(&bytes).unwrap();
    assert_eq!(read, transaction);
    let replayed = state(read.changes);
    assert!(Arc::ptr_eq(spec_of(&replayed, 0), &app(&replayed).spec));
    let placement = Transaction {
        changes: vec![placed(0, 1, None)],
        ..transaction
    };
    assert!(codec::encode_transaction(&placement).len() < 600);
}

#[test]
fn an_instance_whose_spec_is_nowhere_stops_the_start_with_its_name() {
    let Change::InstancePlaced { instance } = placed(0, 1, None) else {
        unreachable!("it places one");
    };
    let task = instance.task_id();
    let error = State::restore([Record::Instance(instance)], Revision(1)).unwrap_err();
    assert!(error.to_string().contains(&task), "{error}");
}

#[test]
fn a_checkpoint_of_the_release_before_is_read_and_its_instances_share_their_spec() {
    let dir = tempfile::tempdir().unwrap();
    let mut file = Vec::new();
    for part in [FORMAT_1.as_bytes(), &[]] {
        file.extend((part.len() as u64).to_le_bytes());
        file.extend(fingerprint::of(&part).to_le_bytes());
        file.extend(part);
    }
    std::fs::write(dir.path().join("checkpoint-00000000000000000005"), file).unwrap();
    let log = RedbLog::open(dir.path()).unwrap();
    let state = log.latest_checkpoint().unwrap().unwrap();
    assert_eq!(state.revision, Revision(5));
    let app = state.apps().next().unwrap();
    assert_eq!((app.counters.running, state.node_count()), (2, 1));
    assert_eq!(app.spec.env["CACHE"], "value of 0");
    assert_eq!(instances(&state).len(), 2);
    for instance in state.instances() {
        assert!(Arc::ptr_eq(&instance.spec, &app.spec));
    }
}

#[test]
fn a_log_of_the_release_before_is_replayed_and_its_instances_share_their_spec() {
    let lines = FORMAT_1.lines().map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line["body"].clone()
    });
    let mut lines = lines.skip(2);
    let app = &lines.next().unwrap()["App"];
    let put = serde_json::json!({
        "AppPut": {"app": app["id"], "spec": app["spec"], "version": app["version"], "config": true}
    });
    let placed =
        lines.map(|line| serde_json::json!({"InstancePlaced": {"instance": line["Instance"]}}));
    let changes: Vec<_> = std::iter::once(put).chain(placed).collect();
    let body = serde_json::json!({"revision": 1, "at": 1, "changes": changes});
    let line = serde_json::json!({"format": 1, "body": body}).to_string();
    let transaction = codec::decode_transaction(line.as_bytes()).unwrap();
    let state = state(transaction.changes);
    let app = state.apps().next().unwrap();
    assert_eq!(app.counters.running, 2);
    for instance in state.instances() {
        assert!(Arc::ptr_eq(&instance.spec, &app.spec));
    }
}
