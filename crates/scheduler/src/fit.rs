//! Whether a node will do. [`fits`] answers yes or no and allocates nothing; [`reasons`] names
//! everything that is wrong. Both are made of the same predicates.

use model::ids::NodeId;
use model::instance::Rung;
use model::spec::{HostPort, Network, Port, Protocol};
use model::{App, AppSpec, NodeRecord, Presence, State};

use crate::reason::{Hindrance, Reason};
use crate::tally::Tally;
use crate::wish::{Rule, Test, Wish};

/// Whether an instance of the app could be placed on the node now.
pub(crate) fn fits(state: &State, wish: &Wish, tally: &Tally, node: &NodeRecord) -> bool {
    has_room(wish, node)
        && satisfies_all(wish, tally, node)
        && elsewhere(state, wish, node.id).is_none()
        && taken_port(state, wish, node).is_none()
        && dynamic_ports_left(state, wish, node)
}

/// Whether the node has what does not depend on where other instances of the app are, ports
/// aside: whether it is worth another try for an app that found no room.
pub fn suits(wish: &Wish, node: &NodeRecord) -> bool {
    // Asked only of rules that do not count, which look at no tally.
    let nothing = Tally::default();
    let rules = wish.rules.iter().enumerate();
    let mut rules = rules.filter(|(_, rule)| !rule.counts());
    has_room(wish, node) && rules.all(|(n, rule)| satisfies(wish, &nothing, n, rule, node))
}

fn has_room(wish: &Wish, node: &NodeRecord) -> bool {
    let (free, wanted) = (node.free(), &wish.spec.resources);
    node.accepts()
        && free.cpus >= wanted.cpus
        && free.mem >= wanted.mem
        && free.disk >= wanted.disk
        && wanted.gpus == 0
        && missing_permission(wish, node).is_none()
}

fn satisfies_all(wish: &Wish, tally: &Tally, node: &NodeRecord) -> bool {
    let mut rules = wish.rules.iter().enumerate();
    rules.all(|(n, rule)| satisfies(wish, tally, n, rule, node))
}

/// Everything that keeps the node from taking an instance of the app.
pub(crate) fn reasons(state: &State, wish: &Wish, tally: &Tally, node: &NodeRecord) -> Vec<Reason> {
    let mut reasons = Vec::new();
    if let Presence::Lost { since } = node.presence {
        reasons.push(Reason::Lost { since });
    }
    if node.draining {
        reasons.push(Reason::Draining);
    }
    for (n, rule) in wish.rules.iter().enumerate() {
        if !satisfies(wish, tally, n, rule, node) {
            reasons.push(broken(tally, n, rule, node));
        }
    }
    if let Some((volume, home)) = elsewhere(state, wish, node.id) {
        let home = state
            .node(home)
            .map_or_else(|| home.to_string(), |home| home.machine.name.clone());
        reasons.push(Reason::VolumeElsewhere { volume, home });
    }
    if let Some(permission) = missing_permission(wish, node) {
        reasons.push(Reason::NotAllowed {
            permission: permission.to_owned(),
        });
    }
    let (free, wanted) = (node.free(), &wish.spec.resources);
    if free.cpus < wanted.cpus {
        reasons.push(Reason::Cpus {
            free: free.cpus,
            wanted: wanted.cpus,
        });
    }
    if free.mem < wanted.mem {
        reasons.push(Reason::Memory {
            free: free.mem,
            wanted: wanted.mem,
        });
    }
    if free.disk < wanted.disk {
        reasons.push(Reason::Disk {
            free: free.disk,
            wanted: wanted.disk,
        });
    }
    if wanted.gpus > 0 {
        reasons.push(Reason::Gpus {
            wanted: wanted.gpus,
        });
    }
    if let Some((protocol, port)) = taken_port(state, wish, node) {
        let holder = node.ports.get(&(protocol, port));
        let holder = holder.and_then(|held| state.instance(held.holder));
        reasons.push(Reason::Port {
            protocol,
            port,
            holder: holder.map(|holder| holder.app.clone()),
        });
    } else if !dynamic_ports_left(state, wish, node) {
        reasons.push(Reason::NoDynamicPort);
    }
    reasons
}

/// What keeps the app from every node alike.
pub fn hindrance(state: &State, wish: &Wish) -> Option<Hindrance> {
    held(state, wish).or_else(|| leaving(state, state.app(&wish.app)?))
}

