//! What the volumes of a machine hold, on paper. A copy's content is the number of writes that
//! were acknowledged on it or on what it was made of, one after the other, so that two contents
//! are compared by one number. What was received and not synced is in the disk's own cache, and
//! goes with the power.

use std::collections::BTreeMap;

use model::ids::VolumeId;
use model::volume::RoleFile;
use model::{Aside, CopyRole, Snapshot};
use node::LocalVolume;

use crate::machine::Kernel;
use crate::pace::Pace;

/// A volume's copy as it is on the disk.
#[derive(Clone, Debug, Default)]
pub struct Data {
    pub file: Option<RoleFile>,
    /// What the live copy holds, if there is one.
    pub live: Option<u64>,
    pub promoted: Option<Snapshot>,
    pub snapshots: BTreeMap<Snapshot, Held>,
    /// What is set aside, and its content.
    pub aside: Option<(Aside, u64)>,
}

/// A snapshot. Two of one name need not be the same: one may have been lost and made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    pub identity: u64,
    pub content: u64,
    /// On disk, not in a cache.
    pub synced: bool,
    /// Received, not made here.
    pub received: bool,
}

impl Data {
    /// What would be left if the power failed now and this copy were all there is; by its role.
    pub fn safe(&self) -> Option<u64> {
        let file = self.file?;
        match file.role {
            CopyRole::Live | CopyRole::Sealed => self.live,
            CopyRole::Landed | CopyRole::Kept => self.synced(file.last?),
            CopyRole::Aside => self
                .live
                .or(self.aside.as_ref().map(|(_, content)| *content))
                // What landed is turned into that from its snapshot.
                .or_else(|| self.synced(file.last?)),
            CopyRole::Landing => None,
        }
    }

    /// What a snapshot holds that the power cannot take.
    pub fn synced(&self, snapshot: Snapshot) -> Option<u64> {
        let held = self.snapshots.get(&snapshot).filter(|held| held.synced);
        held.map(|held| held.content)
    }

    /// The power goes. What was being received is not there; a snapshot made here may be.
    pub fn power_off(&mut self, pace: &mut Pace) {
        self.snapshots
            .retain(|_, held| held.synced || (!held.received && pace.coin(500)));
        self.snapshots
            .values_mut()
            .for_each(|held| held.synced = true);
    }

    /// An agent starts: it deletes what its predecessor had not finished receiving.
    pub fn tidy(&mut self) {
        self.snapshots
            .retain(|_, held| held.synced || !held.received);
    }

    /// What an agent that looks sees of it; what it did itself in this life is in `known`.
    pub fn observed(
        &self,
        id: &VolumeId,
        kernel: &Kernel,
        known: Option<&LocalVolume>,
    ) -> LocalVolume {
        let known = known.cloned().unwrap_or_default();
        let there = self.snapshots.iter();
        let there = there.filter(|(_, held)| held.synced || !held.received);
        LocalVolume {
            file: self.file,
            open: kernel.mounts.contains(id),
            promoted: self.promoted,
            aside: self.aside.as_ref().map(|(aside, _)| aside.clone()),
            snapshots: there.map(|(snapshot, _)| *snapshot).collect(),
            ..known
        }
    }
}
