//! The cases, each a claim.

use super::*;

/// Runs every case whose name contains `filter`, one after the other.
pub async fn all(filter: &str) -> ExitCode {
    let mut failed = 0;
    macro_rules! run {
        ($($case:ident),* $(,)?) => {$(
            let name = stringify!($case);
            if name.contains(filter) {
                let began = Instant::now();
                let outcome = tokio::spawn($case(World::new())).await;
                let word = if outcome.is_ok() { "ok" } else { failed += 1; "FAILED" };
                println!("{word:6} {name} ({} ms)", began.elapsed().as_millis());
            }
        )*};
    }
    run!(
        an_exit_code_is_recorded,
        a_signal_death_is_told_from_a_code,
        a_missing_command_is_127_and_an_unexecutable_one_126,
        a_container_may_be_dropped_before_its_start,
        an_oom_kill_is_counted,
        stop_kills_after_the_grace_what_ignores_the_signal,
        stop_is_gentle_with_what_listens,
        the_log_is_whole_when_shims_are_killed,
        the_end_is_known_when_shim_and_container_die_together,
        an_agent_finds_its_container_after_its_own_death,
        an_agent_finds_unknown_what_ended_unseen,
        an_agents_death_before_the_start_ends_the_container,
        freezing_stops_every_task_and_thawing_lets_go,
        killing_frozen_tasks_lets_none_run_on,
        exec_answers_with_code_and_output,
        exec_is_killed_when_nobody_waits,
        exec_on_a_terminal_knows_its_size,
        defaults_are_dockers,
        new_privileges_can_be_allowed,
        the_number_of_processes_is_limited,
        quota_and_memory_limits_are_written,
        a_command_task_sees_the_node_and_owns_its_sandbox,
        mounts_are_made_parents_first,
        a_user_may_open_standard_output_by_name,
        logs_rotate,
        sweep_kills_what_nobody_claims,
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn nothing(_: &mut Spec) {}

async fn an_exit_code_is_recorded(world: World) {
    let (exit, log) = world.result("a", nothing, "echo out; echo err >&2; exit 37").await;
    assert_eq!((exit.how.clone(), exit.oom), (How::Code(37), false));
    let dir = world.dir("a");
    let mut streams: Vec<(Stream, String)> =
        lines(&dir).into_iter().map(|line| (line.stream, line.text)).collect();
    streams.sort_by_key(|(stream, _)| stream.clone() as u8);
    assert_eq!(streams, [(Stream::Stdout, "out".into()), (Stream::Stderr, "err".into())], "{log}");
    let Found::Ended(again) = container::adopt(&dir).await.expect("adopt") else { panic!("it ended") };
    assert_eq!(again, exit);
    container::remove(&dir).await.expect("remove");
    assert!(!dir.path().exists());
    assert!(!Path::new("/sys/fs/cgroup/unified").join(&world.group).join(dir.id()).exists());
}

async fn a_signal_death_is_told_from_a_code(world: World) {
    let instance = world.run("a", nothing, "sleep 1000").await;
    instance.signal(9).expect("signal");
    assert_eq!(within(instance.wait()).await.expect("exit").how, How::Signal(9));
    assert!(matches!(instance.signal(9), Err(Error::Ended { .. })));
    let (exit, _) = world.result("b", nothing, "sh -c 'kill -9 $$'; exit $?").await;
    assert_eq!(exit.how, How::Code(137));
}

async fn a_missing_command_is_127_and_an_unexecutable_one_126(world: World) {
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
    let Found::Ended(Exit { how: How::CreateFailed { code: got, .. }, .. }) = found else {
        panic!("{found:?}")
    };
    assert_eq!(got, code);
}

async fn a_container_may_be_dropped_before_its_start(world: World) {
    let dir = world.dir("a");
    let created = container::create(&dir, &world.spec(&dir, "touch /ran")).await.expect("create");
    let pid = created.pid();
    drop(created);
    until("the waiting init to end", || !alive(pid)).await;
    let found = within(container::adopt(&dir)).await.expect("adopt");
    assert!(matches!(found, Found::Ended(Exit { how: How::CreateFailed { .. }, .. })), "{found:?}");
    assert!(!world.root().join("ran").exists());
}

async fn an_oom_kill_is_counted(world: World) {
    // Tail keeps its input: the shell's child is killed, the shell goes on.
    let limit = |spec: &mut Spec| spec.limits.memory_bytes = Some(24 << 20);
    let (exit, log) = world.result("a", limit, "tail -c 200000000 /dev/zero; exit 3").await;
    assert_eq!((exit.how, exit.oom), (How::Code(3), true), "{log}");
}

async fn stop_kills_after_the_grace_what_ignores_the_signal(world: World) {
    // As pid 1, sleep has no handler, and the kernel shields it.
    let sleep = |spec: &mut Spec| spec.args = vec!["sleep".into(), "1000".into()];
    let instance = world.run("a", sleep, "").await;
    let began = Instant::now();
    let exit = within(instance.stop(15, Duration::from_millis(300))).await.expect("stop");
    assert_eq!(exit.how, How::Signal(9));
    assert!(began.elapsed() >= Duration::from_millis(300));
}

async fn stop_is_gentle_with_what_listens(world: World) {
    let script = "trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.05; done";
    let instance = world.run("a", nothing, script).await;
    until("the trap", || text(instance.dir()).contains("ready")).await;
    let exit = within(instance.stop(15, PATIENCE)).await.expect("stop");
    assert_eq!(exit.how, How::Code(5));
    assert!(text(instance.dir()).ends_with("bye\n"));
}

async fn the_log_is_whole_when_shims_are_killed(world: World) {
    const LINES: usize = 30_000;
    let script = format!("i=0; while [ $i -lt {LINES} ]; do echo line $i; i=$((i+1)); done; exit 7");
    let small = |spec: &mut Spec| spec.log = LogLimits { bytes: 200_000, files: 100 };
    let instance = world.run("a", small, &script).await;
    let waiter = tokio::spawn({
        let instance = instance.clone();
        async move { instance.wait().await }
    });
    let mut reader = Reader::open(instance.dir(), From::Start).expect("a log");
    let mut followed = Vec::new();
    let mut kills = 0;
    while !waiter.is_finished() {
        let pid = shim_pid(instance.dir());
        if kills < 4 && alive(pid) && followed.len() > kills * LINES / 8 {
            let _ = Command::new("kill").args(["-9", &pid.to_string()]).stderr(Stdio::null()).status();
            kills += 1;
        }
        followed.extend(reader.more().expect("more"));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let exit = within(waiter).await.expect("no panic").expect("an exit");
    assert_eq!(exit.how, How::Code(7));
    assert!(kills >= 2, "the container was too fast: {kills}");
    loop {
        let more = reader.more().expect("more");
        if more.is_empty() {
            break;
        }
        followed.extend(more);
    }
    let show = |line: &Line| line.text.clone() + if line.partial { "" } else { "\n" };
    let got: String = followed.iter().map(show).collect();
    let wanted: String = (0..LINES).map(|number| format!("line {number}\n")).collect();
    let differs = got.lines().zip(wanted.lines()).find(|(a, b)| a != b);
    assert!(got == wanted, "{} of {} bytes, first {differs:?}", got.len(), wanted.len());
}

async fn the_end_is_known_when_shim_and_container_die_together(world: World) {
    let instance = world.run("a", nothing, "echo last words; sleep 0.2; echo really; exit 9").await;
    kill_9(shim_pid(instance.dir()));
    // Nobody awaits: no shim, until the container is long dead.
    let pid = instance.pid();
    until("the container's end", || !alive(pid)).await;
    let exit = within(instance.wait()).await.expect("exit");
    assert_eq!(exit.how, How::Code(9));
    assert_eq!(text(instance.dir()), "last words\nreally\n");
}

fn agent(world: &World, dir: &Dir, spec: &Spec) -> std::process::Child {
    fs::create_dir_all(world.home.path().join("instances")).expect("create");
    fs::write(dir.path().with_extension("spec"), serde_json::to_vec(spec).expect("json")).expect("write");
    let own = std::env::current_exe().expect("our path");
    Command::new(own).arg(AGENT).arg(dir.path()).spawn().expect("an agent")
}

async fn an_agent_finds_its_container_after_its_own_death(world: World) {
    let dir = world.dir("a");
    let script = "i=0; until [ -e /go ]; do echo tick $i; i=$((i+1)); sleep 0.01; done; exit 11";
    let mut first = agent(&world, &dir, &world.spec(&dir, script));
    until("the start", || dir.path().join("started").exists()).await;
    first.kill().expect("kill");
    first.wait().expect("reap");
    kill_9(shim_pid(&dir));
    let found = within(container::adopt(&dir)).await.expect("adopt");
    let Found::Running(instance) = found else { panic!("{found:?}") };
    assert!(alive(instance.pid()));
    // A third agent, while the second lives, finds the same.
    let Found::Running(again) = within(container::adopt(&dir)).await.expect("adopt") else {
        panic!("it runs")
    };
    assert_eq!(again.pid(), instance.pid());
    fs::write(world.root().join("go"), "").expect("write");
    assert_eq!(within(instance.wait()).await.expect("exit").how, How::Code(11));
    assert_eq!(within(again.wait()).await.expect("exit").how, How::Code(11));
    for (number, line) in lines(&dir).iter().enumerate() {
        assert_eq!(line.text, format!("tick {number}"));
    }
}

async fn an_agent_finds_unknown_what_ended_unseen(world: World) {
    let dir = world.dir("a");
    let mut first = agent(&world, &dir, &world.spec(&dir, "sleep 1000"));
    until("the start", || dir.path().join("started").exists()).await;
    first.kill().expect("kill");
    first.wait().expect("reap");
    let record = fs::read_to_string(dir.path().join("pid")).expect("a record");
    kill_9(shim_pid(&dir));
    let pid = record.split(' ').next().and_then(|pid| pid.parse().ok()).expect("a pid");
    kill_9(pid);
    // What a boot leaves: a record of a process that is another one now, or none.
    let (_, rest) = record.split_once(' ').expect("fields");
    fs::write(dir.path().join("pid"), format!("1 {rest}")).expect("write");
    let found = within(container::adopt(&dir)).await.expect("adopt");
    assert!(matches!(found, Found::Ended(Exit { how: How::Unknown, .. })), "{found:?}");
}

async fn an_agents_death_before_the_start_ends_the_container(world: World) {
    let dir = world.dir("a");
    let mut spec = world.spec(&dir, "touch /ran");
    spec.hostname = Some("never-start".into());
    let mut first = agent(&world, &dir, &spec);
    until("the creation", || dir.path().join("pid").exists()).await;
    first.kill().expect("kill");
    first.wait().expect("reap");
    let found = within(container::adopt(&dir)).await.expect("adopt");
    assert!(matches!(found, Found::Ended(Exit { how: How::CreateFailed { .. }, .. })), "{found:?}");
    assert!(!world.root().join("ran").exists());
}

const COUNTING: &str = "(while :; do echo x >> /beats; done) & (while :; do echo y >> /beats; done) & wait";

async fn freezing_stops_every_task_and_thawing_lets_go(world: World) {
    let instance = world.run("a", nothing, COUNTING).await;
    let beats = world.root().join("beats");
    let size = || fs::metadata(&beats).map_or(0, |data| data.len());
    until("a beat", || size() > 0).await;
    instance.freeze().await.expect("freeze");
    let frozen = size();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(size(), frozen);
    instance.thaw().await.expect("thaw");
    until("another beat", || size() > frozen).await;
    // A frozen container can be stopped as well.
    instance.freeze().await.expect("freeze");
    let exit = within(instance.stop(15, Duration::from_millis(100))).await.expect("stop");
    assert_eq!(exit.how, How::Signal(9));
    assert!(instance.freeze().await.is_err(), "nothing is there to freeze");
}

async fn killing_frozen_tasks_lets_none_run_on(world: World) {
    let instance = world.run("a", nothing, COUNTING).await;
    let beats = world.root().join("beats");
    let size = || fs::metadata(&beats).map_or(0, |data| data.len());
    until("a beat", || size() > 0).await;
    instance.freeze().await.expect("freeze");
    let (frozen, pids) = (size(), instance.processes().await.expect("processes"));
    assert!(pids.len() >= 3, "{pids:?}");
    within(instance.kill()).await.expect("kill");
    assert_eq!(size(), frozen);
    assert!(!pids.iter().any(|pid| alive(*pid)));
    assert_eq!(within(instance.wait()).await.expect("exit").how, How::Signal(9));
}

fn sh(script: &str) -> ExecSpec {
    ExecSpec { args: ["sh", "-c", script].map(str::to_owned).to_vec(), ..ExecSpec::default() }
}

async fn exec_answers_with_code_and_output(world: World) {
    let instance = world.run("a", nothing, "sleep 1000").await;
    let mut spec = sh("echo $GREETING; echo err >&2; cat /proc/self/status; exit 4");
    spec.env = vec!["GREETING=hello".into()];
    let output = within(instance.run(&spec, PATIENCE)).await.expect("run");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.how, Some(How::Code(4)), "{text}");
    assert!(text.starts_with("hello\n"), "{text}");
    assert!(text.contains("Seccomp:\t2"), "{text}");
    assert_eq!(output.stderr, b"err\n");
    let missing = ExecSpec { args: vec!["nosuch".into()], ..ExecSpec::default() };
    let refused = instance.run(&missing, PATIENCE).await;
    assert!(matches!(refused, Err(Error::Exec { code: Some(127), .. })), "{refused:?}");
    let running = instance.exec(&sh("exec sleep 1000")).await.expect("exec");
    until_processes(&instance, 2).await;
    let frozen = instance.freeze().await;
    assert!(frozen.is_ok(), "an exec is in the same cgroups: {frozen:?}");
    instance.thaw().await.expect("thaw");
    drop(running);
    until_processes(&instance, 1).await;
    let leftovers: Vec<_> = fs::read_dir(instance.dir().path())
        .expect("list")
        .flatten()
        .map(|entry| entry.file_name())
        .filter(|name| name.to_string_lossy().starts_with("exec-"))
        .collect();
    assert!(leftovers.is_empty(), "{leftovers:?}");
    within(instance.stop(9, Duration::ZERO)).await.expect("stop");
}

async fn until_processes(instance: &Instance, wanted: usize) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let pids = instance.processes().await.expect("processes");
        if pids.len() == wanted {
            return;
        }
        assert!(Instant::now() < deadline, "{wanted} processes wanted: {pids:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn exec_is_killed_when_nobody_waits(world: World) {
    let instance = world.run("a", nothing, "sleep 1000").await;
    let slow = sh("echo begun; exec sleep 1000");
    let output = within(instance.run(&slow, Duration::from_secs(2))).await.expect("run");
    assert_eq!((output.how, output.stdout), (None, b"begun\n".to_vec()));
    until_processes(&instance, 1).await;
    within(instance.kill()).await.expect("kill");
}

async fn exec_on_a_terminal_knows_its_size(world: World) {
    let instance = world.run("a", nothing, "sleep 1000").await;
    let spec = ExecSpec { terminal: true, ..sh("read x; stty size; echo got $x; exit 6") };
    let exec = within(instance.exec(&spec)).await.expect("exec");
    let Streams::Terminal(console) = &exec.streams else { panic!("a terminal") };
    console.resize(91, 33).expect("resize");
    console.write(b"hello\n").await.expect("write");
    let mut seen = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        let got = within(console.read(&mut buffer)).await.expect("read");
        if got == 0 {
            break;
        }
        seen.extend_from_slice(&buffer[..got]);
    }
    let seen = String::from_utf8_lossy(&seen);
    assert!(seen.contains("33 91") && seen.contains("got hello"), "{seen}");
    assert_eq!(within(exec.wait()).await.expect("wait"), How::Code(6));
    within(instance.kill()).await.expect("kill");
}

async fn defaults_are_dockers(world: World) {
    let script = "cat /proc/self/status; unshare -m true; echo unshare $?; unshare -U true; \
        echo userns $?; echo 1 > /proc/sys/kernel/hostname; echo sys $?; hostname; \
        cat /proc/kcore | head -c 1; echo; ls -a /dev; trap";
    let named = |spec: &mut Spec| spec.hostname = Some("shop-1".into());
    let (exit, log) = world.result("a", named, script).await;
    assert_eq!(exit.how, How::Code(0), "{log}");
    for wanted in [
        "CapEff:\t00000000a80425fb", "CapBnd:\t00000000a80425fb", "CapInh:\t0000000000000000",
        "NoNewPrivs:\t1", "Seccomp:\t2", "unshare 1", "userns 1", "sys 1", "\nshop-1\n",
        "SigIgn:\t0000000000000000", "SigBlk:\t0000000000000000",
    ] {
        assert!(log.contains(wanted), "{wanted} is missing in {log}");
    }
    let add = |spec: &mut Spec| {
        spec.capabilities_add = vec!["SYS_ADMIN".into()];
        spec.capabilities_drop = vec!["MKNOD".into()];
        spec.read_only_root = true;
    };
    let script = "unshare -m true; echo unshare $?; touch /new; echo touch $?; cat /proc/self/status";
    let (_, log) = world.result("b", add, script).await;
    assert!(log.contains("unshare 0") && log.contains("touch 1"), "{log}");
    assert!(log.contains("CapEff:\t00000000a02425fb"), "{log}");
}

async fn new_privileges_can_be_allowed(world: World) {
    let allow = |spec: &mut Spec| spec.no_new_privileges = false;
    let (exit, log) = world.result("a", allow, "cat /proc/self/status; unshare -m true; echo unshare $?").await;
    assert_eq!(exit.how, How::Code(0), "{log}");
    for wanted in ["NoNewPrivs:\t0", "Seccomp:\t2", "unshare 1"] {
        assert!(log.contains(wanted), "{wanted} is missing in {log}");
    }
}

async fn the_number_of_processes_is_limited(world: World) {
    let limit = |spec: &mut Spec| spec.limits.pids = 4;
    let script = "for i in 1 2 3 4 5 6; do sleep 1000 & done; echo forked";
    let (_, log) = world.result("a", limit, script).await;
    assert!(log.contains("can't fork"), "{log}");
}

async fn quota_and_memory_limits_are_written(world: World) {
    let limit = |spec: &mut Spec| {
        spec.limits.cpu_quota = Some(0.5);
        spec.limits.cpu_shares = Some(512);
        spec.limits.memory_bytes = Some(64 << 20);
        spec.limits.ulimits =
            vec![container::Ulimit { name: "nofile".into(), soft: 77, hard: 88 }];
    };
    let instance = world.run("a", limit, "ulimit -n; ulimit -Hn; sleep 1000").await;
    until("the limits", || text(instance.dir()).contains("77\n88\n")).await;
    let read = |file: &str| {
        let (controller, _) = file.split_once('.').expect("a dot");
        let group = Path::new("/sys/fs/cgroup").join(controller).join(&world.group);
        fs::read_to_string(group.join(instance.dir().id()).join(file)).unwrap_or_default()
    };
    if Path::new("/sys/fs/cgroup/memory").exists() {
        assert_eq!(read("cpu.cfs_quota_us"), "50000\n");
        assert_eq!(read("cpu.shares"), "512\n");
        assert_eq!(read("memory.limit_in_bytes"), "67108864\n");
        assert_eq!(read("pids.max"), "4096\n");
    }
    within(instance.kill()).await.expect("kill");
}

async fn a_command_task_sees_the_node_and_owns_its_sandbox(world: World) {
    let sandbox = world.home.path().join("sandbox");
    fs::create_dir(&sandbox).expect("create");
    let secret = world.home.path().join("state");
    fs::create_dir(&secret).expect("create");
    fs::write(secret.join("key"), "secret").expect("write");
    let host = |spec: &mut Spec| {
        spec.root = Root::Host { sandbox: sandbox.clone(), hidden: vec![secret.clone()] };
        spec.args[0] = "/bin/sh".into();
    };
    let script = format!(
        "pwd; echo data > mine; touch /root/x 2>/dev/null; echo touch $?; ls -A {} | wc -l; \
         ls -A /run | wc -l; ls /etc/debian_version; touch /tmp/x && echo tmp; ls -d /proc/1; \
         grep -c ' / ' /proc/self/mountinfo >/dev/null; cat /proc/1/comm",
        secret.display()
    );
    let (exit, log) = world.result("a", host, &script).await;
    assert_eq!(exit.how, How::Code(0), "{log}");
    let wanted = "/mnt/mesos/sandbox\ntouch 1\n0\n0\n/etc/debian_version\ntmp\n/proc/1\nsh\n";
    assert_eq!(log, wanted);
    assert_eq!(fs::read_to_string(sandbox.join("mine")).expect("read"), "data\n");
    // The shim went back to our mount namespace: nothing stays mounted.
    let table = fs::read_to_string("/proc/self/mountinfo").expect("read");
    assert!(!table.contains(&*world.home.path().to_string_lossy()));
    let instance = world.run("b", host_again(&sandbox, &secret), "sleep 1000").await;
    let output = within(instance.run(&sh("pwd; ls"), PATIENCE)).await.expect("run");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "/mnt/mesos/sandbox\nmine\n");
    within(instance.kill()).await.expect("kill");
}

