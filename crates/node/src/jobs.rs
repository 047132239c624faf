//! What the agent keeps true all the time, as opposed to actions, which end: which ports are
//! published, which instances are checked, which streams of volumes may be asked for. The whole of
//! each, after every change.

use std::net::Ipv4Addr;

use model::ids::{Generation, InstanceId, NodeId, VolumeId};
use model::spec::{HealthCheck, Protocol};
use model::volume::VolumeOrder;
use model::{Assignment, Snapshot};

use crate::converge::is_sealed;
use crate::observed::{Observed, Stage};
use crate::volume::{self, Giving};

/// One port of this node that leads to an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Published {
    pub protocol: Protocol,
    pub host: u16,
    pub container: u16,
    /// The instance's overlay address.
    pub address: Ipv4Addr,
    pub instance: InstanceId,
}

/// An instance whose health is to be checked, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked<'a> {
    pub instance: InstanceId,
    pub since: model::Time,
    pub checks: &'a [HealthCheck],
}

/// A stream that another node may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offered<'a> {
    pub volume: &'a VolumeId,
    pub to: NodeId,
    pub generation: Generation,
    pub snapshot: Snapshot,
    pub base: Option<Snapshot>,
    /// It can be given now; else whoever asks waits.
    pub ready: bool,
}

/// Every stream that the leader has ordered and this node can give. Nothing else is given to anybody.
pub fn offered<'a>(assignment: &'a Assignment, observed: &Observed) -> Vec<Offered<'a>> {
    let orders = assignment.volumes.iter();
    let offers = orders.filter_map(|(id, order)| {
        let (VolumeOrder::Seed {
            to, snapshot, base, ..
        }
        | VolumeOrder::Seal {
            to, snapshot, base, ..
        }) = order
        else {
            return None;
        };
        let giving = volume::giving(order, observed.volumes.get(id)?);
        (giving != Giving::Never).then(|| Offered {
            volume: id,
            to: *to,
            generation: order.generation(),
            snapshot: *snapshot,
            base: *base,
            ready: giving == Giving::Now,
        })
    });
    offers.collect()
}

/// Ports of every assigned instance that has a process; those on the node's own network need
/// none.
pub fn published(assignment: &Assignment, observed: &Observed) -> Vec<Published> {
    let mut all: Vec<Published> = observed
        .instances
        .iter()
        .filter(|(_, local)| local.stage.is_alive())
        .filter_map(|(id, _)| Some((*id, assignment.instances.get(id)?)))
        .filter_map(|(id, assigned)| Some((id, assigned, assigned.placement.address?)))
        .flat_map(|(instance, assigned, address)| {
            assigned
                .published()
                .map(move |(protocol, host, container)| Published {
                    protocol,
                    host,
                    container,
                    address,
                    instance,
                })
        })
        .collect();
    all.sort_unstable();
    all
}

/// Every instance with checks that runs and is not being stopped. Checks go on without a session.
pub fn checked<'a>(assignment: &'a Assignment, observed: &Observed) -> Vec<Checked<'a>> {
    observed
        .instances
        .iter()
        .filter(|(_, local)| local.stopping.is_none() && !local.frozen)
        .filter_map(|(id, local)| match local.stage {
            Stage::Running { since, .. } => Some((*id, since, assignment.instances.get(id)?)),
            _ => None,
        })
        .filter(|(.., assigned)| {
            !assigned.goal.is_stop()
                && !assigned.spec.health_checks.is_empty()
                && !is_sealed(assigned, assignment, observed)
        })
        .map(|(instance, since, assigned)| Checked {
            instance,
            since,
            checks: &assigned.spec.health_checks,
        })
        .collect()
}
