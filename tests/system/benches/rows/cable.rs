//! How long after a node's cable is cut the replacement of what ran there answers by name, as seen
//! from a container on another node.

use crate::cluster::{Cluster, Instance, image, sh, wait_for, with};
use crate::sample;
use serde_json::json;
use std::fs;
use std::time::{Duration, Instant};

const ROUNDS: usize = 3;
const IMAGE: &str = "10.0.15.10:5000/myapp:latest";
/// Between two questions; each waits no longer than this for its answer either.
const PAUSE: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(60);

pub fn cable(cluster: &Cluster) {
    cluster.up_with_timeout(5, &[]);
    cluster.push_images();
    let on = |operator: &str, instances: usize| {
        let rule = json!([["hostname", operator, "10.0.15.11"]]);
        with(
            image(IMAGE),
            json!({ "constraints": rule, "instances": instances }),
        )
    };
    cluster.put("/observer", &on("LIKE", 1));
    let observer = cluster.running("/observer", 1).remove(0);
    // Both nodes have the image afterwards.
    cluster.put("/web", &on("UNLIKE", 4));
    cluster.running("/web", 4);
    cluster.put("/web", &on("UNLIKE", 1));
    for _ in 0..ROUNDS {
        let old = cluster.running("/web", 1).remove(0);
        wait_for("it to answer by name", || {
            answers(cluster, &observer, &old, true)
        });
        let cable = Cable::of(cluster, &old.node);
        let began = Instant::now();
        cable.set("down");
        while answers(cluster, &observer, &old, false).is_err() {
            assert!(began.elapsed() < PATIENCE, "nothing replaced it");
            std::thread::sleep(PAUSE);
        }
        sample("cable", "ours", began.elapsed().as_secs_f64());
        drop(cable);
        cluster.here(3);
    }
    cluster.down();
}

/// Whether the old instance, or another one, answers by name. Each says its address.
fn answers(
    cluster: &Cluster,
    observer: &Instance,
    old: &Instance,
    is_old: bool,
) -> Result<(), String> {
    let address = cluster.within(observer, "curl -sSf -m 0.2 http://web.tandem.local/")?;
    let said_old = Some(&address) == old.address.map(|a| a.to_string()).as_ref();
    (said_old == is_old && !address.is_empty())
        .then_some(())
        .ok_or(address)
}

/// A node's cable, at its end in the switch; plugged in again when dropped.
struct Cable {
    /// The switch's network namespace, which only the supervisor holds.
    switch: String,
    port: String,
}

impl Cable {
    fn of(cluster: &Cluster, node: &str) -> Self {
        let held = format!("/proc/{}/fd", cluster.supervisor().pid);
        let held = fs::read_dir(held).unwrap().map(|file| file.unwrap().path());
        let is_network = |path: &std::path::PathBuf| {
            fs::read_link(path).is_ok_and(|to| to.to_string_lossy().starts_with("net:"))
        };
        let switch = held.filter(is_network).find(|path| {
            let look = format!("nsenter --net={} ip link show {node}", path.display());
            std::process::Command::new("/bin/sh")
                .args(["-c", &format!("{look} > /dev/null 2>&1")])
                .status()
                .is_ok_and(|status| status.success())
        });
        Cable {
            switch: switch
                .expect("the supervisor holds the switch")
                .display()
                .to_string(),
            port: node.to_owned(),
        }
    }

    fn set(&self, how: &str) {
        sh(&format!(
            "nsenter --net={} ip link set {} {how}",
            self.switch, self.port
        ));
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.set("up");
    }
}
