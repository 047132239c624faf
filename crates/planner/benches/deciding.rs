//! What deciding costs at full size: 1,000,000 instances on 10,000 simulated nodes, with
//! constraints, through the real requests, leader and session.
//!
//! Prints *samples*, one JSON object a line, of which `cargo xtask bench deciding` makes a table;
//! it knows the goals, here nothing is judged.
//! Everything is placed on a [`Tip`] as the store does it, without a log: what is measured is
//! deciding alone. Nothing here is random; two runs decide the same. Spans are those that this one
//! thread was on a processor, which is what a clock on the wall shows where nothing else runs.

#![allow(clippy::unwrap_used)]
#![expect(
    clippy::disallowed_methods,
    reason = "the crate touches nothing; its bench asks the kernel for time and memory"
)]

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use model::ids::{AppId, ClusterId, Epoch, Incarnation, InstanceId};
use model::instance::{Exit, ExitStatus};
use model::machine::{Machine, Resources};
use model::quantity::Quantity;
use model::session::{Hello, PROTOCOL};
use model::sighting::InstanceLevel;
use model::spec::{
    Command, Constraint, Container, ImageContainer, Network, Operator, Port, Wanted,
};
use model::state::Settings;
use model::time::{Millis, Time};
use model::{AppSpec, Draft, Health, Level, Rung, Sighting, State, Tip};
use planner::leader::{Agenda, Budget, More, step};
use planner::request::{self, Force};
use planner::session;
use serde_json::json;

const NODES: u32 = 10_000;
/// Ordinary apps are put in so many parts, to see whether placing stays flat.
const PARTS: usize = 9;
const APPS_OF_A_PART: usize = 1_000;
const INSTANCES: u32 = 100;
/// The one large app that makes the million whole.
const LARGE: u32 = 100_000;
const WAITING: usize = 10_000;
const SIGHTINGS: usize = 20_000;
const ENDS: usize = 1_000;

fn main() {
    let before = resident();
    let mut cluster = Cluster::new();
    eprintln!("deciding: {NODES} nodes");

    let parts: Vec<f64> = (0..PARTS).map(|part| cluster.fill(part)).collect();
    let (first, last) = (parts[0], parts[PARTS - 1]);
    let ordinary = PARTS as f64 / parts.iter().map(|rate| 1.0 / rate).sum::<f64>();
    sample("deciding.place", ordinary);
    sample("deciding.flat", last / first);

    let large = cluster.placing(vec![(app("large", 0), spec(0, LARGE))]);
    sample("deciding.large", large);
    let count = cluster.state().instance_count();
    assert_eq!(count, 1_000_000, "all of it has room");
    let bytes = resident().saturating_sub(before) as f64 / count as f64;
    sample("deciding.bytes", bytes);

    cluster.sightings();
    cluster.waiting();
    eprintln!("deciding: {:.0} s in all", spent().as_secs_f64());
}

struct Cluster {
    tip: Tip,
    agenda: Agenda,
    now: Time,
    sequence: u64,
}

impl Cluster {
    fn new() -> Self {
        let mut cluster = Self {
            tip: Tip::new(State::default()),
            agenda: Agenda::default(),
            now: Time(1_795_263_726_000),
            sequence: 0,
        };
        cluster.decide(|draft| {
            request::found(draft, ClusterId(7), Settings::default()).unwrap();
            request::lead(draft);
            for n in 0..NODES {
                let hello = hello(n);
                session::hello(draft, &hello, &hello.machine.name).unwrap();
            }
        });
        cluster.settle();
        cluster
    }

    fn state(&self) -> &State {
        self.tip.newest()
    }

    /// One transaction, durable at once; what it touched has its turn.
    fn decide<T>(&mut self, decide: impl FnOnce(&mut Draft) -> T) -> T {
        let mut draft = self.tip.draft(self.now);
        let answer = decide(&mut draft);
        if let Some(transaction) = self.tip.accept(draft) {
            let touched = self.tip.settle(transaction.revision);
            self.agenda.touch(&touched);
        }
        answer
    }

