//! The directory's entries, and the sum of their fingerprints that `apply` keeps, so that a
//! delta can name the fingerprint of the whole without building it.

use crate::change::{Change, Touched};
use crate::directory::{AppEntry, DirectoryPort, Entry, Interface, NetworkKind, NodeEntry};
use crate::fingerprint;
use crate::ids::{AppId, InstanceId, NodeId};
use crate::instance::{Health, Instance, Rung};
use crate::machine::NodeRecord;
use crate::spec::AppSpec;
use crate::state::{App, State};

/// Whose entries a change may change.
pub(super) type Concerned = Vec<Subject>;

pub(super) enum Subject {
    Instance(InstanceId),
    Node(NodeId),
    App(AppId),
}

impl State {
    /// How the directory describes an instance. An address that passed to another instance is
    /// not among its interfaces.
    pub fn directory_entry(&self, instance: &Instance) -> Entry {
        let overlay = instance.placement.address.filter(|address| {
            let holding = self.addresses.get(address).and_then(Option::as_ref);
            holding.is_some_and(|held| held.holder == instance.id)
        });
        let overlay = overlay.map(|address| Interface {
            network: NetworkKind::Overlay,
            address,
            prefix: self.settings.subnet.1,
        });
        let holds = |address| {
            let holding = self.fixed_addresses.get(address);
            holding.is_some_and(|held| held.holder == instance.id)
        };
        let fixed = instance.placement.fixed_addresses.iter();
        let fixed = fixed.filter(|f| holds(&f.address)).map(|f| Interface {
            network: NetworkKind::Fixed,
            address: f.address,
            prefix: f.prefix,
        });
        let running = instance.rung == Rung::Running && !instance.goal.is_stop();
        let healthy = instance.spec.health_checks.is_empty() || instance.health == Health::Healthy;
        Entry {
            app: instance.app.clone(),
            node: instance.placement.node,
            interfaces: overlay.into_iter().chain(fixed).collect(),
            hostname: hostname(&instance.spec),
            running,
            healthy: running && healthy,
            ports: directory_ports(instance),
        }
    }

    pub fn node_entry(node: &NodeRecord) -> NodeEntry {
        NodeEntry {
            name: node.machine.name.clone(),
            hostname: node.machine.hostname.clone(),
            underlay: node.machine.address,
            overlay: node.overlay,
        }
    }

    pub fn app_entry(app: &App) -> AppEntry {
        AppEntry {
            hostname: hostname(&app.spec),
        }
    }

    /// Sums the whole directory, after a restore.
    pub(crate) fn sum_directory(&mut self) {
        let instances = self.instances().map(|i| fingerprint_of(self, i));
        let nodes = self.nodes().map(fingerprint_of_node);
        let apps = self.apps().map(fingerprint_of_app);
        let all = instances.chain(nodes).chain(apps);
        self.directory = all.fold(0, u64::wrapping_add);
    }

    /// Whose entries `change` may change: its subject, and who holds or will hold the same
    /// addresses.
    pub(super) fn concerned(&self, change: &Change) -> Concerned {
        match change {
            Change::InstancePlaced { instance } => match self.spec_of(instance) {
                Some(spec) => self.concerned_with(instance, spec),
                None => Concerned::new(),
            },
            Change::InstanceGoal { instance, .. }
            | Change::InstanceSeen { instance, .. }
            | Change::InstanceGone { instance } => match self.instance(*instance) {
                Some(instance) => self.concerned_with(instance, &instance.spec),
                None => Concerned::new(),
            },
            Change::NodeJoined { node, .. }
            | Change::NodeSeen { node, .. }
            | Change::NodeRemoved { node } => vec![Subject::Node(*node)],
            Change::AppPut { app, .. } | Change::AppRemoved { app } => {
                vec![Subject::App(app.clone())]
            }
            Change::HandedOver { movement, .. } => {
                let heir = self.movement(*movement).and_then(|m| m.heir);
                match heir.and_then(|heir| self.instance(heir)) {
                    Some(heir) => self.concerned_with(heir, &heir.spec),
                    None => Concerned::new(),
                }
            }
            _ => Concerned::new(),
        }
    }

    fn concerned_with<S>(&self, instance: &Instance<S>, spec: &AppSpec) -> Concerned {
        let overlay = instance.placement.address;
        let overlay = overlay.and_then(|a| self.addresses.get(&a).copied().flatten());
        let fixed = instance.placement.fixed_addresses.iter();
        let fixed = fixed.filter_map(|f| self.fixed_addresses.get(&f.address).copied());
        let mut instances = vec![instance.id];
        // An heir and its holder share volumes besides.
        let volumes = spec.volumes();
        let volumes = volumes.filter_map(|(id, _)| self.volume(id)?.holding);
        for held in overlay.into_iter().chain(fixed).chain(volumes) {
            instances.push(held.holder);
            instances.extend(held.heir);
        }
        instances.sort_unstable();
        instances.dedup();
        instances.into_iter().map(Subject::Instance).collect()
    }

    /// Fingerprints of the concerned entries; `None` where there is none.
    pub(super) fn entry_fingerprints(&self, concerned: &[Subject]) -> Vec<Option<u64>> {
        let of = |subject: &Subject| match subject {
            Subject::Instance(id) => self.instance(*id).map(|i| fingerprint_of(self, i)),
            Subject::Node(id) => self.node(*id).map(fingerprint_of_node),
            Subject::App(id) => self.app(id).map(fingerprint_of_app),
        };
        concerned.iter().map(of).collect()
    }

    /// Brings the sum up to date and notes whose entries changed.
    pub(super) fn compare_entries(
        &mut self,
        concerned: Concerned,
        before: &[Option<u64>],
        touched: &mut Touched,
    ) {
        let after = self.entry_fingerprints(&concerned);
        for (subject, (before, after)) in concerned.into_iter().zip(before.iter().zip(&after)) {
            if before == after {
                continue;
            }
            self.directory = self
                .directory
                .wrapping_sub(before.unwrap_or(0))
                .wrapping_add(after.unwrap_or(0));
            match subject {
                Subject::Instance(id) => drop(touched.entries.insert(id)),
                Subject::Node(id) => drop(touched.node_entries.insert(id)),
                Subject::App(id) => drop(touched.app_entries.insert(id)),
            }
        }
    }
}

fn fingerprint_of(state: &State, instance: &Instance) -> u64 {
    fingerprint::of(&(&instance.id, &state.directory_entry(instance)))
}

fn fingerprint_of_node(node: &NodeRecord) -> u64 {
    fingerprint::of(&(&node.id, &State::node_entry(node)))
}

fn fingerprint_of_app(app: &App) -> u64 {
    fingerprint::of(&(&app.id, &State::app_entry(app)))
}

fn hostname(spec: &AppSpec) -> Option<String> {
    spec.image()?.options.hostname.clone()
}

fn directory_ports(instance: &Instance) -> Vec<DirectoryPort> {
    let ports = instance.spec.ports.iter().enumerate();
    ports
        .flat_map(|(n, port)| {
            let host = instance.placement.host_ports.get(n).copied();
            let host = host.filter(|host| *host != 0);
            let container = match port.container {
                0 => host.unwrap_or(0),
                container => container,
            };
            port.protocol
                .each()
                .iter()
                .map(move |protocol| DirectoryPort {
                    name: port.name.clone(),
                    protocol: *protocol,
                    container,
                    host,
                })
        })
        .collect()
}
