//! From 1 instance to 50 on three nodes, until each answers by name as seen from another container;
//! how long the cluster itself takes to come up; and what it occupies then.
//!
//! The ruler is the one that measures Docker Swarm, `swarm probe`: `TANDEM_SWARM` says where it is.
//! Without it that figure is left out, and the rest is measured.

use crate::cluster::{Cluster, REGISTRY, image, line, sh, with};
use crate::{memory, sample};
use serde_json::json;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const COUNT: usize = 50;
const NODES: usize = 3;

pub fn scale(cluster: &Cluster) {
    // The first time makes state, keys and directories; it is not measured.
    cluster.up(&[]);
    cluster.down();
    let began = Instant::now();
    cluster.up(&[]);
    cluster.here(NODES);
    sample("up", "ours", began.elapsed().as_secs_f64());

    let ruler = std::env::var("TANDEM_SWARM").ok();
    let name = match &ruler {
        Some(swarm) => push_peer(cluster, swarm),
        None => {
            cluster.push_images();
            format!("{REGISTRY}/myapp:latest")
        }
    };

    let observer = json!({
        "id": "/observer", "constraints": [["hostname", "LIKE", "10.0.15.11"]],
        "container": { "type": "MESOS" }, "networks": [{ "mode": "container" }],
    });
    cluster.put("/observer", &with(line("sleep 100000"), observer));
    let observer = cluster.running("/observer", 1);
    let observer = cluster.processes_of(&observer)[0].pid;
    // On every node beforehand, as on the other side.
    cluster.put("/web", &with(image(&name), json!({ "instances": NODES })));
    cluster.running("/web", NODES);
    cluster.put("/web", &with(image(&name), json!({ "instances": 1 })));
    cluster.running("/web", 1);
    memory::idle(cluster);

    let ruler = ruler.map(|swarm| probe(&swarm, observer));
    let began = Instant::now();
    cluster.put("/web", &with(image(&name), json!({ "instances": COUNT })));
    if let Some(mut ruler) = ruler {
        let status = ruler.wait().unwrap();
        assert!(status.success(), "not all of them answered");
        sample("scale", "ours", began.elapsed().as_secs_f64());
    }
    cluster.running("/web", COUNT);
    memory::loaded(cluster, COUNT);
    cluster.down();
}

/// The image that the peer runs, in our registry.
fn push_peer(cluster: &Cluster, swarm: &str) -> String {
    let archive = cluster.path("image.tar").display().to_string();
    sh(&format!("{swarm} image {archive}"));
    let name = format!("{REGISTRY}/peer/httpd:1");
    sh(&format!(
        "skopeo copy --quiet --dest-tls-verify=false docker-archive:{archive} docker://{name}"
    ));
    name
}

/// Starts the ruler in the network of a process. Its own clock begins earlier than ours.
fn probe(swarm: &str, observer: i32) -> Child {
    let child = Command::new(swarm)
        .args([
            "probe",
            "--pid",
            &observer.to_string(),
            "--dns",
            "10.32.0.1",
        ])
        .args([
            "--service",
            "web.tandem.local",
            "--count",
            &COUNT.to_string(),
        ])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // Until it has begun to ask, whatever else this machine does.
    std::thread::sleep(Duration::from_secs(1));
    child
}
