//! The legacy dialect, said in canonical fields.
//!
//! ```text
//! uris                                → fetch
//! container.docker.network, ipAddress → networks
//! container.docker.portMappings       → container.portMappings
//! ipAddress.discovery.ports           → container.portMappings
//! ports                               → portDefinitions (on the host), service ports (elsewhere)
//! ```
//! Answers carry both forms, so clients that read, change and send back give both: they agree,
//! or the one that differs from the app as it is was meant. Two that differ without that are a
//! fault.

use crate::fault::Faults;
use crate::shape::{App, Container, Fetch, Network, PortMapping};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Host,
    Bridge,
    Container,
}

/// `None` for a word that is no mode.
pub(crate) fn mode(network: &Network) -> Option<Mode> {
    match network.mode.as_deref() {
        Some("host") => Some(Mode::Host),
        Some("container/bridge") => Some(Mode::Bridge),
        Some("container") | None => Some(Mode::Container),
        Some(_) => None,
    }
}

/// What a client gave, in canonical fields. `ports` stay where they stand alone: what they mean
/// depends on the network. `now` is the app as it is, in both dialects.
pub(crate) fn settle(mut given: App, now: Option<&App>, faults: &mut Faults) -> App {
    networks(&mut given, now, faults);
    mappings(&mut given, now, faults);
    forget_withdrawn_publishes(&mut given, now);
    ports(&mut given, now, faults);
    fetches(&mut given, faults);
    given.ip_address = None;
    given
}

/// Of a canonical and a legacy value that both were given: the one that was meant. `same`
/// compares by meaning, `now` has both as they are.
fn meant<C: Clone, L>(
    canonical: C,
    legacy: L,
    now: Option<(C, L)>,
    same: impl Fn(&C, &L) -> bool,
    agrees: (impl Fn(&C, &C) -> bool, impl Fn(&L, &L) -> bool),
) -> Option<Meant<C, L>> {
    if same(&canonical, &legacy) {
        return Some(Meant::Canonical(canonical));
    }
    let (canonical_now, legacy_now) = now?;
    if agrees.0(&canonical, &canonical_now) {
        Some(Meant::Legacy(legacy))
    } else if agrees.1(&legacy, &legacy_now) {
        Some(Meant::Canonical(canonical))
    } else {
        None
    }
}

enum Meant<C, L> {
    Canonical(C),
    Legacy(L),
}

fn networks(given: &mut App, now: Option<&App>, faults: &mut Faults) {
    let legacy = legacy_network(given, faults);
    if let Some(docker) = given.container.as_mut().and_then(|c| c.docker.as_mut()) {
        docker.network = None;
    }
    if given.ip_address.is_some() && given.container.is_none() && now.is_none() {
        given.container = Some(Container {
            kind: Some("MESOS".to_owned()),
            ..Container::default()
        });
    }
    let Some(legacy) = legacy else {
        return;
    };
    let Some(canonical) = given.networks.take().filter(|list| !list.is_empty()) else {
        given.networks = Some(vec![legacy]);
        return;
    };
    let key = |network: &Network| {
        let named = mode(network) == Some(Mode::Container);
        (mode(network), network.name.clone().filter(|_| named))
    };
    let first = |list: &Vec<Network>| list.first().map(key);
    let as_is = now.and_then(|now| {
        let legacy = legacy_network(now, &mut Faults::default())?;
        Some((now.networks.clone()?, legacy))
    });
    let meant = meant(
        canonical,
        legacy,
        as_is,
        |list, one| match list.as_slice() {
            // USER alone names no network.
            [only] if one.name.is_none() => mode(only) == mode(one),
            [only] => key(only) == key(one),
            _ => false,
        },
        (|a, b| first(a) == first(b), |a, b| key(a) == key(b)),
    );
    given.networks = match meant {
        Some(Meant::Canonical(list)) => Some(list),
        Some(Meant::Legacy(one)) => Some(vec![one]),
        None => {
            faults.at(
                "/networks",
                "networks and the legacy docker.network or ipAddress disagree: give one of them",
            );
            None
        }
    };
}

/// What `docker.network` and `ipAddress` ask for together.
fn legacy_network(given: &App, faults: &mut Faults) -> Option<Network> {
    let docker = given.container.as_ref().and_then(|c| c.docker.as_ref());
    let word = docker.and_then(|docker| docker.network.as_deref());
    let of = |mode: &str, name| Network {
        mode: Some(mode.to_owned()),
        name,
    };
    let name = given
        .ip_address
        .as_ref()
        .and_then(|ip| ip.network_name.clone());
    match (word.map(str::to_uppercase).as_deref(), &given.ip_address) {
        (Some("HOST" | "BRIDGE"), Some(_)) => {
            faults.at("/ipAddress", "needs docker.network USER");
            None
        }
        (Some("HOST"), None) => Some(of("host", None)),
        (Some("BRIDGE"), None) => Some(of("container/bridge", None)),
        (Some("USER"), _) | (None | Some(""), Some(_)) => Some(of("container", name)),
        (None | Some(""), None) => None,
        (Some(other), _) => {
            faults.at(
                "/container/docker/network",
                format!("'{other}' is not supported: HOST, BRIDGE and USER are"),
            );
            None
        }
    }
}

