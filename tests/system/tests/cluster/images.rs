//! Images, what can be wrong with them and their apps, and the ways in.

use crate::cluster::{Cluster, ask, image, json_of, line, sh, wait_for, wait_until, with};
use serde_json::json;
use std::fs;
use std::time::{Duration, Instant, SystemTime};

/// A new user's first mistakes. None of them ends a daemon.
pub fn what_is_wrong_with_an_app_is_said_in_words(cluster: &Cluster) {
    cluster.up(&["--nodes", "2"]);
    cluster.push_images();
    let daemons = || ["master", "n1/agent", "n2/agent"].map(|group| cluster.daemon(group));
    let before = daemons();

    cluster.put("/misspelt", &image("10.0.15.10:5000/mypap:latest"));
    ps_tells(cluster, "misspelt", &["preparing", "mypap", "unknown"]);

    cluster.put("/big", &with(line("true"), json!({ "mem": 10_000_000 })));
    wait_for("the queue to say by how much, for each node", || {
        let queue = cluster.tandem(&["queue"]);
        let said = ["/big", "n1", "n2", "10000000"]
            .iter()
            .all(|word| queue.contains(word));
        said.then_some(()).ok_or(queue)
    });

    // Marathon takes any amount: a container that starts is the least.
    cluster.put(
        "/modest",
        &with(line("sleep 100000"), json!({ "mem": 0.001 })),
    );
    cluster.running("/modest", 1);

    cluster.put(
        "/absent",
        &with(
            image("base/tiny:1"),
            json!({ "args": ["/no/such/program"] }),
        ),
    );
    wait_for("the missing program to be named", || {
        let how = cluster.failure("/absent")?;
        how.contains("/no/such/program").then_some(()).ok_or(how)
    });

    let sick = json!({ "healthChecks": [{
        "protocol": "HTTP", "path": "/nothing-here", "portIndex": 0, "gracePeriodSeconds": 1, "delaySeconds": 0,
        "intervalSeconds": 1, "timeoutSeconds": 1, "maxConsecutiveFailures": 2,
    }]});
    let mut page = with(image("10.0.15.10:5000/myapp:latest"), sick);
    page["container"]["docker"]["portMappings"] = json!([{ "containerPort": 80, "hostPort": 0 }]);
    cluster.put("/sick", &page);
    let first = wait_for("the first", || {
        cluster.instances("/sick").first().cloned().ok_or("none")
    });
    wait_until("its replacement", || {
        cluster
            .instances("/sick")
            .iter()
            .any(|now| now.id != first.id)
    });
    assert!(
        !cluster
            .instances("/sick")
            .iter()
            .any(|i| i.health == "healthy")
    );
    page["healthChecks"][0]["path"] = json!("/");
    cluster.put("/sick?force=true", &page);
    wait_until("it to be well", || {
        cluster.running("/sick", 1)[0].health == "healthy"
    });

    builds(cluster);
    assert_eq!(daemons(), before, "the same daemons all along");
    cluster.down();
}

fn ps_tells(cluster: &Cluster, app: &str, words: &[&str]) {
    wait_for(&format!("ps to tell {words:?}"), || {
        let ps = cluster.tandem(&["ps", app]);
        words
            .iter()
            .all(|word| ps.contains(word))
            .then_some(())
            .ok_or(ps)
    });
}

/// An image of the user's own: wrong, then right, then run and looked into.
fn builds(cluster: &Cluster) {
    let context = cluster.path("work/own");
    fs::create_dir(&context).unwrap();
    let context = context.display().to_string();
    let dockerfile = format!("{context}/Dockerfile");
    fs::write(&dockerfile, "FROM base/tiny:1\nRUN echo building; false\n").unwrap();
    let complaint = cluster.refused(&["build", &context, "-t", "own:1", "--push"]);
    assert!(complaint.contains("false"), "{complaint}");
    fs::write(
        &dockerfile,
        "FROM base/tiny:1\nRUN echo built > /made\nCMD [\"sleep\", \"100000\"]\n",
    )
    .unwrap();
    cluster.tandem(&["build", &context, "-t", "own:1", "--push"]);
    assert!(cluster.tandem(&["images"]).contains("own"));
    cluster.put("/own", &image("own:1"));
    let own = cluster.running("/own", 1).remove(0);
    assert_eq!(
        cluster.tandem(&["exec", &own.id, "--", "cat", "/made"]),
        "built"
    );
    let ended = cluster.try_tandem(&["exec", &own.id, "--", "sh", "-c", "exit 5"]);
    assert_eq!(ended.status.code(), Some(5));
    assert_eq!(cluster.tandem(&["logs", "own"]), "");
    // Other people's tools get at it too.
    let digest = sh("skopeo inspect --tls-verify=false docker://10.0.15.10:5000/own:1");
    assert!(json_of(&digest)["Digest"].is_string());
}