    /// The leader's steps until it has nothing to do; the longest of them.
    fn settle(&mut self) -> Duration {
        let mut longest = Duration::ZERO;
        loop {
            let began = spent();
            let mut draft = self.tip.draft(self.now);
            let more = step(&mut self.agenda, &mut draft, Budget::default());
            if let Some(transaction) = self.tip.accept(draft) {
                // As `master` does: the leader hears of its own changes by the watch.
                let touched = self.tip.settle(transaction.revision);
                self.agenda.touch(&touched);
            }
            longest = longest.max(spent() - began);
            if more == More::Quiet && self.is_quiet() {
                return longest;
            }
        }
    }

    /// Whether a step would do nothing, apart from turns that find nothing to do.
    fn is_quiet(&mut self) -> bool {
        let mut draft = self.tip.draft(self.now);
        let more = step(&mut self.agenda, &mut draft, Budget::default());
        more == More::Quiet && draft.changes().is_empty()
    }

    /// Puts apps; placements a second until all have been placed.
    fn placing(&mut self, apps: Vec<(AppId, AppSpec)>) -> f64 {
        for (id, spec) in apps {
            self.now = self.now + Millis(1);
            self.decide(|draft| request::put_app(draft, id, spec, Force::No))
                .unwrap();
        }
        let before = self.state().instance_count();
        let began = spent();
        let longest = self.settle();
        let took = spent() - began;
        let placed = self.state().instance_count() - before;
        let rate = placed as f64 / took.as_secs_f64();
        eprintln!(
            "deciding: {placed} placed at {rate:.0}/s, longest step {:.1} ms, {} instances, {} MiB",
            longest.as_secs_f64() * 1e3,
            self.state().instance_count(),
            resident() >> 20,
        );
        rate
    }

    fn fill(&mut self, part: usize) -> f64 {
        let first = part * APPS_OF_A_PART;
        let apps = (first..first + APPS_OF_A_PART).map(|n| (app("app", n), spec(n, INSTANCES)));
        self.placing(apps.collect())
    }

    /// What one sighting costs: its own transaction, and the leader's step that follows.
    fn sightings(&mut self) {
        let ids = self.some_instances(SIGHTINGS, 7_919);
        let began = spent();
        for id in ids {
            self.see(id, Rung::Running);
            self.settle_once();
        }
        let each = (spent() - began).as_secs_f64() / SIGHTINGS as f64;
        sample("deciding.sighting", each);
    }

    /// Apps for which no node will do: what it costs that they wait.
    fn waiting(&mut self) {
        let apps = (0..WAITING).map(|n| {
            let mut spec = spec(0, 1);
            spec.constraints = vec![constraint("disk", Operator::Like, "nvme")];
            (app("waiting", n), spec)
        });
        for (id, spec) in apps {
            self.now = self.now + Millis(1);
            self.decide(|draft| request::put_app(draft, id, spec, Force::No))
                .unwrap();
        }
        let began = spent();
        self.settle();
        let each = (spent() - began).as_secs_f64() / WAITING as f64;
        sample("deciding.wait", each);

        let apps = (0..200).map(|n| (app("late", n), spec(n, INSTANCES)));
        let rate = self.placing(apps.collect());
        sample("deciding.waiting", rate);

        // Each ends, is accounted for, told to go, seen gone, and its room is offered to who waits.
        let ids = self.some_instances(ENDS, 104_729);
        let began = spent();
        for id in ids {
            self.see(id, Rung::Ended);
            self.settle_once();
            self.see(id, Rung::Gone);
            self.settle_once();
        }
        let each = (spent() - began).as_secs_f64() / ENDS as f64;
        sample("deciding.end", each);
    }

    fn settle_once(&mut self) {
        let mut draft = self.tip.draft(self.now);
        while step(&mut self.agenda, &mut draft, Budget::default()) == More::Again {}
        if let Some(transaction) = self.tip.accept(draft) {
            self.tip.settle(transaction.revision);
        }
    }

