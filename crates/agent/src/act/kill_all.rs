//! SIGKILL to every process of a frozen instance, before any of them may run on.

use super::{Done, Error, Work};

pub(super) async fn kill_all(work: Work) -> Result<Done, Error> {
    let instance = work.running.ok_or(Error::NotRunning(work.id))?;
    instance.kill_frozen().await?;
    Ok(Done::Killed)
}
