//! Makes the container, its process waiting at the door.

use super::{Done, Error, Tools, Work, blocking, spec};
use crate::disk::Note;

pub(super) async fn create(tools: &Tools, work: Work) -> Result<Done, Error> {
    let plan = spec::Plan::of(tools, &work)?;
    let (spec, stop_signal) = blocking(move || plan.carry_out()).await?;
    let note = Note {
        stop_signal,
        ..Note::default()
    };
    tools.disk.keep_note(work.id, &note)?;
    let dir = tools.disk.container(work.id);
    Ok(Done::Created(container::create(&dir, &spec).await?))
}
