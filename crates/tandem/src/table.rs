//! Tables for people: capital headers, no borders, two spaces between columns, the last column as
//! wide as it is.

/// The lines of a table, each ended. An empty cell shows as `-`, a blank one as nothing; line breaks
/// in cells become spaces.
pub fn render<const N: usize>(headers: [&str; N], rows: &[[String; N]]) -> String {
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| shown(cell)).collect())
        .collect();
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .chain([headers[column].len()])
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut text = String::new();
    let headers = headers.map(str::to_owned).to_vec();
    for row in std::iter::once(&headers).chain(&rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width - cell.chars().count() + 2));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// `NAME  value` lines, for one thing.
pub fn facts(facts: &[(&str, String)]) -> String {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    facts
        .iter()
        .map(|(name, value)| format!("{name:width$}  {}\n", shown(value)))
        .collect()
}

fn shown(cell: &str) -> String {
    // What an app wrote last may hold anything; a terminal must not obey it.
    let plain: String = cell
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    match cell {
        "" => "-".into(),
        _ => plain.trim().into(),
    }
}

/// `1.5 GiB` of an amount in MiB.
pub fn mebibytes(amount: f64) -> String {
    let amount = model::Quantity::from_f64(amount).unwrap_or_default();
    amount.mebibytes_in_words()
}

/// `1.5 GiB` of bytes.
pub fn bytes(amount: u64) -> String {
    mebibytes(amount as f64 / 1024.0 / 1024.0)
}

/// Processors: an app may ask for a hundredth of one.
pub fn cpus(amount: f64) -> String {
    let text = format!("{amount:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_nothing_trails() {
        let rows = [
            ["/shop/web".into(), "2/3".into(), String::new()],
            ["/a".into(), "10/10".into(), "said:\n\u{1b}[31mno".into()],
        ];
        let expected = "\
APP        INSTANCES  DETAIL
/shop/web  2/3        -
/a         10/10      said:  [31mno
";
        assert_eq!(render(["APP", "INSTANCES", "DETAIL"], &rows), expected);
    }

    #[test]
    fn a_cell_may_be_longer_than_a_format_can_pad() {
        let long = "x".repeat(100_000);
        let text = render(["CMD", "APP"], &[[long.clone(), "/a".into()]]);
        assert_eq!(text.lines().nth(1), Some(&*format!("{long}  /a")));
    }

    #[test]
    fn facts_line_up() {
        let expected = "NODE     n1\nADDRESS  10.0.15.11\n";
        assert_eq!(
            facts(&[("NODE", "n1".into()), ("ADDRESS", "10.0.15.11".into())]),
            expected
        );
    }

    #[test]
    fn amounts_are_short() {
        assert_eq!(bytes(3 << 29), "1.5 GiB");
        let shown = [0.01, 0.5, 0.0, 10.0, 1.25].map(cpus);
        assert_eq!(shown, ["0.01", "0.5", "0", "10", "1.25"]);
    }
}
