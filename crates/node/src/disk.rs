//! How full the disk of the node's images may get, and how much has to go when it is fuller.
//! Which images those are, the least recently used that nothing names, is the store's to find.

/// When images go, and down to where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    /// Percent in use above which they go; 100: never for that.
    pub high: u8,
    /// Percent in use down to which they go then.
    pub low: u8,
    /// Bytes that are to be free whatever the percentage: a tenth of a small disk is little room
    /// for the next image.
    pub free: u64,
}

/// How much of something is taken, and how much can still be had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fill {
    pub used: u64,
    pub available: u64,
}

/// What is to be freed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Excess {
    pub bytes: u64,
    /// Entries of the filesystem's table of files, where it has one.
    pub files: u64,
}

impl Excess {
    /// Everything that can go.
    pub const ALL: Self = Self {
        bytes: u64::MAX,
        files: u64::MAX,
    };

    pub fn is_none(self) -> bool {
        self == Self::default()
    }

    /// What is left of it once so much was freed.
    pub fn less(self, bytes: u64, files: u64) -> Self {
        Self {
            bytes: self.bytes.saturating_sub(bytes),
            files: self.files.saturating_sub(files),
        }
    }
}

impl Fill {
    /// As `df` shows it; nothing of nothing is 0 %.
    pub fn percent(self) -> u64 {
        let total = u128::from(self.used) + u128::from(self.available);
        let percent = (u128::from(self.used) * 100).checked_div(total);
        percent.and_then(|n| n.try_into().ok()).unwrap_or(0)
    }

    /// How much of it lies above `low` percent, if it is above `high` percent.
    fn above(self, high: u8, low: u8) -> u64 {
        let (used, total) = (
            u128::from(self.used),
            u128::from(self.used) + u128::from(self.available),
        );
        if used * 100 <= total * u128::from(high) {
            return 0;
        }
        let wanted = total * u128::from(low.min(high)) / 100;
        u64::try_from(used - wanted).unwrap_or(u64::MAX)
    }
}

impl Marks {
    /// How much is to go from a filesystem that is so full. A filesystem without a table of files
    /// counts none.
    pub fn excess(&self, bytes: Fill, files: Fill) -> Excess {
        let missing = self.free.saturating_sub(bytes.available);
        Excess {
            bytes: bytes.above(self.high, self.low).max(missing),
            files: files.above(self.high, self.low),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKS: Marks = Marks {
        high: 85,
        low: 80,
        free: 10,
    };

    fn fill(used: u64, available: u64) -> Fill {
        Fill { used, available }
    }

    fn excess(bytes: u64, files: u64) -> Excess {
        Excess { bytes, files }
    }

    #[test]
    fn nothing_goes_up_to_the_high_mark_and_above_it_all_down_to_the_low_one() {
        let none = fill(0, 0);
        assert!(MARKS.excess(fill(85, 15), none).is_none());
        assert_eq!(MARKS.excess(fill(86, 14), none), excess(6, 0));
        assert_eq!(MARKS.excess(fill(100, 0), none), excess(20, 0));
        let most = fill(u64::MAX, 0);
        let fifth = u64::MAX - (u128::from(u64::MAX) * 80 / 100) as u64;
        assert_eq!(MARKS.excess(most, none), excess(fifth, 0));
    }

    #[test]
    fn little_room_is_missing_whatever_the_percentage() {
        assert_eq!(MARKS.excess(fill(4, 4), fill(0, 0)), excess(6, 0));
        assert_eq!(MARKS.excess(fill(96, 4), fill(0, 0)), excess(16, 0));
        assert!(MARKS.excess(fill(0, 10), fill(0, 0)).is_none());
    }

    #[test]
    fn a_full_table_of_files_is_a_full_disk() {
        assert_eq!(MARKS.excess(fill(1, 99), fill(90, 10)), excess(0, 10));
    }

    #[test]
    fn at_100_percent_only_missing_room_counts() {
        let marks = Marks {
            high: 100,
            low: 80,
            free: 0,
        };
        assert!(marks.excess(fill(7, 0), fill(7, 0)).is_none());
    }

    #[test]
    fn a_low_mark_above_the_high_one_counts_as_that() {
        let marks = Marks { low: 90, ..MARKS };
        assert_eq!(marks.excess(fill(86, 14), fill(0, 0)), excess(1, 0));
    }

    #[test]
    fn what_was_freed_is_taken_off() {
        assert!(excess(5, 1).less(7, 1).is_none());
        assert_eq!(excess(5, 1).less(2, 0), excess(3, 1));
        assert_eq!(fill(1, 3).percent(), 25);
        assert_eq!(fill(0, 0).percent(), 0);
    }
}
