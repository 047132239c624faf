//! Fingerprints of values: the same on every machine and in every build, so that master and
//! agent can compare what they hold without sending it. Not a defence against forgery.

use std::hash::{Hash, Hasher};

/// FNV-1a, 64 bit.
struct Fnv(u64);

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// The fingerprint of one entry. A map's is the wrapping sum over its entries, so that a change
/// of one entry changes the sum by a difference and costs nothing more.
pub fn of<T: Hash>(value: &T) -> u64 {
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    value.hash(&mut hasher);
    hasher.finish()
}

/// The wrapping sum over a map's entries.
pub fn sum<'a, K: Hash + 'a, V: Hash + 'a>(
    entries: impl IntoIterator<Item = (&'a K, &'a V)>,
) -> u64 {
    entries
        .into_iter()
        .fold(0, |sum, entry| sum.wrapping_add(of(&entry)))
}
