//! A new user's first ten minutes: what is wrong is said in words that help, and nothing else
//! suffers. What is wrong with images is in `images` and `registry`.

use crate::cluster::{API, Cluster, ask, image, line, sh, wait_for, wait_until, with};
use serde_json::json;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command};

/// What `up` runs, with the Debian packages that have it.
const PROGRAMS: [(&str, &str); 5] = [
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("docker-registry", "docker-registry"),
    ("conntrack", "conntrack"),
    ("mkfs.btrfs", "btrfs-progs"),
];

pub fn up_names_what_is_in_its_way_and_leaves_it_alone(cluster: &Cluster) {
    let before = cluster.listing();
    let up = ["up", "--detach"];
    let refused = |what: &[&str]| {
        let complaint = cluster.refused(&up);
        let told = what.iter().all(|word| complaint.contains(word));
        assert!(
            told && complaint.contains("hint: "),
            "{what:?}: {complaint}"
        );
    };

    let own = format!("(process {})", std::process::id());
    for port in [8080, 5000, 4433] {
        let foreign = TcpListener::bind(("0.0.0.0", port)).unwrap();
        refused(&[&format!("port {port} is taken by "), &own]);
        drop(foreign);
    }
    for (subnet, route) in [
        ("10.0.15.0/24", "10.0.0.0/16 via 192.0.2.1 dev wan0"),
        ("10.32.0.0/12", "10.40.0.0/16 via 192.0.2.1 dev wan0"),
    ] {
        sh(&format!("ip route add {route}"));
        refused(&[&format!("{subnet} is already routed: {route}")]);
        sh(&format!("ip route del {route}"));
    }
    packages_are_named(cluster);

    // Reading stays allowed, as the program may lie where only root may go.
    let mut nobody = Command::new("setpriv");
    nobody.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    nobody.args([
        "--inh-caps=+dac_read_search",
        "--ambient-caps=+dac_read_search",
    ]);
    let output = nobody.arg(Cluster::program()).args(up).output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && complaint.contains("needs root") && complaint.contains("sudo"),
        "{complaint}"
    );
    cluster.is_as(&before);

    // On the machine a node's port is nobody's business.
    let foreign = TcpListener::bind("0.0.0.0:9080").unwrap();
    cluster.up(&["--nodes", "1"]);
    drop(foreign);
    cluster.down();
    cluster.is_as(&before);
}

