//! Commands without images, and the commands that a user types.

use crate::cluster::{API, Cluster, Instance, ask, json_of, line, sh, wait_for, wait_until, with};
use serde_json::json;
use std::collections::BTreeSet;
use std::process::Command;

fn ids(instances: &[Instance]) -> BTreeSet<String> {
    instances
        .iter()
        .map(|instance| instance.id.clone())
        .collect()
}

pub fn a_command_is_run_logged_replaced_scaled_restarted_and_stopped(cluster: &Cluster) {
    let before = cluster.listing();
    cluster.up(&["--nodes", "1"]);
    let hello = with(
        line("echo hello from Tandem; trap exit TERM; sleep 100000 & wait"),
        json!({ "id": "hello" }),
    );
    let file = cluster.write("hello.json", &hello.to_string());

    let said = cluster.tandem(&["deploy", &file, "--wait"]);
    assert!(said.contains("/hello created"), "{said}");
    let first = cluster.running("/hello", 1);
    let ps = cluster.tandem(&["ps"]);
    assert!(ps.contains(&first[0].id) && ps.contains("running"), "{ps}");
    wait_for("the log", || {
        let log = cluster.tandem(&["logs", "hello"]);
        (log == "hello from Tandem").then_some(()).ok_or(log)
    });
    assert!(cluster.tandem(&["apps"]).contains("1/1"));
    assert!(cluster.tandem(&["status"]).contains("1"));

    // Up keeps what runs, down leaves one of them.
    cluster.tandem(&["scale", "hello", "3", "--wait"]);
    let three = cluster.running("/hello", 3);
    assert!(ids(&three).is_superset(&ids(&first)));
    cluster.tandem(&["scale", "hello", "1", "--wait"]);
    let one = cluster.running("/hello", 1);
    assert!(ids(&three).is_superset(&ids(&one)));

    cluster.tandem(&["app", "restart", "hello", "--wait"]);
    let restarted = wait_for("another instance", || {
        let now = cluster.running("/hello", 1);
        (ids(&now) != ids(&one))
            .then_some(now)
            .ok_or("the same runs")
    });

    // A killed process is replaced.
    let process = cluster.processes_of(&restarted);
    process.iter().for_each(|process| process.kill());
    wait_until("its replacement", || {
        let now = cluster.running("/hello", 1);
        ids(&now) != ids(&restarted) && !cluster.processes_of(&now).is_empty()
    });
    assert!(cluster.failure("/hello").unwrap().contains("signal 9"));

    ends_are_told(cluster);
    a_name_is_known_whatever_runs(cluster);

    let left = cluster.processes_of(&cluster.running("/hello", 1));
    assert!(!left.is_empty());
    cluster.tandem(&["app", "remove", "hello", "--yes", "--wait"]);
    wait_until("its processes to end", || {
        !left.iter().any(|process| process.lives())
    });
    let complaint = cluster.refused(&["app", "show", "hello"]);
    assert!(complaint.contains("hello"), "{complaint}");
    for name in NAMES {
        answers(name, "A", "NXDOMAIN", 0);
    }
    cluster.down();
    cluster.is_as(&before);
}

/// An app that ends at once is started again, later each time; how it ended is to be seen.
fn ends_are_told(cluster: &Cluster) {
    let short = with(
        line("echo the first; echo no such table >&2; exit 7"),
        json!({ "backoffSeconds": 1, "backoffFactor": 1.5 }),
    );
    cluster.put("/short", &short);
    let first = wait_for("its end", || cluster.failure("/short"));
    assert_eq!(
        first,
        "Container exited with status 7; it said last: no such table"
    );
    let task = || cluster.app("/short")["lastTaskFailure"]["taskId"].clone();
    let one = task();
    wait_until("another to end", || task() != one && !task().is_null());
    wait_for("ps to tell", || {
        let ps = cluster.tandem(&["ps", "short"]);
        let told = ps.contains('7') && ps.contains("no such table");
        told.then_some(()).ok_or(ps)
    });
    wait_for("the queue to say until when it waits", || {
        let queue = json_of(&cluster.tandem(&["queue", "--json"]));
        let waits = queue
            .as_array()
            .unwrap()
            .iter()
            .any(|app| app["app"] == "/short" && app["until"].is_string());
        waits.then_some(()).ok_or(queue.to_string())
    });
    cluster.tandem(&["app", "remove", "short", "--yes", "--wait"]);
}

/// An app of which nothing runs keeps its names: to ask for its address is no mistake.
fn a_name_is_known_whatever_runs(cluster: &Cluster) {
    for (instances, records) in [("1", 1), ("0", 0), ("1", 1)] {
        cluster.tandem(&["scale", "hello", instances, "--wait"]);
        for name in NAMES {
            answers(name, "A", "NOERROR", records);
            answers(name, "AAAA", "NOERROR", 0);
        }
    }
    answers("nobody.tandem.local", "A", "NXDOMAIN", 0);
}

