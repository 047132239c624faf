//! The agent's loops, put together.

use std::sync::Arc;

use node::Session;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::act::Tools;
use crate::heart::Heart;
use crate::{Config, Error, boot, disk::Disk, identity, images, link, observe, overlay, streams};

/// Events that may wait for the heart; beyond that, whoever has more waits.
const EVENTS_WAITING: usize = 256;

/// Runs an agent until one of its loops ends, and says which and why. Dropping the future ends
/// the agent and leaves its containers running.
///
/// # Errors
/// State that cannot be read or written, no token for a first start, another agent on the same
/// state directory. Everything that time may heal is retried and logged instead.
pub async fn run(mut config: Config) -> Result<(), Error> {
    let disk = Disk::open(&config.state_dir)?;
    let boot = boot::current()?;
    config.machine.boot.clone_from(&boot);
    let config = Arc::new(config);
    // Locks the state directory: nothing is changed in it that another agent is using.
    let tools = Arc::new(Tools::open(disk.clone(), Arc::clone(&config))?);
    let remembered = disk.remembered()?;
    let same_boot = remembered.memory.boot == boot;
    let session = Session::start(remembered, &boot);
    // The incarnation must never be used twice.
    disk.keep_memory(session.memory())?;
    let found = observe::observe(&tools, &session).await?;

    let (events, waiting) = mpsc::channel(EVENTS_WAITING);
    let (wanted, wants) = watch::channel(None);
    let (offers, offered) = watch::channel(Vec::new());
    let heart = Heart::new(
        Arc::clone(&tools),
        session,
        found,
        same_boot,
        events.clone(),
        wanted,
        offers,
    )?;
    let mut loops: JoinSet<Error> = JoinSet::new();
    let named = |name, source| Error::Ended {
        name,
        source: Box::new(source),
    };
    loops.spawn(async move { named("heart", heart.run(waiting).await) });
    let (dir, own) = (disk.identity(), Arc::clone(&config));
    let to_heart = events.clone();
    loops.spawn(async move { named("link", link::run(&own, &dir, to_heart).await) });
    let (dir, own) = (disk.identity(), Arc::clone(&config));
    loops.spawn(async move { match identity::keep_fresh(&own, &dir).await {} });
    let own = Arc::clone(&tools);
    loops.spawn(async move { match images::run(own).await {} });
    loops.spawn(async move { match streams::run(tools, offered).await {} });
    loops.spawn(async move { match overlay::run(&config, wants, events).await {} });
    match loops.join_next().await {
        Some(Ok(error)) => Err(error),
        Some(Err(source)) => Err(Error::Panicked { source }),
        None => Ok(()),
    }
}
