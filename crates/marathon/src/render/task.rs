//! Tasks: what Marathon calls an instance of an app.

use std::fmt;

use model::AppId;
use model::ids::Version;
use model::instance::{Exit, ExitStatus, Goal, Health, Instance, Rung, StopCause};
use model::machine::{NodeRecord, Presence};
use model::spec::{AppSpec, HostPort, Port};
use model::time::Time;
use serde::{Serialize, Serializer};

use super::app::Counts;

/// Mesos' names for how far a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskState {
    Staging,
    Starting,
    Running,
    Killing,
    Unreachable,
    Finished,
    Failed,
    Killed,
    Lost,
}

impl TaskState {
    pub fn of(instance: &Instance, presence: Presence) -> Self {
        let lost = matches!(presence, Presence::Lost { .. });
        match (instance.rung, instance.goal.is_stop()) {
            (Rung::Ended | Rung::Gone, _) => Self::of_ended(instance),
            _ if lost => Self::Unreachable,
            (_, true) | (Rung::Stopping, false) => Self::Killing,
            (Rung::Placed | Rung::Preparing, false) => Self::Staging,
            (Rung::Starting, false) => Self::Starting,
            (Rung::Running, false) => Self::Running,
        }
    }

    fn of_ended(instance: &Instance) -> Self {
        match instance.goal {
            // What ended by itself is told to stop afterwards, so that it is cleaned away.
            Goal::Prepare
            | Goal::Run
            | Goal::Stop {
                cause: StopCause::Ended,
                ..
            } => instance.exit.as_ref().map_or(Self::Lost, Self::of_exit),
            Goal::Stop { .. } => Self::Killed,
        }
    }

    /// Whether this is the last that is said of a task.
    pub fn is_last(self) -> bool {
        match self {
            Self::Finished | Self::Failed | Self::Killed | Self::Lost => true,
            Self::Staging | Self::Starting | Self::Running | Self::Killing | Self::Unreachable => {
                false
            }
        }
    }

