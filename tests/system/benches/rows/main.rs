//! What the real thing costs, beside what does the same elsewhere. Each case measures in a machine
//! of its own (`room`) and prints *samples*, one JSON object a line:
//!
//! ```text
//! {"figure":"start.wall","of":"ours","value":0.0131}
//! ```
//! Both sides of a comparison take turns within one case. `cargo xtask bench` runs the cases, takes
//! medians and knows the goals; here nothing is judged.

// Test code throughout: a measurement that cannot be made ends the case.
#![allow(clippy::unwrap_used, clippy::panic)]

mod addresses;
mod cable;
mod calls;
#[allow(dead_code, reason = "the tests use what the bench does not")]
#[path = "../../tests/cluster/cluster.rs"]
mod cluster;
#[allow(dead_code, reason = "the tests use what the bench does not")]
#[path = "../../tests/cluster/databases.rs"]
mod databases;
#[path = "../../tests/cluster/ledger.rs"]
mod ledger;
mod memory;
mod movement;
#[allow(dead_code, reason = "the tests skip what the bench does not have")]
#[path = "../../../../crates/local/tests/machine/room.rs"]
mod room;
mod scale;
mod seed;
mod start;
mod stream;
#[allow(dead_code, reason = "the tests use what the bench does not")]
#[path = "../../tests/cluster/watch.rs"]
mod watch;

use cluster::Cluster;
use serde_json::json;
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    // Shims are forked by this program, executed once more.
    if let Some(code) = container::reexec() {
        return code;
    }
    room::main(&room::Suite {
        name: "tandem-bench",
        patience: Duration::from_secs(300),
        prepare: || (),
        furnish: Cluster::furnish,
        cases: room::cases![
            start::start,
            scale::scale,
            movement::movement,
            seed::seed,
            cable::cable,
            stream::tcp,
            calls::api,
            addresses::dns,
        ],
    })
}

/// Prints one sample: seconds, bytes, or what the figure is counted in.
fn sample(figure: &str, of: &str, value: f64) {
    println!("{}", json!({ "figure": figure, "of": of, "value": value }));
}