fn host_again(sandbox: &Path, hidden: &Path) -> impl FnOnce(&mut Spec) {
    let root = Root::Host { sandbox: sandbox.to_owned(), hidden: vec![hidden.to_owned()] };
    move |spec| spec.root = root
}

async fn mounts_are_made_parents_first(world: World) {
    let data = world.home.path().join("data");
    fs::create_dir(&data).expect("create");
    fs::write(data.join("hosts"), "10.32.0.5 db\n").expect("write");
    let bind = |from: PathBuf, to: &str, read_only| Mount {
        source: Source::Bind(from),
        target: to.into(),
        read_only,
    };
    let change = |spec: &mut Spec| {
        spec.mounts = vec![
            bind(data.clone(), "/srv/a/b", true),
            Mount { source: Source::Tmpfs { bytes: Some(1 << 20) }, target: "/srv".into(), read_only: false },
            bind(data.join("hosts"), "/etc/hosts", false),
        ];
        spec.cwd = Some("/made/on/demand".into());
        spec.shm_bytes = 3 << 20;
    };
    let script = "pwd; cat /etc/hosts; ls /srv/a/b; touch /srv/a/b/x 2>/dev/null; echo $?; \
        touch /srv/y; echo $?; mount | grep -c 'shm.*size=3072k'";
    let (_, log) = world.result("a", change, script.replace("grep", "busybox grep").as_str()).await;
    assert_eq!(log, "/made/on/demand\n10.32.0.5 db\nhosts\n1\n0\n1\n");
}

