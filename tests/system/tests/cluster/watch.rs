//! A move seen from outside: which phases it was in and for how long, by asking again and again.

use crate::cluster::{API, ask, json_of, wait_for};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// In their order.
const PHASES: [&str; 8] = [
    "reserve", "seed", "ready", "seal", "finish", "resume", "settle", "abandon",
];
/// Between two looks: short beside the shortest phase, long beside what a look costs the master.
const PAUSE: Duration = Duration::from_millis(4);
const PATIENCE: Duration = Duration::from_secs(90);

/// One app's move.
pub struct Watch {
    app: String,
    /// Each with the moment in which it was first seen.
    phases: Vec<(String, Instant)>,
    /// Why it was abandoned.
    reason: Option<String>,
    over: Option<Instant>,
}

impl Watch {
    /// Moves an app; an earlier move of it may still have to end.
    pub fn begin(app: &str, to: &str) -> Self {
        let wish = json!({ "app": app, "to": to });
        wait_for("a move to begin", || {
            match ask(API, "POST", "/tandem/v1/moves", Some(&wish)) {
                Ok((202, _)) => Ok(()),
                Ok((status, body)) => Err(format!("{status} {body}")),
                Err(error) => Err(error.to_string()),
            }
        });
        Watch {
            app: app.to_owned(),
            phases: Vec::new(),
            reason: None,
            over: None,
        }
    }

    /// Until the move is in this phase or a later one.
    pub fn reaches(&mut self, phase: &str) -> &str {
        self.look_until(|now| rank(now) >= rank(phase));
        self.now()
    }

    /// The phase that it is in now.
    pub fn looks(&mut self) -> &str {
        let deadline = Instant::now() + PATIENCE;
        while !self.look() {
            assert!(Instant::now() < deadline, "nobody tells of moves");
            std::thread::sleep(PAUSE);
        }
        self.now()
    }

    /// Until there is no such move any more; why it was abandoned, if it was.
    pub fn ends(&mut self) -> Option<&str> {
        self.look_until(|_| false);
        self.reason.as_deref()
    }

    /// The phase that it was last seen in.
    pub fn now(&self) -> &str {
        match (self.over, self.phases.last()) {
            (None, Some((phase, _))) => phase,
            (None, None) => "begun",
            (Some(_), _) => "over",
        }
    }

    /// Every phase with its milliseconds.
    pub fn parts(&self) -> String {
        let ends = self.phases.iter().skip(1).map(|(_, began)| *began);
        let ends = ends.chain(self.over);
        let parts = self.phases.iter().zip(ends).map(|((phase, began), end)| {
            format!("{phase} {}", end.duration_since(*began).as_millis())
        });
        parts.collect::<Vec<_>>().join(", ")
    }

    fn look_until(&mut self, enough: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while self.over.is_none() && !self.phases.last().is_some_and(|(now, _)| enough(now)) {
            assert!(
                Instant::now() < deadline,
                "the move of {} stays {}: {}",
                self.app,
                self.now(),
                self.parts()
            );
            std::thread::sleep(PAUSE);
            self.look();
        }
    }

    /// Whether somebody answered.
    fn look(&mut self) -> bool {
        // A master that was killed answers again when it is back.
        let Ok((200, body)) = ask(API, "GET", "/tandem/v1/moves", None) else {
            return false;
        };
        let moves = json_of(&body);
        let ours = |movement: &&Value| movement["app"] == self.app.as_str();
        let Some(movement) = moves.as_array().into_iter().flatten().find(ours) else {
            self.over = Some(Instant::now());
            return true;
        };
        if let Some(reason) = movement["reason"].as_str() {
            self.reason = Some(reason.to_owned());
        }
        let phase = movement["phase"].as_str().unwrap();
        if self.phases.last().is_none_or(|(now, _)| now != phase) {
            self.phases.push((phase.to_owned(), Instant::now()));
        }
        true
    }
}

fn rank(phase: &str) -> usize {
    let rank = PHASES.iter().position(|known| *known == phase);
    rank.unwrap_or_else(|| panic!("{phase} is no phase"))
}
