//! How containers end, and what is recorded.

use super::*;

pub async fn an_exit_code_is_recorded(world: World) {
    let (exit, log) = world
        .result("a", nothing, "echo out; echo err >&2; exit 37")
        .await;
    assert_eq!((exit.how.clone(), exit.oom), (How::Code(37), false));
    let dir = world.dir("a");
    let mut streams: Vec<(Stream, String)> = lines(&dir)
        .into_iter()
        .map(|line| (line.stream, line.text))
        .collect();
    streams.sort_by_key(|(stream, _)| *stream as u8);
    assert_eq!(
        streams,
        [
            (Stream::Stdout, "out".into()),
            (Stream::Stderr, "err".into())
        ],
        "{log}"
    );
    let Found::Ended(again) = container::adopt(&dir).await.expect("adopt") else {
        panic!("it ended")
    };
    assert_eq!(again, exit);
    container::remove(&dir).await.expect("remove");
    assert!(!dir.path().exists());
    assert!(
        !Path::new("/sys/fs/cgroup/unified")
            .join(&world.group)
            .join(dir.id())
            .exists()
    );
}

pub async fn a_signal_death_is_told_from_a_code(world: World) {
    let instance = world.run("a", nothing, "sleep 1000").await;
    instance.signal(9).expect("signal");
    assert_eq!(
        within(instance.wait()).await.expect("exit").how,
        How::Signal(9)
    );
    assert!(matches!(instance.signal(9), Err(Error::Ended { .. })));
    let (exit, _) = world
        .result("b", nothing, "sh -c 'kill -9 $$'; exit $?")
        .await;
    assert_eq!(exit.how, How::Code(137));
}

pub async fn a_missing_command_is_127_and_an_unexecutable_one_126(world: World) {
    let script = world.root().join("bin/broken");
    fs::write(&script, "#!/bin/nowhere\n").expect("write");
    let cases = [
        ("none", "nosuch", Some(127)),
        ("slash", "/bin/nosuch", Some(127)),
        ("plain", "/bin/broken", Some(126)),
        ("dir", "/bin", Some(126)),
    ];
    for (id, command, code) in cases {
        check_refusal(&world, id, command, code).await;
    }
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("chmod");
    // Its interpreter is missing, which only execve finds out.
    check_refusal(&world, "late", "broken", Some(127)).await;
}

async fn check_refusal(world: &World, id: &str, command: &str, code: Option<i32>) {
    let dir = world.dir(id);
    let mut spec = world.spec(&dir, "");
    spec.args = vec![command.to_owned()];
    let refused = match container::create(&dir, &spec).await {
        Ok(created) => created.start().await.err(),
        Err(error) => Some(error),
    };
    match refused {
        Some(Error::Create { message, code: got }) => {
            assert_eq!(got, code, "{message}");
            assert!(message.contains(command), "{message}");
        }
        other => panic!("{command}: {other:?}"),
    }
    let found = container::adopt(&dir).await.expect("adopt");
    let Found::Ended(Exit {
        how: How::CreateFailed { code: got, .. },
        ..
    }) = found
    else {
        panic!("{found:?}")
    };
    assert_eq!(got, code);
}

pub async fn a_container_may_be_dropped_before_its_start(world: World) {
    let dir = world.dir("a");
    let created = container::create(&dir, &world.spec(&dir, "touch /ran"))
        .await
        .expect("create");
    let pid = created.pid();
    drop(created);
    until("the waiting init to end", || !alive(pid)).await;
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

pub async fn an_oom_kill_is_counted(world: World) {
    // Tail keeps its input: the shell's child is killed, the shell goes on.
    let limit = |spec: &mut Spec| spec.limits.memory_bytes = Some(24 << 20);
    let (exit, log) = world
        .result("a", limit, "tail -c 200000000 /dev/zero; exit 3")
        .await;
    assert_eq!((exit.how, exit.oom), (How::Code(3), true), "{log}");
}

pub async fn stop_kills_after_the_grace_what_ignores_the_signal(world: World) {
    // As pid 1, sleep has no handler, and the kernel shields it.
    let sleep = |spec: &mut Spec| spec.args = vec!["sleep".into(), "1000".into()];
    let instance = world.run("a", sleep, "").await;
    let began = Instant::now();
    let exit = within(instance.stop(15, Duration::from_millis(300)))
        .await
        .expect("stop");
    assert_eq!(exit.how, How::Signal(9));
    assert!(began.elapsed() >= Duration::from_millis(300));
}

pub async fn stop_is_gentle_with_what_listens(world: World) {
    let script = "trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.05; done";
    let instance = world.run("a", nothing, script).await;
    until("the trap", || text(instance.dir()).contains("ready")).await;
    let exit = within(instance.stop(15, PATIENCE)).await.expect("stop");
    assert_eq!(exit.how, How::Code(5));
    assert!(text(instance.dir()).ends_with("bye\n"));
}
