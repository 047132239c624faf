//! How long writes take while a checkpoint of 1,000,000 instances on 10,000 nodes is written, and
//! for as long without one; one write after the other, each of one sighting. And what such a
//! checkpoint is: its size, and how long a start from it takes.
//!
//! Prints *samples*, one JSON object a line, of which `cargo xtask bench checkpoint` makes a table;
//! it knows the goals, here nothing is judged. Log and checkpoints are files of the real store on
//! this machine's disk, below `/var/tmp`; nothing here decides.

#![allow(clippy::unwrap_used)]

use std::convert::Infallible;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::ids::{AppId, ClusterId, Epoch, Incarnation, InstanceId, NodeId, Revision};
use model::instance::{Goal, Placement, RecordedInstance};
use model::machine::{Machine, Resources};
use model::sighting::InstanceLevel;
use model::spec::{Command, Container, ImageContainer, Network, Wanted};
use model::state::Settings;
use model::{AppSpec, Change, Health, Quantity, Rung, State, Time};
use serde_json::json;
use store::{Log, RedbLog, Store};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

const NODES: u32 = 10_000;
const APPS: u32 = 10_000;
const INSTANCES: u32 = 1_000_000;
const ROUNDS: usize = 3;
/// The store begins a checkpoint after so many transactions.
const EVERY: u64 = 10_000;
/// As many as share one sync.
const TOGETHER: u64 = 256;
/// Between two writes, lest the next checkpoint be due when one is over.
const PACE: Duration = Duration::from_millis(10);
/// After a checkpoint is whole: the writer then forgets what it stands for, a portion each time.
const AFTERWARDS: usize = 60;
const NOW: Time = Time(1_795_263_726_000);

fn main() {
    let place = tempfile::Builder::new().tempdir_in("/var/tmp").unwrap();
    prepare(place.path());
    let began = Instant::now();
    let (store, writer) = Store::open(RedbLog::open(place.path()).unwrap()).unwrap();
    sample("checkpoint.open", "ours", began.elapsed().as_secs_f64());
    assert_eq!(store.state().instance_count(), INSTANCES as usize);
    let mut bench = Bench {
        runtime: Runtime::new().unwrap(),
        store,
        dir: place.path(),
        seen: 0,
        checkpoint: 1,
    };
    for _ in 0..ROUNDS {
        let span = bench.with_a_checkpoint();
        bench.without(span);
    }
    drop(bench);
    writer.join().unwrap().unwrap();
}

/// A log that begins with a checkpoint of everything.
fn prepare(dir: &Path) {
    let log = RedbLog::open(dir).unwrap();
    let state = full();
    log.checkpoint(&state).unwrap();
    log.truncate(state.revision).unwrap();
    let bytes = fs::metadata(path_of(dir, state.revision.0)).unwrap().len();
    sample("checkpoint.bytes", "ours", bytes as f64);
}

fn path_of(dir: &Path, revision: u64) -> std::path::PathBuf {
    dir.join(format!("checkpoint-{revision:020}"))
}

struct Bench<'a> {
    runtime: Runtime,
    store: Store,
    dir: &'a Path,
    /// Numbers the sightings.
    seen: u64,
    /// Revision of the newest checkpoint.
    checkpoint: u64,
}

impl Bench<'_> {
    /// Writes until a checkpoint has begun and is over; how long that was.
    fn with_a_checkpoint(&mut self) -> Duration {
        let due = self.checkpoint + EVERY;
        while self.revision() + TOGETHER < due {
            self.write_many();
        }
        while self.revision() < due {
            self.write();
        }
        // It begins beside the next write.
        let began = Instant::now();
        let mut spans = Vec::new();
        while path_of(self.dir, self.checkpoint).exists() {
            spans.push(self.write_alone());
        }
        let span = began.elapsed();
        spans.extend((0..AFTERWARDS).map(|_| self.write_alone()));
        self.checkpoint = due;
        assert!(
            path_of(self.dir, due).exists(),
            "nothing else is checkpointed"
        );
        tell("ours", spans);
        sample("checkpoint.span", "ours", span.as_secs_f64());
        span
    }

    /// Writes for as long.
    fn without(&mut self, span: Duration) {
        let (began, mut spans) = (Instant::now(), Vec::new());
        while began.elapsed() < span {
            spans.push(self.write_alone());
        }
        assert!(self.revision() < self.checkpoint + EVERY, "no other began");
        tell("without", spans);
    }

    fn revision(&self) -> u64 {
        self.store.state().revision.0
    }

    /// How long it takes until a write is acknowledged.
    fn write(&mut self) -> Duration {
        let change = self.sighting();
        let began = Instant::now();
        self.runtime.block_on(write(self.store.clone(), change));
        began.elapsed()
    }

    fn write_alone(&mut self) -> Duration {
        std::thread::sleep(PACE);
        self.write()
    }

    /// Writes that share syncs, to get on.
    fn write_many(&mut self) {
        let mut writes = JoinSet::new();
        for _ in 0..TOGETHER {
            let change = self.sighting();
            writes.spawn_on(write(self.store.clone(), change), self.runtime.handle());
        }
        self.runtime.block_on(writes.join_all());
    }

    /// Of one instance after the other, far apart, whose health flips.
    fn sighting(&mut self) -> Change {
        self.seen += 1;
        let slot = (self.seen * 7_919 % u64::from(INSTANCES)) as u32;
        Change::InstanceSeen {
            instance: id(slot),
            sighted: (Incarnation(1), self.seen),
            level: Box::new(InstanceLevel {
                rung: Rung::Running,
                health: match self.seen % 2 {
                    0 => Health::Healthy,
                    _ => Health::Unhealthy,
                },
                ..InstanceLevel::default()
            }),
        }
    }
}

