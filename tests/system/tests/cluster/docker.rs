//! (C) Beside Docker: a real dockerd works in the machine, before, during and after the cluster.
//! Its FORWARD policy drops what it does not know, and its containers need forwarding.

use crate::cluster::{Cluster, Instance, ask, image, line, sh, try_sh, wait_for, wait_until, with};
use serde_json::json;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

const FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";
/// The machine's address on its way out, where Docker publishes its container's port.
const DOCKER_S: &str = "192.0.2.2:8081";
/// Somebody else's, who knows the way to the nodes.
const OUTSIDE: &str = "192.0.2.1:7000";

pub fn it_lives_beside_docker(cluster: &Cluster) {
    let outside = Outside::start(cluster);
    fs::write(FORWARD, "0").unwrap();

    // Docker comes later, and stays.
    cluster.up(&["--nodes", "1"]);
    assert_eq!(forwarding(), "1");
    let docker = Docker::start(cluster);
    docker.run_page();
    docker.works();
    cluster.down();
    assert_eq!(forwarding(), "1", "Docker forwards as well by now");
    docker.works();
    docker.stop();

    // It was there before: what it finds switched off it switches on, and drops the rest.
    fs::write(FORWARD, "0").unwrap();
    let docker = Docker::start(cluster);
    docker.works();
    let rules = rules();
    assert!(rules.contains(":FORWARD DROP"), "{rules}");
    let before = cluster.listing();
    cluster.up(&[]);
    let apps = deploy(cluster);
    everybody_reaches_everybody(cluster, &docker, &apps);
    docker.works();
    cluster.down();
    cluster.is_as(&before);
    assert_eq!(self::rules(), rules);
    docker.works();

    // What Docker leaves to others survives its own restart, and is taken back also when nobody
    // was there to stop the cluster.
    cluster.up(&[]);
    docker.stop();
    let docker = Docker::start(cluster);
    docker.works();
    let apps = ["/front", "/back"].map(|id| cluster.running(id, 1).remove(0));
    everybody_reaches_everybody(cluster, &docker, &apps);
    cluster.supervisor().kill();
    cluster.down();
    assert_eq!(self::rules(), rules);
    docker.works();
    drop(outside);
}

/// One container on each of two nodes, the first with a published port.
fn deploy(cluster: &Cluster) -> [Instance; 2] {
    cluster.push_images();
    let at = |node: &str| json!({ "constraints": [["hostname", "LIKE", node]] });
    let mut front = with(image("10.0.15.10:5000/myapp:latest"), at("10.0.15.11"));
    front["container"]["docker"]["portMappings"] =
        json!([{ "containerPort": 80, "hostPort": 9080 }]);
    cluster.put("/front", &front);
    cluster.put(
        "/back",
        &with(image("10.0.15.10:5000/myapp:latest"), at("10.0.15.12")),
    );
    cluster.put(
        "/command",
        &with(line("exec sleep 100000"), at("10.0.15.13")),
    );
    cluster.running("/command", 1);
    ["/front", "/back"].map(|id| cluster.running(id, 1).remove(0))
}

fn everybody_reaches_everybody(cluster: &Cluster, docker: &Docker, apps: &[Instance; 2]) {
    let [front, back] = apps;
    let front_s = front.address.unwrap().to_string();
    let back_s = back.address.unwrap().to_string();
    let fetches = |from: &Instance, what: &str, expected: &str| {
        let url = format!("curl -sSf -m 5 http://{what}/");
        wait_for(&format!("{what} from {}", from.task), || {
            let got = cluster.within(from, &url)?;
            (got == expected).then_some(()).ok_or(got)
        });
    };
    // Each other, by address and by name; both ways out; Docker's container and others outside.
    fetches(front, &back_s, &back_s);
    fetches(back, "front.tandem.local", &front_s);
    for from in apps {
        fetches(from, "10.0.15.11:9080", &front_s);
        fetches(from, DOCKER_S, "from Docker");
        fetches(from, OUTSIDE, "from outside");
    }
    // The published port: from the machine, from outside, from Docker's container.
    let published = "10.0.15.11:9080";
    wait_for("the published port on the machine", || {
        let answer = ask(published, "GET", "/", None).map_err(|error| error.to_string())?;
        (answer.1.trim() == front_s).then_some(()).ok_or(answer.1)
    });
    wait_for("the published port from outside", || {
        let fetch = format!("ip netns exec outside curl -sSf -m 5 http://{published}/");
        let seen = try_sh(&fetch)?;
        (seen == front_s).then_some(()).ok_or(seen)
    });
    wait_for("the published port from Docker's container", || {
        let seen = docker.fetch(published)?;
        (seen == front_s).then_some(()).ok_or(seen)
    });
    // The overlay itself is to be seen from the machine.
    wait_for("an overlay address on the machine", || {
        let answer = ask(&format!("{back_s}:80"), "GET", "/", None);
        let (_, body) = answer.map_err(|error| error.to_string())?;
        (body.trim() == back_s).then_some(()).ok_or(body)
    });
}

