//! What is measured, by whom, and how good it must be. The goals are the design's.

use std::fmt;

/// A part of the table that can be asked for by name.
pub struct Row {
    pub name: &'static str,
    pub about: &'static str,
    pub runs: &'static [Run],
    pub figures: &'static [Figure],
}

/// A program that gives samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Run {
    /// A bench of one crate, such as `crates/planner/benches/deciding.rs`
    Program(&'static str),
    /// A case of `tests/system/benches/rows`
    Case(&'static str),
    /// Docker Swarm on this machine, measured by a program that is not in this repository
    Swarm,
}

impl Run {
    /// Whether one run gives only one sample of what matters.
    pub fn repeats(self) -> bool {
        matches!(self, Self::Case("scale") | Self::Swarm)
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program(name) | Self::Case(name) => f.write_str(name),
            Self::Swarm => f.write_str("Docker Swarm"),
        }
    }
}

/// One line of the table.
pub struct Figure {
    /// What its samples are called by.
    pub key: &'static str,
    pub what: &'static str,
    pub unit: Unit,
    pub peer: Option<&'static str>,
    pub goal: Goal,
}

#[derive(Clone, Copy, Debug)]
pub enum Unit {
    Seconds,
    /// Of these a second.
    Rate(&'static str),
    Bytes,
    Mebibytes,
    BytesPerSecond,
    Times,
}

#[derive(Clone, Copy, Debug)]
pub enum Goal {
    None,
    AtLeast(f64),
    AtMost(f64),
    /// Ours divided by the peer's.
    ShareAtLeast(f64),
    ShareAtMost(f64),
    /// The peer's divided by ours.
    TimesBetter(f64),
}

pub const ROWS: &[Row] = &[
    Row {
        name: "deciding",
        about: "placing 1,000,000 instances on 10,000 simulated nodes; one sighting; who waits",
        runs: &[Run::Program("deciding")],
        figures: &[
            figure(
                "deciding.place",
                "place 900,000 instances of 9,000 apps",
                PLACED,
                None,
                Goal::AtLeast(100_000.0),
            ),
            figure(
                "deciding.flat",
                "flat: its last ninth against its first",
                Unit::Times,
                None,
                Goal::AtLeast(0.8),
            ),
            figure(
                "deciding.large",
                "place one app of 100,000",
                PLACED,
                None,
                Goal::AtLeast(100_000.0),
            ),
            figure(
                "deciding.waiting",
                "place 20,000 while 10,000 apps wait",
                PLACED,
                None,
                Goal::AtLeast(100_000.0),
            ),
            figure(
                "deciding.sighting",
                "one sighting at 1,000,000",
                Unit::Seconds,
                None,
                Goal::AtMost(20e-6),
            ),
            figure(
                "deciding.wait",
                "find that an app must wait",
                Unit::Seconds,
                None,
                Goal::None,
            ),
            figure(
                "deciding.end",
                "an end and its room, 10,000 wait",
                Unit::Seconds,
                None,
                Goal::None,
            ),
            figure(
                "deciding.bytes",
                "the state, for each instance",
                Unit::Bytes,
                None,
                Goal::None,
            ),
        ],
    },
    Row {
        name: "start",
        about: "create and start a container, beside crun and runc with the same bundle",
        runs: &[Run::Case("start")],
        figures: &[
            figure(
                "start.wall",
                "create + start",
                Unit::Seconds,
                Some("crun"),
                Goal::ShareAtMost(0.6),
            ),
            figure(
                "start.wall",
                "create + start",
                Unit::Seconds,
                Some("runc"),
                Goal::None,
            ),
            figure(
                "start.cpu",
                "its whole life, processor",
                Unit::Seconds,
                Some("crun"),
                Goal::ShareAtMost(0.6),
            ),
            figure(
                "start.cpu",
                "its whole life, processor",
                Unit::Seconds,
                Some("runc"),
                Goal::None,
            ),
        ],
    },
    Row {
        name: "scale",
        about: "1 to 50 instances on three nodes until each answers by name, beside Docker Swarm",
        runs: &[Run::Case("start"), Run::Case("scale"), Run::Swarm],
        figures: &[
            figure(
                "scale",
                "scale 1 to 50, all answer by name",
                Unit::Seconds,
                Some("swarm"),
                Goal::TimesBetter(20.0),
            ),
            figure(
                "start.wall",
                "create + start",
                Unit::Seconds,
                Some("docker run"),
                Goal::TimesBetter(20.0),
            ),
        ],
    },
    Row {
        name: "move",
        about: "PostgreSQL moves by freeze while four clients commit, beside stop, rsync, start",
        runs: &[Run::Case("movement")],
        figures: &[
            figure(
                "move.pause",
                "a client's longest silence",
                Unit::Seconds,
                Some("rsync"),
                Goal::AtMost(1.0),
            ),
            figure(
                "move.share",
                "our share: seal to process start",
                Unit::Seconds,
                None,
                Goal::AtMost(0.150),
            ),
            figure(
                "move.seal",
                "of it: seal (freeze, snapshot)",
                Unit::Seconds,
                None,
                Goal::None,
            ),
            figure(
                "move.transfer",
                "of it: send, receive, sync",
                Unit::Seconds,
                None,
                Goal::None,
            ),
            figure(
                "move.start",
                "of it: hand over, start",
                Unit::Seconds,
                None,
                Goal::None,
            ),
            figure(
                "move.recovery",
                "the rest: its recovery, new connections",
                Unit::Seconds,
                None,
                Goal::None,
            ),
        ],
    },
    Row {
        name: "seed",
        about: "a volume's first journey, beside btrfs send | btrfs receive and a sync",
        runs: &[Run::Case("seed")],
        figures: &[figure(
            "seed",
            "a volume's data to another node",
            Unit::BytesPerSecond,
            Some("btrfs"),
            Goal::ShareAtLeast(0.9),
        )],
    },
    Row {
        name: "cable",
        about: "a node's cable is cut: when a replacement answers by name",
        runs: &[Run::Case("cable")],
        figures: &[figure(
            "cable",
            "cut cable to answer by name",
            Unit::Seconds,
            None,
            Goal::AtMost(8.0),
        )],
    },
    Row {
        name: "checkpoint",
        about: "one write after the other while 1,000,000 instances are checkpointed, and without",
        runs: &[Run::Program("checkpoint")],
        figures: &[
            figure(
                "checkpoint.longest",
                "longest append meanwhile",
                Unit::Seconds,
                Some("without"),
                Goal::AtMost(0.05),
            ),
            figure(
                "checkpoint.median",
                "median append meanwhile",
                Unit::Seconds,
                Some("without"),
                Goal::None,
            ),
            figure(
                "checkpoint.span",
                "until it is on disk",
                Unit::Seconds,
                None,
                Goal::None,
            ),
            figure(
                "checkpoint.bytes",
                "its size",
                Unit::Bytes,
                None,
                Goal::None,
            ),
            figure(
                "checkpoint.open",
                "start from one",
                Unit::Seconds,
                None,
                Goal::None,
            ),
        ],
    },
    Row {
        name: "tcp",
        about: "TCP between containers on two nodes, beside VXLAN between the same namespaces",
        runs: &[Run::Case("tcp")],
        figures: &[figure(
            "tcp",
            "TCP between nodes",
            Unit::BytesPerSecond,
            Some("vxlan"),
            Goal::ShareAtLeast(0.95),
        )],
    },
    Row {
        name: "memory",
        about: "what master, agents and shims occupy with 50 containers",
        runs: &[Run::Case("scale"), Run::Swarm],
        figures: &[
            figure(
                "memory.master",
                "master, few containers (PSS)",
                Unit::Mebibytes,
                None,
                Goal::None,
            ),
            figure(
                "memory.master.loaded",
                "master, 50 containers (PSS)",
                Unit::Mebibytes,
                None,
                Goal::None,
            ),
            figure(
                "memory.agent",
                "agent, few containers (PSS)",
                Unit::Mebibytes,
                Some("swarm"),
                Goal::AtMost(30.0),
            ),
            figure(
                "memory.agent.loaded",
                "agent, 50 containers on three (PSS)",
                Unit::Mebibytes,
                None,
                Goal::AtMost(30.0),
            ),
            figure(
                "memory.shim",
                "each container (PSS)",
                Unit::Mebibytes,
                Some("swarm"),
                Goal::AtMost(1.5),
            ),
        ],
    },
    Row {
        name: "up",
        about: "a cluster of three nodes comes up, warm",
        runs: &[Run::Case("scale"), Run::Swarm],
        figures: &[figure(
            "up",
            "three nodes ready",
            Unit::Seconds,
            Some("swarm"),
            Goal::AtMost(2.0),
        )],
    },
    Row {
        name: "api",
        about: "GET /v2/apps?embed=apps.tasks with 10,000 tasks",
        runs: &[Run::Case("api")],
        figures: &[
            figure(
                "api",
                "10,000 tasks told",
                Unit::Seconds,
                None,
                Goal::AtMost(0.1),
            ),
            figure("api.bytes", "the answer", Unit::Bytes, None, Goal::None),
        ],
    },
    Row {
        name: "dns",
        about: "answers a second, beside dnsmasq",
        runs: &[Run::Case("dns")],
        figures: &[figure(
            "dns",
            "names answered",
            Unit::Rate("answers"),
            Some("dnsmasq"),
            Goal::AtLeast(20_000.0),
        )],
    },
];

const PLACED: Unit = Unit::Rate("placements");

const fn figure(
    key: &'static str,
    what: &'static str,
    unit: Unit,
    peer: Option<&'static str>,
    goal: Goal,
) -> Figure {
    Figure {
        key,
        what,
        unit,
        peer,
        goal,
    }
}

/// The rows, for `--help`.
pub fn help() -> String {
    let lines = ROWS
        .iter()
        .map(|row| format!("  {:<10}{}\n", row.name, row.about));
    format!("Rows:\n{}", lines.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_that_compares_has_somebody_to_compare_with() {
        for figure in ROWS.iter().flat_map(|row| row.figures) {
            let compares = matches!(
                figure.goal,
                Goal::ShareAtLeast(_) | Goal::ShareAtMost(_) | Goal::TimesBetter(_)
            );
            assert!(!compares || figure.peer.is_some(), "{}", figure.what);
        }
    }
}