pub fn ports_and_fixed_addresses_are_reached(cluster: &Cluster) {
    cluster.up(&[]);
    cluster.push_images();
    let mut page = image("10.0.15.10:5000/myapp:latest");
    page["container"]["docker"]["portMappings"] =
        json!([{ "containerPort": 80, "hostPort": 9080 }]);
    page["constraints"] = json!([["hostname", "LIKE", "10.0.15.11"]]);
    cluster.put("/front/page", &page);
    let page = cluster.running("/front/page", 1).remove(0);
    assert_eq!(
        (page.node.as_str(), page.hostname.as_str()),
        ("n1", "10.0.15.11")
    );
    assert_eq!(page.ports[0].host, 9080);
    let own = page.address.unwrap().to_string();
    wait_for("the published port", || {
        let (_, body) =
            ask("10.0.15.11:9080", "GET", "/", None).map_err(|error| error.to_string())?;
        (body.trim() == own).then_some(()).ok_or(body)
    });

    let tiny = |address: &str, node: &str| {
        let more = json!({
            "cmd": "exec sleep 100000", "env": { "WEAVE_CIDR": address },
            "constraints": [["hostname", "LIKE", node]],
        });
        with(image("base/tiny:1"), more)
    };
    // Masks as wide as users wrote them; one of 8 bits covers the machine's own network as well.
    cluster.put("/fixed", &tiny("10.255.0.52/24", "10.0.15.12"));
    cluster.put("/other", &tiny("10.255.0.53/8", "10.0.15.13"));
    let fixed = cluster.running("/fixed", 1).remove(0);
    let other = cluster.running("/other", 1).remove(0);
    for (to, expected) in [
        ("http://10.0.15.11:9080/", &own),
        ("http://page.front.tandem.local/", &own),
        ("http://page/", &own),
    ] {
        wait_for(to, || {
            let answer = cluster.within(&fixed, &format!("curl -sSf -m 3 {to}"))?;
            (answer == *expected).then_some(()).ok_or(answer)
        });
    }
    let interface = cluster.within(&fixed, "ip -4 address show ethwe").unwrap();
    assert!(interface.contains("10.255.0.52/"), "{interface}");
    wait_for("the fixed address to answer", || {
        cluster.within(&other, "ping -c 1 -W 1 10.255.0.52")
    });

    // The address follows its app to another node.
    cluster.put("/fixed", &tiny("10.255.0.52/24", "10.0.15.11"));
    wait_until("the move", || cluster.running("/fixed", 1)[0].node == "n1");
    wait_for("the fixed address to answer elsewhere", || {
        cluster.within(&other, "ping -c 1 -W 1 10.255.0.52")
    });

    // Without its app the port is closed.
    cluster.tandem(&["app", "remove", "front/page", "--yes", "--wait"]);
    wait_until("the port to close", || {
        ask("10.0.15.11:9080", "GET", "/", None).is_err()
    });
    cluster.down();
}

/// On a disk that is always too full.
pub fn an_image_goes_when_the_disk_asks_for_it_and_never_one_in_use(cluster: &Cluster) {
    let settings = "[agent]\nimages_high = 0\nimages_low = 0\n";
    let settings = cluster.write("tandem.toml", settings);
    cluster.up(&["--nodes", "1", "--config", &settings]);
    cluster.push_images();
    let sleeps = json!({ "cmd": "exec sleep 100000" });
    cluster.put("/stays", &with(image("base/tiny:1"), sleeps));
    let stays = cluster.running("/stays", 1);
    let processes = cluster.processes_of(&stays);
    let page = image("10.0.15.10:5000/myapp:latest");
    // Its layers are those of the other and more; whole or not at all, also when the agent dies.
    for kill in [false, true] {
        cluster.put("/goes", &page);
        cluster.running("/goes", 1);
        assert_eq!(on_n1(cluster), ["base/tiny:1", "myapp:latest"]);
        let agent = cluster.daemon("n1/agent");
        cluster.tandem(&["app", "remove", "goes", "--yes", "--wait"]);
        if kill {
            let seen = is_seen_going(cluster);
            println!("killed while the image went: {seen}");
            agent.kill();
        }
        wait_for("the image to go", || {
            an_hour_passes(cluster);
            let images = on_n1(cluster);
            (images == ["base/tiny:1"])
                .then_some(())
                .ok_or_else(|| images.join(", "))
        });
    }
    assert_eq!(cluster.processes_of(&stays), processes);
    cluster.tandem(&["scale", "stays", "2", "--wait"]);
    cluster.running("/stays", 2);
    cluster.put("/goes", &page);
    cluster.running("/goes", 1);
    cluster.down();
}

/// Whether files of the image are seen while they are removed: they may go too fast.
fn is_seen_going(cluster: &Cluster) -> bool {
    let gone = cluster.path("state/nodes/n1/agent/images/gone");
    let end = Instant::now() + Duration::from_secs(60);
    while Instant::now() < end && on_n1(cluster) != ["base/tiny:1"] {
        an_hour_passes(cluster);
        // The name goes first; no sleep, for all of it takes milliseconds.
        for _ in 0..1000 {
            if fs::read_dir(&gone).unwrap().next().is_some() {
                return true;
            }
        }
    }
    fs::read_dir(&gone).unwrap().next().is_some()
}

/// Makes every use of an image so far one of an hour ago, or more.
fn an_hour_passes(cluster: &Cluster) {
    let images = cluster.path("state/nodes/n1/agent/images/images");
    for entry in fs::read_dir(images).unwrap() {
        // It may be on its way out.
        if let Ok(file) = fs::File::open(entry.unwrap().path()) {
            let before = SystemTime::now() - Duration::from_secs(3600);
            file.set_modified(before).unwrap();
        }
    }
}

/// The images in the node's store.
fn on_n1(cluster: &Cluster) -> Vec<String> {
    let names = fs::read_dir(cluster.path("state/nodes/n1/agent/images/names")).unwrap();
    let name = |entry: std::io::Result<fs::DirEntry>| {
        // It may be on its way out.
        let text = fs::read(entry.unwrap().path()).ok()?;
        let name: serde_json::Value = serde_json::from_slice(&text).ok()?;
        let words = name["name"].as_str()?.rsplitn(3, '/');
        let words: Vec<&str> = words.collect();
        Some(match words[..] {
            [last, "library" | "10.0.15.10:5000", ..] => last.to_owned(),
            [last, folder, ..] => format!("{folder}/{last}"),
            _ => words.concat(),
        })
    };
    let mut names: Vec<String> = names.filter_map(name).collect();
    names.sort();
    names
}
