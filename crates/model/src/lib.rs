//! The nouns of Tandem and the state they make up.
//!
//! Everything here is a value: ids, what users want ([`AppSpec`]), what the master remembers
//! ([`State`], changed only by [`State::apply`]), what a node is told ([`Assignment`],
//! [`Directory`]), what it answers ([`Sighting`]), and the messages that carry them ([`session`]).
//! Nothing here decides, touches a machine or knows the time; decisions are in `planner`,
//! `scheduler` and `node`.

pub mod assignment;
pub mod change;
pub mod deployment;
pub mod directory;
pub mod draft;
pub mod few;
pub mod fingerprint;
pub mod ids;
pub mod instance;
pub mod machine;
pub mod movement;
pub mod quantity;
pub mod records;
pub mod session;
pub mod sighting;
pub mod slots;
pub mod spec;
pub mod state;
pub mod time;
pub mod tip;
pub mod volume;

pub use assignment::{Assigned, Assignment, AssignmentDelta};
pub use change::{Change, Touched, Transaction};
pub use deployment::{Action, Deployment, Step};
pub use directory::{
    AppEntry, Directory, DirectoryDelta, DirectoryPort, Entry, Interface, NetworkKind, NodeEntry,
};
pub use draft::Draft;
pub use ids::{
    AppId, ClusterId, DeploymentId, Epoch, Generation, Incarnation, InstanceId, MoveId, NodeId,
    Revision, Version, VolumeId,
};
pub use instance::{Exit, Goal, Health, Instance, Placement, RecordedInstance, Rung, StopCause};
pub use machine::{Machine, NodeRecord, Presence, Resources};
pub use movement::{Move, Phase};
pub use quantity::{Mebibytes, Quantity};
pub use sighting::{InstanceLevel, Level, NodeLevel, Sighting, Subject, VolumeLevel};
pub use spec::AppSpec;
pub use state::{App, State};
pub use time::{Millis, Time};
pub use tip::Tip;
pub use volume::{Aside, Copy, CopyRole, Recovery, Snapshot, Volume};
