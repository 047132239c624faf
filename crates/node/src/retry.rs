//! What follows from an action that failed: it is tried again, later each time, or the instance
//! is over.
//!
//! A failed `Create` or `Start` ends the instance: how far its process came is not known, and an
//! instance never runs twice. Everything before can be repeated, and everything after must be.

use model::instance::{Exit, ExitStatus};
use model::{Millis, Time};

use crate::action::Action;
use crate::observed::Failure;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Again(Failure),
    /// The agent kills what there is of it and counts it as ended with this exit.
    Over(Exit),
}

const FIRST: Millis = Millis(1000);
/// A registry that is down must not be asked every second by every node.
const LAST: Millis = Millis(60_000);
/// What is to go must go soon: it holds claims.
const LAST_DOWN: Millis = Millis(5000);

/// `earlier`: the subject's newest failure, if its action failed before.
pub fn after(action: Action, earlier: Option<&Failure>, why: String, now: Time) -> Outcome {
    if matches!(action, Action::Create { .. } | Action::Start { .. }) {
        return Outcome::Over(Exit {
            status: ExitStatus::NeverRan(why),
            out_of_memory: false,
            last_line: None,
        });
    }
    let before = earlier
        .filter(|failure| failure.action == action)
        .map_or(0, |failure| failure.times);
    let most = if action.climbs() { LAST } else { LAST_DOWN };
    let wait = Millis(FIRST.0 << before.min(16)).min(most);
    Outcome::Again(Failure {
        action,
        why,
        times: before.saturating_add(1),
        retry_at: now + wait,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::InstanceId;

    #[test]
    fn a_pull_is_tried_again_later_each_time_and_a_create_never() {
        let instance = InstanceId::default();
        let mut waits = Vec::new();
        let mut earlier: Option<Failure> = None;
        for _ in 0..8 {
            let pull = Action::PullImage { instance };
            match after(pull, earlier.as_ref(), "no route".into(), Time(0)) {
                Outcome::Again(failure) => {
                    waits.push(failure.retry_at.0);
                    earlier = Some(failure);
                }
                Outcome::Over(exit) => panic!("{exit:?}"),
            }
        }
        let expected = [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000];
        assert_eq!(waits, expected);
        let create = Action::Create { instance };
        assert_eq!(
            after(create, earlier.as_ref(), "no such command".into(), Time(0)),
            Outcome::Over(Exit {
                status: ExitStatus::NeverRan("no such command".into()),
                out_of_memory: false,
                last_line: None
            })
        );
    }
}
