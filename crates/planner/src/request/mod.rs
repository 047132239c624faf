//! What clients and operators ask for: one function per request, each decided on a draft.
//!
//! Every refusal is decided before the first change, so a refused request changes nothing. The
//! leader acts on what was accepted; nothing here starts or stops an instance by itself, save
//! what a client names.

mod apps;
mod change;
mod cluster;
mod instances;
mod moves;
mod nodes;
mod recover;
mod service_ports;
mod volumes;

use std::net::Ipv4Addr;

use model::ids::{AppId, DeploymentId, NodeId, Version, VolumeId};
use model::quantity::Mebibytes;
use model::time::Time;
use scheduler::ConstraintFault;

pub use crate::relocate::Plan;
pub use apps::{
    cancel_deployment, post_app, put_app, put_apps, remove_app, reset_delay, restart_app, scale,
};
pub use change::change;
pub(crate) use change::take_volumes;
pub(crate) use change::{share_down, share_up};
pub use cluster::{OtherSubnet, found, lead, make_token, use_token};
pub use instances::{Kill, Killed, kill_instances};
pub use moves::{
    MoveRefusal, cancel, cancel_move, move_app, move_volume, plan_move, plan_volume_move,
};
pub use nodes::{drain, node_lost, undrain};
pub use recover::{RecoverRefusal, Recovered, plan_recovery, recover_volume};
pub use volumes::{create_volume, remove_copy, remove_volume};

/// Whether a request goes through although deployments hold the apps: these are cancelled then,
/// without going back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Force {
    #[default]
    No,
    Yes,
}

impl From<bool> for Force {
    fn from(force: bool) -> Self {
        if force { Self::Yes } else { Self::No }
    }
}

/// What an accepted change of apps is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    pub version: Version,
    /// Finished already when nothing changed.
    pub deployment: DeploymentId,
    /// At least one app did not exist before.
    pub created: bool,
    /// Whether anything changed.
    pub changed: bool,
}

/// Why a request is not granted. Each names Marathon's status for it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// 409
    #[error("app {0} already exists")]
    AlreadyExists(AppId),
    /// 404
    #[error("app {0} does not exist")]
    NoApp(AppId),
    /// 409
    #[error("app is locked by {} deployment(s)", .0.len())]
    Locked(Vec<DeploymentId>),
    /// 404
    #[error("deployment {0} does not exist")]
    NoDeployment(DeploymentId),
    /// 422, path `/constraints`
    #[error("{fault}")]
    Constraint { app: AppId, fault: ConstraintFault },
    /// 422, path `/instances`
    #[error("volume {volume} can be written by one instance only, and {app} wants {instances}")]
    VolumeShared {
        app: AppId,
        volume: VolumeId,
        instances: u32,
    },
    /// 422
    #[error("no agent allows {permission}: name it in [agent] allow")]
    NotAllowed { app: AppId, permission: String },
    /// 422, path `/dependencies`
    #[error("cyclic dependencies: {}", chain(.0))]
    Cyclic(Vec<AppId>),
    /// 422, path `/servicePort`
    #[error("no service port is left between {0} and {1}")]
    NoServicePort(u16, u16),
    /// 400
    #[error("scale and wipe cannot be asked for together")]
    ScaleAndWipe,
    /// 404
    #[error("volume {0} does not exist")]
    NoVolume(VolumeId),
    /// 409
    #[error("volume {volume} exists with {}{}", .size.mebibytes_in_words(), at(.home))]
    VolumeDiffers {
        volume: VolumeId,
        size: Mebibytes,
        /// The name of the node that it is on.
        home: Option<String>,
    },
    /// 409
    #[error("volume {volume} is in use by {tenant}")]
    VolumeInUse { volume: VolumeId, tenant: AppId },
    /// 409
    #[error("volume {0} is being removed")]
    VolumeGoing(VolumeId),
    /// 404
    #[error("nothing of volume {volume} is set aside as {copy}")]
    VolumeCopyMissing { volume: VolumeId, copy: String },
    /// 404
    #[error("{0} does not exist")]
    NoNode(NodeId),
    /// 409
    #[error("node {0} has a session: drain it, or stop its agent first")]
    NodeIsHere(String),
    /// 403
    #[error("the token is unknown")]
    NoToken,
    /// 403
    #[error("a node called {0} is here already: choose another name, with --name")]
    NameTaken(String),
    /// 403
    #[error("the token expired at {0}")]
    TokenExpired(Time),
    /// 403
    #[error("the token was used by {0}")]
    TokenUsed(String),
    /// 404, 409 or 422
    #[error(transparent)]
    Move(#[from] MoveRefusal),
    /// 409
    #[error(transparent)]
    Recover(#[from] RecoverRefusal),
    /// 503
    #[error("no overlay address is left in {0}/{1}")]
    NoAddress(Ipv4Addr, u8),
}

fn chain(apps: &[AppId]) -> String {
    let names: Vec<&str> = apps.iter().map(AppId::as_str).collect();
    names.join(" → ")
}

fn at(home: &Option<String>) -> String {
    let home = home.as_ref();
    home.map_or_else(String::new, |home| format!(" on {home}"))
}
