//! From a whole definition in canonical fields to a spec, noting every fault with its path.
//!
//! Each part of the definition has its file; here are the fields that stand alone.

mod addresses;
mod constraints;
pub(crate) mod container;
mod health;
mod network;
mod parameters;
mod units;

use model::AppId;
use model::quantity::Quantity;
use model::spec::{
    AppSpec, Backoff, Command, Container, KillSelection, Unreachable, UpgradeStrategy, Wanted,
};
use model::time::Millis;

use crate::fault::{Faults, did_you_mean};
use crate::shape::{self, App, EnvValue, Limit};
use crate::wire::Wire;

/// The spec that a whole definition describes; worth something only without faults.
pub(crate) fn spec(id: &AppId, app: &App, faults: &mut Faults) -> AppSpec {
    let defaults = AppSpec::default();
    refuse_what_is_not_there(app, faults);
    let mut spec = AppSpec {
        instances: natural("/instances", app.instances, defaults.instances, faults),
        command: command(app, faults),
        resources: resources(app, faults),
        user: text(app.user.as_ref()),
        env: env(app, faults),
        labels: app.labels.clone().unwrap_or_default(),
        constraints: constraints::read(app, faults),
        dependencies: dependencies(id, app, faults),
        health_checks: Vec::new(),
        backoff: backoff(app, faults),
        kill_grace: app
            .task_kill_grace_period_seconds
            .map(|s| seconds("/taskKillGracePeriodSeconds", s, faults)),
        kill_selection: kill_selection(app, faults),
        accepted_resource_roles: app.accepted_resource_roles.clone().unwrap_or_default(),
        role: text(app.role.as_ref()).filter(|role| role != "*"),
        kept: kept(app),
        ..defaults
    };
    network::read(app, &mut spec, faults);
    container::read(app, &mut spec, faults);
    network::pad(app, &mut spec, faults);
    addresses::read(&mut spec, faults);
    spec.health_checks = health::read(app, spec.ports.len(), faults);
    spec.unreachable = unreachable(app, &spec, faults);
    spec.upgrade = upgrade(app, &spec, faults);
    check_together(app, &spec, faults);
    spec
}

/// Apps with volumes or addresses of their own never run beside their successor.
pub(crate) fn default_upgrade(spec: &AppSpec) -> UpgradeStrategy {
    if is_single(spec) {
        UpgradeStrategy {
            minimum_health: Quantity(500),
            maximum_over: Quantity::ZERO,
        }
    } else {
        AppSpec::default().upgrade
    }
}

/// Whether an instance holds what no second one can have.
fn is_single(spec: &AppSpec) -> bool {
    spec.volumes().next().is_some() || !spec.fixed_addresses.is_empty()
}

/// What users would miss if it were merely stored.
fn refuse_what_is_not_there(app: &App, faults: &mut Faults) {
    let given = |list: Option<usize>| list.is_some_and(|length| length > 0);
    let fetching = "fetching files into the sandbox is not supported yet: put them into the image";
    if given(app.fetch.as_ref().map(Vec::len)) {
        faults.at("/fetch", fetching);
    }
    if given(app.store_urls.as_ref().map(Vec::len)) {
        faults.at("/storeUrls", fetching);
    }
    if given(app.secrets.as_ref().map(|secrets| secrets.len())) {
        faults.at("/secrets", "there is no secret store yet");
    }
    if app.gpus.is_some_and(|gpus| gpus != 0) {
        faults.at("/gpus", "no node offers gpus yet");
    }
}

/// The checks that need several fields.
fn check_together(app: &App, spec: &AppSpec, faults: &mut Faults) {
    if spec.command == Command::Image && spec.image().is_none() {
        faults.at(
            "/",
            "AppDefinition must either contain one of 'cmd' or 'args', and/or a 'container' with an image.",
        );
    }
    if spec.instances > 1
        && let Some((volume, _)) = spec.volumes().next()
    {
        faults.at(
            "/instances",
            format!("volume '{volume}' has one writer: an app with a named volume runs at most one instance"),
        );
    }
    if spec.instances > 1
        && let Some(fixed) = spec.fixed_addresses.first()
    {
        faults.at(
            "/instances",
            format!("address {} cannot be shared: an app with a fixed address runs at most one instance", fixed.address),
        );
    }
    if spec
        .labels
        .get("MARATHON_SINGLE_INSTANCE_APP")
        .map(String::as_str)
        == Some("true")
    {
        if spec.instances > 1 {
            faults.at(
                "/instances",
                "a single-instance app has at most one instance",
            );
        }
        let none = UpgradeStrategy {
            minimum_health: Quantity::ZERO,
            maximum_over: Quantity::ZERO,
        };
        if spec.upgrade != none {
            faults.at(
                "/upgradeStrategy",
                "a single-instance app needs minimumHealthCapacity and maximumOverCapacity 0",
            );
        }
    }
    let roles = &spec.accepted_resource_roles;
    if app.accepted_resource_roles.is_some() && roles.is_empty() {
        faults.at("/acceptedResourceRoles", "must not be empty");
    }
    let mine = |role: &String| role == "*" || Some(role) == spec.role.as_ref();
    if !roles.is_empty() && !roles.iter().any(mine) {
        faults.at(
            "/acceptedResourceRoles",
            "must hold '*' or the app's own role",
        );
    }
}

