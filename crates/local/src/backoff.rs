//! How long to wait before something that ended is started again.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);
/// What ran this long had a good start; the next failure is a new one.
const STEADY: Duration = Duration::from_secs(10);

/// Doubles with every quick end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Backoff {
    last: Option<Duration>,
}

impl Backoff {
    /// The pause after something lived for `lifetime`.
    pub(crate) fn after(&mut self, lifetime: Duration) -> Duration {
        let pause = match self.last {
            Some(last) if lifetime < STEADY => (last * 2).min(LONGEST),
            _ => FIRST,
        };
        self.last = Some(pause);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound_and_begin_anew_after_a_steady_run() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..8)
            .map(|_| backoff.after(Duration::ZERO).as_millis())
            .collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(backoff.after(STEADY), FIRST);
    }
}
