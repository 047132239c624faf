//! The bodies under `/tandem/v1`, as Rust types: what `--json` prints.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use master::Arrived;
use model::instance::ExitStatus;
use model::movement::Phase;
use model::{Goal, Health, NodeRecord, Presence, Rung, State, VolumeId};
use planner::request;
use serde::Serialize;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    pub version: String,
    pub cluster: String,
    pub epoch: u64,
    pub nodes: NodeCounts,
    pub apps: usize,
    pub instances: usize,
    pub lost: Vec<Lost>,
    pub waiting: Vec<Queued>,
}

/// A node that is silent, and the apps whose instances there are not replaced elsewhere.
#[derive(Debug, Serialize)]
pub struct Lost {
    pub node: String,
    pub since: String,
    pub apps: Vec<String>,
}

#[derive(Debug, Serialize)]
pub struct NodeCounts {
    pub total: usize,
    pub here: usize,
}

/// Amounts: cpus, and MiB of memory and disk.
#[derive(Debug, Serialize)]
pub struct Amounts {
    pub cpus: f64,
    pub mem: f64,
    pub disk: f64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    pub name: String,
    pub hostname: String,
    pub address: Ipv4Addr,
    pub overlay: Ipv4Addr,
    /// `here` or `lost`.
    pub presence: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Whether its agent has a session now.
    pub session: bool,
    pub draining: bool,
    pub resources: Amounts,
    pub used: Amounts,
    pub attributes: BTreeMap<String, String>,
    pub instances: usize,
    pub joined: String,
    pub version: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Instance {
    pub id: String,
    pub task: String,
    pub app: String,
    pub slot: u32,
    pub node: String,
    pub hostname: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<Ipv4Addr>,
    pub ports: Vec<PublishedPort>,
    /// `run`, `prepare` or `stop`.
    pub goal: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    pub rung: &'static str,
    pub health: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit: Option<Exit>,
    pub version: String,
    pub placed_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct PublishedPort {
    pub host: u16,
    pub container: u16,
    pub protocol: &'static str,
}

/// One of `code`, `signal`, `reason`, or `unknown`.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Exit {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unknown: bool,
    pub out_of_memory: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_line: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct Queued {
    pub app: String,
    /// Instances that are wanted and not placed.
    pub missing: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Those that hold the whole app back.
    pub hindrances: Vec<String>,
    /// The hindrances, and what holds nodes back, each with the number of them.
    pub reasons: Vec<String>,
    pub nodes: Vec<NodeReasons>,
}

#[derive(Debug, Serialize)]
pub struct NodeReasons {
    pub node: String,
    pub reasons: Vec<String>,
}

#[derive(Debug, Serialize)]
pub struct Volume {
    pub name: String,
    /// MiB.
    pub size: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub home: Option<String>,
    pub generation: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holder: Option<String>,
    pub copies: Vec<VolumeCopy>,
    pub removing: bool,
}

#[derive(Debug, Serialize)]
pub struct VolumeCopy {
    pub node: String,
    pub role: String,
    pub generation: u64,
    /// What it holds, to an eighth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Until when a kept copy was the truth; when another was set aside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Of a copy that is set aside: what it is called on its node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// A recovery that is asked for: what the volume goes on with, and what it gives up.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Recovery {
    pub volume: String,
    /// The home that is given up.
    pub from: String,
    /// Absent where that node is no more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub silent_since: Option<String>,
    pub node: String,
    /// Until when the copy was the truth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copied: Option<String>,
    /// What the copy holds, to an eighth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    pub generation: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Silent nodes that have newer copies.
    pub newer: Vec<String>,
}

/// A move that is under way.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Move {
    pub id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    pub volumes: Vec<String>,
    pub from: String,
    pub to: String,
    /// One word: `reserve`, `seed`, `ready`, `seal`, `finish`, `resume`, `settle`, `abandon`.
    pub phase: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub round: Option<u32>,
    /// What has arrived at the target, of all volumes and rounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Of the newest round.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<u64>,
    /// Why it was abandoned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What keeps a copy from being as it should.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    pub began: String,
}

/// A move that is asked for.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Planned {
    /// Absent from what would be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    pub volumes: Vec<String>,
    pub from: String,
    pub to: String,
    /// Nothing runs, so that nothing is interrupted.
    pub cold: bool,
}