fn command(app: &App, faults: &mut Faults) -> Command {
    let cmd = app.cmd.clone().filter(|line| !line.is_empty());
    let args = app.args.clone().filter(|words| !words.is_empty());
    match (cmd, args) {
        (Some(line), Some(_)) => {
            faults.at(
                "/",
                "AppDefinition must either contain one of 'cmd' or 'args', not both.",
            );
            Command::Shell(line)
        }
        (Some(line), None) => Command::Shell(no_nul("/cmd", line, faults)),
        (None, Some(words)) => Command::Args(
            words
                .into_iter()
                .enumerate()
                .map(|(index, word)| no_nul(&format!("/args({index})"), word, faults))
                .collect(),
        ),
        (None, None) => Command::Image,
    }
}

/// No process can be given a NUL.
fn no_nul(path: &str, text: String, faults: &mut Faults) -> String {
    if text.contains('\0') {
        faults.at(path, "must not contain a NUL character");
    }
    text
}

fn resources(app: &App, faults: &mut Faults) -> Wanted {
    let defaults = AppSpec::default().resources;
    let mut amount = |path: &str, value: Option<f64>, default: Quantity| match value {
        None => default,
        Some(value) => faults.take(path, quantity(value)),
    };
    let mut wanted = Wanted {
        cpus: amount("/cpus", app.cpus, defaults.cpus),
        mem: amount("/mem", app.mem, defaults.mem),
        disk: amount("/disk", app.disk, defaults.disk),
        gpus: 0,
        cpu_limit: None,
    };
    if app.cpus.is_some_and(|cpus| (0.0..0.001).contains(&cpus)) {
        faults.at("/cpus", "error.min: must be at least 0.001");
    }
    if let Some(limits) = &app.resource_limits {
        if let Some(Limit::Amount(cpus)) = limits.cpus {
            let limit = faults.take("/resourceLimits/cpus", quantity(cpus));
            if limit < wanted.cpus {
                faults.at("/resourceLimits/cpus", "must be at least the app's cpus");
            }
            wanted.cpu_limit = Some(limit);
        }
        if let Some(Limit::Amount(mem)) = limits.mem
            && faults.take("/resourceLimits/mem", quantity(mem)) < wanted.mem
        {
            faults.at("/resourceLimits/mem", "must be at least the app's mem");
        }
    }
    wanted
}

fn quantity(value: f64) -> Result<Quantity, String> {
    Quantity::from_f64(value).ok_or_else(|| {
        if value < 0.0 {
            "error.min: must not be negative".to_owned()
        } else {
            "error.max: is too big".to_owned()
        }
    })
}

fn env(app: &App, faults: &mut Faults) -> std::collections::BTreeMap<String, String> {
    let mut env = std::collections::BTreeMap::new();
    for (name, value) in app.env.iter().flatten() {
        let path = format!("/env/{name}");
        if name.is_empty() || name.contains(['=', '\0']) {
            faults.at(
                &path,
                "a variable's name must not be empty nor contain '=' or NUL",
            );
        }
        match value {
            EnvValue::Text(text) => {
                env.insert(name.clone(), no_nul(&path, text.clone(), faults));
            }
            EnvValue::Secret(_) => faults.at(path, "there is no secret store yet"),
        }
    }
    env
}

/// Paths may be relative to the app: `../db` of `/shop/web` is `/shop/db`.
fn dependencies(id: &AppId, app: &App, faults: &mut Faults) -> Vec<AppId> {
    let mut dependencies = Vec::new();
    for (index, text) in app.dependencies.iter().flatten().enumerate() {
        let path = format!("/dependencies({index})");
        match absolute(id, text) {
            Err(fault) => faults.at(path, fault.to_string()),
            Ok(dependency) if dependency == *id => {
                faults.at(path, "an app cannot depend on itself (cyclic dependencies)");
            }
            Ok(dependency) if dependencies.contains(&dependency) => {}
            Ok(dependency) => dependencies.push(dependency),
        }
    }
    dependencies
}

fn absolute(id: &AppId, text: &str) -> Result<AppId, model::ids::ParseAppId> {
    if text.starts_with('/') {
        return AppId::parse(text);
    }
    let mut segments: Vec<&str> = id.segments().collect();
    for segment in text.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            name => segments.push(name),
        }
    }
    AppId::parse(&segments.join("/"))
}

fn backoff(app: &App, faults: &mut Faults) -> Backoff {
    let defaults = AppSpec::default().backoff;
    let mut span = |path: &str, value: Option<i32>, default| {
        value.map_or(default, |value| seconds(path, value, faults))
    };
    let initial = span("/backoffSeconds", app.backoff_seconds, defaults.initial);
    let max = span(
        "/maxLaunchDelaySeconds",
        app.max_launch_delay_seconds,
        defaults.max,
    );
    let factor = app.backoff_factor.map_or(defaults.factor, |factor| {
        faults.take("/backoffFactor", quantity(factor))
    });
    if factor < Quantity::whole(1) {
        faults.at("/backoffFactor", "error.min: must be at least 1");
    }
    Backoff {
        initial,
        factor,
        max,
    }
}

