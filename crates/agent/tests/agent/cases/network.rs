//! Health, addresses and names.

use model::session::Ask;
use model::spec::{HealthCheck, Network, Probe};
use model::{Entry, Health, Interface, NetworkKind, NodeId};

use super::asks::{is_over, said};
use super::*;

pub fn check(probe: Probe) -> HealthCheck {
    HealthCheck {
        probe,
        grace: Millis(0),
        interval: Millis(200),
        timeout: Millis(20_000),
        max_failures: 2,
        delay: Millis(0),
        ignore_http_1xx: false,
        protocol: "MESOS_COMMAND".into(),
    }
}

pub async fn health_flips_are_reported(world: World) {
    let (master, _agent) = start(&world).await;
    let spec = AppSpec {
        command: Run::Shell("touch well; exec sleep 1000".into()),
        health_checks: vec![check(Probe::Command(
            "test -e /mnt/mesos/sandbox/well".into(),
        ))],
        ..AppSpec::default()
    };
    master.assign(|all| drop(all.insert(ONE, assigned(spec))));
    let is = |health| move |level: &model::InstanceLevel| level.health == health;
    master.level(ONE, "its health", is(Health::Healthy)).await;
    let well = world
        .state_dir()
        .join("instances")
        .join(ONE.to_string())
        .join("sandbox/well");
    fs::remove_file(&well).expect("remove");
    master
        .level(ONE, "its illness", is(Health::Unhealthy))
        .await;
    fs::write(&well, "").expect("write");
    master.level(ONE, "its cure", is(Health::Healthy)).await;
}

const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 32, 0, 7);

const NAME: &str = "web.shop.tandem.local";

/// A web server on the overlay, and what the directory says of it.
pub fn on_the_overlay() -> (Assigned, Entry) {
    let spec = AppSpec {
        command: Run::Shell(
            "busybox ip -4 address show eth0 | grep -o 'inet [0-9.]*'; \
             echo fine > index.html; exec busybox httpd -f -p 8080"
                .into(),
        ),
        network: Network::Container("mesh".into()),
        health_checks: vec![HealthCheck {
            protocol: "HTTP".into(),
            ..check(Probe::Http {
                tls: false,
                path: "/index.html".into(),
                port: model::spec::ProbePort::Number(8080),
            })
        }],
        ..AppSpec::default()
    };
    let mut wanted = assigned(spec);
    wanted.placement.address = Some(ADDRESS);
    let entry = Entry {
        app: wanted.app.clone(),
        node: NodeId(0),
        interfaces: vec![Interface {
            network: NetworkKind::Overlay,
            address: ADDRESS,
            prefix: 12,
        }],
        hostname: None,
        running: true,
        healthy: true,
        ports: Vec::new(),
    };
    (wanted, entry)
}

pub async fn an_instance_on_the_overlay_has_its_address_and_name(world: World) {
    let (master, mut agent) = start(&world).await;
    let (wanted, entry) = on_the_overlay();
    master.direct(|directory| drop(directory.instances.insert(ONE, entry)));
    master.assign(|all| drop(all.insert(ONE, wanted)));
    master
        .level(ONE, "its health", |level| level.health == Health::Healthy)
        .await;
    let log = world.state_dir().join("instances").join(ONE.to_string());
    let log = fs::read_to_string(log.join("log")).expect("a log");
    assert!(log.contains("inet 10.32.0.7"), "{log}");
    let lookup = |number| {
        let args = ["busybox", "nslookup", NAME].map(str::to_owned).to_vec();
        master.ask(
            number,
            Ask::Exec {
                instance: ONE,
                args,
                tty: None,
            },
        );
    };
    lookup(1);
    let parts = master.answer(1, is_over).await;
    assert!(said(&parts).contains("10.32.0.7"), "{parts:?}");

    // The next agent serves names and health from what it finds and remembers.
    agent.kill();
    let _agent = world.agent(master.address, "");
    master.joined(2).await;
    let before = master.levels(ONE).len();
    lookup(2);
    let parts = master.answer(2, is_over).await;
    assert!(said(&parts).contains("10.32.0.7"), "{parts:?}");
    let levels = master.levels(ONE);
    let flips = levels[before.min(levels.len())..].iter();
    assert!(flips.clone().all(|level| level.health == Health::Healthy));

    master.assign(|all| all.get_mut(&ONE).expect("assigned").goal = stop(0));
    master
        .level(ONE, "its removal", |level| level.rung == Rung::Gone)
        .await;
    let namespace = world.state_dir().join("netns").join(ONE.to_string());
    assert!(!namespace.exists());
}

pub async fn without_a_master_the_next_agent_serves_names(world: World) {
    let (master, mut agent) = start(&world).await;
    let (wanted, entry) = on_the_overlay();
    master.direct(|directory| drop(directory.instances.insert(ONE, entry)));
    master.assign(|all| drop(all.insert(ONE, wanted)));
    master
        .level(ONE, "its health", |level| level.health == Health::Healthy)
        .await;
    let kept = world.state_dir().join("directory");
    let deadline = Instant::now() + PATIENCE;
    while !fs::read_to_string(&kept).is_ok_and(|text| text.contains("10.32.0.7")) {
        assert!(
            Instant::now() < deadline,
            "waited for the directory on disk"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    agent.kill();
    let nowhere = master.address;
    drop(master);
    let _agent = world.agent(nowhere, "");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let asked = Command::new("busybox")
            .args(["nslookup", NAME, "10.32.0.1"])
            .output()
            .expect("busybox");
        if String::from_utf8_lossy(&asked.stdout).contains("Address: 10.32.0.7") {
            break;
        }
        assert!(Instant::now() < deadline, "waited for an answer: {asked:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
