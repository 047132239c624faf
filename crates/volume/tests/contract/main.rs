//! The contract of a driver, held by btrfs over real loop devices. Needs root.
#![allow(clippy::unwrap_used, clippy::panic)]

mod bench;
mod crash;
mod keep;
mod travel;
mod users;
