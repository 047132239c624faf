//! Everything the master remembers. [`State::apply`] is the only way it changes.
//!
//! Records live in dense slots of persistent vectors, so that a clone is a pointer and a change
//! costs what it touches. Apps and nodes carry counters and lists of their instances, kept by
//! `apply`; deciders read these and look at instances only where they disagree with what is
//! wanted.

mod apply;
mod claims;
mod entries;
mod moves;
mod volumes;

use std::net::Ipv4Addr;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use serde::{Deserialize, Serialize};

use crate::deployment::Deployment;
use crate::ids::{
    AppId, ClusterId, DeploymentId, Epoch, InstanceId, MoveId, NodeId, Revision, Version, VolumeId,
};
use crate::instance::{Exit, Health, Holding, Instance, Rung};
use crate::machine::{NodeRecord, Resources};
use crate::movement::Move;
use crate::records::{Record, Unspecified};
use crate::slots::Slots;
use crate::spec::AppSpec;
use crate::time::{Millis, Time};
use crate::volume::Volume;

#[derive(Clone, Debug, Default)]
pub struct State {
    pub revision: Revision,
    pub now: Time,
    pub cluster: ClusterId,
    pub settings: Settings,
    pub epoch: Epoch,
    pub last_version: Version,
    /// Numbers drawn in this epoch so far.
    drawn: u32,
    apps: Slots<App>,
    names: OrdMap<AppId, u32>,
    instances: Slots<Instance>,
    nodes: Slots<NodeRecord>,
    node_names: OrdMap<String, NodeId>,
    volumes: OrdMap<VolumeId, Volume>,
    deployments: OrdMap<DeploymentId, Deployment>,
    moves: OrdMap<MoveId, Move>,
    /// Which move an app or a volume is part of.
    moving_apps: OrdMap<AppId, MoveId>,
    moving_volumes: OrdMap<VolumeId, MoveId>,
    tokens: OrdMap<String, Token>,
    /// Overlay addresses of instances and nodes.
    addresses: OrdMap<Ipv4Addr, Option<Holding>>,
    fixed_addresses: OrdMap<Ipv4Addr, Holding>,
    service_ports: OrdMap<u16, AppId>,
    /// The overlay address given last; the search for the next one begins behind it.
    last_address: Option<Ipv4Addr>,
    /// Sum of the fingerprints of all directory entries.
    directory: u64,
}

/// What those who lead a cluster set for it. The subnet holds for its life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// The overlay that instances' and nodes' addresses come from.
    pub subnet: (Ipv4Addr, u8),
    pub node_timeout: Millis,
    /// A volume named on first use gets this size.
    pub volume_size: crate::quantity::Mebibytes,
    /// Marathon's service ports, inclusive.
    pub service_ports: (u16, u16),
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            subnet: (Ipv4Addr::new(10, 32, 0, 0), 12),
            node_timeout: Millis::seconds(5),
            volume_size: crate::quantity::Quantity::whole(1024),
            service_ports: (10_000, 20_000),
        }
    }
}

/// A join token; only its digest is remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    pub digest: String,
    pub expires: Time,
    /// The node that used it.
    pub used_by: Option<String>,
}

/// The scalars of a [`State`], as a checkpoint records them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    pub now: Time,
    pub cluster: ClusterId,
    pub settings: Settings,
    pub epoch: Epoch,
    pub last_version: Version,
    pub drawn: u32,
}

/// An app: what is wanted (written by requests), how its starts go (written by the leader), and
/// what `apply` counts of its instances (not recorded in checkpoints).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct App {
    pub id: AppId,
    pub slot: u32,
    pub spec: Arc<AppSpec>,
    pub version: Version,
    pub last_scaling: Version,
    pub last_config_change: Version,
    /// Instances of versions before this one are to be replaced.
    pub restart_before: Version,
    /// Earlier versions, oldest first, at most [`App::HISTORY`].
    pub history: Vec<(Version, Arc<AppSpec>)>,
    pub removing: bool,
    pub deployment: Option<DeploymentId>,
    pub delay: Option<Delay>,
    pub last_failure: Option<Failure>,

    /// Instances that are not gone.
    #[serde(skip)]
    pub instances: OrdSet<InstanceId>,
    /// Which instance fills which slot.
    #[serde(skip)]
    pub slots: OrdMap<u32, Holding>,
    #[serde(skip)]
    pub counters: Counters,
    /// Active instances of current versions, by node.
    #[serde(skip)]
    pub on_nodes: OrdMap<NodeId, u32>,
}