    fn see(&mut self, id: InstanceId, rung: Rung) {
        self.sequence += 1;
        let Some(node) = self.state().instance(id).map(|i| i.placement.node) else {
            return;
        };
        let exit = (rung >= Rung::Ended).then_some(Exit {
            status: ExitStatus::Code(0),
            out_of_memory: false,
            last_line: None,
        });
        let sighting = Sighting {
            incarnation: Incarnation(1),
            sequence: self.sequence,
            level: Level::Instance(
                id,
                InstanceLevel {
                    rung,
                    health: Health::Unknown,
                    detail: None,
                    exit,
                },
            ),
        };
        self.decide(|draft| session::sightings(draft, node, &[sighting]));
    }

    /// Instances from everywhere, `stride` apart.
    fn some_instances(&self, count: usize, stride: usize) -> Vec<InstanceId> {
        let all: Vec<InstanceId> = self.state().instances().map(|i| i.id).collect();
        (0..count).map(|n| all[n * stride % all.len()]).collect()
    }
}

fn app(family: &str, n: usize) -> AppId {
    AppId::parse(&format!("/{family}/{n}")).unwrap()
}

/// Apps of four kinds: anywhere, on certain disks, spread over the zones, few on each machine.
/// Every other one publishes a port.
fn spec(kind: usize, instances: u32) -> AppSpec {
    let constraints = match kind % 4 {
        0 => vec![],
        1 => vec![constraint("disk", Operator::Like, "ssd|nvme")],
        2 => vec![constraint("zone", Operator::GroupBy, "10")],
        _ => vec![constraint("hostname", Operator::MaxPer, "2")],
    };
    let port = Port {
        name: Some("http".into()),
        protocol: Default::default(),
        container: 8080,
        host: Default::default(),
        service: 0,
        labels: BTreeMap::new(),
        published: false,
    };
    let words = |names: [&str; 4]| names.map(|n| (n.to_owned(), format!("value of {n}")));
    AppSpec {
        instances,
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
        constraints,
        network: Network::Bridge,
        ports: if kind % 2 == 1 { vec![port] } else { vec![] },
        ..AppSpec::default()
    }
}

fn constraint(field: &str, operator: Operator, value: &str) -> Constraint {
    Constraint {
        field: field.into(),
        operator,
        value: Some(value.into()),
    }
}

/// A machine with room for 110 instances; half have the disks that a quarter of the apps want.
fn hello(n: u32) -> Hello {
    let text = |key: &str, value: String| (key.to_owned(), value);
    let disk = if n.is_multiple_of(2) {
        "ssd"
    } else {
        "spinning"
    };
    Hello {
        protocol: PROTOCOL,
        cluster: None,
        epoch: Epoch(0),
        incarnation: Incarnation(1),
        machine: Machine {
            name: format!("n{n}"),
            hostname: format!("machine-{n}.example"),
            address: Ipv4Addr::from(0x0a80_0000 + n),
            resources: Resources {
                cpus: Quantity::whole(11),
                mem: Quantity::whole(110 * 128),
                disk: Quantity::whole(100_000),
            },
            attributes: BTreeMap::from([
                text("disk", disk.to_owned()),
                text("rack", format!("r{}", n % 400)),
                text("zone", format!("z{}", n % 10)),
            ]),
            ports: (31_000, 32_000),
            stream_port: 4434,
            allow: Vec::new(),
            boot: "1".into(),
            version: "0.1.0".into(),
        },
    }
}

/// Prints one sample: a rate, seconds, or bytes.
fn sample(figure: &str, value: f64) {
    println!(
        "{}",
        json!({ "figure": figure, "of": "ours", "value": value })
    );
}

/// How long this thread was on a processor so far.
fn spent() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let nanoseconds = text.split(' ').next().unwrap().parse();
    Duration::from_nanos(nanoseconds.unwrap())
}

/// Bytes of memory that this process occupies.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<usize>().ok());
    pages.unwrap_or(0) * 4096
}
