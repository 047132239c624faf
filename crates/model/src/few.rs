//! An ordered map of few entries in one piece of memory.
//!
//! What a node has of its own changes with every placement there, and each change of a state
//! copies what it touches. At these sizes one copy of everything costs less than the handful of
//! pieces, far apart in memory, of a map that shares what did not change.

#[derive(Debug, PartialEq, Eq)]
pub struct Few<K, V> {
    /// By key, ascending.
    entries: Vec<(K, V)>,
}

impl<K, V> Few<K, V> {
    /// A copy has room for so many more entries, and grows by as many: whoever copies it is about
    /// to add to it.
    const SPARE: usize = 4;

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn keys(&self) -> impl ExactSizeIterator<Item = &K> {
        self.entries.iter().map(|(key, _)| key)
    }
}

impl<K: Ord, V> Few<K, V> {
    pub fn get(&self, key: &K) -> Option<&V> {
        let found = self.find(key).ok()?;
        Some(&self.entries[found].1)
    }

    /// What the key had before.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.find(&key) {
            Ok(found) => Some(std::mem::replace(&mut self.entries[found].1, value)),
            Err(place) => {
                if self.entries.len() == self.entries.capacity() {
                    self.entries.reserve_exact(Self::SPARE);
                }
                self.entries.insert(place, (key, value));
                None
            }
        }
    }

    pub fn remove(&mut self, key: &K) -> Option<V> {
        let found = self.find(key).ok()?;
        Some(self.entries.remove(found).1)
    }

    /// Where the key is, or is to be put.
    fn find(&self, key: &K) -> Result<usize, usize> {
        self.entries.binary_search_by(|(its, _)| its.cmp(key))
    }
}

impl<K, V> Default for Few<K, V> {
    fn default() -> Self {
        let entries = Vec::new();
        Self { entries }
    }
}

impl<K: Copy, V: Copy> Clone for Few<K, V> {
    fn clone(&self) -> Self {
        let mut entries = Vec::new();
        if !self.entries.is_empty() {
            entries.reserve_exact(self.entries.len() + Self::SPARE);
            entries.extend_from_slice(&self.entries);
        }
        Self { entries }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_in_order_of_their_keys_however_they_came() {
        let mut few = Few::default();
        for key in [3, 1, 2, 9, 7, 8] {
            assert_eq!(few.insert(key, key * 10), None);
        }
        assert_eq!(few.insert(2, 21), Some(20));
        assert_eq!(few.remove(&9), Some(90));
        assert_eq!(few.remove(&4), None);
        assert_eq!(few.keys().copied().collect::<Vec<_>>(), [1, 2, 3, 7, 8]);
        assert_eq!((few.get(&2), few.get(&9), few.len()), (Some(&21), None, 5));
    }

    #[test]
    fn a_copy_is_equal_and_apart() {
        let mut few = Few::default();
        assert!(few.clone().is_empty());
        few.insert(1, 'a');
        let mut copy = few.clone();
        assert_eq!(copy, few);
        copy.insert(2, 'b');
        assert_eq!((few.len(), copy.len()), (1, 2));
    }
}
