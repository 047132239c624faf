//! Instants and spans in milliseconds. Where the present comes from is the caller's business.

use std::fmt;
use std::ops::{Add, Sub};

use serde::{Deserialize, Serialize};

/// Milliseconds since 1970-01-01T00:00:00Z, in the master's time.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Time(pub u64);

/// A span in milliseconds.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl Millis {
    pub const fn seconds(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1000))
    }
}

impl Add<Millis> for Time {
    type Output = Time;
    fn add(self, span: Millis) -> Time {
        Time(self.0.saturating_add(span.0))
    }
}

impl Sub for Time {
    type Output = Millis;
    /// The span since `earlier`; zero when `earlier` is later.
    fn sub(self, earlier: Time) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Time {
    /// `2026-11-21T12:22:06.218Z`, always three digits of milliseconds, as Marathon writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, ms) = (self.0 / 86_400_000, self.0 % 86_400_000);
        let (year, month, day) = civil(days);
        let (h, m, s) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{:03}Z",
            ms % 1000
        )
    }
}

/// Proleptic Gregorian date of a day number counted from 1970-01-01
/// (the usual algorithm on eras of 400 years that begin in March).
fn civil(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

/// What is not a timestamp of the form `2026-11-21T12:22:06.218Z`.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("'{0}' is not a timestamp like 2026-11-21T12:22:06.218Z")]
pub struct ParseTime(String);

impl std::str::FromStr for Time {
    type Err = ParseTime;

    fn from_str(text: &str) -> Result<Self, ParseTime> {
        let fault = || ParseTime(text.to_owned());
        let bytes = text.as_bytes();
        let shape = b"dddd-dd-ddTdd:dd:dd.dddZ";
        let fits = bytes.len() == shape.len()
            && bytes.iter().zip(shape).all(|(b, s)| match s {
                b'd' => b.is_ascii_digit(),
                _ => b == s,
            });
        if !fits {
            return Err(fault());
        }
        let number =
            |range: std::ops::Range<usize>| text[range].parse::<u64>().map_err(|_| fault());
        let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
        let (h, m, s, ms) = (
            number(11..13)?,
            number(14..16)?,
            number(17..19)?,
            number(20..23)?,
        );
        if year < 1970 || !(1..=12).contains(&month) || h > 23 || m > 59 || s > 59 {
            return Err(fault());
        }
        // The day number is found by its own inverse, so that the two can never disagree.
        let guess = (year - 1970) * 365 + (year - 1969) / 4 + (month - 1) * 30 + day;
        let days = (guess.saturating_sub(40)..guess + 40)
            .find(|days| civil(*days) == (year, month, day))
            .ok_or_else(fault)?;
        Ok(Time(
            days * 86_400_000 + h * 3_600_000 + m * 60_000 + s * 1000 + ms,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_reads_back_as_written() {
        for ms in [
            0,
            951_782_400_123,
            1_795_263_726_218,
            4_102_444_800_000,
            1_709_164_800_000,
        ] {
            let text = Time(ms).to_string();
            assert_eq!(text.parse(), Ok(Time(ms)), "{text}");
        }
        assert_eq!(
            Time(1_709_164_800_000).to_string(),
            "2024-02-29T00:00:00.000Z"
        );
    }

    #[test]
    fn what_is_no_timestamp_is_refused() {
        for text in [
            "",
            "2026-02-30T00:00:00.000Z",
            "2026-11-21T12:22:06Z",
            "2026-13-01T00:00:00.000Z",
            "äöüäöüäöüäöü",
        ] {
            assert!(text.parse::<Time>().is_err(), "{text}");
        }
    }
}
