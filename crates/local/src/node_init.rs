//! Process 1 of a node: a small machine made of namespaces.
//!
//! **Flow.** The supervisor starts it as first process of a new pid namespace.
//! It reads its [`Plan`], gives itself mount, network, uts and ipc namespaces,
//! says `born`, waits until the cable into the switch is plugged (`go`), sets its
//! address, says `up`, and then keeps the agent running and reaps what is orphaned.
//! Told `down`, it tells the agent by SIGPWR, and ends when that has ended.
//!
//! **Guarantees.** When it ends, the kernel ends everything in the node: shims,
//! containers, mounts, devices. It ends when the supervisor does, whose end of
//! the pipe on standard input then closes. The agent's end ends nothing else.
//!
//! **Not here:** the overlay, names, containers. Those are the agent's.

use crate::backoff::Backoff;
use crate::command::ip_batch;
use crate::error::{Doing, Error, Result, chain};
use crate::options::Program;
use crate::subnet::Subnet;
use crate::{cgroup, entry};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::fs::CWD;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount, mount_change,
    move_mount, open_tree,
};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{BufRead, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicI32};
use std::time::Instant;

/// What a node is to be; one line of JSON on standard input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) name: String,
    pub(crate) address: Subnet,
    pub(crate) gateway: Ipv4Addr,
    /// `<base>/<node>`
    pub(crate) group: PathBuf,
    pub(crate) agent: Program,
}

pub(crate) const BORN: &str = "born";
pub(crate) const GO: &str = "go";
pub(crate) const UP: &str = "up";
pub(crate) const DOWN: &str = "down";

/// Resolver files below the machine's /run that a node's /etc/resolv.conf may
/// point to, or that name the resolvers behind a local one.
const RESOLVERS: [&str; 4] = [
    "/run/systemd/resolve/resolv.conf",
    "/run/systemd/resolve/stub-resolv.conf",
    "/run/resolvconf/resolv.conf",
    "/run/NetworkManager/resolv.conf",
];

pub(crate) fn main() -> Result<()> {
    let plan: Plan = serde_json::from_str(&heard()?).map_err(|source| Error::Json {
        what: "a node's plan".into(),
        source,
    })?;
    cgroup::join(&plan.group.join("init"))?;
    unshare(
        CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWIPC,
    )
    .doing(|| format!("give {} namespaces of its own", plan.name))?;
    furnish()?;
    rustix::system::sethostname(plan.address.address.to_string().as_bytes())
        .doing(|| "set the host name".into())?;
    say(BORN)?;
    if heard()? != GO {
        return Ok(());
    }
    ip_batch(&[
        "link set lo up".into(),
        format!("address add {} dev eth0", plan.address),
        "link set eth0 up".into(),
        format!("route add default via {}", plan.gateway),
    ])?;
    say(UP)?;
    let life = Arc::new(Life {
        group: plan.group.clone(),
        agent: AtomicI32::new(0),
        goes_down: AtomicBool::new(false),
    });
    let told = life.clone();
    std::thread::spawn(move || hear_the_supervisor(&told));
    keep_agent(&plan, &life)
}

/// What the two threads of a node's init know together.
#[derive(Debug)]
struct Life {
    group: PathBuf,
    /// 0: none.
    agent: AtomicI32,
    goes_down: AtomicBool,
}

impl Life {
    /// Without an agent there is nobody to stop anything.
    fn go_down(&self) {
        self.goes_down.store(true, SeqCst);
        match self.agent.load(SeqCst) {
            0 => self.end(),
            agent => {
                // It may just have ended, which the other thread sees.
                let _ = kill(Pid::from_raw(agent), Signal::SIGPWR);
            }
        }
    }

    /// Takes the node with it. What a version 1 freezer holds cannot die, and must not run
    /// again either: it is killed first and thawed then.
    fn end(&self) -> ! {
        let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
        let _ = cgroup::thaw(&self.group);
        std::process::exit(0)
    }
}

