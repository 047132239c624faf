//! A spec as Marathon writes it, with every legacy field beside its canonical one.
//!
//! The same shape is rendered to clients, and is what a partial update is laid over; so what a
//! client reads, changes and sends back means what it says.

use std::collections::BTreeMap;

use model::AppId;
use model::quantity::Quantity;
use model::spec::{
    AppSpec, Command, Container, Engine, HealthCheck, HostPort, ImageContainer, KillSelection,
    Mount, MountSource, Network, Operator, Port, Probe, ProbePort, Protocols, Unreachable,
    VolumeForm,
};
use model::time::Millis;

use crate::build::container::trimmed;
use crate::build::default_upgrade;
use crate::shape::{self, App, EnvValue, Word};

/// Everything that the spec says, in both dialects.
pub(crate) fn of(id: &AppId, spec: &AppSpec) -> App {
    App {
        id: Some(id.to_string()),
        cmd: match &spec.command {
            Command::Shell(line) => Some(line.clone()),
            Command::Image | Command::Args(_) => None,
        },
        args: match &spec.command {
            Command::Args(words) => Some(words.clone()),
            Command::Image | Command::Shell(_) => None,
        },
        user: spec.user.clone(),
        env: Some(
            spec.env
                .iter()
                .map(|(name, text)| (name.clone(), EnvValue::Text(text.clone())))
                .collect(),
        ),
        labels: Some(spec.labels.clone()),
        instances: Some(clamped(u64::from(spec.instances))),
        cpus: Some(spec.resources.cpus.as_f64()),
        mem: Some(spec.resources.mem.as_f64()),
        disk: Some(spec.resources.disk.as_f64()),
        gpus: Some(clamped(u64::from(spec.resources.gpus))),
        constraints: Some(spec.constraints.iter().map(constraint).collect()),
        dependencies: Some(spec.dependencies.iter().map(AppId::to_string).collect()),
        ports: Some(spec.ports.iter().map(|p| port_number(spec, p)).collect()),
        port_definitions: Some(spec.ports.iter().map(|p| definition(spec, p)).collect()),
        require_ports: Some(spec.require_ports),
        networks: Some(vec![network(&spec.network)]),
        ip_address: ip_address(&spec.network),
        container: container(spec),
        health_checks: Some(spec.health_checks.iter().map(health_check).collect()),
        upgrade_strategy: Some(shape::UpgradeStrategy {
            minimum_health_capacity: Some(spec.upgrade.minimum_health.as_f64()),
            maximum_over_capacity: Some(spec.upgrade.maximum_over.as_f64()),
        }),
        backoff_seconds: Some(seconds(spec.backoff.initial)),
        backoff_factor: Some(spec.backoff.factor.as_f64()),
        max_launch_delay_seconds: Some(seconds(spec.backoff.max)),
        task_kill_grace_period_seconds: spec.kill_grace.map(seconds),
        kill_selection: Some(
            match spec.kill_selection {
                KillSelection::YoungestFirst => "YOUNGEST_FIRST",
                KillSelection::OldestFirst => "OLDEST_FIRST",
            }
            .to_owned(),
        ),
        unreachable_strategy: Some(unreachable(spec)),
        accepted_resource_roles: (!spec.accepted_resource_roles.is_empty())
            .then(|| spec.accepted_resource_roles.clone()),
        role: Some(spec.role.clone().unwrap_or_else(|| "*".to_owned())),
        ..kept(spec)
    }
}

/// What a partial update is laid over: the canonical fields, without those that are defaults of
/// the kind of app this is and must follow when that changes.
pub(crate) fn base(id: &AppId, spec: &AppSpec) -> App {
    let whole = of(id, spec);
    let on_host = spec.network == Network::Host;
    App {
        ports: None,
        ip_address: None,
        port_definitions: whole.port_definitions.filter(|_| on_host),
        container: whole.container.map(canonical_container),
        upgrade_strategy: whole
            .upgrade_strategy
            .filter(|_| spec.upgrade != default_upgrade(spec)),
        unreachable_strategy: whole
            .unreachable_strategy
            .filter(|_| spec.unreachable.is_some()),
        ..whole
    }
}

fn canonical_container(container: shape::Container) -> shape::Container {
    shape::Container {
        docker: container.docker.map(|docker| shape::Docker {
            network: None,
            port_mappings: None,
            ..docker
        }),
        ..container
    }
}