/// A claim of the app that something else holds.
pub(crate) fn held(state: &State, wish: &Wish) -> Option<Hindrance> {
    let mut home: Option<(&model::Volume, NodeId)> = None;
    for (id, _) in wish.spec.volumes() {
        let Some(volume) = state.volume(id) else {
            return Some(Hindrance::VolumeMissing { volume: id.clone() });
        };
        if volume.removing {
            return Some(Hindrance::VolumeGoing { volume: id.clone() });
        }
        if let Some(tenant) = volume.tenant.as_ref().filter(|t| **t != wish.app) {
            return Some(Hindrance::VolumeTaken {
                volume: id.clone(),
                tenant: tenant.clone(),
            });
        }
        if let Some(holder) = state.volume_holder(id) {
            return Some(Hindrance::VolumeHeld {
                volume: id.clone(),
                holder,
                app: state.instance(holder).map(|holder| holder.app.clone()),
            });
        }
        match (home, volume.home) {
            (Some((other, node)), Some(its)) if its != node => {
                return Some(Hindrance::VolumesApart {
                    volumes: (other.id.clone(), id.clone()),
                });
            }
            (None, Some(its)) => home = Some((volume, its)),
            _ => {}
        }
    }
    for fixed in &wish.spec.fixed_addresses {
        if let Some(holder) = state.fixed_address_holder(fixed.address) {
            return Some(Hindrance::AddressHeld {
                address: fixed.address,
                holder,
                app: state.instance(holder).map(|holder| holder.app.clone()),
            });
        }
    }
    None
}

/// An instance of the app's former life, removed and put again, that has not ended yet.
pub(crate) fn leaving(state: &State, app: &App) -> Option<Hindrance> {
    use model::{Goal, StopCause};
    let counters = &app.counters;
    if counters.living() == counters.active {
        return None;
    }
    let leaving = state.instances_of(app).find(|instance| {
        let removed = matches!(
            instance.goal,
            Goal::Stop {
                cause: StopCause::AppRemoved,
                ..
            }
        );
        removed && instance.rung < Rung::Ended
    })?;
    Some(Hindrance::Leaving {
        instance: leaving.id,
    })
}

/// The node that the app's volumes are on, if any has a home yet.
pub(crate) fn home(state: &State, wish: &Wish) -> Option<NodeId> {
    wish.spec
        .volumes()
        .find_map(|(volume, _)| state.volume(volume)?.home)
}

fn elsewhere(state: &State, wish: &Wish, node: NodeId) -> Option<(model::VolumeId, NodeId)> {
    wish.spec.volumes().find_map(|(id, _)| {
        let home = state.volume(id)?.home.filter(|home| *home != node)?;
        Some((id.clone(), home))
    })
}

fn missing_permission<'a>(wish: &'a Wish, node: &NodeRecord) -> Option<&'a str> {
    let mut wanted = wish.permissions.iter();
    wanted
        .find(|permission| !node.machine.allows(permission))
        .map(String::as_str)
}

/// Marathon's constraints. A node without the field satisfies only UNLIKE.
fn satisfies(wish: &Wish, tally: &Tally, n: usize, rule: &Rule, node: &NodeRecord) -> bool {
    let Some(value) = node.field(&rule.field) else {
        return matches!(rule.test, Test::Unlike(..));
    };
    match &rule.test {
        Test::Unique => tally.on(n, value) == 0,
        Test::Cluster(Some(wanted)) => value == wanted,
        Test::Cluster(None) => tally.first(n).is_none_or(|first| first == value),
        Test::Like(regex, _) => regex.is_match(value),
        Test::Unlike(regex, _) => !regex.is_match(value),
        Test::Is(wanted) => is(value, wanted),
        Test::MaxPer(most) => tally.on(n, value) < *most,
        Test::GroupBy(groups) => may_join_group(wish, tally, n, value, *groups),
    }
}

/// Without a number: a new value always, else the smallest group. With one: that many groups of
/// equal size, some with one more when the instances do not divide.
fn may_join_group(wish: &Wish, tally: &Tally, n: usize, value: &str, groups: Option<u32>) -> bool {
    let mine = tally.on(n, value);
    let Some(groups) = groups else {
        return mine == 0 || tally.least(n).is_none_or(|least| mine <= least);
    };
    if mine == 0 && tally.group_count(n) >= groups as usize {
        return false;
    }
    let (share, rest) = (wish.spec.instances / groups, wish.spec.instances % groups);
    mine < share || (mine == share && tally.larger(n, share) < rest)
}