impl App {
    pub const HISTORY: usize = 50;

    /// Whether instances of this version are what is wanted now.
    pub fn is_current(&self, version: Version) -> bool {
        version >= self.restart_before
    }

    /// What it was in that version, as far as it is remembered.
    pub fn spec_at(&self, version: Version) -> Option<&Arc<AppSpec>> {
        if version == self.version {
            return Some(&self.spec);
        }
        let mut older = self.history.iter().rev();
        older.find(|(its, _)| *its == version).map(|(_, spec)| spec)
    }

    /// Counts an instance that came, or came to count `count`.
    fn add(&mut self, node: NodeId, count: &Counters) {
        self.counters.combine(count, u32::wrapping_add);
        if count.current > 0 {
            *self.on_nodes.entry(node).or_insert(0) += count.current;
        }
    }

    fn subtract(&mut self, node: NodeId, count: &Counters) {
        self.counters.combine(count, u32::wrapping_sub);
        if count.current == 0 {
            return;
        }
        match self.on_nodes.get(&node).copied().unwrap_or(0) {
            0 | 1 => drop(self.on_nodes.remove(&node)),
            n => drop(self.on_nodes.insert(node, n - 1)),
        }
    }
}

/// How many of an app's instances are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// By rung, whatever is wanted of them.
    pub rungs: [u32; 7],
    /// Meant to run and not over.
    pub active: u32,
    /// Of these: of a version that is wanted now.
    pub current: u32,
    /// Active and running.
    pub running: u32,
    /// Active, running and last seen healthy.
    pub healthy: u32,
    pub unhealthy: u32,
}

impl Counters {
    pub fn on(&self, rung: Rung) -> u32 {
        self.rungs[rung as usize]
    }

    /// Instances that were not seen ended, whatever is wanted of them.
    pub fn living(&self) -> u32 {
        self.rungs[..Rung::Ended as usize].iter().sum()
    }
}

/// The wait before an app's next start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delay {
    pub span: Millis,
    pub until: Time,
}

/// The last instance of an app that ended without being told to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub instance: InstanceId,
    pub node: NodeId,
    pub hostname: String,
    pub version: Version,
    pub at: Time,
    pub exit: Exit,
}

impl State {
    pub fn app(&self, id: &AppId) -> Option<&App> {
        self.apps.get(*self.names.get(id)?)
    }

    pub fn apps(&self) -> impl Iterator<Item = &App> {
        self.names.values().filter_map(|slot| self.apps.get(*slot))
    }

    pub fn app_in_slot(&self, slot: u32) -> Option<&App> {
        self.apps.get(slot)
    }

    pub fn app_count(&self) -> usize {
        self.apps.len()
    }

    pub fn instance(&self, id: InstanceId) -> Option<&Instance> {
        self.instances
            .get(id.slot)
            .filter(|instance| instance.id == id)
    }

    pub fn instances(&self) -> impl Iterator<Item = &Instance> {
        self.instances.iter().map(|(_, instance)| instance)
    }

    pub fn instance_count(&self) -> usize {
        self.instances.len()
    }

    pub fn instances_of<'a>(&'a self, app: &'a App) -> impl Iterator<Item = &'a Instance> {
        app.instances.iter().filter_map(|id| self.instance(*id))
    }

    pub fn node(&self, id: NodeId) -> Option<&NodeRecord> {
        self.nodes.get(id.0)
    }

    pub fn nodes(&self) -> impl Iterator<Item = &NodeRecord> {
        self.nodes.iter().map(|(_, node)| node)
    }

    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// Every node's id is below this number.
    pub fn node_bound(&self) -> u32 {
        self.nodes.bound()
    }

    pub fn node_named(&self, name: &str) -> Option<&NodeRecord> {
        self.node(*self.node_names.get(name)?)
    }

    /// A node by its name, hostname or address.
    pub fn find_node(&self, text: &str) -> Option<&NodeRecord> {
        self.node_named(text).or_else(|| {
            self.nodes()
                .find(|n| n.machine.hostname == text || n.machine.address.to_string() == text)
        })
    }

    pub fn volume(&self, id: &VolumeId) -> Option<&Volume> {
        self.volumes.get(id)
    }

    pub fn volumes(&self) -> impl Iterator<Item = &Volume> {
        self.volumes.values()
    }

