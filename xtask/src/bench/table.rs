//! The table: what, ours, the peer's, their ratio, the goal, and whether it is met.

use serde::Serialize;

use super::rows::{Figure, Goal, Row, Unit};
use super::samples::Samples;

/// One line, as `--json` writes it: numbers in seconds, bytes, MiB or things a second.
#[derive(Debug, PartialEq, Serialize)]
pub struct Line {
    row: &'static str,
    what: &'static str,
    ours: Option<f64>,
    peer: Option<f64>,
    /// Who the peer is.
    of: Option<&'static str>,
    /// Ours divided by the peer's.
    ratio: Option<f64>,
    goal: Option<String>,
    /// `None`: not measured, or no goal.
    met: Option<bool>,
    #[serde(skip)]
    cells: [String; 6],
}

/// The lines of these rows; what was not measured is there and empty.
pub fn lines(rows: &[&Row], samples: &Samples) -> Vec<Line> {
    let figures = rows
        .iter()
        .flat_map(|row| row.figures.iter().map(|figure| (row.name, figure)));
    figures
        .map(|(row, figure)| line(row, figure, samples))
        .collect()
}

fn line(row: &'static str, figure: &Figure, samples: &Samples) -> Line {
    let ours = samples.median(figure.key, "ours");
    let peer = figure.peer.and_then(|of| samples.median(figure.key, of));
    let ratio = ours.zip(peer).map(|(ours, peer)| ours / peer);
    let met = met(figure.goal, ours, ratio);
    let goal = goal(figure);
    let amount = |value: Option<f64>| value.map_or_else(|| "-".into(), |v| text_of(figure.unit, v));
    let theirs = match (figure.peer, peer) {
        (Some(of), Some(_)) => format!("{} ({of})", amount(peer)),
        (Some(of), None) => format!("not measured ({of})"),
        (None, _) => "-".into(),
    };
    let verdict = match (met, &goal) {
        (Some(true), _) => "met",
        (Some(false), _) => "MISSED",
        (None, Some(_)) => "not measured",
        (None, None) => "-",
    };
    let cells = [
        format!("{row}: {}", figure.what),
        amount(ours),
        theirs,
        ratio.map_or_else(|| "-".into(), |ratio| times(figure.goal, ratio)),
        goal.clone().unwrap_or_else(|| "-".into()),
        verdict.into(),
    ];
    Line {
        row,
        what: figure.what,
        ours,
        peer,
        of: figure.peer,
        ratio,
        goal,
        met,
        cells,
    }
}

fn met(goal: Goal, ours: Option<f64>, ratio: Option<f64>) -> Option<bool> {
    match goal {
        Goal::None => None,
        Goal::AtLeast(least) => Some(ours? >= least),
        Goal::AtMost(most) => Some(ours? <= most),
        Goal::ShareAtLeast(least) => Some(ratio? >= least),
        Goal::ShareAtMost(most) => Some(ratio? <= most),
        Goal::TimesBetter(times) => Some(1.0 / ratio? >= times),
    }
}

fn goal(figure: &Figure) -> Option<String> {
    let of = figure.peer.unwrap_or_default();
    Some(match figure.goal {
        Goal::None => return None,
        Goal::AtLeast(least) => format!("≥ {}", text_of(figure.unit, least)),
        Goal::AtMost(most) => format!("≤ {}", text_of(figure.unit, most)),
        Goal::ShareAtLeast(least) => format!("≥ {least} × {of}"),
        Goal::ShareAtMost(most) => format!("≤ {most} × {of}"),
        Goal::TimesBetter(times) => format!("{times} × faster"),
    })
}

fn times(goal: Goal, ratio: f64) -> String {
    match goal {
        Goal::TimesBetter(_) => format!("{:.1} × faster", 1.0 / ratio),
        _ => format!("{ratio:.2} ×"),
    }
}

fn text_of(unit: Unit, value: f64) -> String {
    match unit {
        Unit::Seconds if value < 1e-3 => format!("{:.1} µs", value * 1e6),
        Unit::Seconds if value < 1.0 => format!("{:.1} ms", value * 1e3),
        Unit::Seconds => format!("{value:.2} s"),
        Unit::Rate(what) => format!("{value:.0} {what}/s"),
        Unit::Bytes if value >= 1e6 => format!("{:.1} MB", value / 1e6),
        Unit::Bytes => format!("{value:.0} bytes"),
        Unit::Mebibytes => format!("{value:.1} MiB"),
        Unit::BytesPerSecond => format!("{:.0} MB/s", value / 1e6),
        Unit::Times => format!("{value:.2}"),
    }
}

/// Columns without borders, headed by their names.
pub fn text(lines: &[Line]) -> String {
    let head = ["WHAT", "OURS", "PEER", "RATIO", "GOAL", ""].map(str::to_owned);
    let all: Vec<&[String; 6]> = std::iter::once(&head)
        .chain(lines.iter().map(|line| &line.cells))
        .collect();
    let width = |column: usize| all.iter().map(|cells| cells[column].chars().count()).max();
    let widths: Vec<usize> = (0..head.len())
        .map(|column| width(column).unwrap_or(0))
        .collect();
    let mut text = String::new();
    for cells in all {
        let padded = cells.iter().zip(&widths);
        let padded = padded.map(|(cell, width)| format!("{cell:<width$}"));
        let line = padded.collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::rows::ROWS;

    #[test]
    fn a_goal_is_met_missed_or_not_measured() {
        let mut samples = Samples::default();
        samples
            .read(
                "{\"figure\":\"tcp\",\"of\":\"ours\",\"value\":96e6}\n\
                 {\"figure\":\"tcp\",\"of\":\"vxlan\",\"value\":100e6}\n\
                 {\"figure\":\"scale\",\"of\":\"ours\",\"value\":2.0}\n\
                 {\"figure\":\"scale\",\"of\":\"swarm\",\"value\":20.0}\n",
            )
            .unwrap();
        let is_chosen = |row: &&Row| ["scale", "tcp", "up"].contains(&row.name);
        let rows: Vec<&Row> = ROWS.iter().filter(is_chosen).collect();
        let text = text(&lines(&rows, &samples));
        let expected = "\
WHAT                                      OURS     PEER                       RATIO           GOAL           \n\
scale: scale 1 to 50, all answer by name  2.00 s   20.00 s (swarm)            10.0 × faster   20 × faster     MISSED\n\
scale: create + start                     -        not measured (docker run)  -               20 × faster     not measured\n\
tcp: TCP between nodes                    96 MB/s  100 MB/s (vxlan)           0.96 ×          ≥ 0.95 × vxlan  met\n\
up: three nodes ready                     -        not measured (swarm)       -               ≤ 2.00 s        not measured\n";
        let squeezed = |text: &str| -> Vec<String> {
            let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
            text.lines().map(words).collect()
        };
        assert_eq!(squeezed(&text), squeezed(expected));
    }
}
