//! Deployments as `/v2/deployments` lists them.

use model::AppId;
use model::deployment::{Action, Deployment};
use model::ids::{ClusterId, Version};
use serde::Serialize;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentView {
    pub id: String,
    #[serde(serialize_with = "super::text")]
    pub version: Version,
    pub affected_apps: Vec<String>,
    pub affected_pods: Vec<String>,
    pub steps: Vec<StepView>,
    pub current_actions: Vec<ActionView>,
    /// From 1; 0 until the deployment has begun.
    pub current_step: u32,
    pub total_steps: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StepView {
    pub actions: Vec<ActionView>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ActionView {
    pub action: &'static str,
    pub app: String,
    /// Only of current actions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub readiness_check_results: Option<Vec<()>>,
}

impl DeploymentView {
    pub fn of(deployment: &Deployment, cluster: ClusterId) -> Self {
        let actions = |actions: &[(AppId, Action)], current: bool| -> Vec<ActionView> {
            actions
                .iter()
                .map(|(app, action)| ActionView {
                    action: name(*action),
                    app: app.to_string(),
                    readiness_check_results: current.then(Vec::new),
                })
                .collect()
        };
        let steps = deployment.steps.iter();
        let total = u32::try_from(deployment.steps.len()).unwrap_or(u32::MAX);
        Self {
            id: deployment.id.uuid(cluster),
            version: deployment.version,
            affected_apps: deployment.apps().map(AppId::to_string).collect(),
            affected_pods: Vec::new(),
            current_actions: deployment
                .step()
                .map(|step| actions(&step.actions, true))
                .unwrap_or_default(),
            steps: steps
                .map(|step| StepView {
                    actions: actions(&step.actions, false),
                })
                .collect(),
            current_step: deployment.current.saturating_add(1).min(total),
            total_steps: total,
        }
    }
}

fn name(action: Action) -> &'static str {
    match action {
        Action::Start => "StartApplication",
        Action::Scale => "ScaleApplication",
        Action::Restart => "RestartApplication",
        Action::Stop => "StopApplication",
    }
}
