//! (F) Databases move with every row that they acknowledged: PostgreSQL by freeze and by signal,
//! Redis by what it saves at its end; and PostgreSQL while the parties of the move are killed.

use crate::cluster::{Cluster, Process, image, json_of, sh, wait_for, wait_until, with};
use crate::ledger::{Database, Ledger};
use crate::watch::Watch;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

pub const LEDGER: &str = "/ledger";
const CACHE: &str = "/cache";
const SETTINGS: &str = "tandem.toml";

/// A cluster with the databases' images, whose DNS this machine asks from now on.
pub fn prepare(cluster: &Cluster) {
    let settings = "[volume]\npool_size = \"1GiB\"\ndefault_size = \"512MiB\"\n";
    cluster.write(SETTINGS, settings);
    up(cluster);
    cluster.push_databases();
    // What the cluster itself asks stays as it is.
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let servers = cluster.write(
        "resolv.conf",
        "nameserver 10.32.0.1\noptions timeout:1 attempts:1\n",
    );
    sh(&format!(
        "file=$(readlink -m /etc/resolv.conf); mkdir -p \"${{file%/*}}\"; \
         test -e \"$file\" || touch \"$file\"; mount --bind {servers} \"$file\""
    ));
}

fn up(cluster: &Cluster) {
    let settings = cluster.path("work").join(SETTINGS);
    cluster.up(&["--config", &settings.display().to_string()]);
}

/// The examples' database, which is moved in this way.
pub fn definition(stop: &str) -> Value {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/shop/db.json");
    let mut app = json_of(&std::fs::read_to_string(file).unwrap());
    app["id"] = LEDGER.into();
    app["labels"]["tandem/move-stop"] = stop.into();
    // Marathon's clients leave 15 seconds before the first check when they are not told.
    app["healthChecks"][0]["delaySeconds"] = 0.into();
    app
}

pub fn database(options: &'static str) -> Database {
    Database {
        name: "ledger.tandem.local".into(),
        user: "shop",
        password: definition("freeze")["env"]["DATABASE_PASSWORD"]
            .as_str()
            .unwrap()
            .into(),
        options,
    }
}

/// Whatever has happened: the app runs once, where its volume is, and every client gets on.
fn is_well(cluster: &Cluster, ledger: &Ledger) -> String {
    let home = wait_for("the app to run where its volume is", || {
        let instance = cluster.running(LEDGER, 1).remove(0);
        let home = home(cluster, "shopdata");
        (instance.node == home).then_some(home).ok_or(instance.node)
    });
    ledger.goes_on();
    wait_for("one server", || {
        let servers = servers(cluster);
        (servers.len() == 1)
            .then_some(())
            .ok_or(format!("{servers:?}"))
    });
    home
}

pub fn home(cluster: &Cluster, volume: &str) -> String {
    let volume = cluster.get(&format!("/tandem/v1/volumes/{volume}"));
    volume["home"].as_str().unwrap_or_default().to_owned()
}

/// The PostgreSQL servers of the whole cluster, without their children.
fn servers(cluster: &Cluster) -> Vec<Process> {
    let mut all = cluster.members("");
    all.retain(|process| process.command().starts_with("postgres -D "));
    all
}

pub fn other(node: &str) -> &'static str {
    match node {
        "n1" => "n2",
        _ => "n1",
    }
}

/// Clients without any limit of their own: one whose connection is never reset waits for ever.
pub fn nothing_acknowledged_is_lost_in_five_moves(cluster: &Cluster) {
    prepare(cluster);
    cluster.put(LEDGER, &definition("freeze"));
    cluster.running(LEDGER, 1);
    let ledger = Ledger::start(cluster, database(""));
    let mut from = is_well(cluster, &ledger);
    for round in 0..5 {
        let stop = ["freeze", "signal"][round % 2];
        cluster.put(LEDGER, &definition(stop));
        cluster.settled();
        ledger.goes_on();

        let to = other(&from);
        // On a crowded disk a system call may outlast the patience of a seal.
        let moved = (1..=3).any(|_| {
            ledger.listen();
            let mut watch = Watch::begin(LEDGER, to);
            let reason = watch.ends().unwrap_or("it has moved").to_owned();
            let home = is_well(cluster, &ledger);
            println!(
                "{from} to {to} by {stop}: {reason}; longest silence {} ms; {}",
                ledger.silence().as_millis(),
                watch.parts()
            );
            home == to
        });
        assert!(moved, "{from} to {to} by {stop}");
        from = to.to_owned();
    }
    println!("{} rows acknowledged and there", ledger.audit());
    a_snapshot_made_at_the_end_moves_too(cluster);
    cluster.down();
}

/// Redis as it comes: it saves when it is told to end, and now and then.
fn a_snapshot_made_at_the_end_moves_too(cluster: &Cluster) {
    let more = json!({
        "cmd": "cd /data && exec redis-server --protected-mode no",
        "upgradeStrategy": { "minimumHealthCapacity": 0, "maximumOverCapacity": 0 },
        // What it saves at its end may take long on a crowded disk.
        "taskKillGracePeriodSeconds": 30,
    });
    let mut app = with(image("base/tiny:1"), more);
    app["container"]["volumes"] =
        json!([{ "containerPath": "/data", "hostPath": "/flocker/cachedata", "mode": "RW" }]);
    cluster.put(CACHE, &app);
    let from = cluster.running(CACHE, 1).remove(0).node;
    let mut connection = wait_for("Redis", Redis::connect);
    let to = other(&from);
    let (last, watch) = std::thread::scope(|scope| {
        let counter = scope.spawn(move || {
            let answers = std::iter::from_fn(|| connection.ask("INCR n").ok());
            answers.last().expect("it answered once at least")
        });
        let mut watch = Watch::begin(CACHE, to);
        assert_eq!(watch.ends(), None);
        (counter.join().unwrap(), watch)
    });
    assert_eq!(cluster.running(CACHE, 1).remove(0).node, to);
    let there = wait_for("Redis elsewhere", || Redis::connect()?.ask("GET n"));
    assert!(
        there == last || there == last + 1,
        "{last} was acknowledged, {there} is there"
    );
    println!(
        "Redis {from} to {to}: {last} acknowledged, {there} there; {}",
        watch.parts()
    );
}

