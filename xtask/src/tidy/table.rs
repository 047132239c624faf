//! The crate table: who may know whom, and who is pure.
//!
//! A new line or a new edge here is a change of the architecture: its own commit, with the reason.
//! `ARCHITECTURE.md` explains the rooms; this is the copy that is enforced.

/// What a room may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Decides: no clock, randomness, files, threads or tasks. Its outside crates are listed.
    Pure { outside: &'static [&'static str] },
    /// Touches the machine; its outside crates are those of the workspace.
    Acts,
    /// Composes everything.
    Binary,
}

/// One line of the table.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    pub name: &'static str,
    pub kind: Kind,
    /// Crates of ours that it may depend on; a [`Kind::Binary`] may depend on all.
    pub may_use: &'static [&'static str],
    /// Crates of ours that its tests may use besides.
    pub tests_may_use: &'static [&'static str],
}

impl Room {
    const fn pure(
        name: &'static str,
        outside: &'static [&'static str],
        may_use: &'static [&'static str],
    ) -> Self {
        Room {
            name,
            kind: Kind::Pure { outside },
            may_use,
            tests_may_use: &[],
        }
    }

    const fn acts(name: &'static str, may_use: &'static [&'static str]) -> Self {
        Room {
            name,
            kind: Kind::Acts,
            may_use,
            tests_may_use: &[],
        }
    }

    const fn binary(name: &'static str) -> Self {
        Room {
            name,
            kind: Kind::Binary,
            may_use: &[],
            tests_may_use: &[],
        }
    }

    pub fn is_pure(&self) -> bool {
        matches!(self.kind, Kind::Pure { .. })
    }
}

/// Every room, in the order in which a request visits them; packages outside `crates/` last.
pub const ROOMS: &[Room] = &[
    Room::pure("model", &["imbl", "serde", "thiserror"], &[]),
    Room::pure(
        "marathon",
        &["regex", "serde", "serde_json", "thiserror"],
        &["model"],
    ),
    Room::pure("scheduler", &["regex", "thiserror"], &["model"]),
    Room::pure("planner", &["thiserror"], &["model", "scheduler"]),
    Room::pure("node", &["thiserror"], &["model"]),
    Room::pure(
        "sim",
        &["rand_core", "rand_pcg", "thiserror"],
        &["model", "scheduler", "planner", "node"],
    ),
    Room::acts("store", &["model"]),
    Room::acts("protocol", &["model"]),
    Room::acts("master", &["model", "planner", "store", "protocol"]),
    Room::acts(
        "api",
        &[
            "model",
            "marathon",
            "planner",
            "scheduler",
            "store",
            "master",
        ],
    ),
    Room::acts(
        "agent",
        &[
            "model",
            "node",
            "protocol",
            "image",
            "container",
            "network",
            "volume",
        ],
    ),
    Room::acts("image", &["model"]),
    Room::acts("container", &["model"]),
    Room::acts("network", &["model"]),
    Room::acts("volume", &["model"]),
    Room::acts("local", &["model", "network"]),
    Room::acts("edge", &["model"]),
    Room::binary("tandem"),
    Room::binary("system"),
    // `cargo xtask images` makes base images as `tandem build` makes images.
    Room::acts("xtask", &["image"]),
];

/// What tests of a pure room may use besides; they ship nothing.
pub const PURE_TESTS_OUTSIDE: &[&str] = &["criterion", "insta", "proptest", "serde_json"];

/// What every pure room's `clippy.toml` must ban, as types or methods.
pub const PURE_BANS: &[&str] = &[
    "std::collections::HashMap",
    "std::collections::HashSet",
    "imbl::HashMap",
    "imbl::HashSet",
    "std::time::Instant::now",
    "std::time::SystemTime::now",
    "std::thread::spawn",
    "std::thread::sleep",
    "std::fs::read",
    "std::fs::read_to_string",
    "std::fs::write",
    "std::fs::File::open",
    "std::fs::File::create",
    "std::env::var",
    "std::process::Command::new",
];

/// The room of that name.
pub fn room(name: &str) -> Option<&'static Room> {
    ROOMS.iter().find(|room| room.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_in_the_table_is_a_room_and_pure_rooms_know_only_pure_ones() {
        for user in ROOMS {
            for used in user.may_use.iter().chain(user.tests_may_use) {
                let used = room(used)
                    .unwrap_or_else(|| panic!("{} may use {used}, which is no room", user.name));
                assert!(
                    used.is_pure() || !user.is_pure(),
                    "{} is pure, {} is not",
                    user.name,
                    used.name
                );
            }
        }
    }

    #[test]
    fn the_table_has_no_circle() {
        // Rooms without users are taken away until none is left.
        let mut left: Vec<&Room> = ROOMS.iter().collect();
        while !left.is_empty() {
            let unused = |room: &&Room| !left.iter().any(|user| user.may_use.contains(&room.name));
            let next: Vec<&Room> = left.iter().copied().filter(|room| !unused(room)).collect();
            assert!(
                next.len() < left.len(),
                "a circle among {:?}",
                left.iter().map(|room| room.name).collect::<Vec<_>>()
            );
            left = next;
        }
    }
}
