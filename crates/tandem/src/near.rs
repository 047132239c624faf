//! "Did you mean": the known name nearest to one that is not known.

/// The name nearest to `given` that could be a slip of the finger, or the only one whose last
/// part (after a slash) it is.
pub fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let known: Vec<&str> = known.into_iter().collect();
    let last = given.rsplit('/').next().unwrap_or(given);
    let mut same_end = known
        .iter()
        .filter(|name| name.rsplit('/').next() == Some(last));
    if let (Some(name), None) = (same_end.next(), same_end.next()) {
        return Some(name);
    }
    known
        .into_iter()
        .map(|name| (distance(given, name), name))
        .filter(|(distance, name)| *distance <= 1.max(name.chars().count() / 3))
        .min()
        .map(|(_, name)| name)
}

/// How many characters must be inserted, removed, replaced or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before_last = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut row = vec![i + 1];
        for j in 0..b.len() {
            let replaced = last[j] + usize::from(a[i] != b[j]);
            let mut best = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                let swapped: &Vec<usize> = &before_last;
                best = best.min(swapped[j - 1] + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_count_slips() {
        let cases = [
            ("", "abc", 3),
            ("listen", "lisetn", 1),
            ("n1", "n2", 1),
            ("a", "a", 0),
        ];
        for (a, b, expected) in cases {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn a_slip_or_a_last_part_finds_its_name_and_nonsense_finds_none() {
        let apps = ["/shop/web", "/shop/app", "/shop/db"];
        assert_eq!(nearest("/shop/wbe", apps), Some("/shop/web"));
        assert_eq!(nearest("/db", apps), Some("/shop/db"));
        assert_eq!(nearest("/something", apps), None);
    }
}
