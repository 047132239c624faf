//! Who has which address and name, and what one node made of that.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use model::session::{Ask, Part};
use serde_json::json;

use crate::Context;
use crate::answer::{self, Answer, Failure};
use crate::tandem::{log, nodes};

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

/// What the node's kernel has, beside what the directory wants there: asked of its agent.
pub async fn of_node(State(context): State<Context>, Path(name): Path<String>) -> Answer {
    let state = context.master.store().state();
    let node = state.find_node(&name);
    let node = node.ok_or_else(|| nodes::unknown(&name))?;
    let mut answer = log::ask(&context, node.id, Ask::Network)?;
    let (mut compared, mut tables) = (Vec::new(), String::new());
    loop {
        match answer.next().await {
            Some(Part::Compared(rows)) => compared.extend(rows),
            Some(Part::Tables(text)) => tables.push_str(&text),
            Some(Part::End) => break,
            Some(Part::Failed(why)) => {
                return Err(Failure::Other(StatusCode::SERVICE_UNAVAILABLE, why));
            }
            Some(Part::Log(_) | Part::Stdout(_) | Part::Stderr(_) | Part::Exited(_)) => {}
            None => {
                let why = "the node's session ended before it answered".to_owned();
                return Err(Failure::Other(StatusCode::SERVICE_UNAVAILABLE, why));
            }
        }
    }
    let name = &node.machine.name;
    Ok(answer::json(
        json!({ "node": name, "compared": compared, "tables": tables }),
    ))
}
