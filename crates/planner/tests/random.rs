//! Random requests and faults: what must never happen does not, and when faults cease
//! everything settles. The seed is in the message of what fails.

mod common;

use common::{Cluster, app, changed, check, spec, volume, with_volume};
use model::AppSpec;
use model::ids::AppId;
use model::quantity::Quantity;
use model::spec::{
    Constraint, Container, FixedAddress, HostPort, ImageContainer, Network, Operator, Port,
    UpgradeStrategy,
};
use model::time::Millis;
use planner::leader::Agenda;
use planner::request::{self, Force, Kill};

/// Marsaglia's xorshift.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn choose<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }
}

const APPS: [&str; 5] = ["/a", "/b", "/c/d", "/c/e", "/db"];

fn random_spec(random: &mut Random, id: &str) -> AppSpec {
    if id == "/db" || random.one_in(8) {
        let name = random.choose(&["pg", "mongo"]);
        return changed(&with_volume(name), &random.below(2).to_string());
    }
    let mut spec = spec(random.below(5) as u32);
    let kind = random.below(3);
    spec = changed(&spec, &kind.to_string());
    spec.container = container(kind);
    spec.upgrade = UpgradeStrategy {
        minimum_health: Quantity(random.choose(&[0, 500, 1000])),
        maximum_over: Quantity(random.choose(&[0, 500, 1000])),
    };
    if random.one_in(2) {
        spec.network = Network::Bridge;
        let host = random.choose(&[HostPort::None, HostPort::Dynamic, HostPort::Fixed(9080)]);
        spec.ports.push(Port {
            name: None,
            protocol: Default::default(),
            container: 80,
            host,
            service: 0,
            labels: Default::default(),
            published: false,
        });
    }
    if random.one_in(3) {
        spec.health_checks.push(check());
    }
    if random.one_in(5) {
        spec.instances = spec.instances.min(1);
        spec.fixed_addresses.push(FixedAddress {
            address: "10.255.0.10".parse().expect("an address"),
            prefix: 24,
        });
    }
    if random.one_in(4) {
        spec.constraints.push(Constraint {
            field: "hostname".into(),
            operator: random.choose(&[Operator::Unique, Operator::GroupBy]),
            value: None,
        });
    }
    spec
}

/// Images with one hostname or another, or none.
fn container(kind: u64) -> Container {
    let mut image = ImageContainer::default();
    image.options.hostname = match kind {
        0 => None,
        1 => Some("web.weave.local".into()),
        _ => Some("other".into()),
    };
    Container::Image(Box::new(image))
}

fn disturb(cluster: &mut Cluster, random: &mut Random) {
    let id = random.choose(&APPS);
    let name = random.choose(&["n1", "n2", "n3", "n4"]);
    let force = Force::from(random.one_in(2));
    match random.below(21) {
        0..=4 => {
            let spec = random_spec(random, id);
            let _ = cluster.ask(|draft| request::put_app(draft, app(id), spec, force));
        }
        5 => {
            let _ = cluster.ask(|draft| request::remove_app(draft, &app(id), force));
        }
        6 => {
            let n = random.below(5) as u32;
            let _ = cluster.ask(|draft| request::scale(draft, &app(id), n, force));
        }
        7 => {
            let _ = cluster.ask(|draft| request::restart_app(draft, &app(id), force));
        }
        8 => {
            let ids: Vec<_> = cluster.state().instances().map(|i| i.id).take(2).collect();
            let kill = Kill {
                scale: random.one_in(2),
                force,
                ..Kill::default()
            };
            let _ = cluster.ask(|draft| request::kill_instances(draft, &ids, kill));
        }
        9 => {
            let first = cluster.state().deployments().next().map(|d| d.id);
            if let Some(id) = first {
                let _ = cluster.ask(|draft| request::cancel_deployment(draft, id, force));
            }
        }
        10 => cluster.cut(name),
        11 => cluster.kill(name),
        12 => {
            if !cluster.agents[name].connected {
                cluster.connect(name);
            }
        }
        13 => {
            let node = cluster.agents[name].node;
            let _ = cluster.ask(|draft| match random.one_in(2) {
                true => request::drain(draft, node),
                false => request::undrain(draft, node),
            });
        }
        14 => toggle(&mut cluster.stubborn, app(id)),
        15 => {
            if cluster.crashing.remove(&app(id)).is_none() {
                cluster.crashing.insert(app(id), 1);
            }
        }
        16 => toggle(&mut cluster.sick, app(id)),
        17 => {
            let to = cluster.agents[name].node;
            let name = random.choose(&["pg", "mongo"]);
            let _ = cluster.ask(|draft| request::move_volume(draft, &volume(name), to));
        }
        18 => {
            let _ = cluster.ask(|draft| request::cancel_move(draft, &app("/db")));
        }
        19 => toggle(&mut cluster.unprepared, app(id)),
        _ => {
            cluster.decide(|draft| {
                request::lead(draft);
            });
            cluster.agenda = Agenda::rebuild(cluster.state());
        }
    }
}

