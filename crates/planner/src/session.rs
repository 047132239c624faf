//! The master's end of an agent's session: who may join, and what its sightings mean.
//!
//! Guarantees: an instance's ladder is only climbed; a sighting that is not newer than the last
//! one of its subject, comes from another node than the subject's, or says nothing new, changes
//! nothing. What a node tells of instances that the state does not know needs no answer: they
//! are not in its assignment, so it removes them.

use std::net::Ipv4Addr;

use model::ids::{ClusterId, Epoch, Incarnation, InstanceId, NodeId};
use model::instance::{Exit, ExitStatus};
use model::session::{Hello, PROTOCOL, Welcome};
use model::sighting::{InstanceLevel, NodeLevel, VolumeLevel};
use model::{Change, Copy, Draft, Health, Level, Presence, Rung, Sighting, State};

use crate::upkeep;

/// Why an agent gets no session: what its operator reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the agent speaks protocol {theirs}, this master {ours}: install the same version")]
    Protocol { theirs: u32, ours: u32 },
    #[error(
        "the agent belongs to cluster {theirs}, this is {ours}: purge its state directory to let it join"
    )]
    OtherCluster { theirs: ClusterId, ours: ClusterId },
    #[error("the certificate is for node {certificate}, and the agent says that it is {name}")]
    OtherName { certificate: String, name: String },
    #[error(
        "a newer start of this agent ({newest}) was seen before this one ({theirs}): is another agent called {name}?"
    )]
    OldIncarnation {
        name: String,
        theirs: Incarnation,
        newest: Incarnation,
    },
    #[error("the overlay {0}/{1} has no address left for another node")]
    NoAddress(Ipv4Addr, u8),
}

/// Opens a session. `identity` is the name that the agent's certificate was given for. A new
/// node joins; a known one is told from others by its machine's name.
pub fn hello(draft: &mut Draft, hello: &Hello, identity: &str) -> Result<Welcome, Refusal> {
    let state = draft.state();
    if hello.protocol != PROTOCOL {
        return Err(Refusal::Protocol {
            theirs: hello.protocol,
            ours: PROTOCOL,
        });
    }
    if let Some(theirs) = hello.cluster.filter(|theirs| *theirs != state.cluster) {
        return Err(Refusal::OtherCluster {
            theirs,
            ours: state.cluster,
        });
    }
    let name = &hello.machine.name;
    if name != identity {
        return Err(Refusal::OtherName {
            certificate: identity.to_owned(),
            name: name.clone(),
        });
    }
    let known = state.node_named(name).map(|node| node.id);
    let node = match known {
        Some(node) => return_of(draft, node, hello)?,
        None => join(draft, hello)?,
    };
    // The master was restored from an older copy: it goes on above what its agents obeyed.
    if hello.epoch > draft.state().epoch {
        let epoch = Epoch(hello.epoch.0 + 1);
        draft.apply(Change::Led { epoch });
    }
    let state = draft.state();
    let overlay = state.node(node).map(|node| node.overlay);
    Ok(Welcome {
        cluster: state.cluster,
        epoch: state.epoch,
        node,
        subnet: state.settings.subnet,
        overlay: overlay.expect("the node was joined or known above"),
    })
}

fn join(draft: &mut Draft, hello: &Hello) -> Result<NodeId, Refusal> {
    let state = draft.state();
    let node = state.next_node();
    let (base, prefix) = state.settings.subnet;
    let overlay = node_address(state, node).ok_or(Refusal::NoAddress(base, prefix))?;
    draft.apply(Change::NodeJoined {
        node,
        overlay,
        machine: Box::new(hello.machine.clone()),
    });
    see_machine(draft, node, hello);
    Ok(node)
}

/// `10.32.0.10` for the first node and so on; from the whole overlay when these are used up.
fn node_address(state: &State, node: NodeId) -> Option<Ipv4Addr> {
    let base = u32::from(state.settings.subnet.0);
    let first = 10 + node.0.min(245);
    let near = (first..255).chain(10..first);
    near.map(|n| Ipv4Addr::from(base + n))
        .find(|address| state.address_is_free(*address))
        .or_else(|| state.next_address())
}

fn return_of(draft: &mut Draft, node: NodeId, hello: &Hello) -> Result<NodeId, Refusal> {
    let Some(record) = draft.state().node(node) else {
        return Ok(node);
    };
    if hello.incarnation < record.sighted.0 {
        return Err(Refusal::OldIncarnation {
            name: hello.machine.name.clone(),
            theirs: hello.incarnation,
            newest: record.sighted.0,
        });
    }
    let (rebooted, presence) = (record.machine.boot != hello.machine.boot, record.presence);
    if rebooted {
        end_all(draft, node, hello.incarnation);
    }
    see_machine(draft, node, hello);
    if presence != Presence::Here {
        draft.apply(Change::NodePresence {
            node,
            presence: Presence::Here,
        });
    }
    Ok(node)
}

