//! The steps that the agent performs. Each is one act that may be cut off by a crash and is then
//! done again from the start; steps whose order matters are never joined.

use model::ids::{Generation, InstanceId, VolumeId};
use model::sighting::Subject;
use model::volume::{RoleFile, Source};
use model::{CopyRole, Mebibytes, Millis, Snapshot};

/// What to do to one instance or volume. The particulars of an instance (spec, placement) are in
/// the assignment under its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Have the image's layers on this node. May take minutes, so it can be cancelled; else only
    /// the wait for a snapshot can.
    PullImage {
        instance: InstanceId,
    },
    /// Make the instance's directory and mount its root filesystem.
    PrepareRoot {
        instance: InstanceId,
    },
    /// Make its network namespace and give it its addresses.
    AttachNetwork {
        instance: InstanceId,
    },
    /// Make the container, its process waiting at the door.
    Create {
        instance: InstanceId,
    },
    /// Let the process go.
    Start {
        instance: InstanceId,
    },
    /// Send the stop signal (its own, the image's, or SIGTERM) and note the time. The instance
    /// has this long before it is killed.
    Stop {
        instance: InstanceId,
        grace: Millis,
    },
    /// Kill every process of the instance. Done when it has ended.
    Kill {
        instance: InstanceId,
    },
    /// Stop every process of the instance where it is, and check that they are: its first process
    /// is in the frozen group. Without that an empty group passes for frozen.
    Freeze {
        instance: InstanceId,
    },
    /// SIGKILL to every process of the frozen instance, until none is without it. They die when
    /// they are thawed, if not before: nothing answers from the old copy any more.
    KillAll {
        instance: InstanceId,
    },
    /// Let go what was killed while it was frozen. Done when it has ended.
    Release {
        instance: InstanceId,
    },
    /// Let the frozen instance run on.
    Thaw {
        instance: InstanceId,
    },
    /// Run the app's move hook in the instance, with a timeout. That it fails is noted and stops
    /// no move.
    RunHook {
        instance: InstanceId,
        volume: VolumeId,
        snapshot: Snapshot,
    },
    /// Remove what is left: network, root filesystem, directory. Repeating it is harmless.
    Remove {
        instance: InstanceId,
    },

    /// Make an empty copy, or take what an interrupted making left, *then* write the role file.
    MakeVolume {
        volume: VolumeId,
        role: RoleFile,
        size: Mebibytes,
    },
    /// Write this role file in place of the one there is.
    PersistRole {
        volume: VolumeId,
        role: RoleFile,
    },
    /// Mount the live copy where containers can be given it.
    OpenVolume {
        volume: VolumeId,
        generation: Generation,
        size: Mebibytes,
    },
    CloseVolume {
        volume: VolumeId,
    },
    /// Write back what the filesystem of the volume still has in memory, so that the freeze need
    /// not wait for it.
    SyncVolume {
        volume: VolumeId,
        snapshot: Snapshot,
    },
    /// Check that nothing can write the sealed volume: its instances are over or frozen, and no
    /// other process has it in its mount namespace.
    CheckStill {
        volume: VolumeId,
        snapshot: Snapshot,
    },
    /// Make a read-only snapshot of the live copy; one that is there stays as it is.
    Snapshot {
        volume: VolumeId,
        snapshot: Snapshot,
    },
    /// Ask the source for what leads from `base` to the snapshot, receive it into a directory of
    /// this attempt's own, and verify it. It is not on disk yet, whatever it looks like.
    Receive {
        volume: VolumeId,
        generation: Generation,
        from: Source,
        snapshot: Snapshot,
        base: Option<Snapshot>,
        /// Bytes that must be free before.
        needed: u64,
    },
    /// Have what was received on disk.
    SyncReceived {
        volume: VolumeId,
        snapshot: Snapshot,
    },
    /// Make the live copy from the landed snapshot, in place of an older one, and set its limit.
    Promote {
        volume: VolumeId,
        snapshot: Snapshot,
        size: Mebibytes,
    },
    /// Delete a snapshot that no move needs as its base any more.
    DropSnapshot {
        volume: VolumeId,
        snapshot: Snapshot,
    },
    /// Turn what the copy holds, the live data or else the last snapshot, into a read-only state
    /// with a name of its own.
    SetAside {
        volume: VolumeId,
        generation: Generation,
        last: Option<Snapshot>,
    },
    /// Destroy every copy of this and earlier generations, the role file last.
    DestroyVolume {
        volume: VolumeId,
        generation: Generation,
    },
}

