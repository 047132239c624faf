//! `tandem queue`: why something is not running.

use super::Reading;
use crate::client::views::Queued;
use crate::fault::Result;
use crate::table;

pub async fn run(reading: Reading) -> Result<()> {
    reading
        .show("/tandem/v1/queue", |queue: Vec<Queued>| render(&queue))
        .await
}

/// Of the app, then of each node.
pub fn reasons(queued: &Queued) -> Vec<String> {
    let nodes = queued
        .nodes
        .iter()
        .map(|node| format!("{}: {}", node.node, node.reasons.join(", ")));
    queued.hindrances.iter().cloned().chain(nodes).collect()
}

/// One line per reason; app and number stand at the first.
fn render(queue: &[Queued]) -> String {
    if queue.is_empty() {
        return "nothing waits\n".into();
    }
    let mut rows = Vec::new();
    for queued in queue {
        let mut reasons = reasons(queued);
        if reasons.is_empty() {
            reasons.push("its turn comes".into());
        }
        for (n, reason) in reasons.into_iter().enumerate() {
            rows.push(match n {
                0 => [queued.app.clone(), queued.missing.to_string(), reason],
                _ => [" ".into(), " ".into(), reason],
            });
        }
    }
    table::render(["APP", "MISSING", "WHY"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::views::NodeReasons;

    #[test]
    fn reasons_stand_below_one_another() {
        let node = |name: &str, reason: &str| NodeReasons {
            node: name.into(),
            reasons: vec![reason.into()],
        };
        let queue = [Queued {
            app: "/big".into(),
            missing: 2,
            hindrances: vec!["volume pg is held by instance 1a.0 of /db".into()],
            nodes: vec![node("n1", "cpus: 4 wanted, 2 free"), node("n2", "draining")],
        }];
        insta::assert_snapshot!(render(&queue), @r"
        APP   MISSING  WHY
        /big  2        volume pg is held by instance 1a.0 of /db
                       n1: cpus: 4 wanted, 2 free
                       n2: draining
        ");
    }
}
