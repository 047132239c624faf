//! Stops every process of an instance where it is; done when the kernel says that they are.

use super::{Done, Error, Work};

pub(super) async fn freeze(work: Work) -> Result<Done, Error> {
    let instance = work.running.ok_or(Error::NotRunning(work.id))?;
    instance.freeze().await?;
    Ok(Done::Frozen)
}
