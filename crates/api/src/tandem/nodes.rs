//! Nodes: who they are, and what operators ask of them.

use axum::extract::{Path, State};
use model::{Draft, NodeId, NodeRecord};
use planner::request::{self, Refusal};

use crate::Context;
use crate::answer::{self, Answer, Failure};
use crate::marathon::apps;
use crate::tandem::only_root;
use crate::wire::Node;

fn view(context: &Context, node: &NodeRecord) -> Node {
    Node::of(node, context.master.has_session(node.id))
}

pub async fn list(State(context): State<Context>) -> Answer {
    let state = context.master.store().state();
    let nodes: Vec<Node> = state.nodes().map(|node| view(&context, node)).collect();
    Ok(answer::json(nodes))
}

pub async fn read(State(context): State<Context>, Path(name): Path<String>) -> Answer {
    let state = context.master.store().state();
    let node = state.find_node(&name).ok_or_else(|| unknown(&name))?;
    Ok(answer::json(view(&context, node)))
}

/// The failure for a name, hostname or address that no node has.
pub fn unknown(name: &str) -> Failure {
    Failure::not_found(format!("Node '{name}' does not exist"))
}

pub async fn drain(State(context): State<Context>, Path(name): Path<String>) -> Answer {
    act(&context, name, request::drain).await
}

pub async fn undrain(State(context): State<Context>, Path(name): Path<String>) -> Answer {
    act(&context, name, request::undrain).await
}

pub async fn lost(State(context): State<Context>, Path(name): Path<String>) -> Answer {
    only_root(&context)?;
    act(&context, name, request::node_lost).await
}

async fn act(
    context: &Context,
    name: String,
    request: impl FnOnce(&mut Draft, NodeId) -> Result<(), Refusal> + Send + 'static,
) -> Answer {
    apps::change(context, move |draft| {
        let node = draft
            .state()
            .find_node(&name)
            .map(|node| node.id)
            .ok_or_else(|| unknown(&name))?;
        apps::accept(draft, |draft| request(draft, node))
    })
    .await?;
    Ok(answer::said("done"))
}
