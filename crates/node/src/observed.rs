//! What the agent saw and did: everything that [`crate::converge`] decides from besides the
//! assignment. The agent writes it, and builds it anew from the disk and the kernel when it
//! starts.

use std::collections::{BTreeMap, BTreeSet};

use model::ids::{Epoch, InstanceId, Revision, VolumeId};
use model::instance::{Exit, ExitStatus, Health};
use model::sighting::Subject;
use model::volume::RoleFile;
use model::{Aside, Assignment, Millis, Snapshot, Time};

use crate::action::Action;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    pub link: Link,
    /// The directory that network and names follow.
    pub directory: Revision,
    pub instances: BTreeMap<InstanceId, Local>,
    pub volumes: BTreeMap<VolumeId, LocalVolume>,
    pub in_flight: BTreeMap<Subject, InFlight>,
    /// The newest failure of each subject whose last action failed.
    pub failures: BTreeMap<Subject, Failure>,
}

/// How far the agent is with the master.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Link {
    #[default]
    Down,
    /// Welcomed; the assignment at hand is an earlier session's.
    Joined { epoch: Epoch },
    /// The assignment at hand is this session's.
    Assigned { epoch: Epoch },
}

impl Link {
    pub fn is_assigned(self) -> bool {
        matches!(self, Self::Assigned { .. })
    }
}

/// One instance on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Local {
    pub stage: Stage,
    pub health: Health,
    /// Why its last health check failed.
    pub ailment: Option<String>,
    /// When the stop signal was sent.
    pub stopping: Option<Time>,
    /// Its processes are stopped where they are; the kernel says so.
    pub frozen: bool,
    /// Every process has SIGKILL coming.
    pub killed: bool,
    /// The master has acknowledged the newest level ([`crate::Outbox::is_settled`]).
    pub reported: bool,
}

/// How far an instance is on this node: what an action has completed, or a process has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    #[default]
    Nothing,
    /// Its image is here.
    Pulled,
    /// Its root filesystem is mounted.
    Rooted,
    /// Its network namespace has its addresses.
    Attached,
    /// Its process waits at the door.
    Created {
        pid: u32,
    },
    Running {
        pid: u32,
        since: Time,
    },
    Ended(Exit),
    /// Nothing is left of it; how it ended, if it ran.
    Removed(Option<Exit>),
}

impl Stage {
    /// Whether it has a process.
    pub fn is_alive(&self) -> bool {
        matches!(self, Self::Created { .. } | Self::Running { .. })
    }
}

/// One volume's copy on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalVolume {
    /// `None`: no copy.
    pub file: Option<RoleFile>,
    /// Mounted.
    pub open: bool,
    /// There is a live subvolume. Only for what was promoted: which landed snapshot it was made
    /// of, so that a promotion that was cut off is done again from its start.
    pub promoted: Option<Snapshot>,
    /// Made here, or received, verified and synced.
    pub snapshots: BTreeSet<Snapshot>,
    /// Received and verified, not synced.
    pub received: Option<Snapshot>,
    /// How long the newest of `snapshots` took to receive.
    pub took: Option<Millis>,
    /// For which snapshot the hook has run.
    pub hooked: Option<Snapshot>,
    /// For which seal the volume was written back.
    pub flushed: Option<Snapshot>,
    /// For which seal it was checked that nothing can write it.
    pub still: Option<Snapshot>,
    /// What is set aside, once it is.
    pub aside: Option<Aside>,
    /// What the copy holds, as last told ([`crate::level::settled`]).
    pub bytes: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InFlight {
    pub action: Action,
    pub since: Time,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub action: Action,
    /// In the words of whoever failed.
    pub why: String,
    /// How often in a row.
    pub times: u32,
    pub retry_at: Time,
}

impl Observed {
    /// Every volume that is assigned here or still here.
    pub(crate) fn volumes_with<'a>(&'a self, assignment: &'a Assignment) -> BTreeSet<&'a VolumeId> {
        let assigned = assignment.volumes.keys();
        assigned.chain(self.volumes.keys()).collect()
    }

    /// Every instance that is assigned here or still here.
    pub(crate) fn instances_with(&self, assignment: &Assignment) -> BTreeSet<InstanceId> {
        let assigned = assignment.instances.keys();
        assigned.chain(self.instances.keys()).copied().collect()
    }

    /// Counts these as ended, and nothing of them as left running: the machine has booted since.
    pub fn count_as_over(&mut self, over: &BTreeSet<InstanceId>) {
        for id in over {
            let local = self.instances.entry(*id).or_default();
            if !matches!(local.stage, Stage::Ended(_) | Stage::Removed(_)) {
                *local = Local {
                    stage: Stage::Ended(unknown_exit()),
                    ..Local::default()
                };
            }
        }
    }

    /// Forgets instances of which nothing is left and that nobody assigns any more, and failures
    /// of subjects that are no more.
    pub fn forget(&mut self, assignment: &Assignment) {
        self.instances.retain(|id, local| {
            assignment.instances.contains_key(id) || !matches!(local.stage, Stage::Removed(_))
        });
        let Self {
            instances,
            volumes,
            failures,
            ..
        } = self;
        failures.retain(|subject, _| match subject {
            Subject::Instance(id) => {
                instances.contains_key(id) || assignment.instances.contains_key(id)
            }
            Subject::Volume(id) => volumes.contains_key(id) || assignment.volumes.contains_key(id),
            Subject::Node(_) => false,
        });
    }
}

/// The exit of what ended while nobody who could have seen it was alive.
pub fn unknown_exit() -> Exit {
    Exit {
        status: ExitStatus::Unknown,
        out_of_memory: false,
        last_line: None,
    }
}
