//! The cases, each a claim.

use std::sync::Arc;

use model::instance::ExitStatus;
use model::session::{Ask, Input, Part};
use model::spec::{Command as Run, HealthCheck, MountSource, Network, Probe, VolumeForm};
use model::{
    AppId, AppSpec, Assigned, Entry, Goal, Health, InstanceId, Interface, Millis, NetworkKind,
    NodeId, Placement, Rung, StopCause, Time, VolumeId,
};

use super::*;
use crate::master::Master;

/// Runs every case whose name contains `filter`, one after the other.
pub async fn all(filter: &str) -> ExitCode {
    let mut failed = 0;
    let mut number = 0;
    macro_rules! run {
        ($($case:ident),* $(,)?) => {$(
            let name = stringify!($case);
            number += 1;
            if name.contains(filter) {
                let began = Instant::now();
                let outcome = tokio::spawn($case(World::new(number))).await;
                let word = if outcome.is_ok() { "ok" } else { failed += 1; "FAILED" };
                println!("{word:6} {name} ({} ms)", began.elapsed().as_millis());
            }
        )*};
    }
    run!(
        a_task_runs_ends_and_is_removed_when_the_master_knows,
        an_agent_killed_finds_its_instance_with_the_same_pid,
        an_exit_while_no_agent_lives_is_reported_by_the_next,
        what_is_no_longer_assigned_goes,
        a_task_that_listens_ends_by_its_signal_and_one_that_does_not_is_killed,
        without_a_session_what_runs_is_kept_and_reported_later,
        a_missing_command_is_an_end_with_its_reason,
        a_volume_is_refused_in_words,
        an_image_that_cannot_be_pulled_is_told_in_the_registrys_words,
        logs_are_answered_and_followed,
        a_command_runs_inside_and_takes_input,
        a_command_on_a_terminal_knows_its_size,
        health_flips_are_reported,
        an_instance_on_the_overlay_has_its_address_and_name,
    );
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

const ONE: InstanceId = InstanceId { birth: 1, slot: 0 };
const TWO: InstanceId = InstanceId { birth: 2, slot: 1 };

fn task(line: &str) -> Assigned {
    assigned(AppSpec {
        command: Run::Shell(line.to_owned()),
        ..AppSpec::default()
    })
}

fn assigned(spec: AppSpec) -> Assigned {
    Assigned {
        app: AppId::parse("/shop/web").expect("an id"),
        slot: 0,
        version: Time(1_709_164_800_000),
        spec: Arc::new(spec),
        placement: Placement::default(),
        goal: Goal::Run,
    }
}

fn is_running(level: &model::InstanceLevel) -> bool {
    level.rung == Rung::Running
}

fn has_ended(level: &model::InstanceLevel) -> bool {
    level.rung == Rung::Ended
}

fn stop(grace: u64) -> Goal {
    Goal::Stop {
        cause: StopCause::Killed,
        grace: Millis(grace),
    }
}

async fn start(world: &World) -> (Master, Agent) {
    let master = Master::start(&world.home.path().join("master")).await;
    let agent = world.agent(master.address, &master.token);
    (master, agent)
}

/// The container's init as this machine counts.
fn pid(world: &World, id: InstanceId) -> String {
    let path = world
        .state_dir()
        .join("instances")
        .join(id.to_string())
        .join("pid");
    let text = fs::read_to_string(path).expect("a pid");
    text.split(' ').next().expect("a first word").to_owned()
}

async fn a_task_runs_ends_and_is_removed_when_the_master_knows(world: World) {
    let (master, _agent) = start(&world).await;
    let line = "echo $MARATHON_APP_ID on $HOST; pwd; exit 37";
    master.assign(|all| drop(all.insert(ONE, task(line))));
    let end = master.level(ONE, "its end", has_ended).await;
    let exit = end.exit.expect("an exit");
    assert_eq!(exit.status, ExitStatus::Code(37));
    assert_eq!(exit.last_line.as_deref(), Some("/mnt/mesos/sandbox"));
    let rungs: Vec<Rung> = master.levels(ONE).iter().map(|level| level.rung).collect();
    assert!(rungs.is_sorted(), "{rungs:?}");
    let dir = world.state_dir().join("instances").join(ONE.to_string());
    assert!(dir.is_dir());
    let log = fs::read_to_string(dir.join("log")).expect("a log");
    assert!(log.contains("/shop/web on 10.99.0.1"), "{log}");

    master.assign(|all| all.get_mut(&ONE).expect("assigned").goal = stop(0));
    master
        .level(ONE, "its removal", |level| level.rung == Rung::Gone)
        .await;
    assert!(!dir.exists());
    assert_eq!(master.hellos().len(), 1);
}

async fn an_agent_killed_finds_its_instance_with_the_same_pid(world: World) {
    let (master, mut agent) = start(&world).await;
    let line = "trap 'echo told; exit 5' TERM; while :; do sleep 0.1; done";
    master.assign(|all| drop(all.insert(ONE, task(line))));
    master.level(ONE, "it to run", is_running).await;
    let before = pid(&world, ONE);
    agent.kill();
    let _agent = world.agent(master.address, "");
    master.joined(2).await;
    let hellos = master.hellos();
    assert!(hellos[1].incarnation > hellos[0].incarnation);
    assert_eq!(hellos[1].cluster, Some(master::welcome().cluster));
    let told = master.levels(ONE).len();
    master.assign(|all| drop(all.insert(TWO, task("exit 0"))));
    master.level(TWO, "another's end", has_ended).await;
    assert_eq!(pid(&world, ONE), before);
    let later = &master.levels(ONE)[told.min(master.levels(ONE).len())..];
    assert!(later.iter().all(is_running), "{later:?}");

    master.assign(|all| all.get_mut(&ONE).expect("assigned").goal = stop(30_000));
    let gone = master
        .level(ONE, "its removal", |level| level.rung == Rung::Gone)
        .await;
    let exit = gone.exit.expect("an exit");
    assert_eq!(exit.status, ExitStatus::Code(5));
    assert_eq!(exit.last_line.as_deref(), Some("told"));
}

async fn an_exit_while_no_agent_lives_is_reported_by_the_next(world: World) {
    let (master, mut agent) = start(&world).await;
    let line = "while [ ! -e go ]; do sleep 0.05; done; exit 9";
    master.assign(|all| drop(all.insert(ONE, task(line))));
    master.level(ONE, "it to run", is_running).await;
    agent.kill();
    let dir = world.state_dir().join("instances").join(ONE.to_string());
    fs::write(dir.join("sandbox/go"), "").expect("write");
    let deadline = Instant::now() + PATIENCE;
    while !dir.join("exit").exists() {
        assert!(Instant::now() < deadline, "waited for the record");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let _agent = world.agent(master.address, "");
    let end = master.level(ONE, "its end", has_ended).await;
    assert_eq!(end.exit.map(|exit| exit.status), Some(ExitStatus::Code(9)));
}

async fn what_is_no_longer_assigned_goes(world: World) {
    let (master, mut agent) = start(&world).await;
    master.assign(|all| drop(all.insert(ONE, task("exec sleep 1000"))));
    master.level(ONE, "it to run", is_running).await;
    agent.kill();
    master.assign(|all| drop(all.remove(&ONE)));
    let _agent = world.agent(master.address, "");
    master
        .level(ONE, "its removal", |level| level.rung == Rung::Gone)
        .await;
    let dir = world.state_dir().join("instances").join(ONE.to_string());
    assert!(!dir.exists());
}

async fn a_task_that_listens_ends_by_its_signal_and_one_that_does_not_is_killed(world: World) {
    let (master, _agent) = start(&world).await;
    let listens = "trap 'exit 3' TERM; while :; do sleep 0.05; done";
    let ignores = "trap '' TERM; while :; do sleep 0.05; done";
    master.assign(|all| {
        all.insert(ONE, task(listens));
        all.insert(TWO, task(ignores));
    });
    for id in [ONE, TWO] {
        master.level(id, "it to run", is_running).await;
    }
    master.assign(|all| {
        all.get_mut(&ONE).expect("assigned").goal = stop(60_000);
        all.get_mut(&TWO).expect("assigned").goal = stop(500);
    });
    let status = async |id| {
        let end = master
            .level(id, "its removal", |level| level.rung == Rung::Gone)
            .await;
        end.exit.expect("an exit").status
    };
    assert_eq!(status(ONE).await, ExitStatus::Code(3));
    assert_eq!(status(TWO).await, ExitStatus::Signal(9));
    let rungs: Vec<Rung> = master.levels(TWO).iter().map(|level| level.rung).collect();
    assert!(rungs.contains(&Rung::Stopping), "{rungs:?}");
}

async fn without_a_session_what_runs_is_kept_and_reported_later(world: World) {
    let (master, _agent) = start(&world).await;
    let line = "while [ ! -e go ]; do sleep 0.05; done; exit 4";
    master.assign(|all| drop(all.insert(ONE, task(line))));
    master.level(ONE, "it to run", is_running).await;
    master.hang_up();
    let dir = world.state_dir().join("instances").join(ONE.to_string());
    fs::write(dir.join("sandbox/go"), "").expect("write");
    master.joined(2).await;
    let end = master.level(ONE, "its end", has_ended).await;
    assert_eq!(end.exit.map(|exit| exit.status), Some(ExitStatus::Code(4)));
}

async fn a_missing_command_is_an_end_with_its_reason(world: World) {
    let (master, _agent) = start(&world).await;
    let spec = AppSpec {
        command: Run::Args(vec!["/no/such/program".into()]),
        ..AppSpec::default()
    };
    master.assign(|all| drop(all.insert(ONE, assigned(spec))));
    let end = master.level(ONE, "its end", has_ended).await;
    match end.exit.expect("an exit").status {
        ExitStatus::NeverRan(why) => assert!(why.contains("/no/such/program"), "{why}"),
        other => panic!("{other:?}"),
    }
}

async fn a_volume_is_refused_in_words(world: World) {
    let (master, _agent) = start(&world).await;
    let volume = VolumeId::parse("pg").expect("a name");
    let spec = AppSpec {
        command: Run::Shell("exec sleep 1000".into()),
        mounts: vec![model::spec::Mount {
            path: "/data".into(),
            source: MountSource::Volume {
                volume,
                size: None,
                form: VolumeForm::Flocker,
            },
            read_only: false,
        }],
        ..AppSpec::default()
    };
    master.assign(|all| drop(all.insert(ONE, assigned(spec))));
    let level = master
        .level(ONE, "the refusal", |level| {
            level
                .detail
                .as_deref()
                .is_some_and(|detail| detail.contains("volumes are not there yet"))
        })
        .await;
    assert_eq!(level.rung, Rung::Preparing);
}

async fn an_image_that_cannot_be_pulled_is_told_in_the_registrys_words(mut world: World) {
    world.registry = "127.0.0.1:1".into();
    let (master, _agent) = start(&world).await;
    let image = model::spec::ImageContainer {
        image: "shop/misspelt:1".into(),
        ..Default::default()
    };
    let spec = AppSpec {
        container: model::spec::Container::Image(Box::new(image)),
        ..AppSpec::default()
    };
    let began = Instant::now();
    master.assign(|all| drop(all.insert(ONE, assigned(spec))));
    let level = master
        .level(ONE, "the failure", |level| {
            level
                .detail
                .as_deref()
                .is_some_and(|detail| detail.contains("pull image shop/misspelt:1"))
        })
        .await;
    assert_eq!(level.rung, Rung::Preparing);
    assert!(began.elapsed() < Duration::from_secs(30));
    let details: Vec<Option<String>> = master
        .levels(ONE)
        .into_iter()
        .map(|level| level.detail)
        .collect();
    assert_eq!(details[0].as_deref(), Some("pulling"));
}

fn texts(parts: &[Part]) -> Vec<String> {
    parts
        .iter()
        .filter_map(|part| match part {
            Part::Log(lines) => Some(lines.iter().map(|line| line.text.clone())),
            _ => None,
        })
        .flatten()
        .collect()
}

async fn logs_are_answered_and_followed(world: World) {
    let (master, _agent) = start(&world).await;
    let line = "echo one; echo two >&2; while [ ! -e go ]; do sleep 0.05; done; echo three";
    master.assign(|all| drop(all.insert(ONE, task(line))));
    master.level(ONE, "it to run", is_running).await;
    let ask = |number, tail, follow| {
        let what = Ask::Log {
            instance: ONE,
            tail,
            follow,
        };
        master.ask(number, what);
    };
    ask(1, None, true);
    master.answer(1, |parts| texts(parts).len() == 2).await;
    ask(2, Some(1), false);
    let parts = master
        .answer(2, |parts| parts.last() == Some(&Part::End))
        .await;
    assert_eq!(texts(&parts).len(), 1);
    ask(3, None, true);
    master.answer(3, |parts| texts(parts).len() == 2).await;
    master.cancel(3);
    let dir = world.state_dir().join("instances").join(ONE.to_string());
    fs::write(dir.join("sandbox/go"), "").expect("write");
    let parts = master
        .answer(1, |parts| parts.last() == Some(&Part::End))
        .await;
    let mut said = texts(&parts);
    assert_eq!(said.pop().as_deref(), Some("three"));
    said.sort();
    assert_eq!(said, ["one", "two"]);
    ask(4, None, false);
    let parts = master
        .answer(4, |parts| parts.last() == Some(&Part::End))
        .await;
    assert_eq!(texts(&parts).len(), 3);
    let what = Ask::Log {
        instance: TWO,
        tail: None,
        follow: false,
    };
    master.ask(5, what);
    let parts = master.answer(5, |parts| !parts.is_empty()).await;
    assert!(matches!(&parts[0], Part::Failed(why) if why.contains("not on this node")));
}

fn said(parts: &[Part]) -> String {
    let bytes: Vec<u8> = parts
        .iter()
        .filter_map(|part| match part {
            Part::Stdout(bytes) => Some(bytes.clone()),
            _ => None,
        })
        .flatten()
        .collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn is_over(parts: &[Part]) -> bool {
    matches!(parts.last(), Some(Part::Exited(_) | Part::Failed(_)))
}

async fn a_command_runs_inside_and_takes_input(world: World) {
    let (master, _agent) = start(&world).await;
    master.assign(|all| drop(all.insert(ONE, task("exec sleep 1000"))));
    master.level(ONE, "it to run", is_running).await;
    let exec = |number, line: &str| {
        let args = ["/bin/sh", "-c", line].map(str::to_owned).to_vec();
        let what = Ask::Exec {
            instance: ONE,
            args,
            tty: None,
        };
        master.ask(number, what);
    };
    exec(1, "read word; echo got $word; cat; echo no >&2; exit 6");
    master.input(1, Input::Bytes(b"this\nand that".to_vec()));
    master.input(1, Input::End);
    let parts = master.answer(1, is_over).await;
    assert_eq!(said(&parts), "got this\nand that");
    assert!(parts.contains(&Part::Stderr(b"no\n".to_vec())), "{parts:?}");
    assert_eq!(parts.last(), Some(&Part::Exited(6)));

    exec(2, "echo $$ > pid; exec sleep 1000");
    let file = world
        .state_dir()
        .join("instances")
        .join(ONE.to_string())
        .join("sandbox/pid");
    let deadline = Instant::now() + PATIENCE;
    while fs::read_to_string(&file).unwrap_or_default().is_empty() {
        assert!(Instant::now() < deadline, "waited for the command");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    master.cancel(2);
    exec(3, "while kill -0 $(cat pid); do sleep 0.05; done");
    let parts = master.answer(3, is_over).await;
    assert_eq!(parts.last(), Some(&Part::Exited(0)));
    master.assign(|all| all.get_mut(&ONE).expect("assigned").goal = stop(0));
    master
        .level(ONE, "its removal", |level| level.rung == Rung::Gone)
        .await;
    exec(4, "true");
    let parts = master.answer(4, is_over).await;
    assert!(matches!(&parts[0], Part::Failed(_)), "{parts:?}");
}

async fn a_command_on_a_terminal_knows_its_size(world: World) {
    let (master, _agent) = start(&world).await;
    master.assign(|all| drop(all.insert(ONE, task("exec sleep 1000"))));
    master.level(ONE, "it to run", is_running).await;
    let line = "stty size; read word; stty size; echo $TERM $word";
    let args = ["/bin/sh", "-c", line].map(str::to_owned).to_vec();
    let what = Ask::Exec {
        instance: ONE,
        args,
        tty: Some((30, 100)),
    };
    master.ask(1, what);
    master.answer(1, |parts| said(parts).contains('\n')).await;
    let resize = Input::Resize {
        rows: 40,
        columns: 120,
    };
    master.input(1, resize);
    master.input(1, Input::Bytes(b"word\n".to_vec()));
    let parts = master.answer(1, is_over).await;
    let said = said(&parts);
    assert!(said.contains("40 120"), "{said}");
    assert!(said.contains("xterm word"), "{said}");
    assert_eq!(parts.last(), Some(&Part::Exited(0)));
}

fn check(probe: Probe) -> HealthCheck {
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

async fn health_flips_are_reported(world: World) {
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

async fn an_instance_on_the_overlay_has_its_address_and_name(world: World) {
    let (master, mut agent) = start(&world).await;
    let address = Ipv4Addr::new(10, 32, 0, 7);
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
    wanted.placement.address = Some(address);
    let entry = Entry {
        app: wanted.app.clone(),
        node: NodeId(0),
        interfaces: vec![Interface {
            network: NetworkKind::Overlay,
            address,
            prefix: 12,
        }],
        hostname: None,
        running: true,
        healthy: true,
        ports: Vec::new(),
    };
    master.direct(|directory| drop(directory.instances.insert(ONE, entry)));
    master.assign(|all| drop(all.insert(ONE, wanted)));
    master
        .level(ONE, "its health", |level| level.health == Health::Healthy)
        .await;
    let log = world.state_dir().join("instances").join(ONE.to_string());
    let log = fs::read_to_string(log.join("log")).expect("a log");
    assert!(log.contains("inet 10.32.0.7"), "{log}");
    let lookup = |number| {
        let line = "busybox nslookup web.shop.tandem.local";
        let args = ["/bin/sh", "-c", line].map(str::to_owned).to_vec();
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