/// Equality of texts, or of numbers to three digits.
fn is(value: &str, wanted: &str) -> bool {
    let number = |text: &str| {
        let numeric = text
            .chars()
            .all(|c| c.is_ascii_digit() || matches!(c, '.' | '-'));
        let number = text.parse::<f64>().ok().filter(|_| numeric)?;
        Some((number * 1000.0).round_ties_even())
    };
    value == wanted
        || number(value)
            .zip(number(wanted))
            .is_some_and(|(value, wanted)| value == wanted)
}

fn broken(tally: &Tally, n: usize, rule: &Rule, node: &NodeRecord) -> Reason {
    let value = node.field(&rule.field);
    let wanted = match &rule.test {
        Test::Cluster(Some(wanted)) | Test::Is(wanted) => wanted.clone(),
        Test::Cluster(None) => tally.first(n).unwrap_or("any").to_owned(),
        Test::Like(_, pattern) => format!("like {pattern}"),
        Test::Unlike(_, pattern) => format!("unlike {pattern}"),
        Test::Unique if value.is_some() => "one without an instance".to_owned(),
        Test::MaxPer(most) if value.is_some() => format!("fewer than {most} instances there"),
        Test::GroupBy(_) if value.is_some() => "a smaller group".to_owned(),
        Test::Unique | Test::MaxPer(_) | Test::GroupBy(_) => "any".to_owned(),
    };
    Reason::Constraint {
        field: rule.field.clone(),
        found: value.map(str::to_owned),
        wanted,
    }
}

/// The host port that the spec asks for by number, if it does.
fn asked_port(spec: &AppSpec, port: &Port) -> Option<u16> {
    match port.host {
        HostPort::Fixed(number) => Some(number),
        HostPort::Dynamic if spec.require_ports && spec.network == Network::Host => {
            [port.container, port.service].into_iter().find(|p| *p != 0)
        }
        HostPort::Dynamic | HostPort::None => None,
    }
}

fn taken_port(state: &State, wish: &Wish, node: &NodeRecord) -> Option<(Protocol, u16)> {
    wish.spec.ports.iter().find_map(|port| {
        let number = asked_port(&wish.spec, port)?;
        let mut protocols = port.protocol.each().iter();
        let taken = protocols.find(|p| !state.port_is_free(node, **p, number))?;
        Some((*taken, number))
    })
}

fn is_dynamic(spec: &AppSpec, port: &Port) -> bool {
    port.host == HostPort::Dynamic && asked_port(spec, port).is_none()
}

/// Whether the node's range has ports for all that ask for any.
fn dynamic_ports_left(state: &State, wish: &Wish, node: &NodeRecord) -> bool {
    let spec = &wish.spec;
    let wanted = spec.ports.iter().filter(|p| is_dynamic(spec, p)).count();
    let (first, last) = node.machine.ports;
    let range = usize::from(last.saturating_sub(first)) + usize::from(last >= first);
    // Counting what is surely there is enough, except on a node that is nearly full.
    wanted == 0
        || range >= node.ports.len() + 2 * spec.ports.len()
        || host_ports(state, wish, node, 0).is_some()
}

/// A host port for each of the spec's ports, 0 where it is not published. The search for
/// dynamic ones begins at `seed` into the node's range, so that a port rests before it is used
/// again.
pub(crate) fn host_ports(
    state: &State,
    wish: &Wish,
    node: &NodeRecord,
    seed: u64,
) -> Option<Vec<u16>> {
    let spec = &wish.spec;
    let mut given: Vec<u16> = spec
        .ports
        .iter()
        .map(|port| asked_port(spec, port).unwrap_or(0))
        .collect();
    let (first, last) = node.machine.ports;
    let range = u64::from(last.checked_sub(first).map_or(0, |span| span)) + 1;
    for (n, port) in spec.ports.iter().enumerate() {
        if !is_dynamic(spec, port) {
            continue;
        }
        let free = |number: u16| {
            !given.contains(&number)
                && port
                    .protocol
                    .each()
                    .iter()
                    .all(|p| state.port_is_free(node, *p, number))
        };
        let number = (0..range)
            .map(|i| first.saturating_add(((seed + i) % range) as u16))
            .find(|number| *number <= last && free(*number))?;
        given[n] = number;
    }
    Some(given)
}
