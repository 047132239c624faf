//! Lets a frozen instance run on.

use super::{Done, Error, Work};

pub(super) async fn thaw(work: Work) -> Result<Done, Error> {
    let instance = work.running.ok_or(Error::NotRunning(work.id))?;
    instance.thaw().await?;
    Ok(Done::Thawed)
}
