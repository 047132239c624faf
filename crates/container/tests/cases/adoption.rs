//! Deaths of agents and shims.

use super::*;

pub async fn the_end_is_known_when_shim_and_container_die_together(world: World) {
    let instance = world
        .run(
            "a",
            nothing,
            "echo last words; sleep 3; echo really; exit 9",
        )
        .await;
    kill_9(shim_pid(instance.dir()));
    // Nobody awaits: no shim, until the container is long dead.
    let pid = instance.pid();
    until("the container's end", || !alive(pid)).await;
    let exit = within(instance.wait()).await.expect("exit");
    assert_eq!(exit.how, How::Code(9));
    assert_eq!(text(instance.dir()), "last words\nreally\n");
}

pub async fn a_killed_fork_server_takes_nothing_along(world: World) {
    let first = world
        .run(
            "a",
            nothing,
            "until [ -e /go ]; do sleep 0.01; done; exit 4",
        )
        .await;
    let server = parent(shim_pid(first.dir()));
    assert_eq!(
        parent(server),
        i32::try_from(std::process::id()).expect("a pid")
    );
    kill_9(server);
    until("the server's end", || !alive(server)).await;
    assert!(alive(first.pid()) && alive(shim_pid(first.dir())));
    let (exit, said) = world.result("b", nothing, "echo second; exit 5").await;
    assert_eq!((exit.how, said.as_str()), (How::Code(5), "second\n"));
    fs::write(world.root().join("go"), "").expect("write");
    let exit = within(first.wait()).await.expect("exit");
    assert_eq!(exit.how, How::Code(4));
}

fn agent(world: &World, dir: &Dir, spec: &Spec) -> std::process::Child {
    fs::create_dir_all(world.home.path().join("instances")).expect("create");
    fs::write(
        dir.path().with_extension("spec"),
        serde_json::to_vec(spec).expect("json"),
    )
    .expect("write");
    let own = std::env::current_exe().expect("our path");
    Command::new(own)
        .arg(AGENT)
        .arg(dir.path())
        .spawn()
        .expect("an agent")
}

pub async fn an_agent_finds_its_container_after_its_own_death(world: World) {
    let dir = world.dir("a");
    let script = "i=0; until [ -e /go ]; do echo tick $i; i=$((i+1)); sleep 0.01; done; exit 11";
    let mut first = agent(&world, &dir, &world.spec(&dir, script));
    until("the start", || dir.path().join("started").exists()).await;
    first.kill().expect("kill");
    first.wait().expect("reap");
    kill_9(shim_pid(&dir));
    let found = within(container::adopt(&dir)).await.expect("adopt");
    let Found::Running(instance) = found else {
        panic!("{found:?}")
    };
    assert!(alive(instance.pid()));
    // A third agent, while the second lives, finds the same.
    let Found::Running(again) = within(container::adopt(&dir)).await.expect("adopt") else {
        panic!("it runs")
    };
    assert_eq!(again.pid(), instance.pid());
    fs::write(world.root().join("go"), "").expect("write");
    assert_eq!(
        within(instance.wait()).await.expect("exit").how,
        How::Code(11)
    );
    assert_eq!(within(again.wait()).await.expect("exit").how, How::Code(11));
    for (number, line) in lines(&dir).iter().enumerate() {
        assert_eq!(line.text, format!("tick {number}"));
    }
}

pub async fn an_agent_finds_unknown_what_ended_unseen(world: World) {
    let dir = world.dir("a");
    let mut first = agent(&world, &dir, &world.spec(&dir, "sleep 1000"));
    until("the start", || dir.path().join("started").exists()).await;
    first.kill().expect("kill");
    first.wait().expect("reap");
    let record = fs::read_to_string(dir.path().join("pid")).expect("a record");
    kill_9(shim_pid(&dir));
    let pid = record
        .split(' ')
        .next()
        .and_then(|pid| pid.parse().ok())
        .expect("a pid");
    kill_9(pid);
    // What a boot leaves: a record of a process that is another one now, or none.
    let (_, rest) = record.split_once(' ').expect("fields");
    fs::write(dir.path().join("pid"), format!("1 {rest}")).expect("write");
    let found = within(container::adopt(&dir)).await.expect("adopt");
    assert!(
        matches!(
            found,
            Found::Ended(Exit {
                how: How::Unknown,
                ..
            })
        ),
        "{found:?}"
    );
}

pub async fn an_agents_death_before_the_start_ends_the_container(world: World) {
    let dir = world.dir("a");
    let mut spec = world.spec(&dir, "touch /ran");
    spec.hostname = Some("never-start".into());
    let mut first = agent(&world, &dir, &spec);
    until("the creation", || dir.path().join("pid").exists()).await;
    first.kill().expect("kill");
    first.wait().expect("reap");
    let found = within(container::adopt(&dir)).await.expect("adopt");
    assert!(
        matches!(
            found,
            Found::Ended(Exit {
                how: How::CreateFailed { .. },
                ..
            })
        ),
        "{found:?}"
    );
    assert!(!world.root().join("ran").exists());
}

pub async fn sweep_kills_what_nobody_claims(world: World) {
    let kept = world.run("kept", nothing, "sleep 1000").await;
    let stray = world.run("stray", nothing, "sleep 1000").await;
    let known = BTreeSet::from([kept.dir().id().to_owned()]);
    let swept = container::sweep(&world.group, known).await.expect("sweep");
    assert_eq!(swept, [stray.dir().id()]);
    assert!(!alive(stray.pid()) && alive(kept.pid()));
    assert_eq!(
        within(stray.wait()).await.expect("exit").how,
        How::Signal(9)
    );
    within(kept.kill()).await.expect("kill");
}
