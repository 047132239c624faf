//! A database moves while a client writes: the client's longest silence, and what it is made of.
//! Beside it the same data by stopping, `rsync -a` and starting again. Redis with an append-only
//! file syncs every second; the client waits for each answer before it writes the next.

use crate::cluster::{API, Cluster, Process, ask, image, wait_for, wait_until, with};
use crate::sample;
use nix::sched::{CloneFlags, setns};
use serde_json::json;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const DATABASE: &str = "10.255.0.10:27017";
const ELSEWHERE: &str = "127.0.0.1:27018";
const MOVES: [&str; 3] = ["n2", "n3", "n2"];
/// How much is in the database beforehand.
const VALUES: usize = 6_000;
const VALUE: usize = 10_000;
const PHASES: [&str; 4] = ["seal", "finish", "resume", "settle"];

pub fn movement(cluster: &Cluster) {
    let settings = "[volume]\npool_size = \"1GiB\"\ndefault_size = \"512MiB\"\n";
    let settings = cluster.write("tandem.toml", settings);
    cluster.up(&["--config", &settings]);
    cluster.push_images();
    let database = json!({
        "env": { "WEAVE_CIDR": "10.255.0.10/24" }, "mem": 256,
        "container": {
            "type": "DOCKER", "docker": { "image": "mongo", "network": "BRIDGE" },
            "volumes": [{ "containerPath": "/data", "hostPath": "/flocker/data", "mode": "RW" }],
        },
    });
    // Where no move goes to or comes from.
    let client = json!({
        "env": { "WEAVE_CIDR": "10.255.0.20/24" },
        "constraints": [["hostname", "LIKE", "10.0.15.11"]],
    });
    cluster.put("/client", &with(image("mongo"), client));
    let client = cluster.running("/client", 1);
    let client = cluster.processes_of(&client).remove(0);
    cluster.put("/db", &with(image("mongo"), database));
    cluster.running("/db", 1);
    cluster.tandem(&["move", "/db", "n3", "--wait"]);
    inside(&client, || fill(DATABASE));

    for (n, node) in MOVES.into_iter().enumerate() {
        let moved = inside(&client, || {
            silence_during(DATABASE, || moved(cluster, node))
        });
        let ((phases, running), silence) = moved;
        sample("move.pause", "ours", silence.as_secs_f64());
        for (pair, name) in phases.windows(2).zip(["seal", "transfer", "settle"]) {
            sample(
                &format!("move.{name}"),
                "ours",
                (pair[1] - pair[0]).as_secs_f64(),
            );
        }
        sample(
            "move.start",
            "ours",
            running.saturating_duration_since(phases[2]).as_secs_f64(),
        );
        let started = running.saturating_duration_since(phases[0]);
        sample("move.share", "ours", started.as_secs_f64());
        elsewhere(cluster, n);
    }
    cluster.down();
}

/// When each phase was first seen, and when the instance ran at its new node.
fn moved(cluster: &Cluster, node: &str) -> (Vec<Instant>, Instant) {
    let body = json!({ "app": "/db", "to": node });
    let (status, text) = ask(API, "POST", "/tandem/v1/moves", Some(&body)).unwrap();
    assert!(matches!(status, 200..=202), "{status} {text}");
    let mut seen = Vec::new();
    let mut running = None;
    let runs =
        |instance: &crate::cluster::Instance| instance.node == node && instance.rung == "running";
    while running.is_none() {
        let moves = cluster.get("/tandem/v1/moves");
        let phase = moves[0]["phase"].as_str().unwrap_or("settle").to_owned();
        let reached = PHASES.iter().position(|known| *known == phase);
        while reached.is_some_and(|reached| seen.len() <= reached) {
            seen.push(Instant::now());
        }
        assert_ne!(phase, "abandon", "{moves}");
        if seen.len() > 2 && cluster.instances("/db").iter().any(runs) {
            running = Some(Instant::now());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    wait_until("the move to be over", || {
        cluster
            .get("/tandem/v1/moves")
            .as_array()
            .is_none_or(Vec::is_empty)
    });
    while seen.len() < PHASES.len() {
        seen.push(Instant::now());
    }
    (seen, running.unwrap_or_else(Instant::now))
}

/// The same by hand: stop, copy, start; without any container, image or network to make.
fn elsewhere(cluster: &Cluster, n: usize) {
    let (from, to) = (
        cluster.path(&format!("from-{n}")),
        cluster.path(&format!("to-{n}")),
    );
    std::fs::create_dir_all(&from).unwrap();
    let mut first = redis(&from);
    wait_for("Redis", || {
        exchange(ELSEWHERE, "PING\r\n").map_err(|e| e.to_string())
    });
    fill(ELSEWHERE);
    let (second, silence) = silence_during(ELSEWHERE, || {
        let pid = nix::unistd::Pid::from_raw(first.id().try_into().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        first.wait().unwrap();
        let mut copy = Command::new("rsync");
        copy.arg("-a").arg(format!("{}/", from.display())).arg(&to);
        assert!(copy.status().unwrap().success());
        redis(&to)
    });
    sample("move.pause", "rsync", silence.as_secs_f64());
    let mut second = second;
    second.kill().unwrap();
    second.wait().unwrap();
}

fn redis(directory: &Path) -> Child {
    Command::new("redis-server")
        .args(["--port", "27018", "--appendonly", "yes", "--dir"])
        .arg(directory)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// Runs in the network of a process.
fn inside<T: Send>(process: &Process, deed: impl FnOnce() -> T + Send) -> T {
    let namespace = File::open(format!("/proc/{}/ns/net", process.pid)).unwrap();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            deed()
        });
        thread.join().unwrap()
    })
}

