//! A dense table of records in a persistent vector: cheap to share, cheap to change in one place.
//!
//! A freed slot is used again; whoever must tell two tenants of one slot apart keeps a number
//! of its own beside it (see `InstanceId`).

use std::sync::Arc;

use imbl::{OrdSet, Vector};

/// Records by slot number.
#[derive(Clone, Debug)]
pub struct Slots<T: Clone> {
    /// Behind pointers: a persistent vector copies 64 neighbours to change one.
    records: Vector<Option<Arc<T>>>,
    free: OrdSet<u32>,
    live: usize,
}

impl<T: Clone> Default for Slots<T> {
    fn default() -> Self {
        Self {
            records: Vector::new(),
            free: OrdSet::new(),
            live: 0,
        }
    }
}

impl<T: Clone> Slots<T> {
    /// The slot that the next record gets: the lowest that is free. It follows from what is
    /// there, not from how it came about, or a table read back from a checkpoint would give the
    /// records after it other slots than the log says.
    pub fn next_free(&self) -> u32 {
        self.free
            .get_min()
            .copied()
            .unwrap_or(self.records.len() as u32)
    }

    /// Puts a record into `slot`, whether that slot exists yet or not.
    pub fn put(&mut self, slot: u32, record: T) {
        while self.records.len() < slot as usize {
            self.free.insert(self.records.len() as u32);
            self.records.push_back(None);
        }
        let record = Some(Arc::new(record));
        if self.records.len() == slot as usize {
            self.live += 1;
            self.records.push_back(record);
        } else if self.records.set(slot as usize, record).is_none() {
            self.live += 1;
            self.free.remove(&slot);
        }
    }

    pub fn get(&self, slot: u32) -> Option<&T> {
        self.records.get(slot as usize)?.as_deref()
    }

    pub fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        self.records
            .get_mut(slot as usize)?
            .as_mut()
            .map(Arc::make_mut)
    }

    pub fn remove(&mut self, slot: u32) -> Option<Arc<T>> {
        let removed = self.records.get_mut(slot as usize)?.take()?;
        self.live -= 1;
        self.free.insert(slot);
        Some(removed)
    }

    /// Every slot in use is below this number.
    pub fn bound(&self) -> u32 {
        self.records.len() as u32
    }

    pub fn len(&self) -> usize {
        self.live
    }

    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Living records with their slots, in order of slots.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.records
            .iter()
            .enumerate()
            .filter_map(|(slot, record)| Some((slot as u32, record.as_deref()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_freed_slot_is_used_again_and_a_gap_is_filled() {
        let mut slots = Slots::default();
        slots.put(2, "c");
        assert_eq!(slots.next_free(), 0);
        slots.put(1, "b");
        slots.put(0, "a");
        assert_eq!(slots.next_free(), 3);
        assert_eq!(slots.remove(1).as_deref(), Some(&"b"));
        assert_eq!((slots.next_free(), slots.len()), (1, 2));
        assert_eq!(slots.iter().collect::<Vec<_>>(), vec![(0, &"a"), (2, &"c")]);
    }
}
