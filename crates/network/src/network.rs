//! One node's part of the network: the few things an agent asks for.
//!
//! Flow: `open` mends the node's own devices; the first `apply` compares the kernel's tables with
//! the directory, later ones compare with what was written; `flip` is `apply` for one hand-over,
//! ahead of everything else; `attach` and `detach` plug instances in and out.
//!
//! Guarantees: everything is idempotent; rules and devices outlive the agent and are mended by the
//! next one; nothing is attached before a directory is known, since a returning node must learn
//! where its addresses live now before it answers for them.
//!
//! Assumptions: nobody else writes the tables `tandem`, the devices `tnd*` or the veths `tv*`; what
//! others do break, [`Network::reconcile`] mends.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use model::{Directory, Entry, InstanceId, NetworkKind, NodeId};
use tokio::sync::Mutex;

use crate::address::port_name;
use crate::attach::{self, Attachment};
use crate::devices::{self, Devices};
use crate::docker;
use crate::error::{Error, Result};
use crate::firewall::{Firewall, Published};
use crate::forwarding;
use crate::inspect::{self, Inspection};
use crate::kernel::Kernel;
use crate::namespace;
use crate::placement::{self, Placement, Port, Ports, Rows, Spot};
use crate::ruleset::Rules;
use crate::subnet::Subnet;
use crate::sweep;

/// What a node must be told before it can have a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub node: NodeId,
    /// The address by which other nodes reach this one; its device carries the VXLAN.
    pub underlay: Ipv4Addr,
    /// The node's own address on the overlay.
    pub overlay: Ipv4Addr,
    /// The overlay: `10.32.0.0/12`.
    pub subnet: Subnet,
    /// Gateway and DNS of every container on every node: `10.32.0.1`.
    pub gateway: Ipv4Addr,
    /// The namespace is ours alone, not a whole machine's: bridged frames need not pass iptables.
    pub own_namespace: bool,
}

/// How many addresses' rows were written, and how many removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    pub written: usize,
    pub removed: usize,
}

/// The data plane of this node.
pub struct Network {
    settings: Settings,
    kernel: Kernel,
    firewall: Firewall,
    state: Mutex<State>,
}

struct State {
    devices: Devices,
    /// `None` until a directory came.
    placement: Option<Placement>,
    ports: Ports,
    /// What the kernel's tables hold; `None`: to be read.
    rows: Option<Rows>,
}

impl Network {
    /// Sets the node's own devices up, or mends them. Must be called inside a runtime whose
    /// threads are in the node's network namespace.
    ///
    /// # Errors
    /// [`Error::NoUnderlay`], [`Error::ForeignDevice`], [`Error::Overlap`]; what the kernel
    /// refuses.
    pub async fn open(settings: Settings) -> Result<Self> {
        let kernel = Kernel::open()?;
        let devices = devices::ensure(&kernel, &settings).await?;
        let ports = ports(&kernel, &devices).await?;
        let rules = Rules {
            subnet: settings.subnet,
            underlay: devices.underlay,
            nodes: [settings.underlay].into(),
            published: BTreeMap::new(),
            bound: ports
                .iter()
                .map(|(name, port)| (name.clone(), port.spot.1))
                .collect(),
        };
        Ok(Self {
            settings,
            kernel,
            firewall: Firewall::new(rules),
            state: Mutex::new(State {
                devices,
                placement: None,
                ports,
                rows: None,
            }),
        })
    }

    /// Makes the node agree with a whole directory: forwarding of every address, published ports
    /// of the instances here. Only what differs is touched; only what this directory lacks goes.
    ///
    /// # Errors
    /// What the kernel or nft refuse; the next call then reads the kernel anew.
    pub async fn apply(&self, directory: &Directory) -> Result<Applied> {
        let placement = Placement::of(directory, self.settings.node);
        let edge = Edge::of(&placement);
        let applied = {
            let mut state = self.state.lock().await;
            state.placement = Some(placement);
            state.program(&self.kernel).await?
        };
        self.publish(edge).await?;
        Ok(applied)
    }

    /// An instance takes over its addresses here or elsewhere: the fast path of a hand-over. One
    /// message per address is what the switch takes; published ports follow.
    ///
    /// # Errors
    /// [`Error::NoDirectory`] before the first [`Network::apply`]; what the kernel or nft refuse.
    pub async fn flip(&self, id: InstanceId, entry: &Entry) -> Result<()> {
        let edge = {
            let mut state = self.state.lock().await;
            let placement = state.placement.as_mut().ok_or(Error::NoDirectory)?;
            let spots = placement.put(id, entry);
            state.program_spots(&self.kernel, &spots).await?;
            state.placement.as_ref().map(Edge::of)
        };
        match edge {
            Some(edge) => self.publish(edge).await,
            None => Ok(()),
        }
    }