#[derive(Debug, Serialize)]
pub struct Token {
    pub token: String,
    pub expires: String,
}

impl From<model::Resources> for Amounts {
    fn from(resources: model::Resources) -> Self {
        Self {
            cpus: resources.cpus.as_f64(),
            mem: resources.mem.as_f64(),
            disk: resources.disk.as_f64(),
        }
    }
}

impl Node {
    pub(crate) fn of(node: &model::NodeRecord, session: bool) -> Self {
        let machine = &node.machine;
        let (presence, since) = match node.presence {
            Presence::Here => ("here", None),
            Presence::Lost { since } => ("lost", Some(since.to_string())),
        };
        Self {
            name: machine.name.clone(),
            hostname: machine.hostname.clone(),
            address: machine.address,
            overlay: node.overlay,
            presence,
            since,
            session,
            draining: node.draining,
            resources: machine.resources.into(),
            used: node.used.into(),
            attributes: machine.attributes.clone(),
            instances: node.instances.len(),
            joined: node.joined.to_string(),
            version: machine.version.clone(),
        }
    }
}

/// A node's name, for people.
fn node_name(state: &State, node: model::NodeId) -> String {
    state
        .node(node)
        .map_or_else(|| node.to_string(), |node| node.machine.name.clone())
}

impl Instance {
    pub(crate) fn of(state: &State, instance: &model::Instance) -> Self {
        let node = state.node(instance.placement.node);
        let (goal, cause) = match instance.goal {
            Goal::Run => ("run", None),
            Goal::Prepare => ("prepare", None),
            Goal::Stop { cause, .. } => ("stop", Some(format!("{cause:?}"))),
        };
        Self {
            id: instance.id.to_string(),
            task: instance.task_id(),
            app: instance.app.to_string(),
            slot: instance.slot,
            node: node_name(state, instance.placement.node),
            hostname: node
                .map(|node| node.machine.hostname.clone())
                .unwrap_or_default(),
            address: instance.placement.address,
            ports: instance
                .published()
                .map(|(protocol, host, container)| PublishedPort {
                    host,
                    container,
                    protocol: match protocol {
                        model::spec::Protocol::Tcp => "tcp",
                        model::spec::Protocol::Udp => "udp",
                    },
                })
                .collect(),
            goal,
            cause,
            rung: match instance.rung {
                Rung::Placed => "placed",
                Rung::Preparing => "preparing",
                Rung::Starting => "starting",
                Rung::Running => "running",
                Rung::Stopping => "stopping",
                Rung::Ended => "ended",
                Rung::Gone => "gone",
            },
            health: match instance.health {
                Health::Unknown => "unknown",
                Health::Healthy => "healthy",
                Health::Unhealthy => "unhealthy",
            },
            detail: silence(node, instance).or_else(|| instance.detail.clone()),
            exit: instance.exit.as_ref().map(Exit::from),
            version: instance.version.to_string(),
            placed_at: instance.placed_at.to_string(),
            running_at: instance.running_at.map(|at| at.to_string()),
            ended_at: instance.ended_at.map(|at| at.to_string()),
        }
    }
}

/// That nobody knows what an instance does now.
fn silence(node: Option<&NodeRecord>, instance: &model::Instance) -> Option<String> {
    let Presence::Lost { since } = node?.presence else {
        return None;
    };
    (!instance.has_ended()).then(|| format!("as last seen: its node is lost since {since}"))
}