/// The longest time between two acknowledged writes while `deed` is done, and for a moment after.
fn silence_during<T>(address: &str, deed: impl FnOnce() -> T + Send) -> (T, Duration)
where
    T: Send,
{
    // Threads share the network of the one that starts them; the deed needs the machine's.
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let (mut longest, mut last, mut n) = (Duration::ZERO, Instant::now(), 0);
            let mut stream = None;
            let mut after = 0;
            while after < 20 {
                match write(&mut stream, address, n) {
                    Ok(()) => {
                        longest = longest.max(last.elapsed());
                        last = Instant::now();
                        n += 1;
                        after += usize::from(over.load(Ordering::SeqCst));
                    }
                    Err(_) => {
                        stream = None;
                        std::thread::sleep(Duration::from_millis(2));
                    }
                }
            }
            longest
        });
        let host = File::open("/proc/1/ns/net").unwrap();
        let worker = scope.spawn(|| {
            setns(host, CloneFlags::CLONE_NEWNET).unwrap();
            deed()
        });
        let done = worker.join();
        over.store(true, Ordering::SeqCst);
        let longest = writer.join().unwrap();
        (done.unwrap(), longest)
    })
}

fn write(stream: &mut Option<TcpStream>, address: &str, n: usize) -> io::Result<()> {
    if stream.is_none() {
        let address: SocketAddr = address.parse().map_err(io::Error::other)?;
        let fresh = TcpStream::connect_timeout(&address, Duration::from_millis(50))?;
        fresh.set_read_timeout(Some(Duration::from_secs(5)))?;
        fresh.set_nodelay(true)?;
        *stream = Some(fresh);
    }
    let stream = stream.as_mut().ok_or(io::ErrorKind::NotConnected)?;
    stream.write_all(format!("SET last {n}\r\n").as_bytes())?;
    let mut answer = [0; 64];
    let length = stream.read(&mut answer)?;
    match answer[..length].starts_with(b"+OK") {
        true => Ok(()),
        false => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn exchange(address: &str, words: &str) -> io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.write_all(words.as_bytes())?;
    let mut answer = [0; 64];
    let length = stream.read(&mut answer)?;
    match answer[..length].starts_with(b"+") {
        true => Ok(()),
        false => Err(io::Error::other(
            String::from_utf8_lossy(&answer[..length]).into_owned(),
        )),
    }
}

/// Writes what cannot be compressed away, and waits until it is on disk.
fn fill(address: &str) {
    let random: String = (0..VALUE as u64)
        .map(|n| char::from(b'a' + (n.wrapping_mul(2_862_933_555_777_941_757) >> 59) as u8 % 26))
        .collect();
    let mut stream = TcpStream::connect(address).unwrap();
    let reader = stream.try_clone().unwrap();
    let answers = std::thread::spawn(move || {
        let mut reader = io::BufReader::new(reader);
        let mut answer = [0; 5];
        (0..VALUES).for_each(|_| reader.read_exact(&mut answer).unwrap());
    });
    for n in 0..VALUES {
        let key = format!("k{n}");
        let head = format!(
            "*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${}\r\n",
            key.len(),
            VALUE
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(random.as_bytes()).unwrap();
        stream.write_all(b"\r\n").unwrap();
    }
    answers.join().unwrap();
    rustix::fs::sync();
}
