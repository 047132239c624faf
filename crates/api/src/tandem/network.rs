//! Who has which address and name.

use axum::extract::State;
use serde_json::json;

use crate::Context;
use crate::answer::{self, Answer};

pub async fn read(State(context): State<Context>) -> Answer {
    let (base, prefix) = context.master.store().state().settings.subnet;
    let directory = context.master.directory();
    let nodes: Vec<_> = directory.nodes.values().collect();
    let instances: Vec<_> = directory
        .instances
        .iter()
        .map(|(id, entry)| json!({ "id": id, "entry": entry }))
        .collect();
    Ok(answer::json(json!({
        "subnet": format!("{base}/{prefix}"),
        "revision": directory.revision,
        "nodes": nodes,
        "instances": instances,
    })))
}