    /// Mends what others broke: devices, rows, tables, Docker's chain.
    ///
    /// # Errors
    /// As [`Network::open`] and [`Network::apply`].
    pub async fn reconcile(&self) -> Result<Applied> {
        docker::let_pass().await?;
        let (applied, edge) = {
            let mut state = self.state.lock().await;
            state.devices = devices::ensure(&self.kernel, &self.settings).await?;
            state.ports = ports(&self.kernel, &state.devices).await?;
            state.rows = None;
            let Some(edge) = state.placement.as_ref().map(Edge::of) else {
                return Ok(Applied::default());
            };
            (state.program(&self.kernel).await?, edge)
        };
        self.firewall.distrust().await;
        self.publish(edge).await?;
        Ok(applied)
    }

    /// What should be here beside what is, changing nothing.
    ///
    /// # Errors
    /// When the kernel does not tell, or nft cannot be run.
    pub async fn inspect(&self) -> Result<Inspection> {
        let wanted = {
            let state = self.state.lock().await;
            let placement = state.placement.as_ref().ok_or(Error::NoDirectory)?;
            inspect::Wanted {
                settings: &self.settings,
                devices: state.devices.clone(),
                ports: state.ports.clone(),
                rows: placement::wanted(placement, &state.ports, &state.devices),
                published: self.firewall.published(),
            }
        };
        inspect::inspect(&self.kernel, &wanted).await
    }

    /// Plugs an instance in, making its namespace. Repeating it is harmless. If the directory
    /// places an address elsewhere, frames go there until [`Network::flip`] or
    /// [`Network::apply`] says otherwise: so is an heir prepared.
    ///
    /// # Errors
    /// [`Error::NoDirectory`] before the first [`Network::apply`]; what the kernel or nft refuse.
    pub async fn attach(&self, attachment: &Attachment) -> Result<()> {
        let devices = {
            let state = self.state.lock().await;
            state.placement.as_ref().ok_or(Error::NoDirectory)?;
            state.devices.clone()
        };
        let names: Vec<(String, Spot)> = attachment
            .interfaces
            .iter()
            .map(|interface| {
                let spot = (interface.network, interface.address);
                (port_name(attachment.id, interface.network), spot)
            })
            .collect();
        // What the instance may send is fixed before it can send anything.
        let bind = self.firewall.change(&self.kernel, |rules| {
            let bound = names.iter().map(|(name, spot)| (name.clone(), spot.1));
            rules.bound.extend(bound);
        });
        let (bound, made) = tokio::join!(bind, namespace::ensure(&attachment.namespace));
        bound?;
        made?;
        for (interface, (name, spot)) in attachment.interfaces.iter().zip(&names) {
            let link = attach::plug(&self.kernel, &devices, attachment, *interface).await?;
            let port = Port {
                index: link.index,
                spot: *spot,
            };
            let mut state = self.state.lock().await;
            state.ports.insert(name.clone(), port);
            state.program_spots(&self.kernel, &[*spot]).await?;
        }
        attach::furnish(attachment, self.settings.gateway).await?;
        attach::settle(&self.kernel, attachment).await
    }

    /// Unplugs an instance and lets its namespace go; repeating it is harmless.
    ///
    /// # Errors
    /// What the kernel or nft refuse.
    pub async fn detach(&self, id: InstanceId, namespace: &Path) -> Result<()> {
        attach::unplug(&self.kernel, id, namespace).await?;
        let names = [NetworkKind::Overlay, NetworkKind::Fixed].map(|kind| port_name(id, kind));
        {
            let mut state = self.state.lock().await;
            let spots: Vec<Spot> = names
                .iter()
                .filter_map(|name| state.ports.remove(name))
                .map(|port| port.spot)
                .collect();
            state.program_spots(&self.kernel, &spots).await?;
        }
        self.firewall
            .change(&self.kernel, |rules| {
                rules.bound.retain(|(name, _)| !names.contains(name))
            })
            .await
    }

