//! A cluster of the real binary in a machine of its own, and how cases drive it: by `tandem`, by
//! HTTP, and by looking at the processes themselves.

use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use system::images::Set;

use crate::room;

pub const API: &str = "10.0.15.10:8080";
pub const REGISTRY: &str = "10.0.15.10:5000";
const CGROUPS: &str = "/sys/fs/cgroup";
/// Much longer than anything should take, also where many others work.
const PATIENCE: Duration = Duration::from_secs(90);

/// What a case works with. Nothing runs before [`Cluster::up`].
pub struct Cluster {
    directory: PathBuf,
}

/// As `/tandem/v1/instances` has it.
#[derive(Clone, Debug, Deserialize)]
pub struct Instance {
    pub id: String,
    pub task: String,
    pub node: String,
    pub hostname: String,
    pub address: Option<Ipv4Addr>,
    pub ports: Vec<Port>,
    pub goal: String,
    pub rung: String,
    pub health: String,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Port {
    pub host: u16,
}

/// A process that cannot be mistaken for a later one of the same number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    pub pid: i32,
    started: String,
}

impl Cluster {
    pub fn furnish(base: &str) -> Self {
        let cluster = Cluster {
            directory: room::directory(base),
        };
        fs::create_dir_all(cluster.path("work")).unwrap();
        cluster
    }

    /// A file or directory of the case's own; those below `work` are seen by command tasks too.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> String {
        let path = self.path("work").join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    pub fn program() -> PathBuf {
        let own = std::env::current_exe().unwrap();
        let program = own.ancestors().nth(2).unwrap().join("tandem");
        assert!(program.exists(), "{} is not built", program.display());
        program
    }

    /// A configuration file with volumes that do not need a lot of room.
    pub fn small_volumes(&self) -> String {
        let settings = "[volume]\npool_size = \"1GiB\"\ndefault_size = \"128MiB\"\n";
        self.write("tandem.toml", settings)
    }

    /// Starts `tandem`, whose state and logs are this machine's.
    pub fn command(&self, arguments: &[&str]) -> Command {
        // `--wait` would wait for ever where something is broken.
        let mut command = Command::new("/usr/bin/timeout");
        command
            .args(["--kill-after=5", &PATIENCE.as_secs().to_string()])
            .arg(Self::program());
        self.told(command, arguments)
    }

    /// `tandem` for as long as the caller lets it live.
    pub fn lasting(&self, arguments: &[&str]) -> Command {
        self.told(Command::new(Self::program()), arguments)
    }

    fn told(&self, mut command: Command, arguments: &[&str]) -> Command {
        command
            .args(arguments)
            .env("TANDEM_STATE_DIR", self.path("state"))
            .env("TANDEM_LOCAL_LOG_DIR", self.path("log"));
        command
    }

    pub fn try_tandem(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// What a command printed; it must succeed.
    pub fn tandem(&self, arguments: &[&str]) -> String {
        let what = format!("tandem {arguments:?}");
        must(said(&what, &self.try_tandem(arguments)))
    }

    /// What a command complained of; it must fail.
    pub fn refused(&self, arguments: &[&str]) -> String {
        let output = self.try_tandem(arguments);
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "tandem {arguments:?} succeeded");
        complaint
    }

    /// Patiently: a node that others leave neither processor nor disk is silent for seconds.
    pub fn up(&self, arguments: &[&str]) {
        self.up_with_timeout(15, arguments);
    }

    /// With so many seconds after which a silent node is lost.
    pub fn up_with_timeout(&self, node_timeout: u32, arguments: &[&str]) {
        let began = Instant::now();
        let words = [&["up", "--detach"], arguments].concat();
        let mut up = self.command(&words);
        up.env("TANDEM_MASTER_NODE_TIMEOUT", node_timeout.to_string());
        must(said(&format!("tandem {words:?}"), &up.output().unwrap()));
        println!("up {arguments:?}: {:.2} s", began.elapsed().as_secs_f32());
    }

