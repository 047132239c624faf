//! Wall-clock stamps of log lines (RFC 3339 with nanoseconds, always UTC), written and read.
//! No calendar arithmetic beyond that.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// `2026-11-21T12:22:06.218537246+00:00`
pub fn stamp(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = since.as_secs();
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let nanos = since.subsec_nanos();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}+00:00")
}

/// The reverse of [`stamp`]; `None` for any other form.
pub fn parse(text: &str) -> Option<SystemTime> {
    let field = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
    if text.len() != 35 || !text.ends_with("+00:00") {
        return None;
    }
    let days = days(field(0, 4)?, field(5, 7)?, field(8, 10)?)?;
    let seconds = days * 86_400 + field(11, 13)? * 3600 + field(14, 16)? * 60 + field(17, 19)?;
    let nanos = u32::try_from(field(20, 29)?).ok()?;
    UNIX_EPOCH.checked_add(Duration::new(seconds, nanos))
}

const DAYS: [u64; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

fn leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_in(year: u64, month: u64) -> u64 {
    let index = usize::try_from(month - 1).expect("a month is below 13");
    DAYS[index] + u64::from(month == 2 && leap(year))
}

/// Days from 1970 to the first day of `year`.
fn days_before(year: u64) -> u64 {
    let leaps = |year: u64| year / 4 - year / 100 + year / 400;
    (year - 1970) * 365 + leaps(year - 1) - leaps(1969)
}

fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    if year < 1970 || !(1..=12).contains(&month) || !(1..=days_in(year, month)).contains(&day) {
        return None;
    }
    Some(days_before(year) + (1..month).map(|m| days_in(year, m)).sum::<u64>() + day - 1)
}

fn civil(days: u64) -> (u64, u64, u64) {
    let mut year = 1970 + days / 366;
    while days_before(year + 1) <= days {
        year += 1;
    }
    let mut rest = days - days_before(year);
    let mut month = 1;
    while rest >= days_in(year, month) {
        rest -= days_in(year, month);
        month += 1;
    }
    (year, month, rest + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_utc_with_nanoseconds() {
        let at = UNIX_EPOCH + Duration::new(1_795_263_726, 218_537_246);
        assert_eq!(stamp(at), "2026-11-21T12:22:06.218537246+00:00");
        assert_eq!(stamp(UNIX_EPOCH), "1970-01-01T00:00:00.000000000+00:00");
    }

    #[test]
    fn a_stamp_reads_back_on_every_day_of_a_century() {
        for day in 0..40_000 {
            let at = UNIX_EPOCH + Duration::new(day * 86_400 + 86_399, 7);
            assert_eq!(parse(&stamp(at)), Some(at), "{}", stamp(at));
        }
        assert_eq!(parse("2026-02-29T00:00:00.000000000+00:00"), None);
        assert_eq!(parse("yesterday"), None);
    }
}
