//! Health checks: what to probe, where, how often.

use model::spec::{HealthCheck, Probe, ProbePort};

use super::{natural, seconds};
use crate::fault::{Faults, did_you_mean};
use crate::shape::{self, App};

const PROTOCOLS: [&str; 7] = [
    "HTTP",
    "HTTPS",
    "TCP",
    "COMMAND",
    "MESOS_HTTP",
    "MESOS_HTTPS",
    "MESOS_TCP",
];

pub(super) fn read(app: &App, ports: usize, faults: &mut Faults) -> Vec<HealthCheck> {
    let checks = app.health_checks.iter().flatten().enumerate();
    checks
        .filter_map(|(index, check)| one(&format!("/healthChecks({index})"), check, ports, faults))
        .collect()
}

fn one(
    path: &str,
    check: &shape::HealthCheck,
    ports: usize,
    faults: &mut Faults,
) -> Option<HealthCheck> {
    let protocol = check.protocol.as_deref().unwrap_or("HTTP").to_uppercase();
    let probe = probe(path, &protocol, check, ports, faults)?;
    let mut span = |name: &str, value: Option<i32>, default: i32, least: i32| {
        let value = value.unwrap_or(default);
        let path = format!("{path}/{name}");
        if value >= 0 && value < least {
            faults.at(&path, format!("error.min: must be at least {least}"));
        }
        seconds(&path, value, faults)
    };
    Some(HealthCheck {
        grace: span("gracePeriodSeconds", check.grace_period_seconds, 300, 0),
        interval: span("intervalSeconds", check.interval_seconds, 60, 1),
        timeout: span("timeoutSeconds", check.timeout_seconds, 20, 1),
        delay: span("delaySeconds", check.delay_seconds, 15, 0),
        max_failures: natural(
            &format!("{path}/maxConsecutiveFailures"),
            check.max_consecutive_failures,
            3,
            faults,
        ),
        ignore_http_1xx: check.ignore_http_1xx.unwrap_or(false),
        probe,
        protocol,
    })
}

fn probe(
    path: &str,
    protocol: &str,
    check: &shape::HealthCheck,
    ports: usize,
    faults: &mut Faults,
) -> Option<Probe> {
    match protocol.strip_prefix("MESOS_").unwrap_or(protocol) {
        "COMMAND" if protocol == "COMMAND" => {
            let line = check.command.clone().unwrap_or_default().0;
            if line.is_empty() {
                faults.at(format!("{path}/command"), "a COMMAND check needs a command");
            }
            Some(Probe::Command(line))
        }
        kind @ ("HTTP" | "HTTPS") => Some(Probe::Http {
            tls: kind == "HTTPS",
            path: match check.path.as_deref() {
                None | Some("") => "/".to_owned(),
                Some(given) if given.starts_with('/') => given.to_owned(),
                Some(given) => format!("/{given}"),
            },
            port: port(path, check, ports, faults),
        }),
        "TCP" => Some(Probe::Tcp {
            port: port(path, check, ports, faults),
        }),
        _ => {
            faults.at(
                format!("{path}/protocol"),
                format!(
                    "'{protocol}' is no protocol of health checks; there are {}{}",
                    PROTOCOLS.join(", "),
                    did_you_mean(protocol, PROTOCOLS)
                ),
            );
            None
        }
    }
}

fn port(path: &str, check: &shape::HealthCheck, ports: usize, faults: &mut Faults) -> ProbePort {
    if check
        .ip_protocol
        .as_deref()
        .is_some_and(|family| family != "IPv4")
    {
        faults.at(format!("{path}/ipProtocol"), "only IPv4 is supported");
    }
    match (check.port, check.port_index) {
        (Some(_), Some(_)) => {
            faults.at(
                path,
                "a health check has either port or portIndex, not both",
            );
            ProbePort::Index(0)
        }
        (Some(number), None) => {
            let number = u16::try_from(number).unwrap_or(0);
            if number == 0 {
                faults.at(
                    format!("{path}/port"),
                    "must be a port number between 1 and 65535",
                );
            }
            ProbePort::Number(number)
        }
        (None, index) => {
            let index = natural(&format!("{path}/portIndex"), index, 0, faults);
            if index as usize >= ports {
                faults.at(
                    format!("{path}/portIndex"),
                    format!("Health check port indices must address an element of the ports array or container port mappings: the app has {ports}."),
                );
            }
            ProbePort::Index(index)
        }
    }
}
