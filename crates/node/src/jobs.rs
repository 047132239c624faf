//! What the agent keeps true all the time, as opposed to actions, which end: which ports are
//! published, which instances are checked, which streams of volumes may be asked for, which images
//! stay. The whole of each, after every change.

use std::collections::BTreeSet;
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

/// The names of the images that stay whatever the disk asks for: those of every assigned instance,
/// whether it runs, is prepared as an heir or is yet to be pulled. `None`: that is not known, since
/// the assignment at hand is not this session's; then every image stays.
pub fn images<'a>(assignment: &'a Assignment, observed: &Observed) -> Option<BTreeSet<&'a str>> {
    let assigned = assignment.instances.values();
    let images = assigned.filter_map(|assigned| assigned.spec.image());
    let names = images.map(|image| image.image.as_str()).collect();
    observed.link.is_assigned().then_some(names)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::ids::{AppId, Epoch};
    use model::spec::{Container, ImageContainer};
    use model::{AppSpec, Assigned, Goal, Placement, StopCause, Time};

    use super::*;
    use crate::observed::Link;

    fn assigned(container: Container, goal: Goal) -> Assigned {
        Assigned {
            app: AppId::parse("/web").unwrap(),
            slot: 0,
            version: Time(1),
            spec: Arc::new(AppSpec {
                container,
                ..AppSpec::default()
            }),
            placement: Placement::default(),
            goal,
        }
    }

    #[test]
    fn images_of_all_that_is_assigned_stay_and_all_while_the_master_has_not_spoken() {
        let image = |name: &str| {
            Container::Image(Box::new(ImageContainer {
                image: name.into(),
                ..ImageContainer::default()
            }))
        };
        let stop = Goal::Stop {
            cause: StopCause::Killed,
            grace: model::Millis(0),
        };
        let all = [
            assigned(image("web:1"), Goal::Run),
            assigned(image("web:1"), Goal::Run),
            assigned(image("db:1"), Goal::Prepare),
            assigned(image("old:1"), stop),
            assigned(Container::None, Goal::Run),
        ];
        let ids = (0..).map(|slot| InstanceId { birth: 1, slot });
        let assignment = Assignment {
            instances: ids.zip(all).collect(),
            ..Assignment::default()
        };
        let epoch = Epoch(1);
        let seen = |link| Observed {
            link,
            ..Observed::default()
        };
        for link in [Link::Down, Link::Joined { epoch }] {
            assert_eq!(images(&assignment, &seen(link)), None);
        }
        let names = images(&assignment, &seen(Link::Assigned { epoch }));
        assert_eq!(names, Some(BTreeSet::from(["db:1", "old:1", "web:1"])));
    }
}