    pub fn down(&self) {
        self.tandem(&["down"]);
    }

    /// What of a cluster is in the kernel, with the network's settings and the firewall's rules.
    pub fn listing(&self) -> String {
        let nothing = || local::Program::new(["false"]);
        let roles = local::Roles {
            master: nothing(),
            agent: nothing(),
        };
        let options = local::Options {
            state_dir: self.path("state"),
            ..local::Options::new(roles)
        };
        let settings = settings(Path::new("/proc/sys/net"));
        let rules = sh("nft --stateless list ruleset");
        format!("{}{settings}{rules}", local::listing(&options).unwrap())
    }

    /// Nothing came or went since a listing.
    pub fn is_as(&self, before: &str) {
        let now = self.listing();
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
        let (was, is) = (lines(before), lines(&now));
        let gone: Vec<_> = was.difference(&is).collect();
        let new: Vec<_> = is.difference(&was).collect();
        assert!(now == before, "gone: {gone:#?}\nnew: {new:#?}");
    }

    /// An answer of the API that must be a good one.
    pub fn get(&self, path: &str) -> Value {
        match ask(API, "GET", path, None).unwrap() {
            (200, body) => json_of(&body),
            other => panic!("GET {path}: {other:?}"),
        }
    }

    /// The answer's status and body.
    pub fn put(&self, id: &str, app: &Value) -> (u16, Value) {
        let (status, body) = ask(API, "PUT", &format!("/v2/apps{id}"), Some(app)).unwrap();
        assert!(matches!(status, 200 | 201), "PUT {id}: {status} {body}");
        (status, json_of(&body))
    }

    pub fn app(&self, id: &str) -> Value {
        self.get(&format!("/v2/apps{id}"))["app"].clone()
    }

    pub fn instances(&self, id: &str) -> Vec<Instance> {
        let (status, body) =
            ask(API, "GET", &format!("/tandem/v1/instances?app={id}"), None).unwrap();
        match status {
            200 => serde_json::from_value(json_of(&body)).unwrap(),
            _ => Vec::new(),
        }
    }

    /// Waits until an app has exactly so many instances and all of them run, healthy where that is known.
    pub fn running(&self, id: &str, count: usize) -> Vec<Instance> {
        wait_for(&format!("{count} instances of {id} to run"), || {
            let instances = self.instances(id);
            let good =
                |i: &Instance| i.goal == "run" && i.rung == "running" && i.health != "unhealthy";
            (instances.len() == count && instances.iter().all(good))
                .then_some(instances)
                .ok_or_else(|| {
                    String::from_utf8_lossy(&self.try_tandem(&["ps"]).stdout).into_owned()
                })
        })
    }

    /// Waits until no deployment is under way.
    pub fn settled(&self) {
        wait_for("the deployments to end", || {
            let under_way = self.get("/v2/deployments");
            (under_way == json!([])).then_some(()).ok_or(under_way)
        });
    }

