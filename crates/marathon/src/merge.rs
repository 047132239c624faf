//! An update laid over an app as it is: the spec that is wanted now.
//!
//! Top-level fields that the update gives take the place of the app's; the others stay. A field
//! and its legacy spelling are one field here, and so are `cmd` and `args`.

use model::AppId;
use model::spec::{AppSpec, Port};

use crate::fault::{Faults, Violation};
use crate::settle::settle;
use crate::shape::App;
use crate::update::Update;
use crate::wire::Record;
use crate::{build, form};

/// The spec that an update makes of an app, or everything that is wrong with it.
///
/// Without `partial`, or without a current spec, what the update does not give has Marathon's
/// defaults. Service ports that the app was given earlier stay with it; new ones are 0, for the
/// master to choose.
pub fn merge(
    id: &AppId,
    current: Option<&AppSpec>,
    update: &Update,
    partial: bool,
) -> Result<AppSpec, Vec<Violation>> {
    let mut faults = Faults::default();
    let now = current.map(|spec| form::of(id, spec));
    let given = settle(update.given.clone(), now.as_ref(), &mut faults);
    let whole = match current {
        Some(spec) if partial => over(form::base(id, spec), given),
        _ => given,
    };
    let mut spec = build::spec(id, &whole, &mut faults);
    if let Some(current) = current {
        keep_service_ports(&mut spec.ports, &current.ports);
    }
    let mut violations = faults.into_violations();
    if let Some(current) = current
        && partial
        && !violations.is_empty()
    {
        // What an earlier version of ours accepted does not keep the app from being scaled.
        let mut before = Faults::default();
        build::spec(id, &form::base(id, current), &mut before);
        let before = before.into_violations();
        violations.retain(|violation| !before.contains(violation));
    }
    match violations.is_empty() {
        true => Ok(spec),
        false => Err(violations),
    }
}

/// Lays `given` over `base`, whose other spellings of what is given go.
fn over(mut base: App, given: App) -> App {
    let says = |words: &Option<Vec<String>>| words.as_ref().is_some_and(|words| !words.is_empty());
    if given.cmd.as_ref().is_some_and(|line| !line.is_empty()) {
        base.args = None;
    }
    // An empty cmd takes the image's own command.
    if says(&given.args) || given.cmd.as_deref() == Some("") {
        base.cmd = None;
        base.args = base.args.filter(|_| given.cmd.as_deref() != Some(""));
    }
    if given.ports.is_some() {
        base.port_definitions = None;
    }
    let to_host = |app: &App| {
        let networks = app.networks.as_deref().unwrap_or_default();
        networks
            .first()
            .is_some_and(|network| network.mode.as_deref() == Some("host"))
    };
    if to_host(&given)
        && let Some(container) = &mut base.container
    {
        container.port_mappings = None;
    }
    base.overlaid(given)
}

/// A port without a service port takes the one that it, or else any port of the app, had.
fn keep_service_ports(ports: &mut [Port], earlier: &[Port]) {
    let taken = |ports: &[Port], number| ports.iter().any(|port| port.service == number);
    let key = |port: &Port| (port.container, port.protocol, port.host, port.name.clone());
    for exact in [true, false] {
        for index in 0..ports.len() {
            if ports[index].service != 0 {
                continue;
            }
            let kept = earlier.iter().find(|port| {
                port.service != 0
                    && !taken(ports, port.service)
                    && (!exact || key(port) == key(&ports[index]))
            });
            if let Some(port) = kept {
                ports[index].service = port.service;
            }
        }
    }
}
