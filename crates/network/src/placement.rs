//! Where every address is, and what is published here: the directory as one node sees it.
//!
//! Pure. [`Placement`] is what should be, [`Rows`] what the kernel's tables hold or should hold,
//! [`differences`] what to do about it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use model::spec::Protocol;
use model::{Directory, Entry, InstanceId, NetworkKind, NodeId};

use crate::address::port_name;
use crate::devices::Devices;

/// An address on one of the two networks.
pub(crate) type Spot = (NetworkKind, Ipv4Addr);
/// A port of this node.
pub(crate) type Endpoint = (Protocol, u16);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Behind the VXLAN end of another node.
    Remote(Ipv4Addr),
    /// At the port of this instance.
    Here(InstanceId),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Placement {
    me: NodeId,
    /// The nodes' VXLAN ends.
    nodes: BTreeMap<NodeId, Ipv4Addr>,
    spots: BTreeMap<Spot, Place>,
    published: BTreeMap<Endpoint, (Ipv4Addr, u16)>,
}

impl Placement {
    pub fn of(directory: &Directory, me: NodeId) -> Self {
        let mut placement = Self {
            me,
            nodes: BTreeMap::new(),
            spots: BTreeMap::new(),
            published: BTreeMap::new(),
        };
        for (&id, node) in &directory.nodes {
            placement.nodes.insert(id, node.underlay);
            if id != me {
                let spot = (NetworkKind::Overlay, node.overlay);
                placement.spots.insert(spot, Place::Remote(node.underlay));
            }
        }
        // Should two hold one address or port, a running one has it, and of these the newest.
        let mut entries: Vec<(&InstanceId, &Entry)> = directory.instances.iter().collect();
        entries.sort_by_key(|(_, entry)| entry.running);
        for (&id, entry) in entries {
            placement.put(id, entry);
        }
        placement
    }

    /// An instance has these addresses from now on, whoever had them. Says which spots it took.
    pub fn put(&mut self, id: InstanceId, entry: &Entry) -> Vec<Spot> {
        let place = match self.nodes.get(&entry.node) {
            _ if entry.node == self.me => Place::Here(id),
            Some(&vtep) => Place::Remote(vtep),
            // The directory that names this node brings its addresses too.
            None => return Vec::new(),
        };
        let spots: Vec<Spot> = entry
            .interfaces
            .iter()
            .map(|interface| (interface.network, interface.address))
            .collect();
        self.spots.extend(spots.iter().map(|&spot| (spot, place)));
        // Published ports lead to the overlay, the only one of the two on which the node has an
        // address of its own to reach them from.
        let target = spots
            .iter()
            .find(|(kind, _)| *kind == NetworkKind::Overlay)
            .map(|&(_, address)| address);
        if let Some(target) = target {
            self.published.retain(|_, (address, _)| *address != target);
            if place == Place::Here(id) {
                self.publish(target, entry);
            }
        }
        spots
    }

    fn publish(&mut self, target: Ipv4Addr, entry: &Entry) {
        let ports = entry
            .ports
            .iter()
            .filter_map(|port| Some(((port.protocol, port.host?), (target, port.container))));
        self.published.extend(ports);
    }

    pub fn published(&self) -> &BTreeMap<Endpoint, (Ipv4Addr, u16)> {
        &self.published
    }

    pub fn vteps(&self) -> BTreeSet<Ipv4Addr> {
        self.nodes.values().copied().collect()
    }

    pub fn place(&self, spot: Spot) -> Option<Place> {
        self.spots.get(&spot).copied()
    }
}

/// What the tables hold about one address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Row {
    /// The bridge's port for its MAC.
    pub port: Option<u32>,
    /// The VXLAN device's destination for its MAC.
    pub vtep: Option<Ipv4Addr>,
    pub neighbour: bool,
}

pub(crate) type Rows = BTreeMap<Spot, Row>;

/// A veth that is plugged in here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Port {
    pub index: u32,
    pub spot: Spot,
}

/// The veths plugged in here, by device name.
pub(crate) type Ports = BTreeMap<String, Port>;

/// The rows that the tables should hold.
///
/// An address that is plugged in here and that the directory places nowhere counts as being
/// here: its instance is newer than the directory. One that the directory places elsewhere stays
/// there, until it is handed over.
pub(crate) fn wanted(placement: &Placement, ports: &Ports, devices: &Devices) -> Rows {
    let mut rows: Rows = ports
        .values()
        .filter(|port| placement.place(port.spot).is_none())
        .map(|port| (port.spot, local(Some(port.index))))
        .collect();
    rows.extend(
        placement
            .spots
            .keys()
            .map(|&spot| (spot, row(placement, spot, ports, devices))),
    );
    rows
}

/// The row that one address should have.
pub(crate) fn row(placement: &Placement, spot: Spot, ports: &Ports, devices: &Devices) -> Row {
    match placement.place(spot) {
        Some(Place::Remote(vtep)) => Row {
            port: Some(devices.layer(spot.0).vxlan),
            vtep: Some(vtep),
            neighbour: true,
        },
        Some(Place::Here(id)) => {
            let name = port_name(id, spot.0);
            local(ports.get(&name).map(|port| port.index))
        }
        None => match ports.values().find(|port| port.spot == spot) {
            Some(port) => local(Some(port.index)),
            None => Row::default(),
        },
    }
}

fn local(port: Option<u32>) -> Row {
    Row {
        port,
        vtep: None,
        neighbour: true,
    }
}

