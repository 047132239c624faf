//! What the processes of a cluster occupy: the sum of their proportional shares (PSS), in MiB.

use crate::cluster::{Cluster, Process};
use crate::sample;
use std::fs;

const NODES: [&str; 3] = ["n1", "n2", "n3"];

/// Before the instances that [`loaded`] measures.
pub fn idle(cluster: &Cluster) {
    sample("memory.master", "ours", of(&cluster.members("master")));
    for node in NODES {
        let agent = of(&cluster.members(&format!("{node}/agent")));
        sample("memory.agent", "ours", agent);
    }
}

/// With `count` instances: agents again, and shims divided by their number.
pub fn loaded(cluster: &Cluster, count: usize) {
    sample(
        "memory.master.loaded",
        "ours",
        of(&cluster.members("master")),
    );
    let mut shims = 0.0;
    for node in NODES {
        let agent = of(&cluster.members(&format!("{node}/agent")));
        sample("memory.agent.loaded", "ours", agent);
        shims += of(&cluster.members(&format!("{node}/shims")));
    }
    sample("memory.shim", "ours", shims / count as f64);
}

fn of(processes: &[Process]) -> f64 {
    let share = |process: &Process| {
        let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", process.pid)).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        line.split_whitespace().next()?.parse::<f64>().ok()
    };
    // One may just have ended.
    processes.iter().filter_map(share).sum::<f64>() / 1024.0
}
