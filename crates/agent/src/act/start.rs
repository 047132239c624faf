//! Lets the process go. Whatever fails here leaves nothing running: how far it came is not known,
//! and an instance never runs twice.

use container::Found;

use super::{Done, Error, Tools, Work};

pub(super) async fn start(tools: &Tools, work: Work) -> Result<Done, Error> {
    let created = work.created.ok_or(Error::NotCreated(work.id))?;
    match created.start().await {
        Ok(instance) => {
            let since = tools.clock.now();
            tools.note(work.id, |note| note.since = Some(since));
            Ok(Done::Running(instance, since))
        }
        Err(error) => {
            if let Found::Running(instance) =
                container::adopt(&tools.disk.container(work.id)).await?
            {
                instance.kill().await?;
            }
            Err(error.into())
        }
    }
}
