//! Things die, alone and together, and what must live on does.

use crate::cluster::{
    API, Cluster, Instance, Process, ask, image, line, sh, wait_for, wait_until, with,
};
use nix::sys::signal::Signal;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const AGENT: &str = "n1/agent";
const MASTER: &str = "master";
const SHIMS: &str = "n1/shims";
/// Of so many puts of the client's one is of an app that runs, up to so many.
const EVERY: u32 = 10;
const KEPT_MAX: usize = 20;

/// (B) Each alone and every pair, the containers of one node running and a client putting apps all
/// the while. Their keepers are stopped meanwhile, so that nothing is back before the moment has
/// passed in which a container ends.
pub fn agent_master_and_shim_may_die_at_any_moment(cluster: &Cluster) {
    cluster.up(&["--nodes", "1"]);
    let ticker = line("n=0; while :; do n=$((n+1)); echo tick $n; sleep 0.05; done");
    cluster.put("/steady", &with(ticker, json!({ "instances": 2 })));
    let steady = cluster.running("/steady", 2);
    let containers = cluster.processes_of(&steady);
    assert!(containers.len() >= 2, "{containers:?}");
    let first_of =
        |instance: &Instance| cluster.processes_of(std::slice::from_ref(instance))[0].clone();
    let inits: Vec<Process> = steady.iter().map(first_of).collect();
    let client = Client::start();
    let followed = cluster.path("followed");
    let mut follower = cluster.lasting(&["logs", "--follow", "steady"]);
    let follower = follower.stdout(fs::File::create(&followed).unwrap());
    let mut follower = follower.spawn().unwrap();

    let rounds: [&[&str]; 7] = [
        &[AGENT],
        &[MASTER],
        &[SHIMS],
        &[AGENT, MASTER],
        &[AGENT, SHIMS],
        &[MASTER, SHIMS],
        &[AGENT, MASTER, SHIMS],
    ];
    for (round, victims) in rounds.iter().enumerate() {
        let app = format!("/ending-{round}");
        let told = cluster.path("work").join(format!("end-{round}"));
        let waits = format!(
            "while [ ! -e {} ]; do sleep 0.02; done; echo last words; exit 7",
            told.display()
        );
        cluster.put(
            &app,
            &with(
                line(&waits),
                json!({ "backoffSeconds": 3600, "maxLaunchDelaySeconds": 3600 }),
            ),
        );
        let ending = cluster.processes_of(&cluster.running(&app, 1));

        let keepers = [cluster.supervisor(), cluster.init_of("n1")];
        keepers
            .iter()
            .for_each(|keeper| keeper.signal(Signal::SIGSTOP));
        let dead: Vec<Process> = victims
            .iter()
            .flat_map(|group| cluster.members(group))
            .collect();
        dead.iter().for_each(Process::kill);
        wait_until("the victims to be dead", || {
            !dead.iter().any(Process::lives)
        });
        fs::write(&told, "").unwrap();
        wait_until("the container to end", || {
            !ending.iter().any(Process::lives)
        });
        keepers
            .iter()
            .for_each(|keeper| keeper.signal(Signal::SIGCONT));

        cluster.here(1);
        let how = wait_for("the end to be told", || cluster.failure(&app));
        let unseen = victims.contains(&AGENT) && victims.contains(&SHIMS);
        let seen = how.starts_with("Container exited with status 7");
        assert!(
            seen || (unseen
                && how.starts_with("Container ended while nobody could see its status")),
            "{victims:?}: {how}"
        );
        // What nobody had read yet went with the container.
        assert!(unseen || how.contains("last words"), "{victims:?}: {how}");
        println!("{victims:?}: {how}");
        assert!(
            inits.iter().all(Process::lives),
            "{victims:?}: a container died"
        );
    }

    let Acknowledged { changed, running } = client.stop();
    assert!(
        changed.len() == 40 && running.len() > 5,
        "the client hardly got through: {changed:?} {running:?}"
    );
    for (id, n) in &changed {
        // What was put after it without an answer may be there instead.
        let there = cluster.app(id)["labels"]["n"]
            .as_str()
            .unwrap()
            .parse::<u32>();
        assert!(there.unwrap() >= *n, "{id} was acknowledged as {n}");
    }
    for id in &running {
        let instances = cluster.running(id, 1);
        assert_eq!(cluster.processes_of(&instances).len(), 1, "{id}");
    }
    println!(
        "{} apps acknowledged, all there, and {} running",
        changed.len(),
        running.len()
    );
    let now = cluster.running("/steady", 2);
    let inits_now: Vec<Process> = now.iter().map(first_of).collect();
    assert_eq!(inits_now, inits, "the same processes all along");
    for instance in &now {
        let ticks = ticks_are_whole(instance);
        let followed = || {
            let text = fs::read_to_string(&followed).unwrap();
            let of_it = format!("{} | ", instance.id);
            let lines = text.lines().filter_map(|line| line.strip_prefix(&of_it));
            lines.map(str::to_owned).collect::<Vec<String>>()
        };
        wait_until("the follower to catch up", || followed().len() >= ticks);
        let told = followed();
        let wanted = (1..=told.len()).map(|number| format!("tick {number}"));
        assert!(told.iter().cloned().eq(wanted), "followed: {told:?}");
    }
    follower.kill().unwrap();
    follower.wait().unwrap();
    cluster.down();
}

