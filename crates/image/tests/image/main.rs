//! The crate against a real registry, a real kernel and real builders.
#![allow(clippy::unwrap_used, clippy::panic)]

mod building;
mod collecting;
mod common;
mod layers;
mod links;
mod pulling;
mod roots;