fn mappings(given: &mut App, now: Option<&App>, faults: &mut Faults) {
    let discovery = given
        .ip_address
        .as_ref()
        .and_then(|ip| ip.discovery.clone());
    let Some(container) = &mut given.container else {
        return;
    };
    let legacy = container
        .docker
        .as_mut()
        .and_then(|d| d.port_mappings.take());
    let discovered = discovery.and_then(|d| d.ports).unwrap_or_default();
    let discovered = discovered.into_iter().map(|port| PortMapping {
        container_port: port.number,
        name: port.name,
        protocol: port.protocol,
        ..PortMapping::default()
    });
    let legacy: Vec<PortMapping> = legacy.into_iter().flatten().chain(discovered).collect();
    if legacy.is_empty() {
        return;
    }
    let Some(canonical) = container
        .port_mappings
        .take()
        .filter(|list| !list.is_empty())
    else {
        container.port_mappings = Some(legacy);
        return;
    };
    let as_is = now.and_then(|now| {
        let container = now.container.as_ref()?;
        let legacy = container.docker.as_ref()?.port_mappings.clone()?;
        Some((container.port_mappings.clone()?, legacy))
    });
    let same = |a: &Vec<PortMapping>, b: &Vec<PortMapping>| {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| key(a) == key(b))
    };
    container.port_mappings = match meant(canonical, legacy, as_is, same, (same, same)) {
        Some(Meant::Canonical(list) | Meant::Legacy(list)) => Some(list),
        None => {
            faults.at(
                "/container/portMappings",
                "container.portMappings and the legacy container.docker.portMappings disagree: give one of them",
            );
            None
        }
    };
}

/// What distinguishes a mapping, defaults said.
fn key(mapping: &PortMapping) -> impl PartialEq + use<> {
    (
        mapping.container_port.unwrap_or(0),
        mapping.host_port,
        mapping.service_port.unwrap_or(0),
        mapping.protocol.clone().unwrap_or_else(|| "tcp".to_owned()),
        mapping.name.clone(),
        mapping.labels.clone().unwrap_or_default(),
    )
}

/// A client that reads a `publish` sees its mapping too. When it sends the mapping back without
/// the `publish`, it took the publish away.
fn forget_withdrawn_publishes(given: &mut App, now: Option<&App>) {
    let publishes = |app: &App| -> Vec<String> {
        let docker = app.container.as_ref().and_then(|c| c.docker.as_ref());
        let parameters = docker.and_then(|docker| docker.parameters.clone());
        let publishes = parameters.into_iter().flatten();
        publishes
            .filter(|parameter| parameter.key.as_deref() == Some("publish"))
            .filter_map(|parameter| parameter.value)
            .collect()
    };
    let kept = publishes(given);
    let withdrawn: Vec<PortMapping> = now
        .map(publishes)
        .unwrap_or_default()
        .iter()
        .filter(|value| !kept.contains(value))
        .filter_map(|value| crate::build::published_mapping(value))
        .collect();
    let list = given
        .container
        .as_mut()
        .and_then(|c| c.port_mappings.as_mut());
    if let Some(list) = list
        && !withdrawn.is_empty()
    {
        let service_less = |mapping: &PortMapping| PortMapping {
            service_port: None,
            name: None,
            labels: None,
            ..mapping.clone()
        };
        list.retain(|mapping| !withdrawn.contains(&service_less(mapping)));
    }
}

fn ports(given: &mut App, now: Option<&App>, faults: &mut Faults) {
    let (Some(definitions), Some(numbers)) = (&given.port_definitions, &given.ports) else {
        return;
    };
    let listed = |app: &App| -> Option<Vec<i32>> {
        let definitions = app.port_definitions.as_ref()?;
        Some(definitions.iter().map(|d| d.port.unwrap_or(0)).collect())
    };
    let of_definitions: Vec<i32> = definitions.iter().map(|d| d.port.unwrap_or(0)).collect();
    let as_is = now.and_then(|now| Some((listed(now)?, now.ports.clone()?)));
    let same = |a: &Vec<i32>, b: &Vec<i32>| a == b;
    match meant(of_definitions, numbers.clone(), as_is, same, (same, same)) {
        // Off the host the numbers are meant as service ports, unless they are what the client
        // read: a mapping that it took away must not come back for its number.
        Some(Meant::Canonical(numbers)) => {
            let read = now.and_then(|now| now.ports.as_ref()) == Some(&numbers);
            given.ports = (!read).then_some(numbers);
        }
        Some(Meant::Legacy(_)) => given.port_definitions = None,
        None => faults.at(
            "/portDefinitions",
            "portDefinitions and the legacy ports disagree: give one of them",
        ),
    }
}

fn fetches(given: &mut App, faults: &mut Faults) {
    let Some(uris) = given.uris.take().filter(|uris| !uris.is_empty()) else {
        return;
    };
    let fetched = |fetch: &Vec<Fetch>| -> Vec<String> {
        fetch.iter().filter_map(|fetch| fetch.uri.clone()).collect()
    };
    match &given.fetch {
        Some(fetch) if !fetch.is_empty() && fetched(fetch) != uris => {
            faults.at("/uris", "uris and fetch disagree: give one of them");
        }
        _ => {
            let fetch = |uri| Fetch { uri: Some(uri) };
            given.fetch = Some(uris.into_iter().map(fetch).collect());
        }
    }
}
