//! Sends the stop signal and notes the time; what does not listen is killed later, by the clock.

use super::{Done, Error, Tools, Work};

pub(super) async fn stop(tools: &Tools, work: Work) -> Result<Done, Error> {
    let signal = tools.disk.note(work.id).stop_signal;
    let sent = tools.clock.now();
    tools.note(work.id, |note| note.stopping = Some(sent));
    if let Some(instance) = work.running {
        match instance.signal(signal) {
            // It was faster; its end is on its way.
            Ok(()) | Err(container::Error::Ended { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Done::Stopping(sent))
}
