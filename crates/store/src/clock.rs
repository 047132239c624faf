//! The master's time: the later of what the log last saw and the wall at the start of the
//! leadership, plus monotonic time since. A wall clock that jumps later on moves nothing.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use model::{Millis, Time};

#[derive(Clone, Copy, Debug)]
pub struct Clock {
    base: Time,
    started: Instant,
}

impl Clock {
    pub fn start(last_seen: Time) -> Self {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(Time::default(), |since| Time(since.as_millis() as u64));
        Self {
            base: wall.max(last_seen),
            started: Instant::now(),
        }
    }

    pub fn now(&self) -> Time {
        self.base + Millis(self.started.elapsed().as_millis() as u64)
    }
}
