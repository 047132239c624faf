//! Sends the stop signal and notes the time; what does not listen is killed later, by the clock.

use super::{Done, Error, Tools, Work};

pub(super) async fn stop(tools: &Tools, work: Work) -> Result<Done, Error> {
    let mut note = tools.disk.note(work.id);
    let sent = tools.clock.now();
    note.stopping = Some(sent);
    tools.disk.keep_note(work.id, &note)?;
    if let Some(instance) = work.running {
        match instance.signal(note.stop_signal) {
            // It was faster; its end is on its way.
            Ok(()) | Err(container::Error::Ended { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Done::Stopping(sent))
}