fn kill_selection(app: &App, faults: &mut Faults) -> KillSelection {
    match app.kill_selection.as_deref() {
        None | Some("YOUNGEST_FIRST" | "YoungestFirst") => KillSelection::YoungestFirst,
        Some("OLDEST_FIRST" | "OldestFirst") => KillSelection::OldestFirst,
        Some(other) => {
            let hint = did_you_mean(other, ["YOUNGEST_FIRST", "OLDEST_FIRST"]);
            faults.at(
                "/killSelection",
                format!("'{other}' is neither YOUNGEST_FIRST nor OLDEST_FIRST{hint}"),
            );
            KillSelection::default()
        }
    }
}

/// `None` for what an app of this kind does by default.
fn unreachable(app: &App, spec: &AppSpec, faults: &mut Faults) -> Option<Unreachable> {
    let holds_data = spec.volumes().next().is_some();
    match app.unreachable_strategy.as_ref()? {
        shape::UnreachableStrategy::Disabled => (!holds_data).then_some(Unreachable::Disabled),
        shape::UnreachableStrategy::After(timers) => {
            let path = "/unreachableStrategy";
            let inactive = timers.inactive.unwrap_or(0);
            let expunge = timers.expunge.unwrap_or(0);
            if inactive > expunge {
                faults.at(
                    format!("{path}/inactiveAfterSeconds"),
                    "must not be greater than expungeAfterSeconds",
                );
            }
            let after = Unreachable::After {
                inactive: seconds(&format!("{path}/inactiveAfterSeconds"), inactive, faults),
                expunge: seconds(&format!("{path}/expungeAfterSeconds"), expunge, faults),
            };
            (holds_data || (inactive, expunge) != (0, 0)).then_some(after)
        }
    }
}

fn upgrade(app: &App, spec: &AppSpec, faults: &mut Faults) -> UpgradeStrategy {
    let default = default_upgrade(spec);
    let Some(given) = &app.upgrade_strategy else {
        return default;
    };
    let mut share = |name: &str, value: Option<f64>, default| match value {
        None => default,
        Some(value) if (0.0..=1.0).contains(&value) => {
            Quantity::from_f64(value).unwrap_or_default()
        }
        Some(_) => {
            faults.at(format!("/upgradeStrategy/{name}"), "is not between 0 and 1");
            default
        }
    };
    UpgradeStrategy {
        minimum_health: share(
            "minimumHealthCapacity",
            given.minimum_health_capacity,
            default.minimum_health,
        ),
        maximum_over: share(
            "maximumOverCapacity",
            given.maximum_over_capacity,
            default.maximum_over,
        ),
    }
}

/// What is shown again and never acted on; see [`crate::warnings`].
fn kept(app: &App) -> std::collections::BTreeMap<String, String> {
    let executor = app.executor.as_ref().filter(|name| !name.is_empty());
    let readiness = app
        .readiness_checks
        .as_ref()
        .filter(|list| !list.is_empty());
    [
        ("executor", executor.map(Wire::write)),
        (
            "executorResources",
            app.executor_resources.as_ref().map(Wire::write),
        ),
        (
            "resourceLimits",
            app.resource_limits.as_ref().map(Wire::write),
        ),
        ("check", app.check.as_ref().map(Wire::write)),
        ("readinessChecks", readiness.map(Wire::write)),
        ("tty", app.tty.filter(|tty| *tty).as_ref().map(Wire::write)),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.to_owned(), value?.to_string())))
    .collect()
}

fn text(given: Option<&String>) -> Option<String> {
    given.filter(|text| !text.is_empty()).cloned()
}

fn natural(path: &str, value: Option<i32>, default: u32, faults: &mut Faults) -> u32 {
    let Some(value) = value else {
        return default;
    };
    u32::try_from(value).unwrap_or_else(|_| {
        faults.at(path, "error.min: must not be negative");
        default
    })
}

fn seconds(path: &str, value: i32, faults: &mut Faults) -> Millis {
    Millis::seconds(u64::from(natural(path, Some(value), 0, faults)))
}

fn port(path: &str, value: i32, faults: &mut Faults) -> u16 {
    faults.take(
        path,
        u16::try_from(value).map_err(|_| "must be a port number between 0 and 65535"),
    )
}

/// The mapping that clients see for a `publish`.
pub(crate) fn published_mapping(value: &str) -> Option<shape::PortMapping> {
    let port = units::publish(value).ok()?;
    Some(shape::PortMapping {
        service_port: None,
        labels: None,
        ..crate::form::mapping(&port)
    })
}

/// Whether there is an image to run in.
fn has_image(container: &Container) -> bool {
    matches!(container, Container::Image(_))
}
