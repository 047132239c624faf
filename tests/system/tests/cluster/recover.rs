//! A node is lost with the newest data of a volume: what an operator can do about it, and what
//! becomes of that data when the node comes back. And a node that has no room.

use crate::cluster::{Cluster, Instance, image, sh, wait_for, wait_until, with};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// A program that waits, with the volume at `/data`.
fn keeper(volume: &str) -> Value {
    let mut app = with(
        image("base/tiny:1"),
        json!({ "cmd": "exec sleep 100000", "mem": 32 }),
    );
    app["container"]["docker"]["parameters"] = json!([
        { "key": "volume-driver", "value": "flocker" },
        { "key": "volume", "value": format!("{volume}:/data") },
    ]);
    app
}

fn up(cluster: &Cluster, pool: &str) {
    let settings = format!("[volume]\npool_size = \"{pool}\"\ndefault_size = \"256MiB\"\n");
    let settings = cluster.write("tandem.toml", &settings);
    cluster.up(&["--config", &settings]);
    cluster.push_images();
}

/// The instance of an app that runs on a node.
fn running_on(cluster: &Cluster, app: &str, node: &str) -> Instance {
    wait_for(&format!("{app} to run on {node}"), || {
        let instances = cluster.instances(app);
        let fits = |i: &&Instance| i.node == node && i.goal == "run" && i.rung == "running";
        let found = instances.iter().find(fits).cloned();
        found.ok_or_else(|| {
            String::from_utf8_lossy(&cluster.try_tandem(&["ps"]).stdout).into_owned()
        })
    })
}

fn volume(cluster: &Cluster, name: &str) -> Value {
    cluster.get(&format!("/tandem/v1/volumes/{name}"))
}

/// A node's copy of a volume, once it is all that its role says, and measured.
fn copy(cluster: &Cluster, name: &str, node: &str, role: &str) -> Value {
    wait_for(&format!("{role} data of {name} on {node}"), || {
        let volume = volume(cluster, name);
        let copies = volume["copies"].as_array().cloned().unwrap_or_default();
        // Its role is on disk before what it says is done.
        let done = |copy: &Value| role != "aside" || copy["name"].is_string();
        let fits = |copy: &Value| {
            copy["node"] == node && copy["role"] == role && copy["bytes"].is_u64() && done(copy)
        };
        copies.into_iter().find(fits).ok_or(volume.to_string())
    })
}

