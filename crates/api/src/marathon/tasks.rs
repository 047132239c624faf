//! `/v2/tasks`, and killing tasks wherever that is asked for.

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use marathon::render::{self, TaskState};
use model::{AppId, Instance, InstanceId};
use planner::request::{self, Force, Kill, Killed, Refusal};
use serde::Deserialize;
use serde_json::json;

use crate::Context;
use crate::answer::{self, Answer, Failure};
use crate::marathon::{apps, views};
use crate::query::Query;

pub async fn list(State(context): State<Context>, headers: HeaderMap, query: Query) -> Answer {
    let state = context.master.store().state();
    let accepts = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("");
    if accepts.contains("text/plain") && !accepts.contains("application/json") {
        let listed: Vec<_> = state
            .apps()
            .map(|app| (app, views::tasks(&state, app)))
            .collect();
        let rows = listed
            .iter()
            .map(|(app, tasks)| (&app.id, app.spec.as_ref(), tasks.as_slice()));
        return Ok(render::tasks_text(rows).into_response());
    }
    let wanted: Vec<&str> = query.all("status").collect();
    let shown = |state: TaskState| {
        wanted.is_empty()
            || wanted.contains(&"running") && state == TaskState::Running
            || wanted.contains(&"staging") && state != TaskState::Running
    };
    let tasks: Vec<_> = state
        .apps()
        .flat_map(|app| views::tasks(&state, app))
        .filter(|task| shown(task.state))
        .collect();
    Ok(answer::json(json!({ "tasks": tasks })))
}

#[derive(Deserialize)]
struct Ids {
    ids: Vec<String>,
}

/// `POST /v2/tasks/delete`.
pub async fn kill_many(State(context): State<Context>, query: Query, body: Bytes) -> Answer {
    let Ids { ids } = serde_json::from_slice(&body)
        .map_err(|error| Failure::Fault(marathon::Fault::Json(error.to_string())))?;
    let mut instances = Vec::new();
    for id in &ids {
        match InstanceId::from_task_id(id) {
            Some(instance) => instances.push(instance),
            None if is_older(id) => {}
            None => return Err(Failure::bad_request(format!("'{id}' is not a task's id"))),
        }
    }
    let killed = kill(&context, instances, of(&query)).await?;
    match killed.accepted {
        Some(accepted) => {
            let cluster = context.master.store().state().cluster;
            Ok(answer::deployment(StatusCode::OK, &accepted, cluster))
        }
        None => Ok(answer::json(
            json!({ "tasks": shown(&context, &killed.instances) }),
        )),
    }
}

/// `web.3ab3fb04-1f1c-11e6-8b6f-0242ac110002`: as tasks were called before Marathon had instances.
/// None of ours is.
fn is_older(id: &str) -> bool {
    let uuid = id.rsplit_once('.').map(|(_, uuid)| uuid.split('-'));
    uuid.is_some_and(|parts| parts.map(str::len).eq([8, 4, 4, 4, 12]))
}

/// `DELETE /v2/apps/ID/tasks[/TASK]`.
pub async fn kill_of_app(
    context: &Context,
    app: AppId,
    task: Option<String>,
    query: &Query,
) -> Answer {
    let state = context.master.store().state();
    let record = state.app(&app);
    let record =
        record.ok_or_else(|| Failure::Refusal(Refusal::NoApp(app.clone()), state.cluster))?;
    let host = query.get("host").filter(|host| *host != "*");
    let wanted = |instance: &&Instance| match &task {
        Some(task) => instance.task_id() == *task,
        None => host.is_none_or(|host| {
            state
                .node(instance.placement.node)
                .is_some_and(|node| node.machine.hostname == host)
        }),
    };
    let instances: Vec<InstanceId> = state
        .instances_of(record)
        .filter(|instance| !instance.has_ended())
        .filter(wanted)
        .map(|instance| instance.id)
        .collect();
    if let (Some(task), []) = (&task, instances.as_slice()) {
        return Err(Failure::not_found(format!("Task '{task}' does not exist")));
    }
    let killed = kill(context, instances.clone(), of(query)).await?;
    match killed.accepted {
        Some(accepted) => Ok(answer::deployment(StatusCode::OK, &accepted, state.cluster)),
        // Also one that was being killed before.
        None if task.is_some() => Ok(answer::json(
            json!({ "task": shown(context, &instances).first() }),
        )),
        None => Ok(answer::json(
            json!({ "tasks": shown(context, &killed.instances) }),
        )),
    }
}

fn of(query: &Query) -> Kill {
    Kill {
        scale: query.flag("scale", false),
        wipe: query.flag("wipe", false),
        force: Force::from(query.flag("force", false)),
    }
}

async fn kill(
    context: &Context,
    instances: Vec<InstanceId>,
    kill: Kill,
) -> Result<Killed, Failure> {
    apps::change(context, move |draft| {
        apps::accept(draft, |draft| {
            request::kill_instances(draft, &instances, kill)
        })
    })
    .await
}

/// Those that have not ended yet.
fn shown(context: &Context, instances: &[InstanceId]) -> Vec<render::TaskView> {
    let state = context.master.store().state();
    let instances = instances.iter().filter_map(|id| state.instance(*id));
    instances
        .filter_map(|instance| views::task(&state, instance))
        .collect()
}
