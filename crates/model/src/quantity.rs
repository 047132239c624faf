//! Amounts without floating point, so that states compare and hash exactly.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A non-negative amount in thousandths: cpus, mebibytes, factors, shares.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Quantity(pub u64);

/// A [`Quantity`] of mebibytes (memory, disk).
pub type Mebibytes = Quantity;

impl Quantity {
    pub const ZERO: Self = Self(0);

    /// `n` whole units.
    pub const fn whole(n: u64) -> Self {
        Self(n.saturating_mul(1000))
    }

    /// The nearest thousandth; `None` for what is negative, not finite or beyond 2^52 units.
    pub fn from_f64(value: f64) -> Option<Self> {
        (value.is_finite() && (0.0..4_503_599_627_370_496.0).contains(&value))
            .then(|| Self((value * 1000.0).round() as u64))
    }

    pub fn as_f64(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    pub fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    pub fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    pub fn saturating_mul(self, n: u64) -> Self {
        Self(self.0.saturating_mul(n))
    }

    /// `1.5 GiB`, if it counts mebibytes: at most one digit behind the point.
    pub fn mebibytes_in_words(self) -> String {
        let (amount, unit) = match self.as_f64() {
            amount if amount >= 1024.0 * 1024.0 => (amount / 1024.0 / 1024.0, "TiB"),
            amount if amount >= 1024.0 => (amount / 1024.0, "GiB"),
            amount => (amount, "MiB"),
        };
        let text = format!("{amount:.1}");
        format!("{} {unit}", text.strip_suffix(".0").unwrap_or(&text))
    }

    /// The amount as bytes, if it counts mebibytes.
    pub fn mebibytes_as_bytes(self) -> u64 {
        (u128::from(self.0) * 1_048_576 / 1000).min(u128::from(u64::MAX)) as u64
    }
}

impl fmt::Display for Quantity {
    /// `1`, `0.5`, `128.125`: no trailing zeros.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0 / 1000)?;
        match self.0 % 1000 {
            0 => Ok(()),
            rest => write!(f, ".{}", format!("{rest:03}").trim_end_matches('0')),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_print_without_noise() {
        assert_eq!(Quantity(1000).to_string(), "1");
        assert_eq!(Quantity(500).to_string(), "0.5");
        assert_eq!(
            Quantity::from_f64(0.1).map(|q| q.to_string()),
            Some("0.1".into())
        );
        assert_eq!(Quantity::from_f64(-1.0), None);
        assert_eq!(Quantity::from_f64(f64::NAN), None);
        assert_eq!(Quantity(1500).mebibytes_as_bytes(), 1_572_864);
        let sizes = [64, 1024, 1536, 3_145_728].map(Quantity::whole);
        assert_eq!(
            sizes.map(Quantity::mebibytes_in_words),
            ["64 MiB", "1 GiB", "1.5 GiB", "3 TiB"]
        );
    }
}
