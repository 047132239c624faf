//! Images: pull, verify, unpack, root filesystems, image configuration; building
//! them and their bases.
//!
//! The way of an image: a name ([`Reference`]) and the cluster's [`Registries`]
//! give places to ask; [`Store::pull`] brings the image to disk, verified and
//! unpacked; [`mount_root`] makes a root filesystem of it; [`process()`] says what
//! to run in it. This crate starts no container, mounts no volume and decides
//! nothing about when to pull. What is hostile here: everything a registry sends.
//! Read `unpack` for how that is kept harmless.

mod anonymous;
mod archive;
pub mod base;
mod below;
mod build;
mod child;
mod collect;
mod digest;
pub mod layer;
pub mod layout;
mod lock;
mod manifest;
mod metadata;
mod mount;
mod pins;
mod process;
mod pull;
mod reference;
pub mod registry;
mod store;
mod trash;
mod unpack;
mod users;
mod workdir;

pub use anonymous::{Error as VolumeError, prepare_volume};
pub use build::{Build, Builder, Error as BuildError};
pub use collect::{InUse, Removed};
pub use digest::{Digest, NotADigest};
pub use manifest::{ImageConfig, Nothing, Platform};
pub use mount::{Error as MountError, mount_root, mounted_image, unmount_root};
pub use pins::Held;
pub use process::{Arguments, Error as ProcessError, Overrides, Process, process};
pub use pull::{Error as PullError, Policy, Progress};
pub use reference::{NotAnImage, Place, Reference, Registries, Version};
pub use store::{Disk, Error as StoreError, Image, Listed, Store};
pub use trash::Space;
pub use unpack::{Error as UnpackError, Limits};
pub use users::Error as UserError;
