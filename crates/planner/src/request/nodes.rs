//! Requests about nodes.

use model::ids::{InstanceId, NodeId};
use model::{Change, Draft, NodeRecord, Presence, State};

use crate::request::Refusal;

/// Places nothing more on a node; upkeep moves stateless instances away. 200; 404.
pub fn drain(draft: &mut Draft, node: NodeId) -> Result<(), Refusal> {
    set_draining(draft, node, true)
}

/// Lets a node take instances again. 200; 404.
pub fn undrain(draft: &mut Draft, node: NodeId) -> Result<(), Refusal> {
    set_draining(draft, node, false)
}

fn set_draining(draft: &mut Draft, node: NodeId, draining: bool) -> Result<(), Refusal> {
    if existing(draft, node)?.draining != draining {
        draft.apply(Change::NodeDraining { node, draining });
    }
    Ok(())
}

/// An operator's word that a silent node is dead and runs nothing: its instances are gone, and
/// so is the node, unless a volume's data is there, which only `volume recover` gives up. 200;
/// 404; 409 while the node has a session.
pub fn node_lost(draft: &mut Draft, node: NodeId) -> Result<(), Refusal> {
    let record = existing(draft, node)?;
    if record.presence == Presence::Here {
        return Err(Refusal::NodeIsHere(record.machine.name.clone()));
    }
    let instances: Vec<InstanceId> = record.instances.keys().copied().collect();
    for instance in instances {
        draft.apply(Change::InstanceGone { instance });
    }
    // Its number must not go to another node while a volume means this one by it. Copies that are
    // not the truth are forgotten with it; should it come back, it tells of them again.
    if !has_data(draft.state(), node) {
        draft.apply(Change::NodeRemoved { node });
    }
    Ok(())
}

fn has_data(state: &State, node: NodeId) -> bool {
    state.volumes().any(|volume| volume.home == Some(node))
        || state.moves().any(|m| m.from == node || m.to == node)
}

fn existing(draft: &Draft, node: NodeId) -> Result<&NodeRecord, Refusal> {
    draft.state().node(node).ok_or(Refusal::NoNode(node))
}
