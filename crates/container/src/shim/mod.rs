//! The shim's side: what this binary does when it is executed as `shim` or `shim-exec`.
//!
//! One thread and no runtime: libcontainer clones without executing, and every lock held by
//! another thread would stay locked in the clone for ever.

mod exec;
mod pump;
mod run;

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::channel::{self, Reply, Request};
use crate::error::chain;
use crate::{Dir, Error};

pub(crate) const SHIM: &str = "shim";
pub(crate) const SHIM_EXEC: &str = "shim-exec";

/// Failed children are on their way out already.
const REAP_PATIENCE: Duration = Duration::from_secs(2);

/// To be called first in `main`, before any thread exists. Runs the shim if this process was
/// started as one, and returns its exit code; `None` for any other command line.
pub fn reexec() -> Option<ExitCode> {
    let args: Vec<OsString> = std::env::args_os().take(3).collect();
    let [_, role, dir] = args.as_slice() else {
        return None;
    };
    let run: fn(Dir) -> Result<(), Error> = match role.to_str()? {
        SHIM => shim,
        SHIM_EXEC => shim_exec,
        _ => return None,
    };
    let dir = Dir::new(dir);
    Some(match run(dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error is the instance's shim.log.
            eprintln!("shim: {}", chain(&error));
            ExitCode::FAILURE
        }
    })
}

fn shim(dir: Dir) -> Result<(), Error> {
    let channel = take_channel(&dir)?;
    // A session of its own, so that nothing sent to the agent's reaches it.
    let _ = rustix::process::setsid();
    let _lock = lock(&dir)?;
    let own = i32::try_from(std::process::id()).expect("pids are 22 bits wide");
    let identity = crate::process::Identity::of(own);
    identity
        .map_err(Error::file("identify ourselves for", &dir.shim()))?
        .save(&dir.shim())?;
    match receive(&dir, &channel)? {
        Some((Request::Create, _)) => run::create(&dir, channel),
        Some((Request::Adopt, witness)) => run::adopt(&dir, witness.into_iter().next()),
        _ => Ok(()),
    }
}

fn shim_exec(dir: Dir) -> Result<(), Error> {
    let channel = take_channel(&dir)?;
    let _ = rustix::process::setsid();
    match receive(&dir, &channel)? {
        Some((Request::Exec(request), fds)) => {
            let done = exec::run(&dir, &channel, &request, fds);
            reap();
            done
        }
        _ => Ok(()),
    }
}

/// The channel comes as standard input, which the container must not inherit.
fn take_channel(dir: &Dir) -> Result<OwnedFd, Error> {
    let take = || -> std::io::Result<OwnedFd> {
        let channel = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
        rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
        Ok(channel)
    };
    // What we have the container inherits, and the agent may be guarded.
    oom_score(0);
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    take().map_err(|source| Error::Channel {
        id: dir.id().to_owned(),
        source,
    })
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
