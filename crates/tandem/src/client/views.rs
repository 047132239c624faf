//! The parts of the API's answers that tables show. What an older or newer master leaves out is
//! empty.

use std::collections::BTreeMap;

use serde::Deserialize;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Apps {
    pub apps: Vec<App>,
}

/// `GET /v2/apps/ID`.
#[derive(Clone, Debug, Deserialize)]
pub struct OneApp {
    pub app: App,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct App {
    pub id: String,
    pub version: String,
    pub instances: u32,
    pub cpus: f64,
    pub mem: f64,
    pub cmd: Option<String>,
    pub args: Option<Vec<String>>,
    pub container: Option<Container>,
    pub health_checks: Vec<serde_json::Value>,
    pub tasks_staged: u32,
    pub tasks_running: u32,
    pub tasks_healthy: u32,
    pub tasks_unhealthy: u32,
    pub deployments: Vec<Id>,
    pub last_task_failure: Option<TaskFailure>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Container {
    pub docker: Option<Docker>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Docker {
    pub image: String,
    pub parameters: Vec<Parameter>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Parameter {
    pub key: String,
    pub value: String,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Id {
    pub id: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct TaskFailure {
    pub message: String,
    pub timestamp: String,
    pub host: String,
}

/// The answer to a change.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deployed {
    pub version: String,
    pub deployment_id: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Deployment {
    pub id: String,
    pub version: String,
    pub affected_apps: Vec<String>,
    pub current_step: u32,
    pub total_steps: u32,
    pub current_actions: Vec<Action>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Action {
    pub action: String,
    pub app: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Status {
    pub version: String,
    pub cluster: String,
    pub epoch: u64,
    pub nodes: NodeCounts,
    pub apps: u64,
    pub instances: u64,
    pub lost: Vec<Lost>,
    pub waiting: Vec<Queued>,
}

/// What says which cluster it is.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Info {
    pub framework_id: String,
}

/// A node that is silent, and the apps whose instances there nobody replaces.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Lost {
    pub node: String,
    pub since: String,
    pub apps: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NodeCounts {
    pub total: u64,
    pub here: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Queued {
    pub app: String,
    pub missing: u32,
    pub hindrances: Vec<String>,
    pub nodes: Vec<NodeReasons>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NodeReasons {
    pub node: String,
    pub reasons: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Node {
    pub name: String,
    pub hostname: String,
    pub address: String,
    pub overlay: String,
    pub presence: String,
    pub since: Option<String>,
    pub session: bool,
    pub draining: bool,
    pub resources: Amounts,
    pub used: Amounts,
    pub attributes: BTreeMap<String, String>,
    pub instances: u64,
    pub joined: String,
    pub version: String,
}

/// Cpus, and MiB.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Amounts {
    pub cpus: f64,
    pub mem: f64,
    pub disk: f64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Instance {
    pub id: String,
    pub task: String,
    pub app: String,
    pub node: String,
    pub address: Option<String>,
    pub ports: Vec<Port>,
    pub goal: String,
    pub cause: Option<String>,
    pub rung: String,
    pub health: String,
    pub detail: Option<String>,
    pub exit: Option<Exit>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Port {
    pub host: u16,
    pub container: u16,
    pub protocol: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Exit {
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub reason: Option<String>,
    pub out_of_memory: bool,
    pub last_line: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Volume {
    pub name: String,
    pub size: f64,
    pub home: Option<String>,
    pub generation: u64,
    pub tenant: Option<String>,
    pub holder: Option<String>,
    pub copies: Vec<Copy>,
    pub removing: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Copy {
    pub node: String,
    pub role: String,
    pub generation: u64,
    pub bytes: Option<u64>,
    pub since: Option<String>,
    pub name: Option<String>,
    pub trouble: Option<String>,
}

/// What a volume goes on with, and what it gives up.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Recovery {
    pub from: String,
    pub silent_since: Option<String>,
    pub node: String,
    pub copied: Option<String>,
    pub bytes: Option<u64>,
    pub generation: u64,
    pub tenant: Option<String>,
    pub newer: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Move {
    pub id: String,
    pub app: Option<String>,
    pub volumes: Vec<String>,
    pub from: String,
    pub to: String,
    pub phase: String,
    pub round: Option<u32>,
    pub bytes: Option<u64>,
    pub bytes_per_second: Option<u64>,
    pub reason: Option<String>,
    pub trouble: Option<String>,
}

/// What was asked for, and would be or begins.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Planned {
    pub id: Option<String>,
    pub app: Option<String>,
    pub volumes: Vec<String>,
    pub from: String,
    pub to: String,
    pub cold: bool,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Token {
    pub token: String,
    pub expires: String,
}
