//! The cluster at a glance, and what waits.

use std::collections::BTreeSet;

use axum::extract::State;
use model::{App, AppId, Presence, State as Cluster};

use crate::Context;
use crate::answer::{self, Answer};
use crate::marathon::queue::{missing, why};
use crate::wire::{Lost, NodeCounts, NodeReasons, Queued, Status};

pub async fn status(State(context): State<Context>) -> Answer {
    let state = now(&context);
    Ok(answer::json(Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        cluster: format!("{:016x}", state.cluster.0),
        epoch: state.epoch.0,
        nodes: NodeCounts {
            total: state.node_count(),
            here: state
                .nodes()
                .filter(|node| node.presence == Presence::Here)
                .count(),
        },
        apps: state.app_count(),
        instances: state.instance_count(),
        lost: lost(&state),
        waiting: waiting(&state),
    }))
}

pub async fn queue(State(context): State<Context>) -> Answer {
    Ok(answer::json(waiting(&now(&context))))
}

fn now(context: &Context) -> Cluster {
    let store = context.master.store();
    store.state().at(store.now())
}

fn lost(state: &Cluster) -> Vec<Lost> {
    let silent = state.nodes().filter_map(|node| match node.presence {
        Presence::Here => None,
        Presence::Lost { since } => Some((node, since)),
    });
    silent
        .map(|(node, since)| {
            let there = node.instances.keys().filter_map(|id| state.instance(*id));
            let apps: BTreeSet<&AppId> = there
                .filter(|instance| instance.is_active())
                .map(|instance| &instance.app)
                .collect();
            Lost {
                node: node.machine.name.clone(),
                since: since.to_string(),
                apps: apps.into_iter().map(ToString::to_string).collect(),
            }
        })
        .collect()
}

fn waiting(state: &Cluster) -> Vec<Queued> {
    state
        .apps()
        .filter(|app| missing(app) > 0)
        .map(|app| queued(state, app))
        .collect()
}

fn queued(state: &Cluster, app: &App) -> Queued {
    let why = why(state, app).unwrap_or_default();
    let hindrances: Vec<String> = why.hindrances.iter().map(ToString::to_string).collect();
    let counts = why.counts().into_iter().map(|(count, reason)| match count {
        1 => format!("1 node: {reason}"),
        count => format!("{count} nodes: {reason}"),
    });
    let nodes = why
        .nodes
        .iter()
        .filter(|node| !node.reasons.is_empty())
        .map(|node| NodeReasons {
            node: node.name.clone(),
            reasons: node.reasons.iter().map(ToString::to_string).collect(),
        });
    Queued {
        app: app.id.to_string(),
        missing: missing(app),
        until: app
            .delay
            .filter(|delay| delay.until > state.now)
            .map(|delay| delay.until.to_string()),
        reasons: hindrances.iter().cloned().chain(counts).collect(),
        hindrances,
        nodes: nodes.collect(),
    }
}