    /// How the last instance of an app that ended by itself ended.
    pub fn failure(&self, id: &str) -> Result<String, String> {
        let app = self.app(id);
        app["lastTaskFailure"]["message"]
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| app.to_string())
    }

    /// Waits until every node has a session with the master that answers.
    pub fn here(&self, nodes: usize) {
        wait_for(&format!("{nodes} nodes to be here"), || {
            let (status, body) =
                ask(API, "GET", "/tandem/v1/nodes", None).map_err(|e| e.to_string())?;
            let all: Value = serde_json::from_str(&body).map_err(|e| e.to_string())?;
            let here = |node: &&Value| node["presence"] == "here" && node["session"] == true;
            let count = all.as_array().into_iter().flatten().filter(here).count();
            (status == 200 && count == nodes).then_some(()).ok_or(body)
        });
    }

    /// The processes in a cgroup of the cluster and below it, such as `n1/agent`.
    pub fn members(&self, group: &str) -> Vec<Process> {
        // Shims stay in their agent's group where a hierarchy has nothing for them, as cpuset has.
        let roots = ["unified", "", "freezer"].map(|name| Path::new(CGROUPS).join(name));
        let root = roots.iter().find(|root| root.join("cgroup.procs").exists());
        let mut found = processes(&root.unwrap().join("tandem").join(group));
        found.sort();
        found
    }

    /// The daemon of a role's group, such as `n1/agent`, without the programs that it just runs and
    /// the shims on their way to a group of their own.
    pub fn daemon(&self, group: &str) -> Process {
        let role = format!(" {} ", group.rsplit('/').next().unwrap());
        wait_for(&format!("one {group} to run"), || {
            let all = self.members(group);
            // A child looks like its parent until it has become what it is to be.
            let is_child = |process: &Process| {
                let parent = process.parent();
                all.iter().any(|other| Some(other.pid) == parent)
            };
            let mut daemons = all.clone();
            daemons.retain(|process| process.command().contains(&role) && !is_child(process));
            match daemons.as_slice() {
                [daemon] => Ok(daemon.clone()),
                _ => Err(format!("{all:?}")),
            }
        })
    }

    pub fn processes_of(&self, instances: &[Instance]) -> Vec<Process> {
        let groups = instances.iter().map(|i| format!("{}/{}", i.node, i.id));
        groups.flat_map(|group| self.members(&group)).collect()
    }

    /// The first process of the node.
    pub fn init_of(&self, node: &str) -> Process {
        wait_for(&format!("{node} to run"), || {
            self.members(&format!("{node}/init"))
                .first()
                .cloned()
                .ok_or("")
        })
    }

    /// The process that keeps master, registry and nodes running.
    pub fn supervisor(&self) -> Process {
        let master = self.daemon("master");
        Process::of(master.parent().unwrap()).unwrap()
    }

    /// What a line printed in a container with a shell, if it succeeded.
    pub fn within(&self, instance: &Instance, line: &str) -> Result<String, String> {
        let group = format!("{}/{}", instance.node, instance.id);
        let first = self
            .members(&group)
            .first()
            .map(|process| process.pid.to_string());
        let pid = first.ok_or("it has no process")?;
        let mut enter = Command::new("nsenter");
        enter.args(["-t", &pid, "-m", "-n", "--", "/bin/sh", "-c", line]);
        let output = enter.output().map_err(|error| error.to_string())?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
            false => Err(format!(
                "{}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            )),
        }
    }

    /// Builds the test images and pushes them to the cluster's registry.
    pub fn push_images(&self) {
        self.push(Set::Wild);
    }

    /// The same with PostgreSQL and Redis.
    pub fn push_databases(&self) {
        self.push(Set::Databases);
    }

    fn push(&self, set: Set) {
        let began = Instant::now();
        let room = self.path("images");
        fs::create_dir_all(&room).unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime
            .block_on(system::images::push(set, &room, REGISTRY))
            .unwrap_or_else(|error| panic!("{error:#}"));
        println!("images: {:.2} s", began.elapsed().as_secs_f32());
    }
}

impl Process {
    /// Zombies do not count.
    fn of(pid: i32) -> Option<Process> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let words: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
        (!["Z", "X"].contains(words.first()?)).then_some(Process {
            pid,
            started: words.get(19)?.to_string(),
        })
    }

    /// Nothing when it has just ended.
    fn parent(&self) -> Option<i32> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?;
        let mut words = stat.rsplit(')').next()?.split_whitespace();
        words.nth(1)?.parse().ok()
    }

    pub fn lives(&self) -> bool {
        Process::of(self.pid).as_ref() == Some(self)
    }

    /// Its words; nothing when it has just ended.
    pub fn command(&self) -> String {
        fs::read_to_string(format!("/proc/{}/cmdline", self.pid))
            .unwrap_or_default()
            .replace('\0', " ")
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        // It may just have ended.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid), signal);
    }

    pub fn kill(&self) {
        self.signal(nix::sys::signal::Signal::SIGKILL);
    }
}

