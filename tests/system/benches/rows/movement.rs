//! PostgreSQL moves by freeze while four clients commit: a client's longest silence, and what it is
//! made of. Beside it, in turns, the same server with as much data by hand: stopped, copied by
//! `rsync -a`, started again, without any container, image or network to make.
//!
//! The clients are the ledger's, as in the tests: what was acknowledged must be there, on both sides.

use crate::cluster::{API, Cluster, Instance, ask, sh, wait_until};
use crate::databases::{LEDGER, database, definition, home, other, prepare};
use crate::ledger::{Database, Ledger, query};
use crate::sample;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: usize = 3;
/// A seal gives up when a system call outlasts its patience, as on a crowded disk.
const TRIES: usize = 3;
const PHASES: [&str; 4] = ["seal", "finish", "resume", "settle"];
/// How much is in the database beforehand: 60 MB that cannot be compressed away.
const BALLAST: &str = "create table ballast (n int, text text); \
    alter table ballast alter text set storage external; \
    insert into ballast select n, (select string_agg(md5(random()::text || n || part), '') \
    from generate_series(1, 300) part) from generate_series(1, 6000) n";
const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";

pub fn movement(cluster: &Cluster) {
    prepare(cluster);
    cluster.put(LEDGER, &definition("freeze"));
    cluster.running(LEDGER, 1);
    let database = database("");
    Ledger::start(cluster, database.clone()).audit();
    query(&database, BALLAST);
    // Both nodes have the image and an older copy afterwards, as they do after any first move.
    let first = other(&home(cluster, "shopdata"));
    cluster.tandem(&["move", LEDGER, first, "--wait"]);
    for round in 0..ROUNDS {
        ours(cluster, &database);
        elsewhere(cluster, round);
    }
    cluster.down();
}

fn ours(cluster: &Cluster, database: &Database) {
    let ledger = Ledger::start(cluster, database.clone());
    let moved = (0..TRIES).find_map(|_| {
        ledger.listen();
        let moved = Moved::watch(cluster, other(&home(cluster, "shopdata")));
        ledger.goes_on();
        moved
    });
    let Moved { phases, running } = moved.expect("one of the moves is not abandoned");
    let pause = ledger.silence();
    ledger.audit();
    let share = running.saturating_duration_since(phases[0]);
    let parts = [
        ("move.pause", pause),
        ("move.share", share),
        ("move.seal", phases[1] - phases[0]),
        ("move.transfer", phases[2] - phases[1]),
        ("move.start", running.saturating_duration_since(phases[2])),
        ("move.recovery", pause.saturating_sub(share)),
    ];
    for (figure, span) in parts {
        sample(figure, "ours", span.as_secs_f64());
    }
}

/// When each phase was first seen, and when the instance ran at its new node.
struct Moved {
    phases: Vec<Instant>,
    running: Instant,
}

impl Moved {
    /// Moves and looks; `None` when the move is abandoned.
    fn watch(cluster: &Cluster, node: &str) -> Option<Self> {
        let wish = serde_json::json!({ "app": LEDGER, "to": node });
        let (status, text) = ask(API, "POST", "/tandem/v1/moves", Some(&wish)).unwrap();
        assert_eq!(status, 202, "{text}");
        let mut phases: Vec<Instant> = Vec::new();
        let mut running = None;
        let runs = |i: &Instance| i.node == node && i.goal == "run" && i.rung == "running";
        while running.is_none() {
            let moves = cluster.get("/tandem/v1/moves");
            let phase = moves[0]["phase"].as_str().unwrap_or("settle").to_owned();
            if phase == "abandon" {
                println!("abandoned: {moves}");
                ends(cluster);
                return None;
            }
            let reached = PHASES.iter().position(|known| *known == phase);
            while reached.is_some_and(|reached| phases.len() <= reached) {
                phases.push(Instant::now());
            }
            if phases.len() > 2 && cluster.instances(LEDGER).iter().any(runs) {
                running = Some(Instant::now());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        ends(cluster);
        Some(Moved {
            phases,
            running: running?,
        })
    }
}

fn ends(cluster: &Cluster) {
    wait_until("the move to be over", || {
        cluster
            .get("/tandem/v1/moves")
            .as_array()
            .is_none_or(Vec::is_empty)
    });
}

fn elsewhere(cluster: &Cluster, round: usize) {
    let place = |name: &str| cluster.path(&format!("{name}-{round}"));
    let (from, to) = (place("from"), place("to"));
    let directory = from.display();
    sh(&format!(
        "install -d -o postgres -g postgres -m 700 {directory} \
         && {} --pgdata={directory} --username=shop --auth=trust --data-checksums \
            --encoding=UTF8 --locale=C.UTF-8 \
         && echo 'create database shop' | {} --single -D {directory} postgres",
        as_postgres("initdb"),
        as_postgres("postgres"),
    ));
    let database = Database {
        name: "127.0.0.1".into(),
        user: "shop",
        password: String::new(),
        options: "",
    };
    let first = Server::start(&from);
    let ledger = Ledger::start(cluster, database.clone());
    query(&database, BALLAST);
    ledger.goes_on();
    ledger.listen();
    first.stop();
    let copied = Command::new("rsync")
        .arg("-a")
        .arg(format!("{directory}/"))
        .arg(&to)
        .status();
    assert!(copied.unwrap().success());
    let second = Server::start(&to);
    ledger.goes_on();
    sample("move.pause", "rsync", ledger.silence().as_secs_f64());
    ledger.audit();
    second.stop();
}

fn as_postgres(program: &str) -> String {
    format!("setpriv --reuid=postgres --regid=postgres --init-groups {PROGRAMS}/{program}")
}

/// PostgreSQL as the example's image starts it, on this machine's loopback.
struct Server(Child);

impl Server {
    fn start(directory: &Path) -> Self {
        let line = format!(
            "exec {} -D {} -c listen_addresses=127.0.0.1 -c unix_socket_directories= \
             -c synchronous_commit=on -c shared_buffers=64MB -c jit=off",
            as_postgres("postgres"),
            directory.display()
        );
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &line]).stderr(Stdio::null());
        Server(command.spawn().unwrap())
    }

    /// As its image is stopped: sessions end, and what is in memory is written.
    fn stop(mut self) {
        let pid = Pid::from_raw(self.0.id().try_into().unwrap());
        kill(pid, Signal::SIGINT).unwrap();
        self.0.wait().unwrap();
    }
}