/// The fields of `kept`, read back into their shapes.
fn kept(spec: &AppSpec) -> App {
    use crate::fault::Faults;
    use crate::wire::{Place, Wire};
    let object = spec
        .kept
        .iter()
        .filter_map(|(name, text)| Some((name.clone(), serde_json::from_str(text).ok()?)))
        .collect();
    // They were written from this very shape: there are no faults to collect.
    App::read(
        &serde_json::Value::Object(object),
        Place::Root,
        &mut Faults::default(),
    )
    .unwrap_or_default()
}

fn clamped(n: u64) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

fn seconds(span: Millis) -> i32 {
    clamped(span.0 / 1000)
}

fn constraint(constraint: &model::spec::Constraint) -> Vec<Word> {
    [
        constraint.field.clone(),
        operator(constraint.operator).to_owned(),
    ]
    .into_iter()
    .chain(constraint.value.clone())
    .map(Word)
    .collect()
}

pub(crate) fn operator(operator: Operator) -> &'static str {
    match operator {
        Operator::Unique => "UNIQUE",
        Operator::Cluster => "CLUSTER",
        Operator::GroupBy => "GROUP_BY",
        Operator::Like => "LIKE",
        Operator::Unlike => "UNLIKE",
        Operator::MaxPer => "MAX_PER",
        Operator::Is => "IS",
    }
}

/// The number in `ports` and `portDefinitions`: a required host port, else the service port.
fn port_number(spec: &AppSpec, port: &Port) -> i32 {
    match (&spec.network, port.host) {
        (Network::Host, HostPort::Fixed(number)) => i32::from(number),
        (Network::Host, _) if spec.require_ports => 0,
        _ => i32::from(port.service),
    }
}

fn definition(spec: &AppSpec, port: &Port) -> shape::PortDefinition {
    shape::PortDefinition {
        port: Some(port_number(spec, port)),
        name: port.name.clone(),
        protocol: Some(protocol(port.protocol).to_owned()),
        labels: Some(port.labels.clone()),
    }
}

pub(crate) fn protocol(protocol: Protocols) -> &'static str {
    match protocol {
        Protocols::Tcp => "tcp",
        Protocols::Udp => "udp",
        Protocols::Both => "udp,tcp",
    }
}

fn network(network: &Network) -> shape::Network {
    let (mode, name) = match network {
        Network::Host => ("host", None),
        Network::Bridge => ("container/bridge", None),
        Network::Container(name) => ("container", Some(name.clone())),
    };
    shape::Network {
        mode: Some(mode.to_owned()),
        name,
    }
}

/// Only for container networks: elsewhere its mere presence misleads clients.
fn ip_address(network: &Network) -> Option<shape::IpAddress> {
    match network {
        Network::Host | Network::Bridge => None,
        Network::Container(name) => Some(shape::IpAddress {
            network_name: Some(name.clone()),
            groups: Some(Vec::new()),
            labels: Some(BTreeMap::new()),
            discovery: Some(shape::Discovery {
                ports: Some(Vec::new()),
            }),
        }),
    }
}

fn container(spec: &AppSpec) -> Option<shape::Container> {
    let mappings =
        (spec.network != Network::Host).then(|| spec.ports.iter().map(mapping).collect::<Vec<_>>());
    let (kind, docker) = match &spec.container {
        Container::None => return None,
        Container::Mesos => ("MESOS", None),
        Container::Image(image) => match image.engine {
            Engine::Mesos => ("MESOS", Some(docker(image))),
            Engine::Docker => (
                "DOCKER",
                Some(shape::Docker {
                    network: Some(
                        match spec.network {
                            Network::Host => "HOST",
                            Network::Bridge => "BRIDGE",
                            Network::Container(_) => "USER",
                        }
                        .to_owned(),
                    ),
                    port_mappings: mappings.clone(),
                    ..docker(image)
                }),
            ),
        },
    };
    Some(shape::Container {
        kind: Some(kind.to_owned()),
        docker,
        port_mappings: mappings,
        volumes: Some(
            spec.mounts
                .iter()
                .filter(|mount| !is_parameter(spec, mount))
                .map(volume)
                .collect(),
        ),
        linux_info: None,
    })
}

