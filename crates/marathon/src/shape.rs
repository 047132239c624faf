//! The shapes of Marathon's JSON, legacy and canonical fields side by side, all optional.
//!
//! Only types are checked here; what values mean is `build`'s business.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::fault::Faults;
use crate::wire::{Place, Wire, record};

record! {
    App {
        id: String = "id",
        cmd: String = "cmd",
        args: Vec<String> = "args",
        user: String = "user",
        env: BTreeMap<String, EnvValue> = "env",
        labels: BTreeMap<String, String> = "labels",
        secrets: BTreeMap<String, Value> = "secrets",
        instances: i32 = "instances",
        cpus: f64 = "cpus",
        mem: f64 = "mem",
        disk: f64 = "disk",
        gpus: i32 = "gpus",
        executor: String = "executor",
        executor_resources: BTreeMap<String, Value> = "executorResources",
        resource_limits: Limits = "resourceLimits",
        constraints: Vec<Vec<Word>> = "constraints",
        dependencies: Vec<String> = "dependencies",
        fetch: Vec<Fetch> = "fetch",
        uris: Vec<String> = "uris",
        store_urls: Vec<String> = "storeUrls",
        port_definitions: Vec<PortDefinition> = "portDefinitions",
        ports: Vec<i32> = "ports",
        require_ports: bool = "requirePorts",
        networks: Vec<Network> = "networks",
        ip_address: IpAddress = "ipAddress",
        container: Container = "container",
        health_checks: Vec<HealthCheck> = "healthChecks",
        check: BTreeMap<String, Value> = "check",
        readiness_checks: Vec<BTreeMap<String, Value>> = "readinessChecks",
        upgrade_strategy: UpgradeStrategy = "upgradeStrategy",
        backoff_seconds: i32 = "backoffSeconds",
        backoff_factor: f64 = "backoffFactor",
        max_launch_delay_seconds: i32 = "maxLaunchDelaySeconds",
        task_kill_grace_period_seconds: i32 = "taskKillGracePeriodSeconds",
        kill_selection: String = "killSelection",
        unreachable_strategy: UnreachableStrategy = "unreachableStrategy",
        accepted_resource_roles: Vec<String> = "acceptedResourceRoles",
        role: String = "role",
        tty: bool = "tty",
        version: String = "version",
    }
    // What answers say besides, which clients send back; and fields that never did anything here.
    passes_over [
        "versionInfo",
        "tasksStaged",
        "tasksRunning",
        "tasksHealthy",
        "tasksUnhealthy",
        "deployments",
        "tasks",
        "lastTaskFailure",
        "taskStats",
        "tasksStats",
        "readinessCheckResults",
        "residency",
        "taskRateLimit",
    ]
}

record! {
    Fetch { uri: String = "uri", }
    passes_over ["extract", "executable", "cache", "destPath"]
}

record! {
    PortDefinition {
        port: i32 = "port",
        name: String = "name",
        protocol: String = "protocol",
        labels: BTreeMap<String, String> = "labels",
    }
}

record! {
    Network {
        mode: String = "mode",
        name: String = "name",
    }
    passes_over ["labels"]
}

record! {
    /// Legacy: how container networks were asked for before `networks`.
    IpAddress {
        network_name: String = "networkName",
        groups: Vec<String> = "groups",
        labels: BTreeMap<String, String> = "labels",
        discovery: Discovery = "discovery",
    }
}

record! { Discovery { ports: Vec<DiscoveryPort> = "ports", } }

record! {
    DiscoveryPort {
        number: i32 = "number",
        name: String = "name",
        protocol: String = "protocol",
    }
    passes_over ["labels"]
}

record! {
    Container {
        kind: String = "type",
        docker: Docker = "docker",
        port_mappings: Vec<PortMapping> = "portMappings",
        volumes: Vec<Volume> = "volumes",
        linux_info: Value = "linuxInfo",
    }
    // Docker's, where many a definition has them; Marathon never read them there.
    passes_over ["forcePullImage", "privileged"]
}

record! {
    Docker {
        image: String = "image",
        network: String = "network",
        port_mappings: Vec<PortMapping> = "portMappings",
        privileged: bool = "privileged",
        force_pull_image: bool = "forcePullImage",
        parameters: Vec<Parameter> = "parameters",
        pull_config: Value = "pullConfig",
    }
}

record! {
    Parameter {
        key: String = "key",
        value: String = "value",
    }
}

