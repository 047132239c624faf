//! `tandem up`.

use crate::control::{self, Request, Running};
use crate::error::{Doing, Error, Refusal, Result};
use crate::log::Voice;
use crate::options::Options;
use crate::state::Lock;
use crate::{check, detach, state, supervise, sweep};
use std::fs;
use std::time::{Duration, Instant};

/// How `up` ended, other than by failing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Up {
    /// In the foreground: the cluster was up and has been stopped.
    Stopped,
    /// In the background: it is up.
    Detached { pid: u32 },
    /// Another `up` runs; nodes that were missing have been added to it.
    Running(Running),
}

/// Starts a cluster on this machine. In the foreground it returns when the
/// cluster was stopped (Ctrl-C, TERM, `down`); with `detach`, when it is up.
///
/// Call it from the process' main thread. What is in the way is refused before
/// anything is changed, except for what an earlier cluster left, which is removed.
pub fn up(options: &Options, detach: bool) -> Result<Up> {
    if rustix::thread::gettid() != rustix::process::getpid() {
        return Err(Error::NotMainThread);
    }
    check::root()?;
    options.check()?;
    state::create(&options.state_dir)?;
    let lock = match lock_or_ask(options)? {
        Free(lock) => lock,
        Taken(running) => return Ok(Up::Running(running)),
    };
    fs::create_dir_all(&options.log_dir)
        .doing(|| format!("create {}", options.log_dir.display()))?;
    sweep::sweep(options)?;
    check::all(options)?;
    if detach {
        drop(lock);
        return Ok(Up::Detached {
            pid: detach::start(options)?,
        });
    }
    supervise::run(
        options.clone(),
        lock,
        Voice::new(&options.log_dir, true)?,
        || (),
    )?;
    Ok(Up::Stopped)
}

enum Claim {
    Free(Lock),
    Taken(Running),
}
use Claim::{Free, Taken};

/// The lock; or, where a supervisor has it, that supervisor's answer. One that is
/// just starting or stopping is waited for.
fn lock_or_ask(options: &Options) -> Result<Claim> {
    let request = Request::Up(Box::new(options.clone()));
    let patience = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(lock) = state::lock(&options.state_dir)? {
            return Ok(Free(lock));
        }
        if let Some(running) = control::ask(&options.state_dir, &request)? {
            return Ok(Taken(running));
        }
        if Instant::now() > patience {
            return Err(Refusal::Busy {
                state_dir: options.state_dir.clone(),
            }
            .into());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