/// The mounts of a machine: its own /proc, /sys and /run, nothing shared with outside.
fn furnish() -> Result<()> {
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
    .doing(|| "make mounts private".into())?;
    mount("proc", "/proc", "proc", harmless(), None).doing(|| "mount /proc".into())?;

    // A new /sys shows the new network namespace, but nothing that is mounted below the old one.
    let below = "/sys/fs/cgroup";
    let whole = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    let cgroups = open_tree(CWD, below, whole).doing(|| format!("copy the mounts at {below}"))?;
    mount("sysfs", "/sys", "sysfs", harmless(), None).doing(|| "mount /sys".into())?;
    move_mount(
        cgroups,
        "",
        CWD,
        below,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )
    .doing(|| format!("carry over the mounts at {below}"))?;

    let resolvers: Vec<_> = RESOLVERS
        .iter()
        .filter_map(|file| Some((file, fs::read(file).ok()?)))
        .collect();
    mount(
        "tmpfs",
        "/run",
        "tmpfs",
        MountFlags::NOSUID | MountFlags::NODEV,
        c"mode=755",
    )
    .doing(|| "mount /run".into())?;
    fs::create_dir("/run/lock").doing(|| "create /run/lock".into())?;
    for (file, content) in resolvers {
        let write = || {
            fs::create_dir_all(Path::new(file).parent().unwrap_or(Path::new("/run")))
                .and_then(|()| fs::write(file, content))
        };
        write().doing(|| format!("write {file}"))?;
    }
    Ok(())
}

fn harmless() -> MountFlags {
    MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC
}

/// Until the supervisor is gone, and the node with it.
fn hear_the_supervisor(life: &Life) {
    for line in std::io::stdin().lock().lines() {
        match line {
            Ok(word) if word == DOWN => life.go_down(),
            Ok(_) => {}
            Err(_) => break,
        }
    }
    life.end()
}

/// Starts the agent, and starts it again whenever it ends.
fn keep_agent(plan: &Plan, life: &Life) -> Result<()> {
    let mut backoff = Backoff::default();
    loop {
        let began = Instant::now();
        let ended = match start_agent(plan) {
            Ok(pid) => {
                life.agent.store(pid.cast_signed(), SeqCst);
                let ended = reap_until(pid)?;
                life.agent.store(0, SeqCst);
                ended
            }
            Err(error) => chain(&error),
        };
        if life.goes_down.load(SeqCst) {
            life.end();
        }
        let pause = backoff.after(began.elapsed());
        // Not `eprintln`, which panics where the supervisor, our reader, was killed; the
        // other thread must come to its end then.
        let _ = writeln!(
            std::io::stderr(),
            "{}: agent ended ({ended}); starting it again in {} ms",
            plan.name,
            pause.as_millis()
        );
        std::thread::sleep(pause);
    }
}

/// Its pid; the handle is dropped, as this process reaps every child by itself.
fn start_agent(plan: &Plan) -> Result<u32> {
    let child = entry::role(&plan.group.join("agent"), &plan.agent.argv)
        .envs(&plan.agent.environment)
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .spawn()
        .doing(|| format!("start the agent of {}", plan.name))?;
    Ok(child.id())
}

/// Reaps whoever ends until the agent does, and says how.
fn reap_until(agent: u32) -> Result<String> {
    loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, code)) if pid.as_raw().unsigned_abs() == agent => {
                return Ok(format!("exit status {code}"));
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid.as_raw().unsigned_abs() == agent => {
                return Ok(signal.to_string());
            }
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error).doing(|| "wait for the agent".into()),
        }
    }
}

fn heard() -> Result<String> {
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut line)
        .doing(|| "hear the supervisor".into())?;
    Ok(line.trim_end().to_string())
}

fn say(word: &str) -> Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{word}")
        .and_then(|()| out.flush())
        .doing(|| "answer the supervisor".into())
}
