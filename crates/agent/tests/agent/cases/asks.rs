//! Logs and commands, asked for by clients.

use model::session::{Ask, Input, Part};

use super::*;

pub fn texts(parts: &[Part]) -> Vec<String> {
    parts
        .iter()
        .filter_map(|part| match part {
            Part::Log(lines) => Some(lines.iter().map(|line| line.text.clone())),
            _ => None,
        })
        .flatten()
        .collect()
}

pub async fn logs_are_answered_and_followed(world: World) {
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

pub fn said(parts: &[Part]) -> String {
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

pub fn is_over(parts: &[Part]) -> bool {
    matches!(parts.last(), Some(Part::Exited(_) | Part::Failed(_)))
}

pub async fn a_command_runs_inside_and_takes_input(world: World) {
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

pub async fn a_command_on_a_terminal_knows_its_size(world: World) {
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
