//! The shim's side: what a child of the fork server does.
//!
//! One thread and no runtime: libcontainer clones without executing, and every lock held by
//! another thread would stay locked in the clone for ever.

mod exec;
mod pump;
mod run;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::channel::{self, Reply, Request};
use crate::error::chain;
use crate::{Dir, Error, forkserver};

/// Failed children are on their way out already.
const REAP_PATIENCE: Duration = Duration::from_secs(2);

/// What a shim is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// To lead an instance.
    Instance,
    /// To run one more command in it.
    Exec,
}

/// To be called first in `main`, before any thread exists. Serves shims if this process was
/// started for that, and returns its exit code; `None` for any other command line.
pub fn reexec() -> Option<ExitCode> {
    if std::env::args_os().nth(1)? != forkserver::ROLE {
        return None;
    }
    // Without the agent at the other end there is nobody to tell.
    Some(forkserver::serve().unwrap_or(ExitCode::FAILURE))
}

/// A shim's whole life. Its standard error is the instance's `shim.log`.
pub fn run(role: Role, dir: Dir, channel: OwnedFd) -> ExitCode {
    // A session of its own, so that nothing sent to another's reaches it.
    let _ = rustix::process::setsid();
    // What we have the container inherits, and the agent may be guarded.
    oom_score(0);
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let done = match role {
        Role::Instance => lead(&dir, channel),
        Role::Exec => exec_one(&dir, &channel),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("shim: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn lead(dir: &Dir, channel: OwnedFd) -> Result<(), Error> {
    let _lock = lock(dir)?;
    let own = i32::try_from(std::process::id()).expect("pids are 22 bits wide");
    let identity = crate::process::Identity::of(own);
    identity
        .map_err(Error::file("identify ourselves for", &dir.shim()))?
        .save(&dir.shim())?;
    match receive(dir, &channel)? {
        Some((Request::Create, _)) => run::create(dir, channel),
        Some((Request::Adopt, witness)) => run::adopt(dir, witness.into_iter().next()),
        _ => Ok(()),
    }
}

fn exec_one(dir: &Dir, channel: &OwnedFd) -> Result<(), Error> {
    match receive(dir, channel)? {
        Some((Request::Exec(request), fds)) => {
            let done = exec::run(dir, channel, &request, fds);
            reap();
            done
        }
        _ => Ok(()),
    }
}

/// Waits for what a failed attempt of the runtime left. A dead member of the container's pid
/// namespace that nobody waits for keeps the namespace's init from ending, and not every pid 1
/// waits for orphans.
fn reap() {
    let deadline = Instant::now() + REAP_PATIENCE;
    while let Ok(waited) = rustix::process::wait(rustix::process::WaitOptions::NOHANG) {
        if waited.is_none() && Instant::now() > deadline {
            return;
        }
        if waited.is_none() {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// How soon the kernel kills this process for want of memory: −1000 never, 1000 first. Lowering
/// needs a privilege; without it all are alike.
fn oom_score(score: i32) {
    let _ = std::fs::write("/proc/self/oom_score_adj", score.to_string());
}

/// Held until the process ends: never two shims copy one log.
fn lock(dir: &Dir) -> Result<File, Error> {
    let path = dir.lock();
    let file = File::create(&path).map_err(Error::file("create", &path))?;
    let operation = rustix::fs::FlockOperation::NonBlockingLockExclusive;
    rustix::fs::flock(&file, operation)
        .map_err(|errno| Error::file("lock", &path)(errno.into()))?;
    Ok(file)
}

fn receive(dir: &Dir, channel: &OwnedFd) -> Result<Option<(Request, Vec<OwnedFd>)>, Error> {
    channel::receive(channel).map_err(|source| Error::Channel {
        id: dir.id().to_owned(),
        source,
    })
}

/// An agent that is gone need not be told: its successor reads the directory.
fn tell(channel: &OwnedFd, reply: &Reply) {
    let _ = channel::send(channel, reply, &[]);
}

/// The compiled filter that the agent left in the directory.
fn filter(dir: &Dir) -> Result<Vec<u8>, Error> {
    std::fs::read(dir.seccomp()).map_err(Error::file("read", &dir.seccomp()))
}

/// What went wrong in the runtime, in one line.
fn runtime_error(error: &libcontainer::error::LibcontainerError, at: &Path) -> String {
    format!("{} ({})", chain(error), at.display())
}