/// What [`a_command_is_run_logged_replaced_scaled_restarted_and_stopped`]'s app is called.
const NAMES: [&str; 2] = ["hello.tandem.local", "hello.marathon.mesos"];

/// Waits until the nodes' DNS has this status and so many records for a name.
fn answers(name: &str, kind: &str, status: &str, records: usize) {
    let wanted = (format!("status: {status},"), format!("ANSWER: {records},"));
    wait_for(
        &format!("{name} {kind} to be {status} with {records}"),
        || {
            let asked = Command::new("dig")
                .args(["@10.32.0.1", "+time=1", "+tries=1", name, kind])
                .output()
                .map_err(|error| error.to_string())?;
            let said = String::from_utf8_lossy(&asked.stdout).into_owned();
            let good = said.contains(&wanted.0) && said.contains(&wanted.1);
            good.then_some(()).ok_or(said)
        },
    );
}

/// (A)
pub fn the_same_file_put_twice_changes_nothing(cluster: &Cluster) {
    cluster.up(&["--nodes", "2"]);
    let app = with(
        line("exec sleep 100000"),
        json!({ "id": "/shop/web", "instances": 2, "labels": { "a": "b" } }),
    );
    let (status, first) = cluster.put("/shop/web", &app);
    assert_eq!(status, 201);
    let tasks = |instances: Vec<Instance>| -> BTreeSet<String> {
        instances.into_iter().map(|i| i.task).collect()
    };
    let running = tasks(cluster.running("/shop/web", 2));
    wait_until("the deployment to end", || {
        cluster.get("/v2/deployments") == json!([])
    });

    for _ in 0..3 {
        let (status, again) = cluster.put("/shop/web", &app);
        assert_eq!(status, 200);
        assert_eq!(again["version"], first["version"]);
        assert_eq!(again["version"], cluster.app("/shop/web")["version"]);
        let deployment = again["deploymentId"].as_str().unwrap();
        assert_eq!(
            cluster.get("/v2/deployments"),
            json!([]),
            "{deployment} is finished already"
        );
        assert_eq!(tasks(cluster.instances("/shop/web")), running);
    }
    let file = cluster.write("web.json", &app.to_string());
    assert_eq!(
        cluster.tandem(&["deploy", &file, "--wait"]),
        "/shop/web unchanged"
    );
    assert_eq!(tasks(cluster.instances("/shop/web")), running);

    let (status, body) = ask(
        API,
        "PUT",
        "/v2/apps/bad",
        Some(&json!({ "cmd": "x", "instances": "many" })),
    )
    .unwrap();
    assert!(matches!(status, 400 | 422), "{status} {body}");
    assert!(json_of(&body)["message"].is_string(), "{body}");
    cluster.down();
}

/// The kernel's network beside what it should be, and the logs of the daemons.
pub fn what_lies_beneath_is_shown(cluster: &Cluster) {
    cluster.up(&["--nodes", "2"]);
    let app = with(
        line("exec sleep 100000"),
        json!({ "networks": [{ "mode": "container", "name": "mesh" }] }),
    );
    cluster.put("/quiet", &app);
    let instance = cluster.running("/quiet", 1).remove(0);
    let address = instance.address.unwrap().to_string();
    for node in ["n1", "10.0.15.12"] {
        wait_for("the node to be as it should", || {
            let shown = cluster.tandem(&["debug", "network", node]);
            let good = shown.contains("everything is as it should be")
                && shown.contains(&address)
                && shown.contains("table bridge tandem");
            good.then_some(()).ok_or(shown)
        });
    }
    // The agent mends it before long, so it is broken again for each look.
    let init = cluster.init_of("n1").pid;
    wait_for("the difference to be seen", || {
        sh(&format!(
            "nsenter -t {init} -n ip neigh del {address} dev tnd0 || true"
        ));
        let shown = cluster.tandem(&["debug", "network", "n1"]);
        let marked = |line: &str| line.starts_with('!') && line.contains(&address);
        shown.lines().any(marked).then_some(()).ok_or(shown)
    });
    let nowhere = cluster.refused(&["debug", "network", "n9"]);
    assert!(nowhere.contains("n9"), "{nowhere}");

    let master = cluster.tandem(&["debug", "logs", "master"]);
    assert!(master.contains("Leading"), "{master}");
    let last = cluster.tandem(&["debug", "logs", "--tail", "1"]);
    for name in ["master", "n1", "n2", "up"] {
        let its = |line: &&str| line.starts_with(&format!("{name} | "));
        assert_eq!(last.lines().filter(its).count(), 1, "{name}: {last}");
    }
    let unknown = cluster.refused(&["debug", "logs", "n9"]);
    assert!(unknown.contains("n1"), "{unknown}");
    cluster.down();
}
