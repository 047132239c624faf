//! How long the API takes to tell of 10,000 tasks.

use crate::cluster::{API, Cluster, ask, line, wait_for, with};
use crate::sample;
use serde_json::json;
use std::time::Instant;

const APPS: usize = 100;
const TASKS: usize = 10_000;
const ROUNDS: usize = 10;

pub fn api(cluster: &Cluster) {
    // Nodes that are gone: what is placed on them stays as it is, and costs nothing meanwhile.
    let settings = cluster.write("tandem.toml", "[agent]\ncpus = 100.0\n");
    cluster.up_with_timeout(3600, &["--config", &settings]);
    cluster.here(3);
    for node in ["n1", "n2", "n3"] {
        let agent = cluster.members(&format!("{node}/agent"));
        agent
            .iter()
            .for_each(|process| process.signal(nix::sys::signal::Signal::SIGSTOP));
    }
    let tiny = json!({
        "cpus": 0.001, "mem": 0.1, "instances": TASKS / APPS, "portDefinitions": [],
    });
    for n in 0..APPS {
        cluster.put(
            &format!("/many/a{n}"),
            &with(line("sleep 1000"), tiny.clone()),
        );
    }
    let path = "/v2/apps?embed=apps.tasks";
    wait_for("10,000 tasks", || {
        let count = cluster.get("/v2/tasks")["tasks"]
            .as_array()
            .map_or(0, Vec::len);
        (count == TASKS).then_some(()).ok_or(count)
    });
    for round in 0..=ROUNDS {
        let began = Instant::now();
        let (status, body) = ask(API, "GET", path, None).unwrap();
        let took = began.elapsed();
        assert_eq!(status, 200);
        if round == 0 {
            sample("api.bytes", "ours", body.len() as f64);
        } else {
            sample("api", "ours", took.as_secs_f64());
        }
    }
}
