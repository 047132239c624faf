//! What every instance finds in its environment: Mesos' and Marathon's variables. Pure. What the
//! app sets itself wins over all of these.

use model::spec::{HostPort, Network, Port};
use model::{Assigned, InstanceId, Quantity};

/// Labels longer than this are not told, as in Marathon.
const LABEL_MAX: usize = 512;
/// Where a command task finds its sandbox.
pub(crate) const SANDBOX: &str = "/mnt/mesos/sandbox";

/// The variables of one instance, on the node called `host`.
pub(crate) fn given(id: InstanceId, assigned: &Assigned, host: &str) -> Vec<(String, String)> {
    let spec = &assigned.spec;
    let mut env: Vec<(String, String)> = vec![
        ("MESOS_TASK_ID".into(), id.task_id(&assigned.app)),
        ("MESOS_SANDBOX".into(), SANDBOX.into()),
        ("HOST".into(), host.into()),
        ("MARATHON_APP_ID".into(), assigned.app.to_string()),
        ("MARATHON_APP_VERSION".into(), assigned.version.to_string()),
        (
            "MARATHON_APP_RESOURCE_CPUS".into(),
            decimal(spec.resources.cpus),
        ),
        (
            "MARATHON_APP_RESOURCE_MEM".into(),
            decimal(spec.resources.mem),
        ),
        (
            "MARATHON_APP_RESOURCE_DISK".into(),
            decimal(spec.resources.disk),
        ),
        (
            "MARATHON_APP_RESOURCE_GPUS".into(),
            spec.resources.gpus.to_string(),
        ),
    ];
    if let Some(image) = spec.image() {
        env.push(("MARATHON_APP_DOCKER_IMAGE".into(), image.image.clone()));
    }
    labels(assigned, &mut env);
    ports(assigned, &mut env);
    env
}

/// `0.5`, `128.0`: as Scala prints a double.
fn decimal(amount: Quantity) -> String {
    format!("{:?}", amount.as_f64())
}

fn labels(assigned: &Assigned, env: &mut Vec<(String, String)>) {
    let told: Vec<(String, &String)> = assigned
        .spec
        .labels
        .iter()
        .filter(|(name, value)| name.len() <= LABEL_MAX && value.len() <= LABEL_MAX)
        .map(|(name, value)| (variable(name), value))
        .collect();
    let names: Vec<&str> = told.iter().map(|(name, _)| name.as_str()).collect();
    env.push(("MARATHON_APP_LABELS".into(), names.join(" ")));
    for (name, value) in told {
        env.push((format!("MARATHON_APP_LABEL_{name}"), value.clone()));
    }
}

fn ports(assigned: &Assigned, env: &mut Vec<(String, String)>) {
    let spec = &assigned.spec;
    let mapped = spec
        .ports
        .iter()
        .zip(&assigned.placement.host_ports)
        .filter(|(port, _)| !port.published);
    let mut numbers = Vec::new();
    for (index, (port, host)) in mapped.enumerate() {
        let number = if *host == 0 { port.container } else { *host };
        let declared = match (&spec.network, port.host) {
            (Network::Host, HostPort::Fixed(declared)) => declared,
            (Network::Host, _) => port.service,
            _ => port.container,
        };
        env.push((format!("PORT{index}"), number.to_string()));
        if declared != 0 {
            env.push((format!("PORT_{declared}"), number.to_string()));
        }
        if let Some(name) = named(port) {
            env.push((format!("PORT_{}", variable(name)), number.to_string()));
        }
        numbers.push(number.to_string());
    }
    if let Some(first) = numbers.first() {
        env.push(("PORT".into(), first.clone()));
        env.push(("PORTS".into(), numbers.join(",")));
    }
}

fn named(port: &Port) -> Option<&str> {
    port.name.as_deref().filter(|name| !name.is_empty())
}

/// Upper case, and nothing that a shell would not take.
fn variable(name: &str) -> String {
    let fits = |c: char| match c.is_ascii_alphanumeric() {
        true => c.to_ascii_uppercase(),
        false => '_',
    };
    name.chars().map(fits).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use model::spec::Protocols;
    use model::{AppId, AppSpec, Goal, Placement, Time};

    use super::*;

    fn port(name: Option<&str>, container: u16, published: bool) -> Port {
        Port {
            name: name.map(str::to_owned),
            protocol: Protocols::Tcp,
            container,
            host: HostPort::Dynamic,
            service: 10_001,
            labels: BTreeMap::new(),
            published,
        }
    }

    fn told(spec: AppSpec, host_ports: Vec<u16>) -> BTreeMap<String, String> {
        let assigned = Assigned {
            app: AppId::parse("/shop/web").expect("an id"),
            slot: 0,
            version: Time(1_709_164_800_000),
            spec: Arc::new(spec),
            placement: Placement {
                host_ports,
                ..Placement::default()
            },
            goal: Goal::Run,
        };
        let id = InstanceId { birth: 1, slot: 2 };
        given(id, &assigned, "10.0.15.11").into_iter().collect()
    }

    #[test]
    fn ports_are_told_by_number_declaration_and_name() {
        let spec = AppSpec {
            network: Network::Bridge,
            ports: vec![
                port(Some("http-main"), 8080, false),
                port(None, 9, true),
                port(None, 9090, false),
            ],
            ..AppSpec::default()
        };
        let env = told(spec, vec![31_000, 9080, 0]);
        let value = |key: &str| env.get(key).map(String::as_str);
        assert_eq!(value("PORT"), Some("31000"));
        assert_eq!(value("PORT0"), Some("31000"));
        assert_eq!(value("PORT1"), Some("9090"));
        assert_eq!(value("PORTS"), Some("31000,9090"));
        assert_eq!(value("PORT_8080"), Some("31000"));
        assert_eq!(value("PORT_HTTP_MAIN"), Some("31000"));
        assert_eq!(value("PORT_9"), None);
    }

    #[test]
    fn an_instance_knows_its_app_its_host_and_its_labels() {
        let spec = AppSpec {
            labels: [("my-label".to_owned(), "x".to_owned())].into(),
            ..AppSpec::default()
        };
        let env = told(spec, Vec::new());
        let value = |key: &str| env.get(key).map(String::as_str);
        assert_eq!(value("MARATHON_APP_ID"), Some("/shop/web"));
        assert_eq!(
            value("MARATHON_APP_VERSION"),
            Some("2024-02-29T00:00:00.000Z")
        );
        assert_eq!(value("MARATHON_APP_RESOURCE_CPUS"), Some("1.0"));
        assert_eq!(value("MARATHON_APP_RESOURCE_MEM"), Some("128.0"));
        assert_eq!(value("MARATHON_APP_LABELS"), Some("MY_LABEL"));
        assert_eq!(value("MARATHON_APP_LABEL_MY_LABEL"), Some("x"));
        assert_eq!(value("HOST"), Some("10.0.15.11"));
        assert_eq!(value("PORT"), None);
    }
}