/// Notes what the agent said of its machine. Its sightings begin above this stamp.
fn see_machine(draft: &mut Draft, node: NodeId, hello: &Hello) {
    let sighted = (hello.incarnation, 0);
    if draft
        .state()
        .node(node)
        .is_some_and(|n| sighted > n.sighted)
    {
        draft.apply(Change::NodeSeen {
            node,
            sighted,
            machine: Box::new(hello.machine.clone()),
            room: None,
        });
    }
}

/// After a boot nothing runs that ran before it, whatever the agent still says of it.
fn end_all(draft: &mut Draft, node: NodeId, incarnation: Incarnation) {
    let instances = draft.state().node(node).into_iter();
    let instances: Vec<InstanceId> = instances
        .flat_map(|n| n.instances.keys())
        .copied()
        .collect();
    for instance in instances {
        let runs = draft.state().instance(instance);
        if runs.is_none_or(|instance| instance.has_ended()) {
            continue;
        }
        let level = InstanceLevel {
            rung: Rung::Ended,
            health: Health::Unknown,
            detail: Some("its node was started anew".to_owned()),
            exit: Some(Exit {
                status: ExitStatus::Unknown,
                out_of_memory: false,
                last_line: None,
            }),
        };
        draft.apply(Change::InstanceSeen {
            instance,
            sighted: (incarnation, 0),
            level: Box::new(level),
        });
        // In the same transaction: the node's assignment must not ask for it again. The node may
        // never have heard of it, and would start it.
        upkeep::settle(draft, instance);
    }
}

/// Records what an agent saw. All of it may be acknowledged when the draft is durable.
pub fn sightings(draft: &mut Draft, node: NodeId, sightings: &[Sighting]) {
    for sighting in sightings {
        let stamp = (sighting.incarnation, sighting.sequence);
        let change = match &sighting.level {
            Level::Instance(id, level) => see_instance(draft.state(), node, *id, stamp, level),
            Level::Volume(id, level) => see_volume(draft.state(), node, id, stamp, level),
            Level::Node(level) => see_node(draft.state(), node, stamp, level),
        };
        if let Some(change) = change {
            draft.apply(change);
        }
    }
}

type Stamp = (Incarnation, u64);

fn see_instance(
    state: &State,
    node: NodeId,
    id: InstanceId,
    stamp: Stamp,
    level: &InstanceLevel,
) -> Option<Change> {
    let known = state.instance(id)?;
    let news = level.rung > known.rung
        || level.health != known.health
        || level.detail != known.detail
        || (level.exit.is_some() && level.exit != known.exit);
    let accepted =
        known.placement.node == node && stamp > known.sighted && level.rung >= known.rung && news;
    accepted.then(|| Change::InstanceSeen {
        instance: id,
        sighted: stamp,
        level: Box::new(level.clone()),
    })
}

fn see_volume(
    state: &State,
    node: NodeId,
    id: &model::VolumeId,
    stamp: Stamp,
    level: &VolumeLevel,
) -> Option<Change> {
    let known = state.volume(id)?.copies.get(&node);
    let news = match known {
        None => level.role.is_some(),
        Some(copy) => {
            stamp > copy.sighted && (is_news(copy, level) || copy.sighted == Stamp::default())
        }
    };
    news.then(|| Change::VolumeSeen {
        volume: id.clone(),
        node,
        sighted: stamp,
        level: Box::new(level.clone()),
    })
}

fn is_news(copy: &Copy, level: &VolumeLevel) -> bool {
    level.role != Some(copy.role)
        || level.generation != copy.generation
        || level.movement != copy.movement
        || level.last != copy.last
        || level.snapshots != copy.snapshots
        || level.bytes != copy.bytes
        || level.aside != copy.aside
        || level.trouble != copy.trouble
}

fn see_node(state: &State, node: NodeId, stamp: Stamp, level: &NodeLevel) -> Option<Change> {
    let known = state.node(node)?;
    let same_name = level.machine.name == known.machine.name;
    let other_room = level.room.is_some() && level.room != known.room;
    let news = level.machine != *known.machine || other_room;
    (stamp > known.sighted && same_name && news).then(|| Change::NodeSeen {
        node,
        sighted: stamp,
        machine: Box::new(level.machine.clone()),
        room: level.room,
    })
}
