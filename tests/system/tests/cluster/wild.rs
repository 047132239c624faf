//! (H) Definitions that users wrote for Marathon, deployed as they are; `tests/system/apps` has
//! them. What their authors did with them is done here, save HAProxy and the web interface.

use crate::cluster::{API, Cluster, Instance, ask, json_of, wait_for, wait_until};
use crate::three_tiers;
use serde_json::json;
use std::path::Path;

fn file(name: &str) -> String {
    let apps = Path::new(env!("CARGO_MANIFEST_DIR")).join("apps");
    apps.join(name).display().to_string()
}

/// As `curl -X POST -d @FILE` did.
fn post(name: &str) {
    let definition = json_of(&std::fs::read_to_string(file(name)).unwrap());
    let (status, body) = ask(API, "POST", "/v2/apps", Some(&definition)).unwrap();
    assert_eq!(status, 201, "{name}: {body}");
}

/// The page of an instance, at its node's address and its first port.
fn page(instance: &Instance) -> Result<String, String> {
    let at = format!("{}:{}", instance.hostname, instance.ports[0].host);
    let (status, body) = ask(&at, "GET", "/", None).map_err(|error| format!("{at}: {error}"))?;
    match status {
        200 => Ok(body.trim().to_owned()),
        _ => Err(format!("{at}: {status} {body}")),
    }
}

fn settings(cluster: &Cluster) -> String {
    let text = "[registry.mirrors]\n\"192.168.58.201:5000\" = \"10.0.15.10:5000\"\n\
                [volume]\npool_size = \"2GiB\"\n";
    cluster.write("tandem.toml", text)
}

pub fn definitions_run_as_their_authors_wrote_them(cluster: &Cluster) {
    let settings = settings(cluster);
    let attributes = "slavetype:app,n1=disk:spinning,n2=disk:ssd";
    cluster.up(&["--config", &settings, "--attributes", attributes]);
    cluster.push_images();
    myapp(cluster);
    testweave(cluster);
    three_tiers::run_scale_and_move(cluster);
    cluster.down();
}

fn myapp(cluster: &Cluster) {
    post("myapp/start_myapp.json");
    for count in [1, 3] {
        cluster.settled();
        cluster.put("/myapp", &json!({ "instances": count }));
        let instances = cluster.running("/myapp", count);
        for instance in &instances {
            assert!((31000..=32000).contains(&instance.ports[0].host));
            wait_for("its own address", || {
                let answer = page(instance)?;
                (answer == instance.address.unwrap().to_string())
                    .then_some(())
                    .ok_or(answer)
            });
        }
    }
    let (status, table) = ask(API, "GET", "/v2/tasks", None).unwrap();
    assert_eq!(status, 200);
    assert_eq!(json_of(&table)["tasks"].as_array().unwrap().len(), 3);
    assert_eq!(
        cluster.app("/myapp")["ports"],
        json!([10000]),
        "its service port"
    );
    let (status, _) = ask(API, "DELETE", "/v2/apps/myapp", None).unwrap();
    assert_eq!(status, 200);
    wait_until("it to be gone", || {
        cluster.get("/v2/apps")["apps"] == json!([])
    });
}

fn testweave(cluster: &Cluster) {
    post("todomvc/testweave.json");
    let instance = cluster.running("/testweave", 1).remove(0);
    assert_eq!(instance.node, "n1", "where the disk spins");
    wait_for("its interfaces", || {
        let log = cluster.tandem(&["logs", "testweave"]);
        let ethwe = log
            .split_once("ethwe")
            .is_some_and(|(_, rest)| rest.contains("10.255.0.52/"));
        (ethwe && log.starts_with("apples"))
            .then_some(())
            .ok_or(log)
    });
    cluster.tandem(&["app", "remove", "testweave", "--yes", "--wait"]);
}