impl From<&model::Exit> for Exit {
    fn from(exit: &model::Exit) -> Self {
        let base = Self {
            out_of_memory: exit.out_of_memory,
            last_line: exit.last_line.clone(),
            ..Self::default()
        };
        match &exit.status {
            ExitStatus::Code(code) => Self {
                code: Some(*code),
                ..base
            },
            ExitStatus::Signal(signal) => Self {
                signal: Some(*signal),
                ..base
            },
            ExitStatus::NeverRan(why) | ExitStatus::Unhealthy(why) => Self {
                reason: Some(why.clone()),
                ..base
            },
            ExitStatus::Unknown => Self {
                unknown: true,
                ..base
            },
        }
    }
}

impl Volume {
    pub(crate) fn of(state: &State, volume: &model::Volume) -> Self {
        let copies = volume.copies.iter().map(|(node, copy)| VolumeCopy {
            node: node_name(state, *node),
            role: format!("{:?}", copy.role).to_lowercase(),
            generation: copy.generation.0,
            bytes: copy.bytes,
            since: since(volume, copy).map(|since| since.to_string()),
            name: copy.aside.as_ref().map(|aside| aside.name.clone()),
            trouble: copy.trouble.clone(),
        });
        Self {
            name: volume.id.to_string(),
            size: volume.size.as_f64(),
            home: volume.home.map(|home| node_name(state, home)),
            generation: volume.generation.0,
            tenant: volume.tenant.as_ref().map(ToString::to_string),
            holder: state.volume_holder(&volume.id).map(|id| id.to_string()),
            copies: copies.collect(),
            removing: volume.removing,
        }
    }
}

fn since(volume: &model::Volume, copy: &model::Copy) -> Option<model::Time> {
    let kept = copy.last.and_then(|last| volume.left.get(&last).copied());
    copy.aside.as_ref().map(|aside| aside.made).or(kept)
}

impl Recovery {
    pub(crate) fn of(state: &State, volume: &VolumeId, plan: &request::Recovered) -> Self {
        let newer = plan.newer.iter().map(|node| node_name(state, *node));
        Self {
            volume: volume.to_string(),
            from: node_name(state, plan.from),
            silent_since: plan.silent.map(|since| since.to_string()),
            node: node_name(state, plan.node),
            copied: plan.left.map(|left| left.to_string()),
            bytes: plan.bytes,
            generation: plan.generation.0,
            tenant: plan.tenant.as_ref().map(ToString::to_string),
            newer: newer.collect(),
        }
    }
}

impl Move {
    pub(crate) fn of(state: &State, movement: &model::Move, arrived: Option<Arrived>) -> Self {
        let reason = match &movement.phase {
            Phase::Abandon { reason, .. } => Some(reason.to_string()),
            _ => None,
        };
        let volumes = movement.volumes.keys().filter_map(|id| state.volume(id));
        let mut troubles = volumes.flat_map(|volume| {
            let copies = volume.copies.values();
            copies.filter_map(|copy| copy.trouble.clone())
        });
        Self {
            id: movement.id.to_string(),
            app: movement.app.as_ref().map(ToString::to_string),
            volumes: movement.volumes.keys().map(ToString::to_string).collect(),
            from: node_name(state, movement.from),
            to: node_name(state, movement.to),
            phase: movement.phase.to_string(),
            round: movement.phase.round(),
            bytes: arrived.map(|arrived| arrived.bytes),
            bytes_per_second: arrived.map(|arrived| arrived.bytes_per_second),
            reason,
            trouble: troubles.next(),
            began: movement.began.to_string(),
        }
    }
}

impl Planned {
    pub(crate) fn of(state: &State, plan: &request::Plan) -> Self {
        Self {
            id: None,
            app: plan.app.as_ref().map(ToString::to_string),
            volumes: plan.volumes.keys().map(ToString::to_string).collect(),
            from: node_name(state, plan.from),
            to: node_name(state, plan.to),
            cold: plan.cold,
        }
    }
}