    /// Removes the veths and, in `directory`, the namespaces that `claimed` does not name. Says
    /// how many things went.
    ///
    /// # Errors
    /// What the kernel or nft refuse.
    pub async fn sweep(
        &self,
        claimed: &BTreeMap<InstanceId, PathBuf>,
        directory: &Path,
    ) -> Result<usize> {
        let gone = sweep::veths(&self.kernel, claimed).await?;
        if !gone.is_empty() {
            let mut state = self.state.lock().await;
            state.ports.retain(|name, _| !gone.contains(name));
            state.program(&self.kernel).await?;
            drop(state);
            self.firewall
                .change(&self.kernel, |rules| {
                    rules.bound.retain(|(name, _)| !gone.contains(name))
                })
                .await?;
        }
        Ok(gone.len() + sweep::namespaces(claimed, directory).await?)
    }

    async fn publish(
        &self,
        Edge {
            mut nodes,
            published,
        }: Edge,
    ) -> Result<()> {
        nodes.insert(self.settings.underlay);
        self.firewall
            .change(&self.kernel, |rules| {
                rules.nodes = nodes;
                rules.published = published;
            })
            .await
    }
}

/// What of a placement the firewall enforces.
struct Edge {
    nodes: BTreeSet<Ipv4Addr>,
    published: Published,
}

impl Edge {
    fn of(placement: &Placement) -> Self {
        Self {
            nodes: placement.vteps(),
            published: placement.published().clone(),
        }
    }
}

impl State {
    /// Brings all rows in line.
    async fn program(&mut self, kernel: &Kernel) -> Result<Applied> {
        let Some(placement) = &self.placement else {
            return Ok(Applied::default());
        };
        // Taken, so that a failure leaves "unknown" behind.
        let have = match self.rows.take() {
            Some(rows) => rows,
            None => forwarding::read(kernel, &self.devices).await?,
        };
        let want = placement::wanted(placement, &self.ports, &self.devices);
        let mut applied = Applied::default();
        for (spot, have, want) in placement::differences(&have, &want) {
            forwarding::write(kernel, &self.devices, spot, have, want).await?;
            match want == placement::Row::default() {
                true => applied.removed += 1,
                false => applied.written += 1,
            }
        }
        self.rows = Some(want);
        Ok(applied)
    }

    /// Brings the rows of a few addresses in line, without looking at the others.
    async fn program_spots(&mut self, kernel: &Kernel, spots: &[Spot]) -> Result<()> {
        let (Some(placement), Some(mut rows)) = (&self.placement, self.rows.take()) else {
            return self.program(kernel).await.map(drop);
        };
        for &spot in spots {
            let have = rows.get(&spot).copied().unwrap_or_default();
            let want = placement::row(placement, spot, &self.ports, &self.devices);
            forwarding::write(kernel, &self.devices, spot, have, want).await?;
            match want == placement::Row::default() {
                true => rows.remove(&spot),
                false => rows.insert(spot, want),
            };
        }
        self.rows = Some(rows);
        Ok(())
    }
}

/// The veths that are plugged in, their flags mended. The kernel remembers their addresses in
/// their aliases.
async fn ports(kernel: &Kernel, devices: &Devices) -> Result<Ports> {
    let kinds = [NetworkKind::Overlay, NetworkKind::Fixed];
    let mut ports = Ports::new();
    for link in kernel.links().await? {
        let on = |kind: &NetworkKind| Some(devices.layer(*kind).bridge) == link.master;
        let (Some(kind), Some(address)) = (
            kinds.into_iter().find(on),
            sweep::address(&link.name, &link.alias),
        ) else {
            continue;
        };
        let bridge = devices.layer(kind).bridge;
        devices::set_port(kernel, &link, bridge, &devices::instance_port()).await?;
        let port = Port {
            index: link.index,
            spot: (kind, address),
        };
        ports.insert(link.name, port);
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn can_be_spawned<T: Send>(_: impl FnOnce(&'static Network) -> T) {}

    #[test]
    fn an_agent_can_run_everything_on_any_of_its_threads() {
        static DIRECTORY: Directory = Directory {
            revision: model::Revision(0),
            nodes: BTreeMap::new(),
            instances: BTreeMap::new(),
            apps: BTreeMap::new(),
        };
        can_be_spawned(|network| network.apply(&DIRECTORY));
        can_be_spawned(|network| network.reconcile());
        can_be_spawned(|network| async move {
            let attachment = Attachment {
                id: InstanceId::default(),
                interfaces: Vec::new(),
                namespace: PathBuf::new(),
            };
            network.attach(&attachment).await?;
            network.detach(attachment.id, &attachment.namespace).await
        });
    }
}
