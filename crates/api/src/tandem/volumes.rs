//! Volumes: where each is, who uses it, and what copies there are.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use model::{Quantity, VolumeId};
use planner::request;
use serde::Deserialize;

use crate::Context;
use crate::answer::{self, Answer, Failure};
use crate::marathon::apps;
use crate::tandem::{nodes, only_root};
use crate::wire::Volume;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    /// MiB.
    size: Option<f64>,
    node: Option<String>,
}

fn parse(name: &str) -> Result<VolumeId, Failure> {
    VolumeId::parse(name).map_err(|fault| Failure::bad_request(fault.to_string()))
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
        let node = wish.node.map(|name| {
            draft
                .state()
                .find_node(&name)
                .map(|node| node.id)
                .ok_or_else(|| nodes::unknown(&name))
        });
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