impl Action {
    pub fn subject(&self) -> Subject {
        match self {
            Self::PullImage { instance }
            | Self::PrepareRoot { instance }
            | Self::AttachNetwork { instance }
            | Self::Create { instance }
            | Self::Start { instance }
            | Self::Stop { instance, .. }
            | Self::Kill { instance }
            | Self::Freeze { instance }
            | Self::KillAll { instance }
            | Self::Release { instance }
            | Self::Thaw { instance }
            | Self::Remove { instance } => Subject::Instance(*instance),
            Self::MakeVolume { volume, .. }
            | Self::PersistRole { volume, .. }
            | Self::OpenVolume { volume, .. }
            | Self::CloseVolume { volume }
            | Self::RunHook { volume, .. }
            | Self::SyncVolume { volume, .. }
            | Self::CheckStill { volume, .. }
            | Self::Snapshot { volume, .. }
            | Self::Receive { volume, .. }
            | Self::SyncReceived { volume, .. }
            | Self::Promote { volume, .. }
            | Self::DropSnapshot { volume, .. }
            | Self::SetAside { volume, .. }
            | Self::DestroyVolume { volume, .. } => Subject::Volume(volume.clone()),
        }
    }

    /// What `tandem ps` says while it is under way.
    pub fn verb(&self) -> &'static str {
        match self {
            Self::PullImage { .. } => "pulling",
            Self::PrepareRoot { .. } => "unpacking",
            Self::AttachNetwork { .. } => "attaching to the network",
            Self::Create { .. } => "creating",
            Self::Start { .. } => "starting",
            Self::Stop { .. } => "stopping",
            Self::Kill { .. } => "killing",
            Self::Remove { .. } => "removing",
            Self::MakeVolume { .. } => "making the volume",
            Self::Freeze { .. } => "freezing",
            Self::KillAll { .. } | Self::Release { .. } => "killing",
            Self::Thaw { .. } => "thawing",
            Self::RunHook { .. } => "running the move hook",
            Self::PersistRole { .. } => "noting the volume's role",
            Self::SyncVolume { .. } => "writing the volume back",
            Self::CheckStill { .. } => "checking that nothing writes the volume",
            Self::Snapshot { .. } => "taking a snapshot",
            Self::Receive { .. } => "receiving the volume",
            Self::SyncReceived { .. } => "writing what was received to disk",
            Self::Promote { .. } => "making what landed live",
            Self::DropSnapshot { .. } => "deleting a snapshot",
            Self::SetAside { .. } => "setting the volume aside",
            Self::OpenVolume { .. } => "opening the volume",
            Self::CloseVolume { .. } => "closing the volume",
            Self::DestroyVolume { .. } => "destroying the volume",
        }
    }

    /// Whether it brings an instance or volume closer to running. Only an assignment received in
    /// the current session allows that.
    pub fn climbs(&self) -> bool {
        match self {
            Self::PullImage { .. }
            | Self::PrepareRoot { .. }
            | Self::AttachNetwork { .. }
            | Self::Create { .. }
            | Self::Start { .. }
            | Self::MakeVolume { .. }
            | Self::OpenVolume { .. }
            | Self::Receive { .. }
            | Self::Promote { .. }
            | Self::Thaw { .. } => true,
            // What was handed over or recovered elsewhere is given up without being told again; to
            // begin to seal without a master would be an outage without an end.
            Self::PersistRole { role, .. } => {
                !matches!(role.role, CopyRole::Kept | CopyRole::Aside)
            }
            Self::Stop { .. }
            | Self::Kill { .. }
            | Self::Remove { .. }
            | Self::Freeze { .. }
            | Self::KillAll { .. }
            | Self::Release { .. }
            | Self::RunHook { .. }
            | Self::SyncVolume { .. }
            | Self::CheckStill { .. }
            | Self::Snapshot { .. }
            | Self::SyncReceived { .. }
            | Self::DropSnapshot { .. }
            | Self::SetAside { .. }
            | Self::CloseVolume { .. }
            | Self::DestroyVolume { .. } => false,
        }
    }
}