fn docker(image: &ImageContainer) -> shape::Docker {
    shape::Docker {
        image: Some(image.image.clone()),
        privileged: Some(image.privileged),
        force_pull_image: Some(image.force_pull),
        parameters: Some(
            image
                .parameters
                .iter()
                .map(|parameter| shape::Parameter {
                    key: Some(parameter.key.clone()),
                    value: Some(parameter.value.clone()),
                })
                .collect(),
        ),
        ..shape::Docker::default()
    }
}

pub(crate) fn mapping(port: &Port) -> shape::PortMapping {
    shape::PortMapping {
        container_port: Some(i32::from(port.container)),
        host_port: match port.host {
            HostPort::None => None,
            HostPort::Dynamic => Some(0),
            HostPort::Fixed(number) => Some(i32::from(number)),
        },
        service_port: Some(i32::from(port.service)),
        name: port.name.clone(),
        protocol: Some(protocol(port.protocol).to_owned()),
        labels: Some(port.labels.clone()),
    }
}

/// Whether a mount is written among docker's parameters: no two mounts have one path.
fn is_parameter(spec: &AppSpec, mount: &Mount) -> bool {
    let parameters = spec.image().into_iter().flat_map(|image| &image.parameters);
    parameters
        .filter(|parameter| parameter.key == "volume")
        .any(|parameter| parameter.value.split(':').nth(1).map(trimmed) == Some(mount.path.clone()))
}

fn volume(mount: &Mount) -> shape::Volume {
    let (host_path, external) = match &mount.source {
        MountSource::Host(path) => (Some(path.clone()), None),
        MountSource::Volume { volume, size, form } => match form {
            VolumeForm::Flocker | VolumeForm::Parameter => {
                (Some(format!("/flocker/{volume}")), None)
            }
            VolumeForm::External { provider, options } => {
                let external = shape::External {
                    name: Some(volume.to_string()),
                    provider: Some(provider.clone()),
                    size: size.map(|size| clamped(size.0 / Quantity::whole(1024).0)),
                    options: Some(options.clone()),
                };
                (None, Some(external))
            }
        },
    };
    shape::Volume {
        container_path: Some(mount.path.clone()),
        host_path,
        mode: Some(if mount.read_only { "RO" } else { "RW" }.to_owned()),
        external,
        ..shape::Volume::default()
    }
}

pub(crate) fn health_check(check: &HealthCheck) -> shape::HealthCheck {
    let (path, port, command) = match &check.probe {
        Probe::Http { path, port, .. } => (Some(path.clone()), Some(port), None),
        Probe::Tcp { port } => (None, Some(port), None),
        Probe::Command(line) => (None, None, Some(shape::CommandText(line.clone()))),
    };
    shape::HealthCheck {
        protocol: Some(check.protocol.clone()),
        path,
        port_index: port.and_then(|port| match port {
            ProbePort::Index(index) => Some(clamped(u64::from(*index))),
            ProbePort::Number(_) => None,
        }),
        port: port.and_then(|port| match port {
            ProbePort::Index(_) => None,
            ProbePort::Number(number) => Some(i32::from(*number)),
        }),
        ip_protocol: port.map(|_| "IPv4".to_owned()),
        command,
        grace_period_seconds: Some(seconds(check.grace)),
        interval_seconds: Some(seconds(check.interval)),
        timeout_seconds: Some(seconds(check.timeout)),
        max_consecutive_failures: Some(clamped(u64::from(check.max_failures))),
        delay_seconds: Some(seconds(check.delay)),
        ignore_http_1xx: Some(check.ignore_http_1xx),
    }
}

/// Apps with volumes of their own wait for their node unless told otherwise.
fn unreachable(spec: &AppSpec) -> shape::UnreachableStrategy {
    let (inactive, expunge) = match spec.unreachable {
        Some(Unreachable::Disabled) => return shape::UnreachableStrategy::Disabled,
        Some(Unreachable::After { inactive, expunge }) => (inactive, expunge),
        None if spec.volumes().next().is_some() => return shape::UnreachableStrategy::Disabled,
        None => (Millis(0), Millis(0)),
    };
    shape::UnreachableStrategy::After(shape::Timers {
        inactive: Some(seconds(inactive)),
        expunge: Some(seconds(expunge)),
    })
}