    /// Of what ended by itself.
    pub fn of_exit(exit: &Exit) -> Self {
        match exit.status {
            ExitStatus::Code(0) if !exit.out_of_memory => Self::Finished,
            ExitStatus::Code(_) | ExitStatus::Signal(_) | ExitStatus::NeverRan(_) => Self::Failed,
            ExitStatus::Unhealthy(_) => Self::Killed,
            ExitStatus::Unknown => Self::Lost,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Staging => "TASK_STAGING",
            Self::Starting => "TASK_STARTING",
            Self::Running => "TASK_RUNNING",
            Self::Killing => "TASK_KILLING",
            Self::Unreachable => "TASK_UNREACHABLE",
            Self::Finished => "TASK_FINISHED",
            Self::Failed => "TASK_FAILED",
            Self::Killed => "TASK_KILLED",
            Self::Lost => "TASK_LOST",
        }
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for TaskState {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.name())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskView {
    pub id: String,
    pub app_id: String,
    /// The node's hostname.
    pub host: String,
    /// The node's name.
    pub slave_id: String,
    pub state: TaskState,
    /// Ports on the node; `service_ports` has as many, in the same order.
    pub ports: Vec<u16>,
    pub service_ports: Vec<u16>,
    pub ip_addresses: Vec<IpAddressView>,
    #[serde(serialize_with = "super::text")]
    pub staged_at: Time,
    #[serde(serialize_with = "super::text_or_null")]
    pub started_at: Option<Time>,
    #[serde(serialize_with = "super::text")]
    pub version: Version,
    /// One per health check of the app, once there is a result.
    pub health_check_results: Vec<HealthView>,
    pub local_volumes: Vec<()>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IpAddressView {
    pub ip_address: String,
    pub protocol: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HealthView {
    pub instance_id: String,
    pub alive: bool,
    pub consecutive_failures: u32,
    #[serde(serialize_with = "super::text_or_null")]
    pub first_success: Option<Time>,
    #[serde(serialize_with = "super::text_or_null")]
    pub last_success: Option<Time>,
    #[serde(serialize_with = "super::text_or_null")]
    pub last_failure: Option<Time>,
    pub last_failure_cause: Option<String>,
}

impl TaskView {
    pub fn of(instance: &Instance, node: &NodeRecord) -> Self {
        let placed = &instance.placement;
        let (ports, service_ports) = instance
            .spec
            .ports
            .iter()
            .zip(&placed.host_ports)
            .filter(|(_, host)| **host != 0)
            .map(|(port, host)| (*host, port.service))
            .unzip();
        let address = placed.address.unwrap_or(node.machine.address);
        Self {
            id: instance.task_id(),
            app_id: instance.app.to_string(),
            host: node.machine.hostname.clone(),
            slave_id: node.machine.name.clone(),
            state: TaskState::of(instance, node.presence),
            ports,
            service_ports,
            ip_addresses: vec![IpAddressView {
                ip_address: address.to_string(),
                protocol: "IPv4",
            }],
            staged_at: instance.placed_at,
            started_at: instance.running_at,
            version: instance.version,
            health_check_results: health(instance),
            local_volumes: Vec::new(),
        }
    }

    /// Alive by every check; `None` while there is no result.
    pub fn is_healthy(&self) -> Option<bool> {
        let results = &self.health_check_results;
        (!results.is_empty()).then(|| results.iter().all(|result| result.alive))
    }
}

/// What Marathon calls the instance that a task is of.
pub(crate) fn instance_id(task: &str) -> String {
    task.split("._app").next().unwrap_or_default().to_owned()
}

/// The agent says of an instance whether all its checks pass, so they all get that result.
fn health(instance: &Instance) -> Vec<HealthView> {
    let alive = match instance.health {
        Health::Unknown => return Vec::new(),
        Health::Healthy => true,
        Health::Unhealthy => false,
    };
    let id = instance_id(&instance.task_id());
    let one = |check: &model::spec::HealthCheck| HealthView {
        instance_id: id.clone(),
        alive,
        consecutive_failures: if alive { 0 } else { check.max_failures.max(1) },
        first_success: instance.health_at.filter(|_| alive),
        last_success: instance.health_at.filter(|_| alive),
        last_failure: instance.health_at.filter(|_| !alive),
        last_failure_cause: instance.detail.clone().filter(|_| !alive),
    };
    instance.spec.health_checks.iter().map(one).collect()
}

/// `/v2/tasks` as text: per service port, `shop_web⇥10000⇥host:port⇥…`, for scripts that feed
/// HAProxy. Only running tasks are listed, in order of their addresses; a port that is not
/// published on the node is reached at the task's own address.
pub fn tasks_text<'a>(
    apps: impl IntoIterator<Item = (&'a AppId, &'a AppSpec, &'a [TaskView])>,
) -> String {
    let mut text = String::new();
    for (id, spec, tasks) in apps {
        let running = || tasks.iter().filter(|task| task.state == TaskState::Running);
        let name = id.joined('_');
        if spec.ports.is_empty() {
            let hosts = running().map(|task| task.host.clone()).collect();
            line(&mut text, &name, " ", hosts);
        }
        for port in &spec.ports {
            let reached = running().flat_map(|task| endpoints(task, port)).collect();
            line(&mut text, &name, &port.service.to_string(), reached);
        }
    }
    text
}

fn line(text: &mut String, name: &str, service: &str, mut addresses: Vec<String>) {
    addresses.sort_unstable();
    *text += &format!("{name}\t{service}\t");
    for address in addresses {
        *text += &address;
        text.push('\t');
    }
    text.push('\n');
}

/// Where a task answers on one of its app's ports.
fn endpoints(task: &TaskView, port: &Port) -> Vec<String> {
    if port.host == HostPort::None {
        let own = task.ip_addresses.first();
        return own
            .map(|own| format!("{}:{}", own.ip_address, port.container))
            .into_iter()
            .collect();
    }
    // By service port: an older task's ports may be fewer, or in another order.
    let listed = task.service_ports.iter().zip(&task.ports);
    listed
        .filter(|(service, _)| **service == port.service)
        .map(|(_, host)| format!("{}:{host}", task.host))
        .collect()
}

/// Tasks by whether they are of the app's newest configuration.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskStats {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_after_last_scaling: Option<Stats>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub with_latest_config: Option<Stats>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub with_outdated_config: Option<Stats>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_summary: Option<Stats>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stats {
    stats: Numbers,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Numbers {
    counts: Counts,
    #[serde(skip_serializing_if = "Option::is_none")]
    life_time: Option<LifeTime>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct LifeTime {
    average_seconds: f64,
    median_seconds: f64,
}

pub fn task_stats(
    tasks: &[TaskView],
    last_scaling: Version,
    last_config_change: Version,
    now: Time,
) -> TaskStats {
    let of = |wanted: &dyn Fn(&TaskView) -> bool| {
        let chosen: Vec<&TaskView> = tasks.iter().filter(|task| wanted(task)).collect();
        (!chosen.is_empty()).then(|| stats(&chosen, now))
    };
    TaskStats {
        started_after_last_scaling: of(&|task| task.version >= last_scaling),
        with_latest_config: of(&|task| task.version >= last_config_change),
        with_outdated_config: of(&|task| task.version < last_config_change),
        total_summary: of(&|_| true),
    }
}

fn stats(tasks: &[&TaskView], now: Time) -> Stats {
    let count = |wanted: &dyn Fn(&TaskView) -> bool| {
        u32::try_from(tasks.iter().filter(|task| wanted(task)).count()).unwrap_or(u32::MAX)
    };
    let running = |task: &TaskView| task.state == TaskState::Running;
    let staged = |task: &TaskView| matches!(task.state, TaskState::Staging | TaskState::Starting);
    let mut ages: Vec<u64> = tasks
        .iter()
        .filter(|task| running(task))
        .filter_map(|task| Some((now - task.started_at?).0))
        .collect();
    ages.sort_unstable();
    let seconds = |ms: u64| ms as f64 / 1000.0;
    let median = |ages: &[u64]| {
        let middle = ages.len() / 2;
        match ages.len() % 2 {
            0 => u64::midpoint(ages[middle - 1], ages[middle]),
            _ => ages[middle],
        }
    };
    Stats {
        stats: Numbers {
            counts: Counts {
                staged: count(&staged),
                running: count(&running),
                healthy: count(&|task| task.is_healthy() == Some(true)),
                unhealthy: count(&|task| task.is_healthy() == Some(false)),
            },
            life_time: (!ages.is_empty()).then(|| LifeTime {
                average_seconds: seconds(ages.iter().sum::<u64>() / ages.len() as u64),
                median_seconds: seconds(median(&ages)),
            }),
        },
    }
}