async fn write(store: Store, change: Change) {
    let written = store.write(move |draft| {
        draft.apply(change);
        Ok::<_, Infallible>(())
    });
    let Ok(()) = written.await.unwrap();
}

/// The state of a full cluster, every instance of which runs.
fn full() -> State {
    let mut state = State::default();
    state.apply(&Change::Founded {
        cluster: ClusterId(7),
        settings: Settings::default(),
    });
    state.apply(&Change::Led { epoch: Epoch(1) });
    let mut state = state.at(NOW);
    for n in 0..NODES {
        state.apply(&joined(n));
    }
    for n in 0..APPS {
        state.apply(&Change::AppPut {
            app: app(n),
            spec: spec(n),
            version: NOW,
            config: true,
        });
        for copy in 0..INSTANCES / APPS {
            let instance = Box::new(instance(n, copy));
            state.apply(&Change::InstancePlaced { instance });
        }
    }
    state.numbered(Revision(1))
}

fn app(n: u32) -> AppId {
    AppId::parse(&format!("/shop/app-{n}")).unwrap()
}

fn id(slot: u32) -> InstanceId {
    InstanceId {
        birth: (1 << 32) | u64::from(slot),
        slot,
    }
}

fn joined(n: u32) -> Change {
    let machine = Machine {
        name: format!("n{n}"),
        hostname: format!("machine-{n}.example"),
        address: Ipv4Addr::from(0x0a80_0000 + n),
        resources: Resources::default(),
        attributes: [("zone".to_owned(), format!("z{}", n % 10))].into(),
        ports: (31_000, 32_000),
        stream_port: 4434,
        allow: Vec::new(),
        boot: "1".into(),
        version: "0.1.0".into(),
    };
    Change::NodeJoined {
        node: NodeId(n),
        overlay: Ipv4Addr::from(0x0a20_0100 + n),
        machine: Box::new(machine),
    }
}

fn spec(n: u32) -> Arc<AppSpec> {
    let words = |names: [&str; 4]| names.map(|name| (name.to_owned(), format!("value of {n}")));
    Arc::new(AppSpec {
        instances: INSTANCES / APPS,
        command: Command::Image,
        container: Container::Image(Box::new(ImageContainer {
            image: "10.0.15.10:5000/shop/app:1".into(),
            ..ImageContainer::default()
        })),
        resources: Wanted {
            cpus: Quantity(100),
            mem: Quantity::whole(128),
            ..Wanted::default()
        },
        env: words(["DATABASE", "CACHE", "LEVEL", "REGION"]).into(),
        labels: words(["owner", "team", "tier", "cost"]).into(),
        network: Network::Bridge,
        ..AppSpec::default()
    })
}

fn instance(n: u32, copy: u32) -> RecordedInstance {
    let number = n * (INSTANCES / APPS) + copy;
    RecordedInstance {
        id: id(number),
        app: app(n),
        app_slot: n,
        slot: copy,
        version: NOW,
        spec: None,
        placement: Placement {
            node: NodeId(number % NODES),
            address: Some(Ipv4Addr::from(0x0a21_0000 + number)),
            ..Placement::default()
        },
        goal: Goal::Run,
        rung: Rung::Running,
        health: Health::Unknown,
        detail: None,
        exit: None,
        placed_at: NOW,
        running_at: Some(NOW),
        ended_at: None,
        health_at: None,
        sighted: (Incarnation(1), 0),
    }
}

/// The longest and the median.
fn tell(of: &str, mut spans: Vec<Duration>) {
    let longest = (0..spans.len()).max_by_key(|n| spans[*n]).unwrap_or(0);
    eprintln!(
        "checkpoint: {of}: the longest of {} writes was number {longest}, {:.0} ms",
        spans.len(),
        spans[longest].as_secs_f64() * 1e3
    );
    spans.sort_unstable();
    let seconds = |n: usize| spans[n].as_secs_f64();
    sample("checkpoint.longest", of, seconds(spans.len() - 1));
    sample("checkpoint.median", of, seconds(spans.len() / 2));
}

/// Prints one sample: seconds, or bytes.
fn sample(figure: &str, of: &str, value: f64) {
    println!("{}", json!({ "figure": figure, "of": of, "value": value }));
}
