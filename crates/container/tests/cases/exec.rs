//! One more command in a running container.

use super::*;

pub fn sh(script: &str) -> ExecSpec {
    ExecSpec {
        args: ["sh", "-c", script].map(str::to_owned).to_vec(),
        ..ExecSpec::default()
    }
}

pub async fn exec_answers_with_code_and_output(world: World) {
    let instance = world.run("a", nothing, "sleep 1000").await;
    let mut spec = sh("echo $GREETING; echo err >&2; cat /proc/self/status; exit 4");
    spec.env = vec!["GREETING=hello".into()];
    let output = within(instance.run(&spec, PATIENCE)).await.expect("run");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.how, Some(How::Code(4)), "{text}");
    assert!(text.starts_with("hello\n"), "{text}");
    assert!(text.contains("Seccomp:\t2"), "{text}");
    assert_eq!(output.stderr, b"err\n");
    let missing = ExecSpec {
        args: vec!["nosuch".into()],
        ..ExecSpec::default()
    };
    let refused = instance.run(&missing, PATIENCE).await;
    assert!(
        matches!(
            refused,
            Err(Error::Exec {
                code: Some(127),
                ..
            })
        ),
        "{refused:?}"
    );
    let running = instance.exec(&sh("exec sleep 1000")).await.expect("exec");
    until_processes(&instance, 2).await;
    let frozen = instance.freeze().await;
    assert!(frozen.is_ok(), "an exec is in the same cgroups: {frozen:?}");
    let refused = instance.exec(&sh("true")).await;
    assert!(matches!(&refused, Err(Error::Exec { message, .. }) if message.contains("frozen")));
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
    within(instance.stop(9, Duration::ZERO))
        .await
        .expect("stop");
}

async fn until_processes(instance: &Instance, wanted: usize) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let pids = instance.processes().await.expect("processes");
        if pids.len() == wanted {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{wanted} processes wanted: {pids:?}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub async fn exec_is_killed_when_nobody_waits(world: World) {
    let instance = world.run("a", nothing, "sleep 1000").await;
    let slow = sh("echo begun; exec sleep 1000");
    let output = within(instance.run(&slow, Duration::from_secs(5)))
        .await
        .expect("run");
    assert_eq!((output.how, output.stdout), (None, b"begun\n".to_vec()));
    until_processes(&instance, 1).await;
    within(instance.kill()).await.expect("kill");
}

pub async fn exec_on_a_terminal_knows_its_size(world: World) {
    let instance = world.run("a", nothing, "sleep 1000").await;
    let spec = ExecSpec {
        terminal: true,
        ..sh("read x; stty size; echo got $x; exit 6")
    };
    let exec = within(instance.exec(&spec)).await.expect("exec");
    let Streams::Terminal(console) = &exec.streams else {
        panic!("a terminal")
    };
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
    assert!(
        seen.contains("33 91") && seen.contains("got hello"),
        "{seen}"
    );
    assert_eq!(within(exec.wait()).await.expect("wait"), How::Code(6));
    within(instance.kill()).await.expect("kill");
}