async fn a_user_may_open_standard_output_by_name(world: World) {
    let user = |spec: &mut Spec| {
        spec.user = container::User { uid: 1000, gid: 1001, additional_gids: vec![7] };
    };
    let (_, log) = world.result("a", user, "id -u > /dev/stdout; id -G > /dev/stderr; cat /proc/self/status").await;
    assert!(log.contains("1000\n") && log.contains("1001 7\n"), "{log}");
    assert!(log.contains("CapEff:\t0000000000000000"), "{log}");
}

async fn logs_rotate(world: World) {
    let small = |spec: &mut Spec| spec.log = LogLimits { bytes: 20_000, files: 3 };
    let script = "i=0; while [ $i -lt 60 ]; do dd if=/dev/zero bs=5000 count=1 2>/dev/null; echo; i=$((i+1)); sleep 0.01; done; echo end";
    let (_, log) = world.result("a", small, script).await;
    assert!(log.ends_with("end\n"));
    let dir = world.dir("a");
    let sizes: Vec<u64> = (0..)
        .map_while(|n| {
            let name = if n == 0 { "log".to_owned() } else { format!("log.{n}") };
            Some(fs::metadata(dir.path().join(name)).ok()?.len())
        })
        .collect();
    assert_eq!(sizes.len(), 3, "{sizes:?}");
    assert!(sizes.iter().all(|size| *size < 120_000), "{sizes:?}");
}

async fn sweep_kills_what_nobody_claims(world: World) {
    let kept = world.run("kept", nothing, "sleep 1000").await;
    let stray = world.run("stray", nothing, "sleep 1000").await;
    let known = BTreeSet::from([kept.dir().id().to_owned()]);
    let swept = container::sweep(&world.group, known).await.expect("sweep");
    assert_eq!(swept, [stray.dir().id()]);
    assert!(!alive(stray.pid()) && alive(kept.pid()));
    assert_eq!(within(stray.wait()).await.expect("exit").how, How::Signal(9));
    within(kept.kill()).await.expect("kill");
}
