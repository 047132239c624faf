//! (H) Three tiers as their authors ran them: deployed twice, reached by name, scaled, and the
//! database moved with its data, by another PUT and by DELETE and PUT.

use crate::cluster::{API, Cluster, add_entry, ask, wait_for, wait_until};
use std::collections::BTreeSet;

const NGINX: &str = "/application/web/nginx";
const NODEAPP: &str = "/application/app/nodeapp";
const MONGO: &str = "/application/db/mongo";

/// On the cluster of the other wild definitions.
pub fn run_scale_and_move(cluster: &Cluster) {
    let create = ["volume", "create", "mongo", "--size", "1GB"];
    assert_eq!(cluster.tandem(&create), "mongo created, 1 GiB");
    assert_eq!(cluster.tandem(&create), "mongo unchanged, 1 GiB");

    let first: [&[&str]; 3] = [
        &["instances=1", "db_server=10.0.15.12"],
        &["instances=2"],
        &["instances=1"],
    ];
    let all = || [MONGO, NODEAPP, NGINX].into_iter().zip(first);
    for (id, variables) in all() {
        deploy(cluster, id, variables);
    }
    let front = front(cluster);
    assert_eq!(home(cluster), "n2");
    wait_until("the first entry", || add_entry(&front, "first"));

    let before = tasks(cluster);
    for (id, variables) in all() {
        let said = deploy(cluster, id, variables);
        assert!(said.contains("unchanged"), "{id}: {said}");
    }
    assert_eq!(tasks(cluster), before, "twice in a row changes nothing");
    let deployments = cluster.get("/v2/deployments").to_string();
    assert!(!deployments.contains("/application"), "{deployments}");

    deploy(cluster, NODEAPP, &["instances=3"]);
    three_are_found(cluster);
    // `tag=NAME` finds its log.
    let logs = cluster.try_tandem(&["logs", "--tag", "nginx"]);
    assert!(logs.status.success());

    // While it runs.
    deploy(cluster, MONGO, &["instances=1", "db_server=10.0.15.13"]);
    moved(cluster, &front, "n3", &["first"]);
    // As it was done before moves.
    wait_until("the second entry", || add_entry(&front, "second"));
    let (status, body) = ask(API, "DELETE", &format!("/v2/apps{MONGO}"), None).unwrap();
    assert_eq!(status, 200, "{body}");
    deploy(cluster, MONGO, &["instances=1", "db_server=10.0.15.12"]);
    moved(cluster, &front, "n2", &["first", "second"]);

    let now = tasks(cluster);
    assert!(
        now[1].is_superset(&before[1]) && now[2] == before[2],
        "only the database moved: {now:?}"
    );
}

/// By the bare name, seen from the front; each shows the entry that one of them added.
fn three_are_found(cluster: &Cluster) {
    let front = cluster.running(NGINX, 1).remove(0);
    for instance in cluster.running(NODEAPP, 3) {
        let address = instance.address.unwrap().to_string();
        wait_for(&format!("{address} by name"), || {
            let names = cluster.within(&front, "nslookup -type=a nodeapp.weave.local 10.32.0.1")?;
            names.contains(&address).then_some(()).ok_or(names)
        });
        let ask = format!("curl -sSf -m 5 --resolve nodeapp:3000:{address} http://nodeapp:3000/");
        wait_for(&format!("{address} to answer"), || {
            let page = cluster.within(&front, &ask)?;
            let wanted = [format!("from {address}"), "first".into()];
            (shown(&page) == wanted).then_some(()).ok_or(page)
        });
    }
}

/// Where the page is published.
fn front(cluster: &Cluster) -> String {
    format!("{}:9080", cluster.running(NGINX, 1)[0].hostname)
}

/// The database runs there and what was written is shown.
fn moved(cluster: &Cluster, front: &str, node: &str, entries: &[&str]) {
    wait_for(&format!("the database on {node}"), || {
        let instances = cluster.running(MONGO, 1);
        let there = instances[0].node == node && home(cluster) == node;
        there.then_some(()).ok_or(instances[0].node.clone())
    });
    wait_for("what was written", || {
        let page = page(front)?;
        (page[1..] == *entries).then_some(()).ok_or(page.join(" "))
    });
}

fn home(cluster: &Cluster) -> String {
    let volume = cluster.get("/tandem/v1/volumes/mongo");
    volume["home"].as_str().unwrap_or_default().to_owned()
}

/// Of database, application and front.
fn tasks(cluster: &Cluster) -> [BTreeSet<String>; 3] {
    [MONGO, NODEAPP, NGINX].map(|id| {
        let instances = cluster.instances(id);
        instances
            .into_iter()
            .map(|instance| instance.task)
            .collect()
    })
}

/// Which instance of the application answers, then the entries.
fn page(front: &str) -> Result<Vec<String>, String> {
    let (status, body) = ask(front, "GET", "/", None).map_err(|error| error.to_string())?;
    match status {
        200 if !body.is_empty() => Ok(shown(&body)),
        _ => Err(format!("{status} {body}")),
    }
}

/// The lines of a page. An entry is there twice when its first acknowledgement came too late.
fn shown(page: &str) -> Vec<String> {
    let mut lines: Vec<String> = page.lines().map(str::to_owned).collect();
    lines.dedup();
    lines
}

/// As the authors' scripts did, with their variables and these.
fn deploy(cluster: &Cluster, id: &str, variables: &[&str]) -> String {
    let id = id.trim_start_matches('/');
    let (group, app) = id.rsplit_once('/').unwrap();
    let file = format!(
        "{}/apps/three-tier/{app}.json.j2",
        env!("CARGO_MANIFEST_DIR")
    );
    let own = [format!("app_group={group}"), format!("app_id={app}")];
    let common = [
        "docker_registry=10.0.15.10:5000",
        "tag=1",
        "cpus=0.1",
        "memory=128",
        "slavetype=app",
    ];
    let all = own.iter().map(String::as_str).chain(common);
    let mut words = vec!["deploy", &file, "--id", id, "--wait"];
    words.extend(all.chain(variables.iter().copied()).flat_map(|v| ["-e", v]));
    cluster.tandem(&words)
}
