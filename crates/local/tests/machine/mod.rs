//! What a test does in its machine.

pub mod room;

use local::{Options, Program, Ready, Roles};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

const CGROUPS: &str = "/sys/fs/cgroup";

/// What a case works with.
pub struct Machine {
    pub options: Options,
}

impl Machine {
    pub fn new(base: &str) -> Machine {
        let directory = room::directory(base);
        let www = directory.join("www");
        fs::create_dir_all(&www).expect("create a directory to serve");
        fs::write(www.join("ping"), "pong").expect("write a page");
        // The agent notes who it is, starts one thing that outlives it, and serves its state directory.
        let agent = "echo $$ > {state}/agent; hostname > {state}/hostname; echo '{attributes}' > {state}/attributes
[ -e /run/kept ] || { setsid sleep 100000 < /dev/null > /dev/null 2>&1 & echo $! > /run/kept; cp /run/kept {state}/kept; }
exec busybox httpd -f -p 9000 -h {state}";
        let www = www.display().to_string();
        let master = ["busybox", "httpd", "-f", "-p", "{address}:8080", "-h", &www];
        let roles = Roles {
            master: Program::new(master),
            agent: Program::new(["/bin/sh", "-c", agent]),
        };
        let ready = Ready {
            address: "10.0.15.10:8080".parse().expect("an address"),
            path: "/ping".into(),
        };
        let options = Options {
            state_dir: directory.join("state"),
            log_dir: directory.join("log"),
            ready: Some(ready),
            ..Options::new(roles)
        };
        Machine { options }
    }

    pub fn listing(&self) -> String {
        local::listing(&self.options).expect("list what is there")
    }

    /// Starts the cluster in the background; the supervisor's pid.
    pub fn up(&self) -> i32 {
        match local::up(&self.options, true) {
            Ok(local::Up::Detached { pid }) => i32::try_from(pid).expect("a pid"),
            other => panic!("up: {other:?}"),
        }
    }

    pub fn down(&self) -> local::Down {
        local::down(&self.options, false).expect("down")
    }

    /// Pids in a cgroup of the cluster, as `n1/init`.
    pub fn members(&self, group: &str) -> Vec<i32> {
        let of = |root: PathBuf| {
            fs::read_to_string(
                root.join(&self.options.cgroup)
                    .join(group)
                    .join("cgroup.procs"),
            )
            .ok()
        };
        let roots = fs::read_dir(CGROUPS)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path());
        let text = roots
            .chain([CGROUPS.into()])
            .find_map(of)
            .unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    pub fn init_of(&self, node: &str) -> Option<i32> {
        self.members(&format!("{node}/init")).first().copied()
    }

    /// What a node's agent wrote down.
    pub fn noted(&self, node: &str, what: &str) -> Option<String> {
        let text =
            fs::read_to_string(self.options.state_dir.join("nodes").join(node).join(what)).ok()?;
        Some(text.trim().to_string()).filter(|text| !text.is_empty())
    }

    /// The node answers from the machine.
    pub fn answers(&self, number: u8) -> bool {
        get(&format!("10.0.15.{}:9000", 10 + number), "/hostname")
            .is_some_and(|body| body.trim() == format!("10.0.15.{}", 10 + number))
    }

    pub fn wait_for_nodes(&self, numbers: std::ops::RangeInclusive<u8>) {
        wait_until(&format!("nodes {numbers:?} to answer"), || {
            numbers.clone().all(|number| self.answers(number))
        });
    }

    /// Runs a command in a node.
    pub fn inside(&self, node: &str, line: &str) -> String {
        let init = self.init_of(node).expect("the node runs");
        sh(&format!("nsenter -t {init} -m -n -p -u -i -- {line}"))
    }
}

/// What a shell line printed; it must succeed.
pub fn sh(line: &str) -> String {
    let output = Command::new("/bin/sh")
        .args(["-c", line])
        .output()
        .expect("start a shell");
    assert!(
        output.status.success(),
        "{line}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_string()
}

/// The body of a page, if it is there.
pub fn get(address: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(
        &address.parse().expect("an address"),
        Duration::from_secs(1),
    )
    .ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    head.contains(" 200 ").then(|| body.to_string())
}

pub fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub fn kill(pid: i32) {
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid),
        nix::sys::signal::Signal::SIGKILL,
    )
    .expect("kill");
}

/// Zombies do not live.
pub fn lives(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .is_some_and(|rest| !rest.trim().is_empty() && !rest.trim().starts_with('Z'))
}
