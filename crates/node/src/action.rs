//! The steps that the agent performs. Each is one act that may be cut off by a crash and is then
//! done again from the start; steps whose order matters are never joined.

use model::ids::{Generation, InstanceId, VolumeId};
use model::sighting::Subject;
use model::volume::RoleFile;
use model::{Mebibytes, Millis};

/// What to do to one instance or volume. The particulars of an instance (spec, placement) are in
/// the assignment under its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Have the image's layers on this node. May take minutes, so it alone can be cancelled.
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
    /// Write this role file over an older generation's.
    AdoptVolume {
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
            | Self::Remove { instance } => Subject::Instance(*instance),
            Self::MakeVolume { volume, .. }
            | Self::AdoptVolume { volume, .. }
            | Self::OpenVolume { volume, .. }
            | Self::CloseVolume { volume }
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
            Self::AdoptVolume { .. } => "taking the volume over",
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
            | Self::AdoptVolume { .. }
            | Self::OpenVolume { .. } => true,
            Self::Stop { .. }
            | Self::Kill { .. }
            | Self::Remove { .. }
            | Self::CloseVolume { .. }
            | Self::DestroyVolume { .. } => false,
        }
    }
}
