//! How fast a volume's data gets to another node for the first time: a move's first round, from its
//! snapshot until the target has it on disk. Beside it, in turns, a snapshot of the very same data,
//! `btrfs send | btrfs receive` and a sync, between the very same two pools.

use crate::cluster::{API, Cluster, ask, image, json_of, sh, wait_until, with};
use crate::sample;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const MEBIBYTES: usize = 256;
/// After a first one, which makes the pools and fills caches.
const ROUNDS: usize = 3;

pub fn seed(cluster: &Cluster) {
    let settings = "[volume]\npool_size = \"3GiB\"\ndefault_size = \"320MiB\"\n";
    let settings = cluster.write("tandem.toml", settings);
    cluster.up(&["--nodes", "2", "--config", &settings]);
    cluster.push_images();
    for round in 0..=ROUNDS {
        let volume = format!("seed{round}");
        let app = format!("/{volume}");
        cluster.put(&app, &keeper(&volume));
        let instance = cluster.running(&app, 1).remove(0);
        let fill = format!("dd if=/dev/urandom of=/data/bench bs=1M count={MEBIBYTES} && sync");
        cluster.within(&instance, &fill).unwrap();
        let (from, to) = match instance.node.as_str() {
            "n1" => ("n1", "n2"),
            _ => ("n2", "n1"),
        };
        // Before ours: afterwards the volume is at home elsewhere.
        let theirs = (round > 0).then(|| theirs(cluster, &volume, from, to));
        let ours = ours(cluster, &app, to);
        if let Some(theirs) = theirs {
            let bytes = (MEBIBYTES << 20) as f64;
            sample("seed", "ours", bytes / ours.as_secs_f64());
            sample("seed", "btrfs", bytes / theirs.as_secs_f64());
        }
    }
    cluster.down();
}

/// A program that waits, with a volume at `/data`.
fn keeper(volume: &str) -> Value {
    let more = json!({
        "cmd": "exec sleep 100000", "mem": 32, "labels": { "tandem/move-stop": "freeze" },
    });
    let mut app = with(image("base/tiny:1"), more);
    app["container"]["docker"]["parameters"] = json!([
        { "key": "volume-driver", "value": "flocker" },
        { "key": "volume", "value": format!("{volume}:/data") },
    ]);
    app
}

/// How long the first round of a move takes.
fn ours(cluster: &Cluster, app: &str, to: &str) -> Duration {
    let wish = json!({ "app": app, "to": to });
    let (status, text) = ask(API, "POST", "/tandem/v1/moves", Some(&wish)).unwrap();
    assert_eq!(status, 202, "{text}");
    let mut began = None;
    let took = loop {
        let (_, body) = ask(API, "GET", "/tandem/v1/moves", None).unwrap();
        let movement = json_of(&body)[0].clone();
        let phase = movement["phase"].as_str().unwrap_or("over").to_owned();
        assert_ne!(phase, "abandon", "{movement}");
        match (phase.as_str(), movement["round"].as_u64(), began) {
            ("reserve", _, _) | ("seed", Some(0), Some(_)) => {}
            ("seed", Some(0), None) => began = Some(Instant::now()),
            (_, _, began) => break began.expect("the first round was seen").elapsed(),
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    wait_until("the move to be over", || {
        cluster
            .get("/tandem/v1/moves")
            .as_array()
            .is_none_or(Vec::is_empty)
    });
    took
}

/// The same by hand.
fn theirs(cluster: &Cluster, volume: &str, from: &str, to: &str) -> Duration {
    let (source, target) = (Node::of(cluster, from), Node::of(cluster, to));
    let data = source.run(&format!(
        "find {}/volumes/{volume} -name bench",
        source.pool
    ));
    let (live, _) = data.rsplit_once('/').unwrap();
    let copies = [&source, &target].map(|node| format!("{}/by-hand", node.pool));
    let began = Instant::now();
    source.run(&format!("btrfs subvolume snapshot -r {live} {}", copies[0]));
    sh(&format!(
        "{} btrfs send --quiet {} | {} btrfs receive --quiet {} && {} sync -f {}",
        source.enter, copies[0], target.enter, target.pool, target.enter, target.pool
    ));
    let took = began.elapsed();
    for (node, copy) in [&source, &target].iter().zip(&copies) {
        node.run(&format!("btrfs subvolume delete --commit-each {copy}"));
    }
    took
}

struct Node {
    /// What a line begins with that is run there.
    enter: String,
    /// Where its pool is mounted, as it sees it.
    pool: String,
}

impl Node {
    fn of(cluster: &Cluster, name: &str) -> Self {
        let init = cluster.init_of(name).pid;
        // A volume in use is mounted too, elsewhere.
        let pool = sh(&format!(
            "awk '$5 ~ \"/pool$\" && / - btrfs / {{ print $5 }}' /proc/{init}/mountinfo"
        ));
        Node {
            enter: format!("nsenter -t {init} -m -p --"),
            pool,
        }
    }

    fn run(&self, line: &str) -> String {
        sh(&format!("{} {line}", self.enter))
    }
}