/// With a PATH that lacks one program at a time.
fn packages_are_named(cluster: &Cluster) {
    let programs = cluster.path("programs");
    fs::create_dir(&programs).unwrap();
    let path = std::env::var("PATH").unwrap();
    for (program, _) in PROGRAMS {
        let mut all = std::env::split_paths(&path).map(|dir| dir.join(program));
        let found = all.find(|file| file.exists()).unwrap();
        symlink(found, programs.join(program)).unwrap();
    }
    let without = |arguments: &[&str]| {
        let mut command = cluster.command(arguments);
        let output = command.env("PATH", &programs).output().unwrap();
        assert!(!output.status.success(), "{arguments:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    for (program, package) in PROGRAMS {
        let file = programs.join(program);
        let target = fs::read_link(&file).unwrap();
        fs::remove_file(&file).unwrap();
        let complaint = without(&["up", "--detach"]);
        // Where Debian's plain `su` does not look, it is installed none the less.
        let told = match Path::new("/usr/sbin").join(program).exists() {
            true => format!("{program} is in /usr/sbin, which is not in PATH"),
            false => format!("apt-get install --no-install-recommends {package}"),
        };
        assert!(complaint.contains(&told), "{complaint}");
        symlink(target, file).unwrap();
    }
    fs::write(cluster.path("Dockerfile"), "FROM scratch\n").unwrap();
    let context = cluster.path("").display().to_string();
    let complaint = without(&["build", &context, "-t", "own:1"]);
    assert!(complaint.contains("buildah"), "{complaint}");
}

pub fn mistakes_are_told_and_no_daemon_minds(cluster: &Cluster) {
    cluster.up(&["--nodes", "2", "--config", &cluster.small_volumes()]);
    cluster.push_images();
    let daemons = || ["master", "n1/agent", "n2/agent"].map(|group| cluster.daemon(group));
    let before = daemons();
    browsers_get_a_page(cluster);
    definitions_that_are_none(cluster);
    no_logs_yet(cluster);
    volumes_in_use(cluster);
    ports_of_others(cluster);
    assert_eq!(daemons(), before, "the same daemons all along");
    cluster.down();
}

fn browsers_get_a_page(cluster: &Cluster) {
    let page = || ask(API, "GET", "/", None).unwrap();
    let (status, body) = page();
    assert_eq!(status, 200);
    assert!(body.starts_with("<!doctype html>"), "{body}");
    assert!(body.contains("tandem deploy FILE"), "{body}");
    let tricky = with(line("sleep 100000 # <b>"), json!({ "instances": 0 }));
    cluster.put("/shop/web", &tricky);
    let (_, body) = page();
    let listed = ["/shop/web", "0 of 0", "&lt;b&gt;", "tandem ps"];
    assert!(listed.iter().all(|word| body.contains(word)), "{body}");
}

fn definitions_that_are_none(cluster: &Cluster) {
    let text = "{ \"id\": \"broken\",\n  \"cmd\": \"true\",\n  \"instances\": }\n";
    let broken = cluster.write("broken.json", text);
    let complaint = cluster.refused(&["deploy", &broken]);
    assert!(
        complaint.contains("broken.json") && complaint.contains("line 3"),
        "{complaint}"
    );
    let put = |body: &str| {
        let url = format!("http://{API}/v2/apps/broken");
        sh(&format!(
            "curl -sS -X PUT -H 'Content-Type: application/json' -w ' %{{http_code}}' -d '{body}' {url}"
        ))
    };
    let answer = put("{\"cmd\":");
    assert!(
        answer.contains("Invalid JSON") && answer.ends_with(" 400"),
        "{answer}"
    );
    for (field, wrong) in [
        ("instances", json!("many")),
        ("mem", json!("a lot")),
        ("cmd", json!(["sleep", "1"])),
        ("env", json!("A=B")),
        ("constraints", json!([["hostname", "NEAR", "x"]])),
        ("container", json!({ "type": "VM" })),
    ] {
        let app = with(line("true"), json!({ field: wrong }));
        let answer = put(&app.to_string());
        let told = answer.ends_with(" 422") || answer.ends_with(" 400");
        assert!(told && answer.contains(field), "{field}: {answer}");
        let file = cluster.write(
            "wrong.json",
            &with(app, json!({ "id": "wrong" })).to_string(),
        );
        let complaint = cluster.refused(&["deploy", &file]);
        assert!(complaint.contains(field), "{field}: {complaint}");
    }
    let apps = cluster.get("/v2/apps");
    assert_eq!(apps["apps"].as_array().unwrap().len(), 1, "{apps}");
}

fn no_logs_yet(cluster: &Cluster) {
    let printed = cluster.try_tandem(&["logs", "shop/web"]);
    let said = String::from_utf8_lossy(&printed.stderr);
    assert!(said.contains("no instance is there now"), "{said}");
    cluster.put("/early", &image("no-such-image:1"));
    wait_until("it to be placed", || {
        !cluster.instances("/early").is_empty()
    });
    wait_for("logs to say that it has not started", || {
        let complaint = cluster.refused(&["logs", "early"]);
        let told = complaint.contains("has not started yet");
        told.then_some(()).ok_or(complaint)
    });
    let complaint = cluster.refused(&["logs", "erly"]);
    assert!(complaint.contains("early"), "did you mean: {complaint}");
    cluster.tandem(&["app", "remove", "early", "--yes"]);
}

fn volumes_in_use(cluster: &Cluster) {
    let mut database = image("mongo");
    database["container"]["volumes"] =
        json!([{ "hostPath": "/flocker/data", "containerPath": "/data", "mode": "RW" }]);
    database["constraints"] = json!([["hostname", "LIKE", "10.0.15.11"]]);
    cluster.put("/database", &database);
    // The others may be what it starts with; it becomes the database itself.
    let first = || {
        cluster
            .processes_of(&cluster.running("/database", 1))
            .remove(0)
    };
    let running = first();

    let complaint = cluster.refused(&["volume", "remove", "data", "--yes"]);
    assert!(
        complaint.contains("volume data is in use by /database"),
        "{complaint}"
    );
    let complaint = cluster.refused(&["move", "database", "n2"]);
    let told = [
        "/database cannot be on n2",
        "hostname",
        "like",
        "10.0.15.11",
    ];
    assert!(
        told.iter().all(|word| complaint.contains(word)),
        "{complaint}"
    );
    let complaint = cluster.refused(&["move", "database", "n7"]);
    assert!(complaint.contains("n7"), "{complaint}");
    assert_eq!(first(), running);
    cluster.tandem(&["app", "remove", "database", "--yes", "--wait"]);
    wait_for("the volume to be let go", || {
        let removed = cluster.try_tandem(&["volume", "remove", "data", "--yes"]);
        let complaint = String::from_utf8_lossy(&removed.stderr).into_owned();
        removed.status.success().then_some(()).ok_or(complaint)
    });
}

/// Somebody else serves on the node's port, and goes on with it until he stops.
fn ports_of_others(cluster: &Cluster) {
    let pages = cluster.path("work/foreign");
    fs::create_dir(&pages).unwrap();
    fs::write(pages.join("index.html"), "foreign\n").unwrap();
    let foreign = Foreign::start(cluster, &pages);
    let published =
        || ask("10.0.15.11:9080", "GET", "/", None).map(|(_, body)| body.trim().to_owned());
    wait_until("the foreign page", || {
        published().is_ok_and(|page| page == "foreign")
    });

    let mut page = image("10.0.15.10:5000/myapp:latest");
    page["container"]["docker"]["portMappings"] =
        json!([{ "containerPort": 80, "hostPort": 9080 }]);
    page["constraints"] = json!([["hostname", "LIKE", "10.0.15.11"]]);
    cluster.put("/page", &page);
    wait_for("ps to name who has the port", || {
        let ps = cluster.tandem(&["ps", "page"]);
        let told = ps.contains("port 9080 of this node is taken by busybox (process ");
        told.then_some(()).ok_or(ps)
    });
    assert_eq!(published().unwrap(), "foreign");
    drop(foreign);
    let address = cluster.running("/page", 1)[0].address.unwrap().to_string();
    wait_for("the page", || match published() {
        Ok(page) if page == address => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

/// A program on node n1 that Tandem did not start.
struct Foreign(Child);

impl Foreign {
    fn start(cluster: &Cluster, pages: &Path) -> Foreign {
        let init = cluster.init_of("n1").pid.to_string();
        let enter = ["-t", &init, "-m", "-n", "-p", "-u", "-i", "--"];
        let server = ["busybox", "httpd", "-f", "-p", "9080", "-h"];
        let mut command = Command::new("nsenter");
        command.args(enter).args(server).arg(pages);
        Foreign(command.spawn().unwrap())
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        // nsenter waits in this pid namespace for its only child, in the node's.
        let own = self.0.id();
        sh(&format!("kill -9 $(cat /proc/{own}/task/{own}/children)"));
        let _ = self.0.wait();
    }
}
