//! Networks and ports: on the host from `portDefinitions` or `ports`, elsewhere from mappings.

use std::collections::BTreeSet;

use model::spec::{AppSpec, HostPort, Network, Port, Protocols};

use super::port;
use crate::fault::{Faults, did_you_mean};
use crate::settle::{Mode, mode};
use crate::shape::{self, App};

/// The name of an app's only network when it gives none; every name is the one overlay.
const DEFAULT_NETWORK: &str = "tandem";

/// The network, and the ports of an app on the host's.
pub(super) fn read(app: &App, spec: &mut AppSpec, faults: &mut Faults) {
    spec.network = network(app, faults);
    if spec.network != Network::Host {
        return;
    }
    spec.require_ports = app.require_ports.unwrap_or(false);
    let fixed = spec.require_ports;
    spec.ports = match (&app.port_definitions, &app.ports) {
        (Some(definitions), _) => definitions
            .iter()
            .enumerate()
            .map(|(i, given)| {
                host_port(
                    &format!("/portDefinitions({i})"),
                    "/port",
                    given,
                    fixed,
                    faults,
                )
            })
            .collect(),
        (None, Some(numbers)) => numbers
            .iter()
            .enumerate()
            .map(|(i, number)| {
                let given = shape::PortDefinition {
                    port: Some(*number),
                    ..shape::PortDefinition::default()
                };
                host_port(&format!("/ports({i})"), "", &given, fixed, faults)
            })
            .collect(),
        (None, None) => vec![default_port()],
    };
    let legacy = app.port_definitions.is_none() && app.ports.is_some();
    let path = if legacy { "/ports" } else { "/portDefinitions" };
    check(spec, path, faults);
}

fn network(app: &App, faults: &mut Faults) -> Network {
    let networks = app.networks.as_deref().unwrap_or_default();
    let Some(first) = networks.first() else {
        return Network::Host;
    };
    if networks.len() > 1 {
        faults.at(
            "/networks",
            "every container network is the one overlay here: give one network only",
        );
    }
    match mode(first) {
        Some(Mode::Host) => Network::Host,
        Some(Mode::Bridge) => Network::Bridge,
        Some(Mode::Container) => {
            let name = first.name.clone().filter(|name| !name.is_empty());
            Network::Container(name.unwrap_or_else(|| DEFAULT_NETWORK.to_owned()))
        }
        None => {
            let given = first.mode.as_deref().unwrap_or_default();
            let hint = did_you_mean(given, ["host", "container", "container/bridge"]);
            faults.at(
                "/networks(0)/mode",
                format!("'{given}' is none of host, container and container/bridge{hint}"),
            );
            Network::Host
        }
    }
}

fn default_port() -> Port {
    Port {
        name: Some("default".to_owned()),
        protocol: Protocols::Tcp,
        container: 0,
        host: HostPort::Dynamic,
        service: 0,
        labels: Default::default(),
        published: false,
    }
}

fn host_port(
    path: &str,
    field: &str,
    given: &shape::PortDefinition,
    fixed: bool,
    faults: &mut Faults,
) -> Port {
    let number = port(&format!("{path}{field}"), given.port.unwrap_or(0), faults);
    Port {
        name: given.name.clone(),
        protocol: protocol(path, given.protocol.as_deref(), faults),
        container: 0,
        host: match number {
            1.. if fixed => HostPort::Fixed(number),
            _ => HostPort::Dynamic,
        },
        service: number,
        labels: given.labels.clone().unwrap_or_default(),
        published: false,
    }
}

/// A port of an app on the overlay.
pub(super) fn mapping(
    path: &str,
    given: &shape::PortMapping,
    network: &Network,
    faults: &mut Faults,
) -> Port {
    let host = given
        .host_port
        .map(|n| port(&format!("{path}/hostPort"), n, faults));
    Port {
        name: given.name.clone(),
        protocol: protocol(path, given.protocol.as_deref(), faults),
        container: port(
            &format!("{path}/containerPort"),
            given.container_port.unwrap_or(0),
            faults,
        ),
        host: match (host, network) {
            (Some(0), _) | (None, Network::Host | Network::Bridge) => HostPort::Dynamic,
            (Some(number), _) => HostPort::Fixed(number),
            (None, Network::Container(_)) => HostPort::None,
        },
        service: port(
            &format!("{path}/servicePort"),
            given.service_port.unwrap_or(0),
            faults,
        ),
        labels: given.labels.clone().unwrap_or_default(),
        published: false,
    }
}

fn protocol(path: &str, given: Option<&str>, faults: &mut Faults) -> Protocols {
    match given.map(str::to_lowercase).as_deref() {
        None | Some("tcp") => Protocols::Tcp,
        Some("udp") => Protocols::Udp,
        Some("udp,tcp" | "tcp,udp") => Protocols::Both,
        Some(other) => {
            faults.at(
                format!("{path}/protocol"),
                format!("'{other}' is none of tcp, udp and 'udp,tcp'"),
            );
            Protocols::Tcp
        }
    }
}

/// Off the host: the default mapping, and what legacy `ports` add to the mappings.
pub(super) fn pad(app: &App, spec: &mut AppSpec, faults: &mut Faults) {
    if spec.network == Network::Host {
        return;
    }
    let mappings = app
        .container
        .as_ref()
        .and_then(|c| c.port_mappings.as_ref());
    if mappings.is_none() && spec.ports.is_empty() {
        spec.ports.push(without_host(default_port(), &spec.network));
    }
    for (index, number) in app.ports.iter().flatten().enumerate() {
        let service = port(&format!("/ports({index})"), *number, faults);
        match spec.ports.get_mut(index) {
            Some(port) if port.service == 0 => port.service = service,
            Some(_) => {}
            None => spec.ports.push(without_host(
                Port {
                    name: None,
                    service,
                    ..default_port()
                },
                &spec.network,
            )),
        }
    }
    check(spec, "/container/portMappings", faults);
}

fn without_host(port: Port, network: &Network) -> Port {
    let host = match network {
        Network::Container(_) => HostPort::None,
        Network::Host | Network::Bridge => HostPort::Dynamic,
    };
    Port { host, ..port }
}

/// Each name, service port and fixed host port is one port's alone.
fn check(spec: &AppSpec, path: &str, faults: &mut Faults) {
    let mut names = BTreeSet::new();
    let mut services = BTreeSet::new();
    let mut taken = BTreeSet::new();
    let on_host = spec.network == Network::Host;
    for port in &spec.ports {
        if let Some(name) = &port.name
            && !names.insert(name)
        {
            faults.at(
                path,
                format!("Port names must be unique: '{name}' is given twice."),
            );
        }
        if port.service != 0 && !services.insert(port.service) {
            let what = if on_host { "Ports" } else { "Service ports" };
            let number = port.service;
            faults.at(
                path,
                format!("{what} must be unique: {number} is given twice."),
            );
        }
        // On the host it is the number that was looked at already.
        if let HostPort::Fixed(number) = port.host
            && !on_host
        {
            for protocol in port.protocol.each() {
                if !taken.insert((number, *protocol)) {
                    faults.at(path, format!("host port {number} is given twice"));
                }
            }
        }
    }
}
