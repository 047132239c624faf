//! `tandem down`.

use crate::control::{self, Request};
use crate::error::{Error, Refusal, Result};
use crate::options::Options;
use crate::state::{self, Lock};
use crate::{check, sweep};
use std::time::Duration;

/// What there was to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Down {
    /// A supervisor ran and was stopped.
    pub was_running: bool,
    /// The state directory is gone.
    pub purged: bool,
}

/// Time for a supervisor to stop everything, before it is stopped itself.
const PATIENCE: Duration = Duration::from_secs(40);

/// Stops the cluster and removes all of it from the kernel, whether its supervisor
/// lives or was killed; may be repeated. The state stays, unless `purge`, which
/// refuses a directory that is not Tandem's.
pub fn down(options: &Options, purge: bool) -> Result<Down> {
    check::root()?;
    let exists = options.state_dir.exists();
    if exists {
        state::create(&options.state_dir)?;
    }
    let mut done = Down {
        was_running: false,
        purged: false,
    };
    let lock = if exists {
        take_over(options, &mut done)?
    } else {
        let busy = || Refusal::Busy {
            state_dir: options.state_dir.clone(),
        };
        state::lock_machine(&options.state_dir)?.ok_or_else(busy)?
    };
    sweep::sweep(options)?;
    if purge && exists {
        state::purge(&options.state_dir)?;
        done.purged = true;
    }
    drop(lock);
    Ok(done)
}

/// Stops the supervisor, if there is one, and takes its lock.
fn take_over(options: &Options, done: &mut Down) -> Result<Lock> {
    let busy = || {
        Error::from(Refusal::Busy {
            state_dir: options.state_dir.clone(),
        })
    };
    if let Some(lock) = state::lock(&options.state_dir)? {
        return Ok(lock);
    }
    let asked = control::ask(&options.state_dir, &Request::Down);
    done.was_running = matches!(asked, Ok(Some(_)));
    if let Some(lock) = state::lock_within(&options.state_dir, PATIENCE)? {
        return Ok(lock);
    }
    // It holds the lock and does not stop: it hangs. The lock's holder is alive, so
    // the number written there is not another process' by now.
    let holder = state::holder(&options.state_dir)
        .and_then(|pid| i32::try_from(pid).ok())
        .ok_or_else(busy)?;
    let _ = nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(holder),
        nix::sys::signal::Signal::SIGKILL,
    );
    done.was_running = true;
    state::lock_within(&options.state_dir, PATIENCE)?.ok_or_else(busy)
}
