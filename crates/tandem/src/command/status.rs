//! `tandem status`: the cluster on one screen.

use super::Reading;
use super::queue::reasons;
use crate::client::views::Status;
use crate::fault::Result;
use crate::table;

pub async fn run(reading: Reading) -> Result<()> {
    let origin = reading.open()?.origin();
    reading
        .show("/tandem/v1/status", |status| render(&status, &origin))
        .await
}

fn render(status: &Status, origin: &str) -> String {
    let nodes = status.nodes;
    let mut facts = vec![
        ("MASTER", format!("{origin}, version {}", status.version)),
        (
            "CLUSTER",
            format!("{}, leadership {}", status.cluster, status.epoch),
        ),
        ("NODES", format!("{} of {} here", nodes.here, nodes.total)),
        (
            "APPS",
            format!("{}, {} instances", status.apps, status.instances),
        ),
    ];
    for lost in &status.lost {
        let waiting = match lost.apps.as_slice() {
            [] => String::new(),
            apps => format!("; {} stays there until it is back", apps.join(", ")),
        };
        facts.push((
            "LOST",
            format!("{} since {}{waiting}", lost.node, lost.since),
        ));
    }
    if status.waiting.is_empty() {
        facts.push(("WAITING", "nothing".into()));
    }
    for queued in &status.waiting {
        let why = reasons(queued).join("; ");
        facts.push((
            "WAITING",
            format!("{}, {} missing: {why}", queued.app, queued.missing),
        ));
    }
    table::facts(&facts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_shown_with_its_reasons() {
        let status: Status = serde_json::from_str(
            r#"{"version":"0.1.0","cluster":"c1","epoch":3,"nodes":{"total":3,"here":2},"apps":2,
            "instances":5,"lost":[{"node":"n3","since":"noon","apps":["/db"]}],
            "waiting":[{"app":"/big","missing":1,"reasons":["1 node: mem: 512 MiB short"],
            "nodes":[{"node":"n1","reasons":["mem: 512 MiB short"]}]}]}"#,
        )
        .unwrap();
        insta::assert_snapshot!(render(&status, "http://127.0.0.1:8080"), @r"
        MASTER   http://127.0.0.1:8080, version 0.1.0
        CLUSTER  c1, leadership 3
        NODES    2 of 3 here
        APPS     2, 5 instances
        LOST     n3 since noon; /db stays there until it is back
        WAITING  /big, 1 missing: n1: mem: 512 MiB short
        ");
    }
}
