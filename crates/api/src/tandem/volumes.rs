//! Volumes: where each is, who uses it, and what copies there are.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use model::{NodeId, Quantity, VolumeId};
use planner::request;
use serde::Deserialize;

use crate::Context;
use crate::answer::{self, Answer, Failure};
use crate::marathon::apps;
use crate::tandem::{nodes, only_root};
use crate::wire::{Recovery, Volume};

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    /// MiB.
    size: Option<f64>,
    node: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct RecoveryWish {
    node: Option<String>,
    dry_run: bool,
    /// What a question told; something else is refused.
    generation: Option<u64>,
}

fn parse(name: &str) -> Result<VolumeId, Failure> {
    VolumeId::parse(name).map_err(|fault| Failure::bad_request(fault.to_string()))
}

fn find(state: &model::State, node: &str) -> Result<NodeId, Failure> {
    let found = state.find_node(node).map(|node| node.id);
    found.ok_or_else(|| nodes::unknown(node))
}

pub async fn list(State(context): State<Context>) -> Answer {
    let state = context.master.store().state();
    let volumes: Vec<Volume> = state
        .volumes()
        .map(|volume| Volume::of(&state, volume))
        .collect();
    Ok(answer::json(volumes))
}

pub async fn read(State(context): State<Context>, Path(name): Path<String>) -> Answer {
    let state = context.master.store().state();
    let id = parse(&name)?;
    let missing = || Failure::not_found(format!("Volume '{name}' does not exist"));
    let volume = state.volume(&id).ok_or_else(missing)?;
    Ok(answer::json(Volume::of(&state, volume)))
}

pub async fn create(
    State(context): State<Context>,
    Path(name): Path<String>,
    body: Bytes,
) -> Answer {
    let id = parse(&name)?;
    let wish: Wish = match body.trim_ascii() {
        b"" => Wish::default(),
        text => serde_json::from_slice(text).map_err(|error| {
            Failure::bad_request(format!("the body must be {{size, node}}: {error}"))
        })?,
    };
    let size = wish.size.map(|size| {
        Quantity::from_f64(size)
            .filter(|size| *size > Quantity::ZERO)
            .ok_or_else(|| Failure::bad_request("size must be a positive number of MiB"))
    });
    let size = size.transpose()?;
    let volume = id.clone();
    let new = apps::change(&context, move |draft| {
        let node = wish.node.map(|name| find(draft.state(), &name));
        let node = node.transpose()?;
        apps::accept(draft, |draft| {
            request::create_volume(draft, volume, size, node)
        })
    })
    .await?;
    let state = context.master.store().state();
    let status = if new {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok((
        status,
        Json(state.volume(&id).map(|volume| Volume::of(&state, volume))),
    )
        .into_response())
}

pub async fn remove(State(context): State<Context>, Path(name): Path<String>) -> Answer {
    only_root(&context)?;
    let id = parse(&name)?;
    apps::change(&context, move |draft| {
        apps::accept(draft, |draft| request::remove_volume(draft, &id))
    })
    .await?;
    Ok(StatusCode::ACCEPTED.into_response())
}

/// 202 when it is done; 200 when it was only asked about.
pub async fn recover(
    State(context): State<Context>,
    Path(name): Path<String>,
    body: Bytes,
) -> Answer {
    only_root(&context)?;
    let id = parse(&name)?;
    let wish: RecoveryWish = match body.trim_ascii() {
        b"" => RecoveryWish::default(),
        text => serde_json::from_slice(text).map_err(|error| {
            Failure::bad_request(format!(
                "the body must be {{node, dryRun, generation}}: {error}"
            ))
        })?,
    };
    let dry_run = wish.dry_run;
    let recovery = apps::change(&context, move |draft| {
        let node = wish.node.map(|name| find(draft.state(), &name));
        let node = node.transpose()?;
        if let (Some(wanted), Ok(plan)) = (
            wish.generation,
            request::plan_recovery(draft.state(), &id, node),
        ) && plan.generation.0 != wanted
        {
            let why = format!("volume {id} has changed meanwhile; look again, and ask again");
            return Err(Failure::Other(StatusCode::CONFLICT, why));
        }
        apps::accept(draft, |draft| {
            let plan = match dry_run {
                true => request::plan_recovery(draft.state(), &id, node)?,
                false => request::recover_volume(draft, &id, node)?,
            };
            Ok(Recovery::of(draft.state(), &id, &plan))
        })
    })
    .await?;
    let status = match dry_run {
        true => StatusCode::OK,
        false => StatusCode::ACCEPTED,
    };
    Ok((status, Json(recovery)).into_response())
}

/// Removes what a node has set aside.
pub async fn remove_copy(
    State(context): State<Context>,
    Path((name, node, copy)): Path<(String, String, String)>,
) -> Answer {
    only_root(&context)?;
    let id = parse(&name)?;
    apps::change(&context, move |draft| {
        let node = find(draft.state(), &node)?;
        apps::accept(draft, |draft| request::remove_copy(draft, &id, node, &copy))
    })
    .await?;
    Ok(StatusCode::ACCEPTED.into_response())
}
