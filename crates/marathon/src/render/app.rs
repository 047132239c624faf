//! Apps: the definition in both dialects, and what is known of the running app.

use model::AppId;
use model::ids::{ClusterId, Version};
use model::instance::{Exit, ExitStatus};
use model::spec::AppSpec;
use model::state::{App, Failure};
use model::time::Time;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::task::{TaskState, TaskStats, TaskView};
use crate::form;
use crate::wire::Wire;

/// An app as `GET /v2/apps/ID` shows it.
#[derive(Clone, Debug)]
pub struct AppView<'a> {
    pub id: &'a AppId,
    pub spec: &'a AppSpec,
    pub version: Version,
    pub last_scaling: Version,
    pub last_config_change: Version,
    pub counts: Counts,
    /// UUIDs of the deployments that hold the app.
    pub deployments: Vec<String>,
    /// `None`: not embedded.
    pub tasks: Option<Vec<TaskView>>,
    pub last_task_failure: Option<FailureView>,
    pub task_stats: Option<TaskStats>,
    /// Whether to say that there are no results of readiness checks.
    pub readiness: bool,
}

/// How many tasks are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub staged: u32,
    pub running: u32,
    pub healthy: u32,
    pub unhealthy: u32,
}

/// The last task that ended by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FailureView {
    pub app_id: String,
    pub host: String,
    pub message: String,
    pub state: TaskState,
    pub task_id: String,
    pub slave_id: String,
    #[serde(serialize_with = "super::text")]
    pub timestamp: Time,
    #[serde(serialize_with = "super::text")]
    pub version: Version,
}

impl<'a> AppView<'a> {
    /// Everything that the state's record of an app says; tasks, statistics and failure are the
    /// caller's to embed.
    pub fn of(app: &'a App, cluster: ClusterId) -> Self {
        Self {
            id: &app.id,
            spec: &app.spec,
            version: app.version,
            last_scaling: app.last_scaling,
            last_config_change: app.last_config_change,
            counts: Counts {
                staged: app.counters.active.saturating_sub(app.counters.running),
                running: app.counters.running,
                healthy: app.counters.healthy,
                unhealthy: app.counters.unhealthy,
            },
            deployments: app.deployment.iter().map(|id| id.uuid(cluster)).collect(),
            tasks: None,
            last_task_failure: None,
            task_stats: None,
            readiness: false,
        }
    }
}

impl FailureView {
    /// `agent` is the node's name.
    pub fn of(app: &AppId, failure: &Failure, agent: &str) -> Self {
        Self {
            app_id: app.to_string(),
            host: failure.hostname.clone(),
            message: explained(&failure.exit),
            state: TaskState::of_exit(&failure.exit),
            task_id: failure.instance.task_id(app),
            slave_id: agent.to_owned(),
            timestamp: failure.at,
            version: failure.version,
        }
    }
}

/// How an instance ended, as a sentence with the last line that it wrote.
pub(crate) fn explained(exit: &Exit) -> String {
    let how = match &exit.status {
        _ if exit.out_of_memory => "Container exceeded its memory limit and was killed".to_owned(),
        ExitStatus::Code(code) => format!("Container exited with status {code}"),
        ExitStatus::Signal(signal) => format!("Container was ended by signal {signal}"),
        ExitStatus::Unknown => "Container ended while nobody could see its status".to_owned(),
        ExitStatus::NeverRan(why) => format!("Container could not be started: {why}"),
        ExitStatus::Unhealthy(why) => format!("Container was killed: {why}"),
    };
    match &exit.last_line {
        Some(line) if !line.is_empty() => format!("{how}; it said last: {line}"),
        _ => how,
    }
}

impl Serialize for AppView<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        for (key, value) in fields(self.id, self.spec, self.version) {
            map.serialize_entry(&key, &value)?;
        }
        map.serialize_entry(
            "versionInfo",
            &json!({
                "lastScalingAt": self.last_scaling.to_string(),
                "lastConfigChangeAt": self.last_config_change.to_string(),
            }),
        )?;
        map.serialize_entry("tasksStaged", &self.counts.staged)?;
        map.serialize_entry("tasksRunning", &self.counts.running)?;
        map.serialize_entry("tasksHealthy", &self.counts.healthy)?;
        map.serialize_entry("tasksUnhealthy", &self.counts.unhealthy)?;
        let deployments: Vec<Value> = self
            .deployments
            .iter()
            .map(|id| json!({ "id": id }))
            .collect();
        map.serialize_entry("deployments", &deployments)?;
        if let Some(tasks) = &self.tasks {
            map.serialize_entry("tasks", tasks)?;
        }
        if let Some(failure) = &self.last_task_failure {
            map.serialize_entry("lastTaskFailure", failure)?;
        }
        if let Some(stats) = &self.task_stats {
            map.serialize_entry("taskStats", stats)?;
        }
        if self.readiness {
            map.serialize_entry("readinessCheckResults", &[(); 0])?;
        }
        map.end()
    }
}

/// The bare definition, as of one version.
pub fn definition(id: &AppId, spec: &AppSpec, version: Version) -> Value {
    Value::Object(fields(id, spec, version))
}

/// The definition in both dialects, with what clients look for though it is unset.
fn fields(id: &AppId, spec: &AppSpec, version: Version) -> Map<String, Value> {
    let mut map = match form::of(id, spec).write() {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    map.insert("version".to_owned(), version.to_string().into());
    for unset in ["cmd", "args", "container", "user"] {
        map.entry(unset).or_insert(Value::Null);
    }
    for empty in ["uris", "fetch", "storeUrls", "readinessChecks"] {
        map.entry(empty).or_insert_with(|| json!([]));
    }
    map.entry("secrets").or_insert_with(|| json!({}));
    map.entry("executor").or_insert_with(|| json!(""));
    map
}
