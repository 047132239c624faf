//! Creating and starting one container: ours as the agent does it, and the same bundle by `crun`
//! and `runc`. Each is ended and removed again; the time is until its command was executed, the
//! processor time that of the whole life.

use crate::cluster::Cluster;
use crate::sample;
use container::{Dir, Root, Spec};
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: usize = 20;
const UNIFIED: &str = "/sys/fs/cgroup/unified";

pub fn start(cluster: &Cluster) {
    let root = cluster.path("root");
    let bin = root.join("bin");
    fs::create_dir_all(&bin).unwrap();
    fs::copy("/bin/busybox", bin.join("busybox")).unwrap();
    symlink("busybox", bin.join("sleep")).unwrap();
    let world = World {
        root,
        home: cluster.path("instances"),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let bundle = runtime.block_on(world.bundle());
    let runtimes = ["crun", "runc"].map(|program| Foreign::start(program, &bundle));
    // The first of each pays for caches.
    for round in 0..=ROUNDS {
        let ours = runtime.block_on(world.life(round));
        let theirs = runtimes.each_ref().map(|foreign| foreign.life(round));
        if round > 0 {
            note("ours", ours);
            for (foreign, life) in runtimes.iter().zip(theirs) {
                note(foreign.program, life);
            }
        }
    }
}

struct Life {
    wall: Duration,
    processor: Duration,
}

fn note(of: &str, life: Life) {
    sample("start.wall", of, life.wall.as_secs_f64());
    sample("start.cpu", of, life.processor.as_secs_f64());
}

struct World {
    root: PathBuf,
    home: PathBuf,
}

impl World {
    fn spec(&self, id: &str) -> Spec {
        let args = ["sleep", "1000"].map(str::to_owned).to_vec();
        let root = Root::Mounted(self.root.clone());
        Spec::new(args, root, format!("tandem/{id}"), "tandem/shims".into())
    }

    async fn life(&self, round: usize) -> Life {
        let id = format!("ours-{round}");
        let dir = Dir::new(self.home.join(&id));
        let spec = self.spec(&id);
        let (before, began) = (processor(), Instant::now());
        let created = container::create(&dir, &spec).await.unwrap();
        let instance = created.start().await.unwrap();
        let wall = began.elapsed();
        instance.kill().await.unwrap();
        instance.wait().await.unwrap();
        container::remove(&dir).await.unwrap();
        let processor = processor() - before;
        Life { wall, processor }
    }

    /// A directory with the `config.json` that the others start from: what ours is made of, with
    /// the seccomp profile in it, because they know no compiled one.
    async fn bundle(&self) -> PathBuf {
        let dir = Dir::new(self.home.join("bundle"));
        let mut spec = self.spec("bundle");
        spec.no_new_privileges = false;
        drop(container::create(&dir, &spec).await.unwrap());
        let text = fs::read_to_string(dir.path().join("config.json")).unwrap();
        let mut config: Value = serde_json::from_str(&text).unwrap();
        config["process"]["noNewPrivileges"] = true.into();
        config["linux"]["cgroupsPath"] = "/tandem/foreign".into();
        let bundle = self.home.join("foreign");
        fs::create_dir_all(&bundle).unwrap();
        fs::write(bundle.join("config.json"), config.to_string()).unwrap();
        bundle
    }
}

/// A runtime that is a program, run by a thread without the unified hierarchy: `crun` refuses
/// machines that have both kinds.
struct Foreign {
    program: &'static str,
    ask: std::sync::mpsc::Sender<usize>,
    answer: std::sync::mpsc::Receiver<Life>,
}

impl Foreign {
    fn start(program: &'static str, bundle: &Path) -> Self {
        let (ask, asked) = std::sync::mpsc::channel::<usize>();
        let (told, answer) = std::sync::mpsc::channel();
        let bundle = bundle.to_owned();
        std::thread::spawn(move || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
            let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            mount_change("/", private).unwrap();
            // Absent where there is only one kind.
            let _ = unmount(UNIFIED, UnmountFlags::DETACH);
            for round in asked {
                told.send(life(program, &bundle, round)).unwrap();
            }
        });
        Self {
            program,
            ask,
            answer,
        }
    }

    fn life(&self, round: usize) -> Life {
        self.ask.send(round).unwrap();
        self.answer.recv().unwrap()
    }
}

fn life(program: &str, bundle: &Path, round: usize) -> Life {
    let id = format!("bench-{round}");
    let run = |words: &[&str]| {
        let mut command = Command::new(program);
        command.arg("--root").arg(bundle.join(program)).args(words);
        // Its standard streams are the container's.
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let status = command.status().unwrap();
        assert!(status.success(), "{program} {words:?}: {status}");
    };
    let (before, began) = (processor(), Instant::now());
    run(&["create", "--bundle", &bundle.display().to_string(), &id]);
    run(&["start", &id]);
    let wall = began.elapsed();
    run(&["delete", "--force", &id]);
    let processor = processor() - before;
    Life { wall, processor }
}

/// Processor time of everything in this machine so far.
fn processor() -> Duration {
    let files = ["cpuacct", "cpu,cpuacct"].map(|c| format!("/sys/fs/cgroup/{c}/cpuacct.usage"));
    let first = files.iter().find_map(|file| fs::read_to_string(file).ok());
    let nanoseconds = first.map(|text| text.trim().parse().unwrap());
    nanoseconds.map_or_else(unified_processor, Duration::from_nanos)
}

fn unified_processor() -> Duration {
    let text = fs::read_to_string("/sys/fs/cgroup/cpu.stat").unwrap();
    let usage = text
        .lines()
        .find_map(|line| line.strip_prefix("usage_usec "));
    Duration::from_micros(usage.unwrap().parse().unwrap())
}