fn forwarding() -> String {
    fs::read_to_string(FORWARD).unwrap().trim().to_owned()
}

/// All of iptables' rules, without times and counters.
fn rules() -> String {
    let saved = sh("iptables-save");
    let lines = saved.lines().filter(|line| !line.starts_with('#'));
    let bare = |line: &str| line.split(" [").next().unwrap_or_default().to_owned();
    lines.map(bare).collect::<Vec<_>>().join("\n")
}

/// A dockerd with everything of its own; it ends with the machine at the latest.
struct Docker {
    socket: String,
    daemon: Child,
}

impl Docker {
    fn start(cluster: &Cluster) -> Docker {
        let home = cluster.path("docker");
        fs::create_dir_all(&home).unwrap();
        let file = |name: &str| home.join(name).display().to_string();
        fs::write(home.join("daemon.json"), "{}").unwrap();
        let socket = format!("unix://{}", file("socket"));
        fs::create_dir_all(cluster.path("log")).unwrap();
        let log = File::options()
            .create(true)
            .append(true)
            .open(cluster.path("log/dockerd.log"))
            .unwrap();
        let daemon = Command::new("dockerd")
            .args(["--host", &socket, "--data-root", &file("data")])
            .args(["--exec-root", "/run/docker", "--pidfile", "/run/docker.pid"])
            .args(["--config-file", &file("daemon.json")])
            .args([
                "--exec-opt",
                "native.cgroupdriver=cgroupfs",
                "--log-level",
                "warn",
            ])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("dockerd of docker.io: {error}"));
        let docker = Docker { socket, daemon };
        wait_for("dockerd to answer", || {
            let output = docker.command(&["version"]).output().unwrap();
            let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
            output.status.success().then_some(()).ok_or(complaint)
        });
        docker
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.args(["--host", &self.socket]).args(arguments);
        command
    }

    fn call(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "docker {arguments:?}: {complaint}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// A container that serves a page on a published port, and is started again with dockerd.
    fn run_page(&self) {
        let root = PathBuf::from(self.socket.trim_start_matches("unix://")).with_file_name("root");
        fs::create_dir_all(root.join("bin")).unwrap();
        fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
        fs::write(root.join("index.html"), "from Docker\n").unwrap();
        let archive = root.with_file_name("root.tar").display().to_string();
        sh(&format!("tar -C {} -cf {archive} .", root.display()));
        self.call(&["import", &archive, "page:1"]);
        self.call(&[
            "run",
            "--detach",
            "--name=page",
            "--restart=always",
            "--publish=8081:80",
            // Busybox' httpd as the first process does not listen to TERM.
            "--stop-signal=KILL",
            "page:1",
            "/bin/busybox",
            "httpd",
            "-f",
            "-p",
            "80",
            "-h",
            "/",
        ]);
    }

    /// Its container is reached from outside and reaches what is there.
    fn works(&self) {
        wait_until("Docker's page from outside", || {
            let fetch = format!("curl -sSf -m 5 http://{DOCKER_S}/");
            let output = Command::new("ip")
                .args(["netns", "exec", "outside", "/bin/sh", "-c", &fetch])
                .output()
                .unwrap();
            output.stdout.starts_with(b"from Docker")
        });
        wait_for("the outside from Docker's container", || {
            let seen = self.fetch(OUTSIDE)?;
            (seen == "from outside").then_some(()).ok_or(seen)
        });
    }

    /// What its container gets.
    fn fetch(&self, address: &str) -> Result<String, String> {
        let pid = self.call(&["inspect", "--format={{.State.Pid}}", "page"]);
        try_sh(&format!(
            "nsenter -t {pid} -n curl -sSf -m 5 http://{address}/"
        ))
    }

    fn stop(mut self) {
        let pid = nix::unistd::Pid::from_raw(self.daemon.id().try_into().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        self.daemon.wait().unwrap();
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// A server behind the machine's default route, which finds the nodes through the machine.
struct Outside(Child);

impl Outside {
    fn start(cluster: &Cluster) -> Outside {
        sh("ip -n outside route add default via 192.0.2.2");
        let pages = cluster.path("outside");
        fs::create_dir_all(&pages).unwrap();
        fs::write(pages.join("index.html"), "from outside\n").unwrap();
        let server = Command::new("ip")
            .args([
                "netns", "exec", "outside", "busybox", "httpd", "-f", "-p", OUTSIDE, "-h",
            ])
            .arg(&pages)
            .spawn()
            .unwrap();
        let outside = Outside(server);
        wait_until("the outside to answer", || {
            ask(OUTSIDE, "GET", "/", None).is_ok_and(|(status, _)| status == 200)
        });
        outside
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
