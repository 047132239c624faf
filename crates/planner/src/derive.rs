//! What nodes are told: each one's assignment, and the directory for all. Whole on request,
//! else as deltas whose fingerprint is that of the whole they lead to.

use model::fingerprint;
use model::ids::{NodeId, Revision};
use model::{Assigned, Assignment, AssignmentDelta, Directory, DirectoryDelta, State, Touched};

use crate::relocate::order;

/// Everything the node should have.
pub fn assignment(state: &State, node: NodeId) -> Assignment {
    let instances = state
        .node(node)
        .into_iter()
        .flat_map(|n| n.instances.keys());
    let instances = instances.filter_map(|id| state.instance(*id));
    let volumes = state.volumes();
    let volumes = volumes.filter_map(|v| Some((v.id.clone(), order(state, v, node)?)));
    Assignment {
        revision: state.revision,
        instances: instances.map(|i| (i.id, Assigned::from(i))).collect(),
        volumes: volumes.collect(),
    }
}

/// What turns the node's assignment at `base` into that of `state`, where `touched` is all that
/// changed in between.
pub fn assignment_delta(
    state: &State,
    touched: &Touched,
    node: NodeId,
    base: Revision,
) -> AssignmentDelta {
    let instances = touched
        .instances
        .iter()
        .filter_map(|id| match state.instance(*id) {
            Some(instance) if instance.placement.node == node => {
                Some((*id, Some(Assigned::from(instance))))
            }
            Some(_) => None,
            // Where it was is forgotten with it; to remove what is not there does no harm.
            None => Some((*id, None)),
        });
    let volumes = touched.volumes.iter().map(|id| {
        let order = state.volume(id).and_then(|v| order(state, v, node));
        (id.clone(), order)
    });
    AssignmentDelta {
        base,
        revision: state.revision,
        instances: instances.collect(),
        volumes: volumes.collect(),
        fingerprint: assignment_fingerprint(state, node),
    }
}

fn assignment_fingerprint(state: &State, node: NodeId) -> u64 {
    let instances = state.node(node).map_or(0, |node| node.fingerprint);
    let orders = state.volumes();
    let orders = orders.filter_map(|v| Some((&v.id, order(state, v, node)?)));
    orders.fold(instances, |sum, (id, order)| {
        sum.wrapping_add(fingerprint::of(&(id, &order)))
    })
}

/// Who has which address and name.
pub fn directory(state: &State) -> Directory {
    let instances = state.instances();
    Directory {
        revision: state.revision,
        nodes: state
            .nodes()
            .map(|n| (n.id, State::node_entry(n)))
            .collect(),
        instances: instances
            .map(|i| (i.id, state.directory_entry(i)))
            .collect(),
        apps: state
            .apps()
            .map(|app| (app.id.clone(), State::app_entry(app)))
            .collect(),
    }
}

/// What turns the directory at `base` into that of `state`; `None` when no entry changed.
pub fn directory_delta(state: &State, touched: &Touched, base: Revision) -> Option<DirectoryDelta> {
    let Touched {
        entries,
        node_entries,
        app_entries,
        ..
    } = touched;
    if entries.is_empty() && node_entries.is_empty() && app_entries.is_empty() {
        return None;
    }
    let nodes = node_entries.iter();
    let nodes = nodes.map(|id| (*id, state.node(*id).map(State::node_entry)));
    let instances = entries.iter();
    let instances = instances.map(|id| {
        let entry = state.instance(*id).map(|i| state.directory_entry(i));
        (*id, entry)
    });
    let apps = app_entries.iter();
    let apps = apps.map(|id| (id.clone(), state.app(id).map(State::app_entry)));
    Some(DirectoryDelta {
        base,
        revision: state.revision,
        nodes: nodes.collect(),
        instances: instances.collect(),
        apps: apps.collect(),
        fingerprint: state.directory_fingerprint(),
    })
}
