//! Everything one node should have.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::directory::patch;
use crate::fingerprint;
use crate::ids::{AppId, InstanceId, Revision, Version, VolumeId};
use crate::instance::{Goal, Instance, Placement};
use crate::spec::{AppSpec, Protocol};
use crate::volume::VolumeOrder;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    pub revision: Revision,
    pub instances: BTreeMap<InstanceId, Assigned>,
    pub volumes: BTreeMap<VolumeId, VolumeOrder>,
}

/// One instance as its node must know it. A node removes what its assignment does not name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assigned {
    pub app: AppId,
    pub slot: u32,
    pub version: Version,
    pub spec: Arc<AppSpec>,
    pub placement: Placement,
    pub goal: Goal,
}

/// The spec is left out: app and version name it, and it is by far the longest part.
impl Hash for Assigned {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let Self {
            app,
            slot,
            version,
            spec: _,
            placement,
            goal,
        } = self;
        (app, slot, version, placement, goal).hash(hasher);
    }
}

impl From<&Instance> for Assigned {
    fn from(instance: &Instance) -> Self {
        Self {
            app: instance.app.clone(),
            slot: instance.slot,
            version: instance.version,
            spec: Arc::clone(&instance.spec),
            placement: instance.placement.clone(),
            goal: instance.goal,
        }
    }
}

impl Assigned {
    /// Each published port: protocol, the node's port, the container's port.
    pub fn published(&self) -> impl Iterator<Item = (Protocol, u16, u16)> + '_ {
        self.placement.published(&self.spec)
    }
}

/// What turns the assignment at `base` into the one at `revision`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignmentDelta {
    pub base: Revision,
    pub revision: Revision,
    /// `None`: no longer assigned.
    pub instances: BTreeMap<InstanceId, Option<Assigned>>,
    pub volumes: BTreeMap<VolumeId, Option<VolumeOrder>>,
    /// [`Assignment::fingerprint`] of the result.
    pub fingerprint: u64,
}

impl Assignment {
    pub fn fingerprint(&self) -> u64 {
        fingerprint::sum(&self.instances).wrapping_add(fingerprint::sum(&self.volumes))
    }

    /// The assignment after `delta`; `None` when the delta does not fit, so that the whole must
    /// be asked for.
    #[must_use]
    pub fn after(&self, delta: &AssignmentDelta) -> Option<Self> {
        if delta.base != self.revision {
            return None;
        }
        let mut next = self.clone();
        next.revision = delta.revision;
        patch(&mut next.instances, &delta.instances);
        patch(&mut next.volumes, &delta.volumes);
        (next.fingerprint() == delta.fingerprint).then_some(next)
    }
}
