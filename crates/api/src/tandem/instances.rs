//! Instances as they are: what is wanted of each beside what was seen.

use axum::extract::{Path, State};
use model::{AppId, InstanceId, State as Cluster};

use crate::Context;
use crate::answer::{self, Answer, Failure};
use crate::query::Query;
use crate::wire::Instance;

pub async fn list(State(context): State<Context>, query: Query) -> Answer {
    let state = context.master.store().state();
    let instances: Vec<Instance> = match query.get("app") {
        Some(app) => {
            let missing = || Failure::not_found(format!("App '{app}' does not exist"));
            let id = AppId::parse(app).map_err(|_| missing())?;
            let app = state.app(&id).ok_or_else(missing)?;
            state
                .instances_of(app)
                .map(|instance| Instance::of(&state, instance))
                .collect()
        }
        None => {
            let apps = state.apps().flat_map(|app| state.instances_of(app));
            apps.map(|instance| Instance::of(&state, instance))
                .collect()
        }
    };
    Ok(answer::json(instances))
}

pub async fn read(State(context): State<Context>, Path(id): Path<String>) -> Answer {
    let state = context.master.store().state();
    let instance = find(&state, &id)?;
    Ok(answer::json(Instance::of(&state, instance)))
}

/// An instance by its id or task id.
pub fn find<'a>(state: &'a Cluster, text: &str) -> Result<&'a model::Instance, Failure> {
    let id: Option<InstanceId> = text.parse().ok().or_else(|| InstanceId::from_task_id(text));
    id.and_then(|id| state.instance(id))
        .ok_or_else(|| Failure::not_found(format!("Instance '{text}' does not exist")))
}
