//! Answers in Marathon's JSON. The views are plain values, made of the state by `api`; each
//! serialises as the shape that clients read, legacy and canonical fields together.
//!
//! Integers are written without a fraction, and keys that strict clients do not know are left
//! out when unset: both generations of clients can read the same body.

mod app;
mod deployment;
mod info;
mod metrics;
mod queue;
mod task;

use std::fmt::Display;

use model::time::Time;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

pub(crate) use app::explained;
pub(crate) use task::instance_id;

pub use app::{AppView, Counts, FailureView, definition};
pub use deployment::{ActionView, DeploymentView, StepView};
pub use info::InfoView;
pub use metrics::MetricsView;
pub use queue::{Offers, QueueView, Rejection, UnusedOffer};
pub use task::{
    HealthView, IpAddressView, Stats, TaskState, TaskStats, TaskView, task_stats, tasks_text,
};

/// The answer to every change.
pub fn deployment_result(version: Time, deployment: &str) -> Value {
    json!({ "version": version.to_string(), "deploymentId": deployment })
}

/// `{"versions": […]}`, newest first.
pub fn versions(versions: impl IntoIterator<Item = Time>) -> Value {
    let list: Vec<String> = versions.into_iter().map(|v| v.to_string()).collect();
    json!({ "versions": list })
}

/// The body of most refusals.
pub fn message(text: &str) -> Value {
    json!({ "message": text })
}

/// The body of a 409 for an app that deployments hold.
pub fn locked(deployments: &[String]) -> Value {
    let first = deployments.first().map_or("", String::as_str);
    let list: Vec<Value> = deployments.iter().map(|id| json!({ "id": id })).collect();
    json!({
        "message": format!(
            "App is locked by one or more deployments. Override with the option '?force=true'. View details at '/v2/deployments/{first}'."
        ),
        "deployments": list,
    })
}

/// The body of a 404 for an app, or for one of its versions.
pub fn no_app(id: &str, version: Option<Time>) -> Value {
    match version {
        None => message(&format!("App '{id}' does not exist")),
        Some(version) => message(&format!("App '{id}' does not exist in version {version}")),
    }
}

/// A view as a JSON value.
pub fn value(view: &impl Serialize) -> Value {
    serde_json::to_value(view).expect("views have string keys and finite numbers only")
}

fn text<T: Display, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(value)
}

fn text_or_null<T: Display, S: Serializer>(value: &Option<T>, to: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => to.collect_str(value),
        None => to.serialize_none(),
    }
}