    pub fn deployment(&self, id: DeploymentId) -> Option<&Deployment> {
        self.deployments.get(&id)
    }

    pub fn deployments(&self) -> impl Iterator<Item = &Deployment> {
        self.deployments.values()
    }

    pub fn token(&self, digest: &str) -> Option<&Token> {
        self.tokens.get(digest)
    }

    pub fn tokens(&self) -> impl Iterator<Item = &Token> {
        self.tokens.values()
    }

    /// The app that a service port was given to.
    pub fn service_port(&self, port: u16) -> Option<&AppId> {
        self.service_ports.get(&port)
    }

    /// This state at `now`, or at its own time if that is later.
    #[must_use]
    pub fn at(mut self, now: Time) -> Self {
        self.now = self.now.max(now);
        self
    }

    #[must_use]
    pub fn numbered(mut self, revision: Revision) -> Self {
        self.revision = revision;
        self
    }

    /// A number that this cluster never drew before: the epoch's, and a count within it.
    pub fn next_number(&self) -> u64 {
        (self.epoch.0 << 32) | u64::from(self.drawn)
    }

    /// An id that no instance of this cluster ever had.
    pub fn next_instance(&self) -> InstanceId {
        InstanceId {
            birth: self.next_number(),
            slot: self.instances.next_free(),
        }
    }

    pub fn next_node(&self) -> NodeId {
        NodeId(self.nodes.next_free())
    }

    pub fn next_app_slot(&self) -> u32 {
        self.apps.next_free()
    }

    /// The fingerprint of the directory of this state.
    pub fn directory_fingerprint(&self) -> u64 {
        self.directory
    }

    pub(crate) fn header(&self) -> Header {
        Header {
            now: self.now,
            cluster: self.cluster,
            settings: self.settings.clone(),
            epoch: self.epoch,
            last_version: self.last_version,
            drawn: self.drawn,
        }
    }

    /// Puts a record where it belongs. Instances are not counted yet.
    pub(crate) fn put_record(&mut self, record: Record) -> Result<(), Unspecified> {
        match record {
            Record::Header(header) => {
                self.now = header.now;
                self.cluster = header.cluster;
                self.settings = header.settings;
                self.epoch = header.epoch;
                self.last_version = header.last_version;
                self.drawn = header.drawn;
            }
            Record::Token(token) => drop(self.tokens.insert(token.digest.clone(), token)),
            // What is counted is counted again from the instances.
            Record::Node(node) => self.put_node(NodeRecord {
                used: Resources::default(),
                instances: Default::default(),
                ports: Default::default(),
                fingerprint: 0,
                ..*node
            }),
            Record::App(app) => self.put_app(App {
                instances: Default::default(),
                slots: Default::default(),
                counters: Default::default(),
                on_nodes: Default::default(),
                ..*app
            }),
            Record::Volume(volume) => drop(self.volumes.insert(volume.id.clone(), *volume)),
            Record::Deployment(deployment) => {
                drop(self.deployments.insert(deployment.id, *deployment));
            }
            Record::Instance(recorded) => {
                let instance = self.specified(&recorded).ok_or_else(|| Unspecified {
                    task: recorded.task_id(),
                })?;
                self.instances.put(instance.id.slot, instance);
            }
            Record::Move(movement) => self.put_move(*movement),
        }
        Ok(())
    }
}

impl Instance {
    /// What this instance adds to its app's counters.
    fn count(&self, app: &App) -> Counters {
        let active = u32::from(self.is_active());
        let running = active * u32::from(self.rung == Rung::Running);
        let mut counters = Counters {
            active,
            current: active * u32::from(app.is_current(self.version)),
            running,
            healthy: running * u32::from(self.health == Health::Healthy),
            unhealthy: running * u32::from(self.health == Health::Unhealthy),
            ..Counters::default()
        };
        counters.rungs[self.rung as usize] = 1;
        counters
    }
}

impl Counters {
    fn combine(&mut self, other: &Self, with: fn(u32, u32) -> u32) {
        for (mine, its) in self.rungs.iter_mut().zip(other.rungs) {
            *mine = with(*mine, its);
        }
        self.active = with(self.active, other.active);
        self.current = with(self.current, other.current);
        self.running = with(self.running, other.running);
        self.healthy = with(self.healthy, other.healthy);
        self.unhealthy = with(self.unhealthy, other.unhealthy);
    }
}
