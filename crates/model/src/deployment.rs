//! Deployments: the ordered steps from one set of apps to another.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ids::{AppId, DeploymentId, Version};
use crate::spec::AppSpec;
use crate::time::Time;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    pub id: DeploymentId,
    pub version: Version,
    pub began: Time,
    pub steps: Vec<Step>,
    /// Index of the step under way.
    pub current: u32,
    /// What each app was before; `None`: it did not exist. A cancel goes back to it.
    pub before: Vec<(AppId, Option<Arc<AppSpec>>)>,
}

/// Actions that go on side by side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    pub actions: Vec<(AppId, Action)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    Start,
    Scale,
    /// Every instance of an older version is replaced.
    Restart,
    Stop,
}

impl Deployment {
    pub fn apps(&self) -> impl Iterator<Item = &AppId> {
        self.before.iter().map(|(app, _)| app)
    }

    pub fn step(&self) -> Option<&Step> {
        self.steps.get(self.current as usize)
    }
}
