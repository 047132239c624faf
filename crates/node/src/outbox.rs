//! What the master is still to be told: one entry per subject, the newest level in place of
//! earlier ones, kept until the master has it on disk.
//!
//! *Guarantees.* Entries are handed out in order of their numbers, so that an acknowledgement of
//! a number covers every smaller one. After a reconnect everything unacknowledged is handed out
//! again; after a new leadership everything, for that master may have been restored from an
//! older copy. A level equal to the last one told is not told again.
//!
//! *Assumptions.* A session delivers in order or breaks. The incarnation is on disk before the
//! first entry is sent.

use std::collections::{BTreeMap, BTreeSet};

use model::ids::{Incarnation, NodeId};
use model::sighting::{Level, Sighting, Subject};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outbox {
    incarnation: Incarnation,
    last: u64,
    /// Entries up to here were handed out in this session.
    sent: u64,
    newest: BTreeMap<Subject, Entry>,
    /// Which subjects are unacknowledged, by number.
    waiting: BTreeMap<u64, Subject>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    sequence: u64,
    level: Level,
}

impl Outbox {
    pub fn new(incarnation: Incarnation) -> Self {
        Self {
            incarnation,
            last: 0,
            sent: 0,
            newest: BTreeMap::new(),
            waiting: BTreeMap::new(),
        }
    }

    /// Takes a subject's newest level; false when it is the one already taken.
    pub fn put(&mut self, level: Level) -> bool {
        let subject = subject(&level);
        if let Some(entry) = self.newest.get(&subject) {
            if entry.level == level {
                return false;
            }
            self.waiting.remove(&entry.sequence);
        }
        self.last += 1;
        let sequence = self.last;
        self.waiting.insert(sequence, subject.clone());
        self.newest.insert(subject, Entry { sequence, level });
        true
    }

    /// Takes the levels of all instances and volumes ([`crate::level::levels`]), and forgets
    /// those that there is nothing more to say of.
    pub fn put_all(&mut self, levels: Vec<Level>) {
        let subjects: BTreeSet<Subject> = levels.iter().map(subject).collect();
        for level in levels {
            self.put(level);
        }
        let waiting = &self.waiting;
        self.newest.retain(|key, entry| {
            matches!(key, Subject::Node(_))
                || subjects.contains(key)
                || waiting.contains_key(&entry.sequence)
        });
    }

    /// The next entries that this session was not given yet, at most `limit`.
    pub fn take(&mut self, limit: usize) -> Vec<Sighting> {
        let batch: Vec<Sighting> = self
            .waiting
            .range(self.sent + 1..)
            .take(limit)
            .filter_map(|(_, subject)| self.newest.get(subject))
            .map(|entry| Sighting {
                incarnation: self.incarnation,
                sequence: entry.sequence,
                level: entry.level.clone(),
            })
            .collect();
        if let Some(sighting) = batch.last() {
            self.sent = sighting.sequence;
        }
        batch
    }

    /// A session begins. `all`: under a new leadership.
    pub fn rejoined(&mut self, all: bool) {
        self.sent = 0;
        if all {
            self.waiting = self
                .newest
                .iter()
                .map(|(subject, entry)| (entry.sequence, subject.clone()))
                .collect();
        }
    }

    /// The master has everything up to `sequence` on disk. What speaks of another incarnation
    /// or of more than was sent is ignored.
    pub fn acknowledged(&mut self, incarnation: Incarnation, sequence: u64) {
        if incarnation != self.incarnation || sequence > self.sent {
            return;
        }
        let unacknowledged = self.waiting.split_off(&(sequence + 1));
        self.waiting = unacknowledged;
    }

    /// Whether the master has the newest level of this instance or volume.
    pub fn is_settled(&self, subject: &Subject) -> bool {
        self.newest
            .get(subject)
            .is_some_and(|entry| !self.waiting.contains_key(&entry.sequence))
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// This outbox speaks of one node only, so that its number does not matter.
fn subject(level: &Level) -> Subject {
    level.subject(NodeId::default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{InstanceId, InstanceLevel, Rung};

    fn level(slot: u32, rung: Rung) -> Level {
        let id = InstanceId { birth: 1, slot };
        let level = InstanceLevel {
            rung,
            ..InstanceLevel::default()
        };
        Level::Instance(id, level)
    }

    fn numbers(batch: &[Sighting]) -> Vec<u64> {
        batch.iter().map(|sighting| sighting.sequence).collect()
    }

    #[test]
    fn the_newest_level_takes_the_place_of_earlier_ones_and_the_same_is_not_told_twice() {
        let mut outbox = Outbox::new(Incarnation(7));
        assert!(outbox.put(level(1, Rung::Preparing)));
        assert!(outbox.put(level(2, Rung::Running)));
        assert!(outbox.put(level(1, Rung::Running)));
        assert!(!outbox.put(level(1, Rung::Running)));
        let batch = outbox.take(10);
        assert_eq!(numbers(&batch), vec![2, 3]);
        assert_eq!(batch[1].level, level(1, Rung::Running));
        assert_eq!(outbox.take(10), vec![]);
    }

    #[test]
    fn what_was_not_acknowledged_is_sent_again_after_a_reconnect() {
        let mut outbox = Outbox::new(Incarnation(7));
        for slot in 1..=3 {
            outbox.put(level(slot, Rung::Running));
        }
        assert_eq!(numbers(&outbox.take(2)), vec![1, 2]);
        outbox.acknowledged(Incarnation(7), 1);
        outbox.rejoined(false);
        assert_eq!(numbers(&outbox.take(10)), vec![2, 3]);
        outbox.rejoined(true);
        assert_eq!(numbers(&outbox.take(10)), vec![1, 2, 3]);
    }

    #[test]
    fn acknowledgements_of_another_incarnation_or_of_what_was_not_sent_are_ignored() {
        let mut outbox = Outbox::new(Incarnation(7));
        outbox.put(level(1, Rung::Running));
        outbox.acknowledged(Incarnation(7), 1);
        let subject = Subject::Instance(InstanceId { birth: 1, slot: 1 });
        assert!(!outbox.is_settled(&subject));
        outbox.take(1);
        outbox.acknowledged(Incarnation(6), 1);
        assert!(!outbox.is_settled(&subject));
        outbox.acknowledged(Incarnation(7), 1);
        assert!(outbox.is_settled(&subject) && outbox.is_empty());
    }

    #[test]
    fn what_is_over_is_told_until_acknowledged_and_once_only() {
        let mut outbox = Outbox::new(Incarnation(7));
        outbox.put_all(vec![level(1, Rung::Gone)]);
        outbox.put_all(vec![]);
        assert_eq!(numbers(&outbox.take(1)), vec![1]);
        outbox.acknowledged(Incarnation(7), 1);
        outbox.put_all(vec![level(1, Rung::Gone)]);
        assert_eq!(outbox.take(1), vec![]);
        outbox.put_all(vec![]);
        outbox.rejoined(true);
        assert_eq!(outbox.take(1), vec![]);
    }
}
