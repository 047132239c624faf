//! The present, as milliseconds that never go back while the agent lives. Only ever compared
//! with this agent's own.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use model::Time;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    wall: u64,
    since: Instant,
}

impl Clock {
    pub fn start() -> Self {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, millis);
        Self {
            wall,
            since: Instant::now(),
        }
    }

    pub fn now(&self) -> Time {
        Time(self.wall.saturating_add(millis(self.since.elapsed())))
    }

    /// How long it is until `time`; nothing when it has passed.
    pub fn until(&self, time: Time) -> Duration {
        Duration::from_millis((time - self.now()).0)
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
