//! Whether an app could be on another node, its volumes with it. Judged as if it were nowhere
//! yet: what it has where it is does not stand in its way elsewhere.

use std::cmp::Reverse;

use model::ids::NodeId;
use model::spec::Network;
use model::{NodeRecord, Placement, State};

use crate::fit::{home, host_ports, reasons};
use crate::place::{NoRoom, share_left};
use crate::reason::{Kind, Reason};
use crate::tally::Tally;
use crate::wish::Wish;

/// Everything that keeps the app from the node, wherever its volumes are now.
pub fn refusals(state: &State, wish: &Wish, node: &NodeRecord) -> Vec<Reason> {
    let mut reasons = reasons(state, wish, &Tally::empty(wish), node);
    reasons.retain(|reason| reason.kind() != Kind::Volume);
    reasons
}

/// Whether the app may not be where its volumes are, whatever room there is.
pub fn home_is_refused(state: &State, wish: &Wish) -> bool {
    let Some(home) = home(state, wish).and_then(|home| state.node(home)) else {
        return false;
    };
    let refused = |reason: &Reason| matches!(reason.kind(), Kind::Constraint | Kind::NotAllowed);
    refusals(state, wish, home).iter().any(refused)
}

/// The best node that the app could move to with its volumes.
pub fn destination(state: &State, wish: &Wish) -> Option<NodeId> {
    let home = home(state, wish)?;
    let others = state.nodes().filter(|node| node.id != home);
    others
        .filter(|node| refusals(state, wish, node).is_empty())
        .min_by_key(|node| (Reverse(share_left(wish, node)), node.id))
        .map(|node| node.id)
}

/// A place for the app's heir on the node.
pub fn place_heir(state: &State, wish: &Wish, node: &NodeRecord) -> Result<Placement, NoRoom> {
    if !refusals(state, wish, node).is_empty() {
        return Err(NoRoom::NoNode);
    }
    let address = match wish.spec.network {
        Network::Host => None,
        Network::Bridge | Network::Container(_) => {
            Some(state.next_address().ok_or(NoRoom::NoAddress)?)
        }
    };
    let host_ports = host_ports(state, wish, node, state.next_number() & 0xffff_ffff);
    Ok(Placement {
        node: node.id,
        address,
        fixed_addresses: wish.spec.fixed_addresses.clone(),
        host_ports: host_ports.ok_or(NoRoom::NoNode)?,
    })
}