pub fn a_volume_goes_on_with_its_last_copy_when_its_node_is_lost(cluster: &Cluster) {
    up(cluster, "512MiB");
    cluster.put("/db", &keeper("pg"));
    let first = cluster.running("/db", 1).remove(0);
    let kept = first.node.clone();
    let lost = if kept == "n1" { "n2" } else { "n1" };
    cluster.within(&first, "echo before > /data/rows").unwrap();
    cluster.tandem(&["volume", "create", "lone", "--node", lost]);

    cluster.tandem(&["move", "/db", lost, "--wait"]);
    let second = running_on(cluster, "/db", lost);
    cluster
        .within(&second, "echo after >> /data/rows && sync")
        .unwrap();
    copy(cluster, "pg", &kept, "kept");
    copy(cluster, "lone", lost, "live");
    let refusal = cluster.refused(&["volume", "recover", "pg", "--yes"]);
    assert!(refusal.contains("is here"), "{refusal}");

    // Nobody starts the node again while its keeper is stopped.
    let supervisor = cluster.supervisor();
    supervisor.signal(Signal::SIGSTOP);
    cluster.init_of(lost).kill();
    wait_until("the node to be lost", || {
        cluster.get(&format!("/tandem/v1/nodes/{lost}"))["presence"] == "lost"
    });
    let before = volume(cluster, "lone");
    // Whoever looks is told: nobody replaces it, and nothing of it runs any more.
    assert_eq!(cluster.app("/db")["tasksRunning"], 0);
    let status = cluster.tandem(&["status"]);
    assert!(
        status.contains("/db stays there until it is back"),
        "{status}"
    );
    let ps = cluster.tandem(&["ps", "db"]);
    assert!(ps.contains("as last seen: its node is lost"), "{ps}");
    let refusal = cluster.refused(&["volume", "recover", "lone", "--yes"]);
    assert!(refusal.contains("no copy of volume lone"), "{refusal}");
    assert_eq!(volume(cluster, "lone"), before);
    let refusal = cluster.refused(&["volume", "recover", "pg"]);
    assert!(refusal.contains("--yes"), "{refusal}");
    assert_eq!(volume(cluster, "pg")["home"], lost);

    let done = cluster.try_tandem(&["volume", "recover", "pg", "--yes"]);
    let told = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{told}");
    for word in ["silent since", "has a copy, as it was at", "given up"] {
        assert!(told.contains(word), "{told}");
    }
    let third = running_on(cluster, "/db", &kept);
    assert_eq!(cluster.within(&third, "cat /data/rows").unwrap(), "before");
    cluster
        .within(&third, "echo again >> /data/rows && sync")
        .unwrap();

    supervisor.signal(Signal::SIGCONT);
    cluster.here(3);
    let aside = copy(cluster, "pg", lost, "aside");
    let name = aside["name"].as_str().unwrap().to_owned();
    assert!(name.starts_with("pg.g2."), "{name}");
    let listed = cluster.tandem(&["volumes"]);
    assert!(listed.contains(&format!("{lost} aside (")), "{listed}");
    let only = cluster.running("/db", 1).remove(0);
    assert_eq!(only.id, third.id);
    assert!(cluster.members(&format!("{lost}/{}", second.id)).is_empty());
    let rows = cluster.within(&third, "cat /data/rows").unwrap();
    assert_eq!(rows, "before\nagain");

    // What was written there is there, read-only, until it is named.
    let init = cluster.init_of(lost).pid;
    let state = cluster.path("state");
    let found = format!(
        "nsenter -t {init} -m -- find {} -path '*/aside/{name}/data/rows'",
        state.display()
    );
    let file = sh(&found).trim().to_owned();
    let enter = format!("nsenter -t {init} -m -- sh -c");
    assert_eq!(sh(&format!("{enter} 'cat {file}'")).trim(), "before\nafter");
    let written = sh(&format!(
        "{enter} 'echo no >> {file}' 2>/dev/null && echo written || echo refused"
    ));
    assert_eq!(written.trim(), "refused");
    let refusal = cluster.refused(&["move", "/db", lost]);
    assert!(refusal.contains(&name), "{refusal}");
    let named = format!("{lost}/{name}");
    cluster.tandem(&["volume", "remove", "pg", "--copy", &named, "--yes"]);
    wait_until("it to be removed", || {
        let copies = &volume(cluster, "pg")["copies"];
        copies.as_array().is_some_and(|copies| copies.len() == 1)
    });
    cluster.tandem(&["move", "/db", lost, "--wait"]);
    let last = running_on(cluster, "/db", lost);
    let rows = cluster.within(&last, "cat /data/rows").unwrap();
    assert_eq!(rows, "before\nagain");
    cluster.down();
}

pub fn a_move_to_a_node_without_room_is_refused_with_the_figures(cluster: &Cluster) {
    up(cluster, "512MiB");
    cluster.put("/db", &keeper("pg"));
    let db = cluster.running("/db", 1).remove(0);
    let full = if db.node == "n3" { "n2" } else { "n3" };
    cluster.tandem(&[
        "volume", "create", "filler", "--size", "450MiB", "--node", full,
    ]);
    cluster.put("/filler", &keeper("filler"));
    let filler = cluster.running("/filler", 1).remove(0);
    assert_eq!(filler.node, full);
    for (instance, mib) in [(&filler, 330), (&db, 150)] {
        let noise = format!("dd if=/dev/urandom of=/data/noise bs=1M count={mib} 2>&1 && sync");
        cluster.within(instance, &noise).unwrap();
    }
    wait_for("a refusal", || {
        let asked = cluster.try_tandem(&["move", "/db", full, "--dry-run"]);
        let volumes = || cluster.tandem(&["volumes"]);
        (!asked.status.success()).then_some(()).ok_or_else(volumes)
    });
    // Measured every few seconds, perhaps while it was still being filled.
    wait_for("what is needed, twice in the same words", || {
        let asked = ["move", "/db", full];
        let tried = cluster.refused(&[&asked[..], &["--dry-run"]].concat());
        let refusal = cluster.refused(&asked);
        let refused = format!("volume pg cannot move to {full}: ");
        let told = [&refused, " MiB free, 1", " MiB needed"]
            .iter()
            .all(|words| refusal.contains(words));
        (told && tried == refusal)
            .then_some(())
            .ok_or(tried + &refusal)
    });
    assert_eq!(cluster.running("/db", 1)[0].id, db.id);
    cluster.down();
}
