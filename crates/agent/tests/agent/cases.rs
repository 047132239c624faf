//! The cases, each a claim.

mod asks;
mod images;
mod network;
mod room;
mod volumes;

use std::sync::Arc;

use model::instance::ExitStatus;
use model::spec::Command as Run;
use model::{AppId, AppSpec, Assigned, Goal, InstanceId, Millis, Placement, Rung, StopCause, Time};

use super::*;
use crate::master::Master;

/// Runs every case whose name contains `filter`, one after the other.
pub async fn all(filter: &str) -> ExitCode {
    let mut failed = 0;
    let mut number = 0;
    macro_rules! run {
        ($($case:path),* $(,)?) => {$(
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
        volumes::data_outlives_instances_agents_and_mounts,
        volumes::a_pool_that_turns_read_only_is_told_and_its_cure_too,
        volumes::a_pool_without_room_is_told_where_it_is_missed,
        volumes::killed_at_any_moment_an_agent_makes_a_volume_once,
        images::an_image_that_cannot_be_pulled_is_told_in_the_registrys_words,
        asks::logs_are_answered_and_followed,
        asks::a_command_runs_inside_and_takes_input,
        asks::a_command_on_a_terminal_knows_its_size,
        network::health_flips_are_reported,
        network::an_instance_on_the_overlay_has_its_address_and_name,
        network::without_a_master_the_next_agent_serves_names,
        volumes::an_image_has_its_volume_at_its_path,
        images::an_image_gives_its_files_user_and_command,
        room::images_that_nothing_names_go_when_the_disk_fills,
        room::a_pull_that_finds_no_room_makes_some,
        an_heir_is_prepared_and_runs_when_told,
        after_a_boot_what_ran_is_over_and_never_runs_again,
        a_shim_and_its_agent_killed_lose_neither_instance_nor_end,
        killed_at_any_moment_an_agent_starts_nothing_twice,
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

async fn exists(path: &Path) {
    let deadline = Instant::now() + PATIENCE;
    while !path.exists() {
        assert!(Instant::now() < deadline, "waited for {}", path.display());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn written(path: &Path) {
    let deadline = Instant::now() + PATIENCE;
    while !fs::read_to_string(path).is_ok_and(|text| text.ends_with('\n')) {
        assert!(Instant::now() < deadline, "waited for {}", path.display());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
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
    exists(&dir.join("exit")).await;
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
    let listens = "trap 'exit 3' TERM; touch up; while :; do sleep 0.05; done";
    let ignores = "trap '' TERM; touch up; while :; do sleep 0.05; done";
    master.assign(|all| {
        all.insert(ONE, task(listens));
        all.insert(TWO, task(ignores));
    });
    for id in [ONE, TWO] {
        master.level(id, "it to run", is_running).await;
        let dir = world.state_dir().join("instances").join(id.to_string());
        exists(&dir.join("sandbox/up")).await;
    }
    master.assign(|all| {
        all.get_mut(&ONE).expect("assigned").goal = stop(60_000);
        all.get_mut(&TWO).expect("assigned").goal = stop(3_000);
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

async fn an_heir_is_prepared_and_runs_when_told(world: World) {
    let (master, _agent) = start(&world).await;
    let mut heir = task("exec sleep 1000");
    heir.goal = Goal::Prepare;
    master.assign(|all| drop(all.insert(ONE, heir)));
    let prepared = master
        .level(ONE, "it to be prepared", |level| {
            level.detail.as_deref() == Some("prepared")
        })
        .await;
    assert_eq!(prepared.rung, Rung::Starting);
    let dir = world.state_dir().join("instances").join(ONE.to_string());
    assert!(!dir.join("pid").exists());
    master.assign(|all| all.get_mut(&ONE).expect("assigned").goal = Goal::Run);
    master.level(ONE, "it to run", is_running).await;
}

async fn after_a_boot_what_ran_is_over_and_never_runs_again(world: World) {
    let (master, mut agent) = start(&world).await;
    let line = "echo run >> runs; exec sleep 1000";
    master.assign(|all| drop(all.insert(ONE, task(line))));
    master.level(ONE, "it to run", is_running).await;
    let dir = world.state_dir().join("instances").join(ONE.to_string());
    let runs = dir.join("sandbox/runs");
    written(&runs).await;
    agent.kill();
    let init = pid(&world, ONE).parse().expect("a pid");
    kill(Pid::from_raw(init), Signal::SIGKILL).expect("kill");
    let memory = world.state_dir().join("memory");
    let mut remembered: serde_json::Value =
        serde_json::from_slice(&fs::read(&memory).expect("read")).expect("json");
    remembered["boot"] = "another".into();
    fs::write(&memory, remembered.to_string()).expect("write");
    let _agent = world.agent(master.address, "");
    master.level(ONE, "its end", has_ended).await;
    master.assign(|all| drop(all.insert(TWO, task("exit 0"))));
    master.level(TWO, "another's end", has_ended).await;
    let runs = fs::read_to_string(runs).expect("it ran");
    assert_eq!(runs, "run\n");
}

async fn a_shim_and_its_agent_killed_lose_neither_instance_nor_end(world: World) {
    let (master, mut agent) = start(&world).await;
    let line =
        "n=0; while [ ! -e go ]; do echo $n; n=$((n+1)); sleep 0.01; done; echo last $n; exit 8";
    master.assign(|all| drop(all.insert(ONE, task(line))));
    master.level(ONE, "it to run", is_running).await;
    let before = pid(&world, ONE);
    let dir = world.state_dir().join("instances").join(ONE.to_string());
    let shim = fs::read_to_string(dir.join("shim")).expect("a shim");
    let shim = shim.split(' ').next().and_then(|pid| pid.parse().ok());
    agent.kill();
    kill(Pid::from_raw(shim.expect("a pid")), Signal::SIGKILL).expect("kill");
    tokio::time::sleep(Duration::from_millis(100)).await;
    let _agent = world.agent(master.address, "");
    master.joined(2).await;
    assert_eq!(pid(&world, ONE), before);
    fs::write(dir.join("sandbox/go"), "").expect("write");
    let end = master.level(ONE, "its end", has_ended).await;
    let exit = end.exit.expect("an exit");
    assert_eq!(exit.status, ExitStatus::Code(8));
    let log = fs::read_to_string(dir.join("log")).expect("a log");
    let texts: Vec<&str> = log
        .lines()
        .filter_map(|line| line.splitn(4, ' ').nth(3))
        .collect();
    let last = texts.len() - 1;
    let expected: Vec<String> = (0..last)
        .map(|n| n.to_string())
        .chain([format!("last {last}")])
        .collect();
    assert_eq!(texts, expected);
}

async fn killed_at_any_moment_an_agent_starts_nothing_twice(world: World) {
    let (master, mut agent) = start(&world).await;
    master.joined(1).await;
    let ids: Vec<InstanceId> = (1..=8).map(|birth| InstanceId { birth, slot: 0 }).collect();
    master.assign(|all| {
        for id in &ids {
            all.insert(*id, task("echo run >> runs; exec sleep 1000"));
        }
    });
    for pause in [20, 60, 110, 170, 240] {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        agent.kill();
        agent = world.agent(master.address, "");
    }
    for id in &ids {
        let level = master
            .level(*id, "it to run or be over", |level| {
                is_running(level) || has_ended(level)
            })
            .await;
        let runs = world
            .state_dir()
            .join("instances")
            .join(id.to_string())
            .join("sandbox/runs");
        if is_running(&level) {
            written(&runs).await;
        }
        let runs = fs::read_to_string(runs).unwrap_or_default();
        match level.rung {
            Rung::Running => assert_eq!(runs, "run\n"),
            _ => assert!(runs.is_empty(), "{id} ended, but ran: {level:?}"),
        }
    }
    master.assign(std::collections::BTreeMap::clear);
    for id in &ids {
        master
            .level(*id, "its removal", |level| level.rung == Rung::Gone)
            .await;
    }
    assert_eq!(children(&world.state_dir().join("instances")).len(), 0);
}