fn toggle(set: &mut std::collections::BTreeSet<AppId>, app: AppId) {
    if !set.remove(&app) {
        set.insert(app);
    }
}

/// Faults cease; what is in the way is taken away.
fn heal(cluster: &mut Cluster) {
    cluster.unprepared.clear();
    cluster.stubborn.clear();
    cluster.crashing.clear();
    cluster.sick.clear();
    for name in ["n1", "n2", "n3", "n4"] {
        if !cluster.agents[name].connected {
            cluster.connect(name);
        }
        let node = cluster.agents[name].node;
        let undrained = cluster.ask(|draft| request::undrain(draft, node));
        assert_eq!(undrained, Ok(()));
    }
    // Where no instance has room, a move that was handed over ends after a minute only.
    cluster.pass(Millis::seconds(90));
}

fn run(seed: u64) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut cluster = Cluster::new(4);
    for _ in 0..60 {
        disturb(&mut cluster, &mut random);
        match random.below(4) {
            0 => {}
            1 => cluster.pass(Millis(500 * (1 + random.below(16)))),
            _ => cluster.settle(),
        }
    }
    heal(&mut cluster);
    let state = cluster.state();
    for record in state.apps() {
        assert!(!record.removing, "{} goes", record.id);
        let waits = scheduler::Wish::compile(&record.id, &record.spec)
            .map(|wish| scheduler::explain(state, &wish))
            .expect("the app was accepted");
        let excused =
            !waits.hindrances.is_empty() || waits.nodes.iter().all(|node| !node.reasons.is_empty());
        assert!(
            record.counters.active == record.spec.instances || excused,
            "{}: {:?} of {}; {waits}",
            record.id,
            record.counters,
            record.spec.instances,
        );
        assert_eq!(
            record.counters.living(),
            record.counters.active,
            "{}",
            record.id
        );
        let deployment = record.deployment.and_then(|id| state.deployment(id));
        let alone = deployment.is_some_and(|d| d.apps().count() == 1);
        assert!(!alone || excused, "the deployment of {} ends", record.id);
    }
    // Nothing is left but what is wanted, on paper and in the world.
    for agent in cluster.agents.values() {
        let assigned = agent.assignment.instances.keys();
        assert!(assigned.eq(agent.has.keys()), "{}", agent.machine.name);
    }
    assert_eq!(state.moves().count(), 0, "every move ends");
    let tenants = state.volumes().filter_map(|v| v.tenant.as_ref());
    tenants.for_each(|tenant| assert!(state.app(tenant).is_some(), "{tenant} is no app"));
}

#[test]
fn random_requests_and_faults_break_nothing_and_settle() {
    for seed in 0..500 {
        let failed = std::panic::catch_unwind(|| run(seed)).is_err();
        assert!(!failed, "seed {seed}");
    }
}
