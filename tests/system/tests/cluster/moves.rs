//! (H) A database and its data are one unit: moved while a client writes, and moved the way the
//! definitions' authors did it, by removing it and posting it for another node.

use crate::cluster::{API, Cluster, add_entry, ask, json_of, wait_for, wait_until};
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// The to-do application, on the node whose disk spins.
const PAGE: &str = "10.0.15.11:8000";

fn definition(name: &str) -> Value {
    let file = format!("{}/apps/todomvc/{name}", env!("CARGO_MANIFEST_DIR"));
    json_of(&std::fs::read_to_string(file).unwrap())
}

fn post(app: &Value) {
    let (status, body) = ask(API, "POST", "/v2/apps", Some(app)).unwrap();
    assert_eq!(status, 201, "{body}");
}

fn entries() -> Result<BTreeSet<String>, String> {
    let (status, body) = ask(PAGE, "GET", "/", None).map_err(|error| error.to_string())?;
    match status {
        200 => Ok(body.lines().skip(1).map(str::to_owned).collect()),
        _ => Err(format!("{status} {body}")),
    }
}

/// Waits until the application shows at least these.
fn all_there(acknowledged: &BTreeSet<String>) {
    wait_for("every acknowledged entry", || {
        let shown = entries()?;
        let missing: Vec<&String> = acknowledged.difference(&shown).collect();
        missing
            .is_empty()
            .then_some(())
            .ok_or(format!("missing: {missing:?}"))
    });
}

fn home(cluster: &Cluster) -> String {
    let volume = cluster.get("/tandem/v1/volumes/mongodata");
    volume["home"].as_str().unwrap_or_default().to_owned()
}

pub fn a_database_moves_with_its_data(cluster: &Cluster) {
    let settings = cluster.small_volumes();
    let attributes = "n1=disk:spinning,n2=disk:ssd";
    cluster.up(&["--config", &settings, "--attributes", attributes]);
    cluster.push_images();

    // Anywhere, so that a move is not against its constraints.
    let mut anywhere = definition("db.json");
    anywhere.as_object_mut().unwrap().remove("constraints");
    // On a crowded disk the database may take longer than usual to end by its signal.
    anywhere["taskKillGracePeriodSeconds"] = 30.into();
    post(&anywhere);
    post(&definition("app.json"));
    cluster.running("/mongo", 1);
    cluster.running("/app", 1);
    wait_until("the first entry", || add_entry(PAGE, "first"));
    assert!(cluster.refused(&["move", "/app", "n2"]).contains("volume"));

    let acknowledged = written_during(|| {
        for node in ["n2", "n3", "n1"] {
            cluster.tandem(&["move", "/mongo", node, "--wait"]);
            assert_eq!(home(cluster), node);
            assert_eq!(cluster.running("/mongo", 1)[0].node, node);
        }
    });
    println!(
        "{} entries acknowledged during three moves",
        acknowledged.len()
    );
    all_there(&acknowledged);

    // As its authors moved it.
    let (status, _) = ask(API, "DELETE", "/v2/apps/mongo", None).unwrap();
    assert_eq!(status, 200);
    let mut on_ssd = definition("db.json");
    on_ssd["constraints"][0][2] = "ssd".into();
    post(&on_ssd);
    wait_until("it to run where the disk is an SSD", || {
        let instances = cluster.instances("/mongo");
        home(cluster) == "n2"
            && instances
                .iter()
                .any(|i| i.node == "n2" && i.rung == "running")
    });
    all_there(&acknowledged);
    cluster.down();
}

/// What a client that writes without pause was told is there, while `deeds` are done.
fn written_during(deeds: impl FnOnce()) -> BTreeSet<String> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut acknowledged = BTreeSet::from(["first".to_owned()]);
            let mut number = 0;
            while !over.load(Ordering::SeqCst) {
                let entry = format!("entry-{number}");
                if add_entry(PAGE, &entry) {
                    acknowledged.insert(entry);
                    number += 1;
                }
            }
            acknowledged
        });
        // Also when a deed fails, or the writer would never end.
        let end = Ending(&over);
        deeds();
        drop(end);
        writer.join().unwrap()
    })
}

struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
