//! (H) Definitions that users wrote for Marathon, deployed as they are; `tests/system/apps` has
//! them. What their authors did with them is done here, save HAProxy and the web interface.

use crate::cluster::{API, Cluster, Instance, ask, json_of, wait_for, wait_until};
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
    let text = "[registry.mirrors]\n\"192.168.58.201:5000\" = \"10.0.15.10:5000\"\n";
    cluster.write("tandem.toml", text)
}

pub fn definitions_run_as_their_authors_wrote_them(cluster: &Cluster) {
    let settings = settings(cluster);
    let attributes = "slavetype:app,n1=disk:spinning,n2=disk:ssd";
    cluster.up(&["--config", &settings, "--attributes", attributes]);
    cluster.push_images();
    myapp(cluster);
    testweave(cluster);
    three_tiers(cluster);
    cluster.down();
}

fn myapp(cluster: &Cluster) {
    post("myapp/start_myapp.json");
    for count in [1, 3] {
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

/// Nginx passes on to the application, by its bare name.
fn three_tiers(cluster: &Cluster) {
    let (nodeapp, nginx) = ("/application/app/nodeapp", "/application/web/nginx");
    deploy(cluster, "nodeapp", "application/app", 2);
    deploy(cluster, "nginx", "application/web", 1);
    let tasks = |id: &str| {
        cluster
            .instances(id)
            .into_iter()
            .map(|i| i.task)
            .collect::<Vec<_>>()
    };
    cluster.running(nodeapp, 2);
    let front = cluster.running(nginx, 1).remove(0);
    let before = [tasks(nodeapp), tasks(nginx)];
    assert!(deploy(cluster, "nodeapp", "application/app", 2).contains("unchanged"));
    assert!(deploy(cluster, "nginx", "application/web", 1).contains("unchanged"));
    assert_eq!(
        [tasks(nodeapp), tasks(nginx)],
        before,
        "twice in a row changes nothing"
    );

    // The database is the one tier that is not there, and the one that is missed.
    let through = || {
        ask(&format!("{}:9080", front.hostname), "GET", "/", None)
            .map_err(|error| error.to_string())
    };
    wait_for("a page from the application", || {
        let (status, body) = through()?;
        (status == 503 && body.contains("the database does not answer"))
            .then_some(())
            .ok_or(body)
    });
    deploy(cluster, "nodeapp", "application/app", 3);
    cluster.running(nodeapp, 3);
    let asker = front.clone();
    wait_for("three to be found", || {
        let names = cluster.within(&asker, "nslookup -type=a nodeapp.weave.local 10.32.0.1")?;
        (names.matches("10.3").count() > 3)
            .then_some(())
            .ok_or(names)
    });
    // `tag=NAME` finds its log.
    assert!(
        cluster
            .try_tandem(&["logs", "--tag", "nginx"])
            .status
            .success()
    );
}

fn deploy(cluster: &Cluster, app: &str, group: &str, instances: u32) -> String {
    let file = file(&format!("three-tier/{app}.json.j2"));
    let id = format!("{group}/{app}");
    let variables = [
        "docker_registry=10.0.15.10:5000".to_owned(),
        format!("app_group={group}"),
        format!("app_id={app}"),
        "tag=1".to_owned(),
        format!("instances={instances}"),
        "cpus=0.1".to_owned(),
        "memory=128".to_owned(),
        "slavetype=app".to_owned(),
    ];
    let mut words = vec!["deploy", &file, "--id", &id, "--wait"];
    words.extend(
        variables
            .iter()
            .flat_map(|variable| ["-e", variable.as_str()]),
    );
    cluster.tandem(&words)
}
