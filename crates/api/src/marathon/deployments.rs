//! `/v2/deployments`.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use marathon::render::DeploymentView;
use planner::request::{self, Force};

use crate::Context;
use crate::answer::{self, Answer, Failure};
use crate::marathon::apps;
use crate::query::Query;

pub async fn list(State(context): State<Context>) -> Answer {
    let state = context.master.store().state();
    let all = state
        .deployments()
        .map(|deployment| DeploymentView::of(deployment, state.cluster));
    Ok(answer::json(all.collect::<Vec<_>>()))
}

/// `DELETE`: goes back to what was before, or with `force` leaves things as they are.
pub async fn cancel(
    State(context): State<Context>,
    Path(uuid): Path<String>,
    query: Query,
) -> Answer {
    let state = context.master.store().state();
    let found = state
        .deployments()
        .find(|deployment| deployment.id.uuid(state.cluster) == uuid);
    let missing = || Failure::not_found(format!("DeploymentPlan {uuid} does not exist"));
    let id = found.map(|deployment| deployment.id).ok_or_else(missing)?;
    let force = Force::from(query.flag("force", false));
    let done = apps::change(&context, move |draft| {
        apps::accept(draft, |draft| request::cancel_deployment(draft, id, force))
    })
    .await?;
    Ok(match done {
        Some(accepted) => answer::deployment(StatusCode::OK, &accepted, state.cluster),
        None => StatusCode::ACCEPTED.into_response(),
    })
}
