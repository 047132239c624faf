//! Finding the node for one instance.

use std::cmp::Reverse;

use model::ids::NodeId;
use model::spec::Network;
use model::{NodeRecord, Placement, State};

use crate::fit::{fits, held, home, host_ports, leaving};
use crate::reason::Hindrance;
use crate::tally::Tally;
use crate::wish::Wish;

/// In a large cluster the best of this many nodes is good enough: most of what there is to win
/// comes with the second, and each costs as much as the first.
const ENOUGH: usize = 4;

/// Up to this many nodes, all are compared.
const FEW: usize = 128;

/// Why there is no place now; what must change before another try is worth it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    #[error("{0}")]
    Hindered(Hindrance),
    #[error("no node has what it needs")]
    NoNode,
    #[error("the overlay has no free address")]
    NoAddress,
}

/// Puts one more instance of the app somewhere: on the node with the fewest current instances
/// of the app, and of these on the one with the largest share free. The placement is added to
/// `tally`; the caller places the instance or throws the tally away.
pub fn place(state: &State, wish: &Wish, tally: &mut Tally) -> Result<Placement, NoRoom> {
    let leaving = || leaving(state, tally.app(state)?);
    if let Some(hindrance) = held(state, wish).or_else(leaving) {
        return Err(NoRoom::Hindered(hindrance));
    }
    let node = match home(state, wish) {
        Some(home) => best(state, wish, tally, state.node(home).into_iter()),
        None => {
            let bound = state.node_bound();
            let start = tally.start(bound);
            let around = (start..bound).chain(0..start);
            best(
                state,
                wish,
                tally,
                around.filter_map(|n| state.node(NodeId(n))),
            )
        }
    };
    let node = node.ok_or(NoRoom::NoNode)?;
    let address = match wish.spec.network {
        Network::Host => None,
        Network::Bridge | Network::Container(_) => {
            Some(state.next_address().ok_or(NoRoom::NoAddress)?)
        }
    };
    let host_ports = host_ports(state, wish, node, state.next_number() & 0xffff_ffff);
    let host_ports = host_ports.ok_or(NoRoom::NoNode)?;
    tally.add(wish, node, 1);
    Ok(Placement {
        node: node.id,
        address,
        fixed_addresses: wish.spec.fixed_addresses.clone(),
        host_ports,
    })
}

fn best<'a>(
    state: &'a State,
    wish: &Wish,
    tally: &mut Tally,
    nodes: impl Iterator<Item = &'a NodeRecord>,
) -> Option<&'a NodeRecord> {
    let app = tally.app(state);
    let enough = match state.node_count() <= FEW {
        true => usize::MAX,
        false => ENOUGH,
    };
    let mut found = 0;
    let mut best: Option<(_, &NodeRecord)> = None;
    for node in nodes {
        tally.examined += 1;
        if !fits(state, wish, tally, node) {
            continue;
        }
        let mine = app.and_then(|app| app.on_nodes.get(&node.id)).copied();
        let score = (
            tally.crowd(wish, node),
            mine.unwrap_or(0),
            Reverse(share_left(wish, node)),
            node.instances.len(),
            node.id,
        );
        if best.as_ref().is_none_or(|(least, _)| score < *least) {
            best = Some((score, node));
        }
        found += 1;
        if found >= enough {
            tally.stopped_at(node.id);
            break;
        }
    }
    best.map(|(_, node)| node)
}

/// The smaller of the shares of cpus and memory, in millionths, that would be left free.
pub(crate) fn share_left(wish: &Wish, node: &NodeRecord) -> u64 {
    let (free, all, wanted) = (node.free(), node.machine.resources, &wish.spec.resources);
    let share = |free: u64, wanted: u64, all: u64| {
        let (left, all) = (free.saturating_sub(wanted), all.max(1));
        // Division of 128 bits is many times slower, and this is asked of every node looked at.
        left.checked_mul(1_000_000).map_or_else(
            || (u128::from(left) * 1_000_000 / u128::from(all)) as u64,
            |left| left / all,
        )
    };
    share(free.cpus.0, wanted.cpus.0, all.cpus.0).min(share(free.mem.0, wanted.mem.0, all.mem.0))
}
