//! Finding an instance again after the agent's death, by its directory alone.

use std::sync::Arc;

use crate::cgroup::Cgroup;
use crate::create::{joined, take_over};
use crate::instance::{Instance, Keepers, Shim};
use crate::process::Identity;
use crate::{Dir, Error, Exit, How, exit};

/// What became of an instance.
#[derive(Debug)]
pub enum Found {
    Running(Instance),
    Ended(Exit),
    /// The directory holds no container: it was never begun.
    Nothing,
}

/// Looks at `dir`. What runs goes on; what was being created when the agent died is ended.
/// [`How::Unknown`] tells that it ended while nobody looked, as after the machine's boot.
pub async fn adopt(dir: &Dir) -> Result<Found, Error> {
    if let Some(exit) = exit::read(dir)? {
        // The record comes first and the cleaning after.
        Shim::recorded(dir).ended().await;
        return Ok(Found::Ended(exit));
    }
    if !dir.path().join("spec.json").exists() {
        return Ok(Found::Nothing);
    }
    let spec = Arc::new(dir.spec()?);
    if !dir.started().exists() {
        // Its shim has seen the former agent go, and is clearing away; if it died too, we do.
        Shim::recorded(dir).ended().await;
        if exit::read(dir)?.is_none() && !dir.started().exists() {
            let group = spec.clone();
            let kill = move || Cgroup::new(&group.cgroup)?.kill();
            joined(tokio::task::spawn_blocking(kill)).await?;
            let message = "the agent ended before the start".to_owned();
            let exit = Exit::now(
                How::CreateFailed {
                    message,
                    code: None,
                },
                false,
            );
            exit::write(dir, &exit)?;
        }
        if let Some(exit) = exit::read(dir)? {
            return Ok(Found::Ended(exit));
        }
    }
    let keepers = Keepers::open(dir)?;
    let Some((init, pidfd)) = Identity::load(&dir.init())
        .filter(Identity::alive)
        .and_then(|init| Some((init.clone(), init.open()?)))
    else {
        return ended(dir, &spec.shim_cgroup).await;
    };
    let mut shim = Shim::recorded(dir);
    if shim.is_gone() {
        shim = take_over(dir, &spec.shim_cgroup, None).await?;
    }
    Ok(Found::Running(Instance::new(
        dir.clone(),
        &spec,
        init,
        pidfd,
        keepers,
        shim,
    )?))
}

/// Init is dead: its shim records the end, or else another finds out what can be known.
async fn ended(dir: &Dir, shim_cgroup: &str) -> Result<Found, Error> {
    Shim::recorded(dir).ended().await;
    if exit::read(dir)?.is_none() {
        take_over(dir, shim_cgroup, None).await?.ended().await;
    }
    let exit = match exit::read(dir)? {
        Some(exit) => exit,
        None => {
            let exit = Exit::now(How::Unknown, false);
            exit::write(dir, &exit)?;
            exit
        }
    };
    Ok(Found::Ended(exit))
}
