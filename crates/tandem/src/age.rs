//! How long ago something was, for people.

use std::time::{SystemTime, UNIX_EPOCH};

use model::Time;

/// `12 min ago`, or the instant itself where that cannot be told.
pub fn ago(then: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
    match then.parse::<Time>() {
        Ok(time) => format!("{} ago", span((Time(now) - time).0 / 1000)),
        Err(_) => then.to_owned(),
    }
}

/// The largest unit in which at least two of it have passed.
fn span(seconds: u64) -> String {
    let units = [(86_400, "days"), (3600, "h"), (60, "min")];
    let fits = |(length, _): &&(u64, &str)| seconds >= 2 * length;
    match units.iter().find(fits) {
        Some((length, unit)) => format!("{} {unit}", seconds / length),
        None => format!("{seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_told_in_one_unit() {
        let spans = [0, 119, 120, 7199, 7200, 172_799, 172_800].map(span);
        assert_eq!(
            spans,
            ["0 s", "119 s", "2 min", "119 min", "2 h", "47 h", "2 days"]
        );
    }
}