/// Its log has every line that it wrote, once and in order: so many.
fn ticks_are_whole(instance: &Instance) -> usize {
    let path = format!("/tandem/v1/instances/{}/log?tail=100000", instance.id);
    let (status, body) = ask(API, "GET", &path, None).unwrap();
    assert_eq!(status, 200, "{body}");
    for (number, row) in body.lines().enumerate() {
        let row: serde_json::Value = serde_json::from_str(row).unwrap();
        assert_eq!(
            row["text"],
            format!("tick {}", number + 1),
            "{}",
            instance.id
        );
    }
    assert!(body.lines().count() > 20, "{body}");
    body.lines().count()
}

/// A client that puts one app after the other, and remembers those that it got a good answer for.
/// Most of them are put again and again; every so often comes one that is to run, and stays.
struct Client {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Acknowledged>,
}

#[derive(Default)]
struct Acknowledged {
    /// The newest label of each that was changed.
    changed: BTreeMap<String, u32>,
    running: Vec<String>,
}

impl Client {
    fn start() -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let told = over.clone();
        let thread = std::thread::spawn(move || {
            let put = |id: &str, app| {
                let path = format!("/v2/apps{id}?force=true");
                matches!(ask(API, "PUT", &path, Some(&app)), Ok((200 | 201, _)))
            };
            let mut acknowledged = Acknowledged::default();
            for n in 0.. {
                if told.load(Ordering::Relaxed) {
                    break;
                }
                // Ids come again, and the later put has to win.
                let id = format!("/put/app-{}", n % 40);
                let labels = json!({ "n": n.to_string() });
                let app = with(line("true"), json!({ "instances": 0, "labels": labels }));
                if put(&id, app) {
                    acknowledged.changed.insert(id, n);
                }
                let id = format!("/kept/app-{n}");
                let due = n % EVERY == 0 && acknowledged.running.len() < KEPT_MAX;
                if due && put(&id, line("exec sleep 100000")) {
                    acknowledged.running.push(id);
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            acknowledged
        });
        Client { over, thread }
    }

    fn stop(self) -> Acknowledged {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// (C)
pub fn everything_may_die_and_down_leaves_nothing(cluster: &Cluster) {
    let before = cluster.listing();
    let settings = cluster.small_volumes();
    let up = ["--config", settings.as_str()];
    cluster.up(&up);
    cluster.push_images();
    cluster.put(
        "/command",
        &with(line("exec sleep 100000"), json!({ "instances": 3 })),
    );
    let published = json!({ "instances": 2, "portDefinitions": [{ "port": 0 }] });
    cluster.put(
        "/page",
        &with(image("10.0.15.10:5000/myapp:latest"), published),
    );
    let database = |volume: &str| {
        let mut app = image("mongo");
        app["container"]["volumes"] = json!([{
            "hostPath": format!("/flocker/{volume}"), "containerPath": "/data", "mode": "RW",
        }]);
        app
    };
    cluster.put("/database", &database("data"));
    // Writes what it has when it is asked to end, and not before.
    let saves = json!({ "cmd": "exec redis-server --port 27017 --protected-mode no --dir /data" });
    cluster.put("/saver", &with(database("saved"), saves));
    let apps = [
        ("/command", 3),
        ("/page", 2),
        ("/database", 1),
        ("/saver", 1),
    ];
    let mut written = Vec::new();
    for round in 1..=2 {
        let before: BTreeSet<String> = apps
            .iter()
            .flat_map(|(id, count)| cluster.running(id, *count))
            .map(|instance| instance.id)
            .collect();
        written.push(format!("row-{round}"));
        write_row(cluster, "/database", &written);
        let supervisor = cluster.supervisor();
        let everything = cluster.members("");
        assert!(everything.len() > 15, "{everything:?}");
        supervisor.kill();
        everything.iter().for_each(Process::kill);
        wait_until("everything to be dead", || {
            !supervisor.lives() && !everything.iter().any(Process::lives)
        });
        cluster.up(&up);
        for (id, count) in apps {
            // The master tells of the dead until their nodes have told it.
            let instances = wait_for("others to run", || {
                let now = cluster.running(id, count);
                let anew = now.iter().all(|instance| !before.contains(&instance.id));
                anew.then_some(now).ok_or("those before")
            });
            assert!(
                !cluster.processes_of(&instances).is_empty(),
                "round {round}"
            );
            if id == "/page" {
                instances
                    .iter()
                    .for_each(|instance| answers(cluster, instance));
            }
        }
        rows_are(cluster, "/database", &written);
        // Nothing runs twice.
        let shells = cluster
            .members("")
            .iter()
            .filter(|process| process.command().starts_with("sleep 100000"))
            .count();
        assert_eq!(shells, 3, "round {round}");
    }
    let saved = ["kept by its stop signal".to_owned()];
    write_row(cluster, "/saver", &saved);
    cluster.down();
    cluster.is_as(&before);

    // The same, without a living cluster to stop.
    cluster.up(&up);
    for (id, count) in apps {
        cluster.running(id, count);
    }
    rows_are(cluster, "/database", &written);
    rows_are(cluster, "/saver", &saved);
    cluster.supervisor().kill();
    cluster.down();
    cluster.is_as(&before);
    cluster.tandem(&["down", "--purge", "--yes"]);
    assert!(!cluster.path("state").exists());
}

/// Adds the last of `rows` to a database.
fn write_row(cluster: &Cluster, app: &str, rows: &[String]) {
    let add = format!(
        "redis-cli -e -p 27017 rpush rows '{}'",
        rows[rows.len() - 1]
    );
    wait_for("the database to take a row", || {
        let length = cluster.within(&cluster.running(app, 1)[0], &add)?;
        (length == rows.len().to_string())
            .then_some(())
            .ok_or(length)
    });
}

fn rows_are(cluster: &Cluster, app: &str, rows: &[String]) {
    wait_for("the rows that were written", || {
        let database = &cluster.running(app, 1)[0];
        let found = cluster.within(database, "redis-cli -e -p 27017 lrange rows 0 -1")?;
        (found == rows.join("\n")).then_some(()).ok_or(found)
    });
}

/// It answers with its own address, seen from the machine.
fn answers(cluster: &Cluster, instance: &Instance) {
    let address = instance.address.unwrap();
    wait_for(&format!("{address} to answer"), || {
        let answer =
            ask(&format!("{address}:80"), "GET", "/", None).map_err(|error| error.to_string())?;
        let table = || {
            format!(
                "{answer:?}\n{}",
                String::from_utf8_lossy(&cluster.try_tandem(&["ps"]).stdout)
            )
        };
        (answer.1.trim() == address.to_string())
            .then_some(())
            .ok_or_else(table)
    });
}

/// (D) The machine that died stays away, as long as its keeper is stopped.
pub fn a_dead_node_is_replaced_and_comes_back(cluster: &Cluster) {
    cluster.up_with_timeout(5, &[]);
    cluster.push_images();
    let at = |operator: &str| json!({ "constraints": [["hostname", operator, "10.0.15.12"]] });
    cluster.put(
        "/asks",
        &with(
            with(image("base/tiny:1"), at("LIKE")),
            json!({ "cmd": "exec sleep 100000" }),
        ),
    );
    cluster.put(
        "/shop/page",
        &with(image("10.0.15.10:5000/myapp:latest"), at("UNLIKE")),
    );
    let asks = cluster.running("/asks", 1).remove(0);
    let fetch = || cluster.within(&asks, "curl -sSf -m 1 http://page.shop.tandem.local/");
    for round in 1..=2 {
        let first = cluster.running("/shop/page", 1).remove(0);
        let old = first.address.unwrap().to_string();
        wait_for("the page by name", || {
            let answer = fetch()?;
            (answer == old).then_some(()).ok_or(answer)
        });
        let supervisor = cluster.supervisor();
        supervisor.signal(Signal::SIGSTOP);
        let killed = Instant::now();
        cluster.init_of(&first.node).kill();
        let new = wait_for("the page from elsewhere", || {
            let answer = fetch()?;
            (answer != old).then_some(answer.clone()).ok_or(answer)
        });
        println!(
            "round {round}: answered elsewhere {:.1} s after {} died",
            killed.elapsed().as_secs_f32(),
            first.node
        );
        supervisor.signal(Signal::SIGCONT);
        cluster.here(3);
        let now = cluster.running("/shop/page", 1).remove(0);
        assert_eq!(now.address.unwrap().to_string(), new);
        assert_ne!(now.node, first.node);
        // Nothing runs twice, and only the one answers.
        let servers = sh(
            "cat /sys/fs/cgroup/*/tandem/n*/*/cgroup.procs | sort -u | while read p; do tr '\\0' ' ' < /proc/$p/cmdline; echo; done",
        );
        assert_eq!(servers.matches("httpd -f -p 80").count(), 1, "{servers}");
        assert_eq!(fetch().unwrap(), new);
        assert!(
            ask(&format!("{old}:80"), "GET", "/", None).is_err(),
            "{old} still answers"
        );
    }
    cluster.down();
}
