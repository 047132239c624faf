//! Volumes' data on one node: made, limited, kept, snapshotted, sent to and received from other
//! nodes; and the role files that say what a copy is.
//!
//! Deliberately absent: who may write a volume, when it moves, and how streams travel. The agent
//! asks [`Volumes`], which keeps a [`Driver`]'s blocking work off its threads; start reading
//! there, then [`driver`], [`Btrfs`] and [`Pool`].

mod btrfs;
mod disk;
mod error;
mod landing;
mod loop_device;
mod pool;
mod subvolume;
mod sys;
mod tool;
mod volumes;

pub mod driver;
pub mod roles;
pub mod transfer;
pub mod users;

pub use btrfs::Btrfs;
pub use driver::{Driver, SnapshotName};
pub use error::{Error, Result};
pub use pool::{Pool, PoolConfig};
pub use roles::Role;
pub use users::foreign_users;
pub use volumes::{Landing, LocalCopy, Sending, Volumes};