/// Every setting at and below a directory of /proc/sys, with its value.
fn settings(directory: &Path) -> String {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    // A count, not a setting.
    paths.retain(|path| !path.ends_with("nf_conntrack_count"));
    paths.sort();
    let shown = |path: PathBuf| match fs::read_to_string(&path) {
        Ok(value) => format!("{} = {}\n", path.display(), value.trim()),
        // A directory, or one that is only written.
        Err(_) => settings(&path),
    };
    paths.into_iter().map(shown).collect()
}

fn processes(group: &Path) -> Vec<Process> {
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    let own = text
        .lines()
        .filter_map(|line| Process::of(line.parse().ok()?));
    let parts = fs::read_dir(group).into_iter().flatten().flatten();
    let parts = parts.map(|entry| entry.path()).filter(|path| path.is_dir());
    own.chain(parts.flat_map(|part| processes(&part))).collect()
}

/// A small app that runs a shell line.
pub fn line(cmd: &str) -> Value {
    json!({ "cmd": cmd, "cpus": 0.05, "mem": 16, "disk": 0, "instances": 1 })
}

/// A small app of one of the test images.
pub fn image(name: &str) -> Value {
    json!({
        "cpus": 0.02, "mem": 16, "disk": 0, "instances": 1,
        "container": { "type": "DOCKER", "docker": { "image": name, "network": "BRIDGE" } },
    })
}

/// `app` with more fields.
pub fn with(mut app: Value, more: Value) -> Value {
    for (key, value) in more.as_object().unwrap() {
        app[key] = value.clone();
    }
    app
}

pub fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// One request of HTTP 1.0; the answer's status and body.
pub fn ask(
    address: &str,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> io::Result<(u16, String)> {
    let address: SocketAddr = address.parse().map_err(io::Error::other)?;
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let body = body.map(Value::to_string).unwrap_or_default();
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes())?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let cut = || io::Error::other(format!("cut short: {text}"));
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(cut)?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .ok_or_else(cut)?;
    Ok((status, body.to_owned()))
}

/// Waits for a condition, which says what it has instead for as long as it does not hold.
pub fn wait_for<T, E: std::fmt::Display>(what: &str, condition: impl Fn() -> Result<T, E>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        match condition() {
            Ok(value) => return value,
            Err(instead) if Instant::now() > end => {
                panic!("waited in vain for {what}; instead:\n{instead}")
            }
            Err(_) => std::thread::sleep(Duration::from_millis(30)),
        }
    }
}

pub fn wait_until(what: &str, condition: impl Fn() -> bool) {
    wait_for(what, || condition().then_some(()).ok_or("not so"));
}

/// What a shell line printed; it must succeed.
pub fn sh(line: &str) -> String {
    must(try_sh(line))
}

/// What a shell line printed, if it succeeded.
pub fn try_sh(line: &str) -> Result<String, String> {
    let output = Command::new("/bin/sh").args(["-c", line]).output().unwrap();
    said(line, &output)
}

fn must(outcome: Result<String, String>) -> String {
    outcome.unwrap_or_else(|complaint| panic!("{complaint}"))
}

fn said(what: &str, output: &Output) -> Result<String, String> {
    let text = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    match output.status.success() {
        true => Ok(text.trim().to_owned()),
        false => Err(format!("{what}: {}\n{text}{complaint}", output.status)),
    }
}

/// Adds an entry through a to-do application and what is behind it; whether it was acknowledged.
pub fn add_entry(page: &str, entry: &str) -> bool {
    let url = format!("http://{page}/cgi-bin/index.cgi");
    let form = format!("entry={entry}");
    let arguments = [
        "--silent",
        "--fail",
        "--max-time",
        "20",
        "--data",
        &form,
        &url,
    ];
    let answer = Command::new("curl").args(arguments).output().unwrap();
    answer.status.success() && answer.stdout.starts_with(b"entry ")
}