/// What has to change: the address, its row now, its row then.
pub(crate) fn differences(have: &Rows, want: &Rows) -> Vec<(Spot, Row, Row)> {
    let spots: BTreeSet<&Spot> = have.keys().chain(want.keys()).collect();
    let of = |rows: &Rows, spot| rows.get(spot).copied().unwrap_or_default();
    spots
        .into_iter()
        .map(|spot| (*spot, of(have, spot), of(want, spot)))
        .filter(|(_, have, want)| have != want)
        .collect()
}

#[cfg(test)]
mod tests {
    use model::{AppId, DirectoryPort, Interface, NodeEntry};

    use super::*;
    use crate::devices::Layer;
    use crate::subnet::Subnet;

    const OWN: NodeId = NodeId(0);
    const OTHER: NodeId = NodeId(1);

    fn address(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 32, 0, last)
    }

    fn underlay(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 15, last)
    }

    fn id(birth: u64) -> InstanceId {
        InstanceId { birth, slot: 0 }
    }

    fn entry(node: NodeId, last: u8) -> Entry {
        Entry {
            app: AppId::parse("/db").expect("a valid id"),
            node,
            interfaces: vec![Interface {
                network: NetworkKind::Overlay,
                address: address(last),
                prefix: 12,
            }],
            hostname: None,
            running: true,
            healthy: true,
            ports: vec![DirectoryPort {
                name: None,
                protocol: Protocol::Tcp,
                container: 80,
                host: Some(8080),
            }],
        }
    }

    fn directory(entries: &[(u64, Entry)]) -> Directory {
        let node = |n: u8| NodeEntry {
            name: format!("n{n}"),
            hostname: underlay(10 + n).to_string(),
            underlay: underlay(10 + n),
            overlay: address(10 + n),
        };
        Directory {
            nodes: [(OWN, node(1)), (OTHER, node(2))].into(),
            instances: entries
                .iter()
                .map(|(birth, entry)| (id(*birth), entry.clone()))
                .collect(),
            ..Directory::default()
        }
    }

    fn devices() -> Devices {
        Devices {
            underlay: Subnet::new(underlay(0), 24),
            mtu: 1450,
            overlay: Layer {
                bridge: 1,
                vxlan: 2,
            },
            fixed: Layer {
                bridge: 3,
                vxlan: 4,
            },
        }
    }

    fn ports(birth: u64, last: u8) -> Ports {
        let port = Port {
            index: 9,
            spot: (NetworkKind::Overlay, address(last)),
        };
        [(port_name(id(birth), NetworkKind::Overlay), port)].into()
    }

    const fn remote() -> Row {
        Row {
            port: Some(2),
            vtep: Some(Ipv4Addr::new(10, 0, 15, 12)),
            neighbour: true,
        }
    }

    #[test]
    fn every_address_of_other_nodes_leads_to_them_and_ours_to_their_ports() {
        let directory = directory(&[(1, entry(OWN, 101)), (2, entry(OTHER, 102))]);
        let placement = Placement::of(&directory, OWN);
        let rows = wanted(&placement, &ports(1, 101), &devices());
        let spot = |last| (NetworkKind::Overlay, address(last));
        assert_eq!(
            rows,
            [
                (spot(12), remote()),
                (spot(101), local(Some(9))),
                (spot(102), remote())
            ]
            .into()
        );
        assert_eq!(
            placement.published(),
            &[((Protocol::Tcp, 8080), (address(101), 80))].into()
        );
    }

    #[test]
    fn a_prepared_heir_stays_silent_until_the_address_is_handed_over() {
        let mut placement = Placement::of(&directory(&[(1, entry(OTHER, 101))]), OWN);
        let spot = (NetworkKind::Overlay, address(101));
        let ports = ports(2, 101);
        assert_eq!(row(&placement, spot, &ports, &devices()), remote());
        assert_eq!(placement.put(id(2), &entry(OWN, 101)), vec![spot]);
        assert_eq!(row(&placement, spot, &ports, &devices()), local(Some(9)));
        assert!(placement.published().contains_key(&(Protocol::Tcp, 8080)));
        placement.put(id(3), &entry(OTHER, 101));
        assert_eq!(row(&placement, spot, &ports, &devices()), remote());
        assert!(placement.published().is_empty());
    }

    #[test]
    fn an_instance_newer_than_the_directory_is_where_it_is_plugged_in() {
        let placement = Placement::of(&directory(&[]), OWN);
        let rows = wanted(&placement, &ports(7, 107), &devices());
        assert_eq!(
            rows.get(&(NetworkKind::Overlay, address(107))),
            Some(&local(Some(9)))
        );
    }

    #[test]
    fn an_address_that_an_ended_instance_still_has_is_the_running_ones() {
        let ended = Entry {
            running: false,
            ..entry(OTHER, 101)
        };
        let placement = Placement::of(&directory(&[(1, entry(OWN, 101)), (2, ended)]), OWN);
        let spot = (NetworkKind::Overlay, address(101));
        assert_eq!(placement.place(spot), Some(Place::Here(id(1))));
        assert!(placement.published().contains_key(&(Protocol::Tcp, 8080)));
    }

    #[test]
    fn only_what_differs_changes_and_only_what_is_unwanted_goes() {
        let spot = |last| (NetworkKind::Overlay, address(last));
        let have: Rows = [
            (spot(1), remote()),
            (spot(2), remote()),
            (spot(3), local(Some(9))),
        ]
        .into();
        let want: Rows = [
            (spot(1), remote()),
            (spot(3), remote()),
            (spot(4), remote()),
        ]
        .into();
        assert_eq!(
            differences(&have, &want),
            vec![
                (spot(2), remote(), Row::default()),
                (spot(3), local(Some(9)), remote()),
                (spot(4), Row::default(), remote()),
            ]
        );
        assert_eq!(differences(&want, &want), vec![]);
    }
}