/// A connection to Redis.
struct Redis(BufReader<TcpStream>);

impl Redis {
    fn connect() -> io::Result<Self> {
        let stream = TcpStream::connect("cache.tandem.local:6379")?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.set_nodelay(true)?;
        Ok(Redis(BufReader::new(stream)))
    }

    /// The number that a command answers with.
    fn ask(&mut self, command: &str) -> io::Result<u64> {
        self.0
            .get_mut()
            .write_all(format!("{command}\r\n").as_bytes())?;
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        // A string comes after its length; without one there is none.
        if line.starts_with('$') && line.trim_end() != "$-1" {
            line.clear();
            self.0.read_line(&mut line)?;
        }
        let number = line.trim().trim_start_matches(':').parse();
        number.map_err(|_| io::Error::other(line))
    }
}

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    SourceAgent,
    TargetAgent,
    TargetShims,
    Master,
    /// The whole node; it is back at once.
    Source,
    Target,
    /// The whole node, which stays away until the move is abandoned.
    SourceForLong,
    /// Master, registry, nodes and who keeps them; all of it is started again.
    Everything,
}

const BLOWS: [(Victim, &str); 9] = [
    (Victim::TargetAgent, "seed"),
    (Victim::Master, "ready"),
    (Victim::SourceAgent, "seal"),
    (Victim::TargetAgent, "finish"),
    (Victim::TargetShims, "resume"),
    (Victim::SourceForLong, "ready"),
    (Victim::Source, "seal"),
    (Victim::Target, "resume"),
    (Victim::Everything, "finish"),
];

/// The clients notice when the other end is gone without a word, as it is with a node.
pub fn nothing_acknowledged_is_lost_when_a_move_s_parties_die(cluster: &Cluster) {
    prepare(cluster);
    cluster.put(LEDGER, &definition("freeze"));
    let patience =
        "keepalives_idle=2 keepalives_interval=1 keepalives_count=2 tcp_user_timeout=4000";
    let ledger = Ledger::start(cluster, database(patience));
    let mut from = is_well(cluster, &ledger);
    let mut hits = 0;
    for (victim, phase) in BLOWS {
        let to = other(&from);
        ledger.listen();
        let mut watch = Watch::begin(LEDGER, to);
        let hit = watch.reaches(phase).to_owned();
        hits += usize::from(hit == phase);
        let doomed = strike(cluster, victim, &from, to, &mut watch);
        let reason = watch.ends().unwrap_or("nobody saw why").to_owned();
        cluster.here(3);
        let home = is_well(cluster, &ledger);
        let outcome = match home == to {
            true => "completed".into(),
            false => format!("abandoned: {reason}"),
        };
        println!(
            "{victim:?} killed in {hit} (for {phase}): {outcome}; longest silence {} ms; {}",
            ledger.silence().as_millis(),
            watch.parts()
        );
        assert!(
            home == to || home == from,
            "{home} had nothing to do with it"
        );
        assert!(!doomed || home == from, "it went on without its source");
        from = home;
    }
    println!("{} rows acknowledged and there", ledger.audit());
    assert!(2 * hits >= BLOWS.len(), "{hits} blows hit their phases");
    cluster.down();
}

/// Whether the move cannot but be abandoned.
fn strike(cluster: &Cluster, victim: Victim, from: &str, to: &str, watch: &mut Watch) -> bool {
    // What it has started may outlive it for a moment, as it may anywhere.
    let agent = |node: &str| vec![cluster.daemon(&format!("{node}/agent"))];
    let dead = match victim {
        Victim::SourceAgent => agent(from),
        Victim::TargetAgent => agent(to),
        // After the hand-over the first of them starts what it is for.
        Victim::TargetShims if ["resume", "settle"].contains(&watch.now()) => {
            wait_for("a shim", || {
                let shims = cluster.members(&format!("{to}/shims"));
                (!shims.is_empty()).then_some(shims).ok_or("none")
            })
        }
        Victim::TargetShims => {
            println!("there was no hand-over");
            return false;
        }
        Victim::Master => cluster.members("master"),
        Victim::Source | Victim::SourceForLong => vec![cluster.init_of(from)],
        Victim::Target => vec![cluster.init_of(to)],
        Victim::Everything => [vec![cluster.supervisor()], cluster.members("")].concat(),
    };
    assert!(!dead.is_empty(), "{victim:?} does not run");
    let keeper = (victim == Victim::SourceForLong).then(|| Stopped::new(cluster.supervisor()));
    dead.iter().for_each(Process::kill);
    wait_until("the victim to be dead", || !dead.iter().any(Process::lives));
    if victim == Victim::Everything {
        up(cluster);
    }
    if keeper.is_none() {
        return false;
    }
    // It may have gone on until the source was dead, up to the hand-over and beyond.
    let doomed = ["ready", "abandon"].contains(&watch.looks());
    watch.reaches("abandon");
    doomed
}

/// A process that does nothing until this is dropped.
struct Stopped(Process);

impl Stopped {
    fn new(process: Process) -> Self {
        process.signal(Signal::SIGSTOP);
        Stopped(process)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        self.0.signal(Signal::SIGCONT);
    }
}