record! {
    PortMapping {
        container_port: i32 = "containerPort",
        host_port: i32 = "hostPort",
        service_port: i32 = "servicePort",
        name: String = "name",
        protocol: String = "protocol",
        labels: BTreeMap<String, String> = "labels",
    }
    passes_over ["networkNames"]
}

record! {
    Volume {
        container_path: String = "containerPath",
        host_path: String = "hostPath",
        mode: String = "mode",
        persistent: Value = "persistent",
        external: External = "external",
        secret: Value = "secret",
    }
}

record! {
    External {
        name: String = "name",
        provider: String = "provider",
        size: i32 = "size",
        options: BTreeMap<String, String> = "options",
    }
    passes_over ["shared"]
}

record! {
    HealthCheck {
        protocol: String = "protocol",
        path: String = "path",
        port_index: i32 = "portIndex",
        port: i32 = "port",
        command: CommandText = "command",
        grace_period_seconds: i32 = "gracePeriodSeconds",
        interval_seconds: i32 = "intervalSeconds",
        timeout_seconds: i32 = "timeoutSeconds",
        max_consecutive_failures: i32 = "maxConsecutiveFailures",
        delay_seconds: i32 = "delaySeconds",
        ignore_http_1xx: bool = "ignoreHttp1xx",
        ip_protocol: String = "ipProtocol",
    }
}

record! {
    UpgradeStrategy {
        minimum_health_capacity: f64 = "minimumHealthCapacity",
        maximum_over_capacity: f64 = "maximumOverCapacity",
    }
}

record! {
    Limits {
        cpus: Limit = "cpus",
        mem: Limit = "mem",
    }
}

record! {
    Timers {
        inactive: i32 = "inactiveAfterSeconds",
        expunge: i32 = "expungeAfterSeconds",
    }
}

record! { SecretName { secret: String = "secret", } }

record! { CommandValue { value: String = "value", } }

/// `"text"`, or `{"secret": "name"}`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum EnvValue {
    Text(String),
    Secret(SecretName),
}

impl Wire for EnvValue {
    fn read(value: &Value, at: Place<'_>, faults: &mut Faults) -> Option<Self> {
        match value {
            Value::Object(_) => SecretName::read(value, at, faults).map(Self::Secret),
            _ => String::read(value, at, faults).map(Self::Text),
        }
    }

    fn write(&self) -> Value {
        match self {
            Self::Text(text) => text.write(),
            Self::Secret(name) => name.write(),
        }
    }
}

/// A part of a constraint; some clients write numbers bare.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Word(pub(crate) String);

impl Wire for Word {
    fn read(value: &Value, at: Place<'_>, faults: &mut Faults) -> Option<Self> {
        match value {
            Value::Number(number) => Some(Self(number.to_string())),
            Value::Null => Some(Self(String::new())),
            _ => String::read(value, at, faults).map(Self),
        }
    }

    fn write(&self) -> Value {
        self.0.write()
    }
}

/// `{"value": "curl …"}`; some clients write the text bare.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct CommandText(pub(crate) String);

impl Wire for CommandText {
    fn read(value: &Value, at: Place<'_>, faults: &mut Faults) -> Option<Self> {
        match value {
            Value::Object(_) => CommandValue::read(value, at, faults)
                .map(|command| Self(command.value.unwrap_or_default())),
            _ => String::read(value, at, faults).map(Self),
        }
    }

    fn write(&self) -> Value {
        json!({ "value": self.0 })
    }
}

/// A number, or `"unlimited"`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Limit {
    Unlimited,
    Amount(f64),
}

impl Wire for Limit {
    fn read(value: &Value, at: Place<'_>, faults: &mut Faults) -> Option<Self> {
        match value {
            Value::String(text) if text == "unlimited" => Some(Self::Unlimited),
            _ => f64::read(value, at, faults).map(Self::Amount),
        }
    }

    fn write(&self) -> Value {
        match self {
            Self::Unlimited => Value::from("unlimited"),
            Self::Amount(amount) => amount.write(),
        }
    }
}

/// `"disabled"`, or two timers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum UnreachableStrategy {
    Disabled,
    After(Timers),
}

impl Wire for UnreachableStrategy {
    fn read(value: &Value, at: Place<'_>, faults: &mut Faults) -> Option<Self> {
        match value {
            Value::String(text) if text == "disabled" => Some(Self::Disabled),
            _ => Timers::read(value, at, faults).map(Self::After),
        }
    }

    fn write(&self) -> Value {
        match self {
            Self::Disabled => Value::from("disabled"),
            Self::After(timers) => timers.write(),
        }
    }
}
