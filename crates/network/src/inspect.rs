//! What of a node's network should be, beside what is: for a person who looks for a fault. Reads
//! only; [`crate::Network::reconcile`] mends.

use std::collections::{BTreeMap, BTreeSet};

use model::NetworkKind;
use model::session::Compared;
use model::spec::Protocol;

use crate::devices::{self, Devices};
use crate::error::Result;
use crate::firewall::{self, Published};
use crate::forwarding;
use crate::kernel::{Address, Kernel, Link};
use crate::network::Settings;
use crate::placement::{Ports, Row, Rows};
use crate::program::NFT;
use crate::sweep;

/// A node's network at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// Devices, addresses and published ports, in this order.
    pub compared: Vec<Compared>,
    /// Our nftables tables, as nft lists them.
    pub tables: String,
}

/// What should be.
pub(crate) struct Wanted<'a> {
    pub settings: &'a Settings,
    pub devices: Devices,
    pub ports: Ports,
    pub rows: Rows,
    pub published: Published,
}

/// By name, what is to be said of each.
type Told = BTreeMap<String, String>;

pub(crate) async fn inspect(kernel: &Kernel, wanted: &Wanted<'_>) -> Result<Inspection> {
    let links = kernel.links().await?;
    let addresses = kernel.addresses().await?;
    let rows = forwarding::read(kernel, &wanted.devices).await?;
    let published = firewall::read_published().await?;
    let of_rows = |rows: &Rows| -> Told {
        let row = |(spot, row): (&(NetworkKind, _), &Row)| {
            let name = match spot.0 {
                NetworkKind::Overlay => format!("{}", spot.1),
                NetworkKind::Fixed => format!("{} (fixed)", spot.1),
            };
            (name, told_row(*row, &links))
        };
        rows.iter().map(row).collect()
    };
    let mut compared = compare(
        "device",
        devices_wanted(wanted),
        devices_found(&links, &addresses),
    );
    compared.extend(compare("address", of_rows(&wanted.rows), of_rows(&rows)));
    let ports = (told_ports(&wanted.published), told_ports(&published));
    compared.extend(compare("port", ports.0, ports.1));
    let mut tables = String::new();
    for family in ["inet", "bridge"] {
        let listed = NFT.run(&["list", "table", family, "tandem"], "").await?;
        tables.push_str(&String::from_utf8_lossy(&listed.stdout));
    }
    Ok(Inspection { compared, tables })
}

/// Everything that is wanted or found, by name.
fn compare(kind: &str, wanted: Told, found: Told) -> Vec<Compared> {
    let names: BTreeSet<&String> = wanted.keys().chain(found.keys()).collect();
    let of = |told: &Told, name: &String| told.get(name).cloned().unwrap_or_default();
    let one = |name: &String| Compared {
        kind: kind.to_owned(),
        name: name.clone(),
        wanted: of(&wanted, name),
        found: of(&found, name),
    };
    names.into_iter().map(one).collect()
}

fn devices_wanted(wanted: &Wanted) -> Told {
    let mtu = wanted.devices.mtu;
    let mut told = Told::new();
    for kind in [NetworkKind::Overlay, NetworkKind::Fixed] {
        let (bridge, vxlan) = devices::names(kind);
        let own = match kind {
            NetworkKind::Overlay => devices::addresses(wanted.settings).to_vec(),
            NetworkKind::Fixed => Vec::new(),
        };
        told.insert(bridge.to_owned(), told_device(true, mtu, None, &own));
        let plugged = told_device(true, mtu, Some(bridge), &[]);
        told.insert(vxlan.to_owned(), plugged);
    }
    for (name, port) in &wanted.ports {
        let (bridge, _) = devices::names(port.spot.0);
        let plugged = told_device(true, mtu, Some(bridge), &[]);
        told.insert(name.clone(), plugged);
    }
    told
}

fn devices_found(links: &[Link], addresses: &[Address]) -> Told {
    let own = [NetworkKind::Overlay, NetworkKind::Fixed].map(devices::names);
    let is_ours = |link: &&Link| {
        own.iter().any(|(a, b)| link.name == *a || link.name == *b)
            || sweep::address(&link.name, &link.alias).is_some()
    };
    let told = |link: &Link| {
        let held = addresses.iter().filter(|held| held.index == link.index);
        let held: Vec<_> = held.map(|held| (held.address, held.prefix)).collect();
        let bridge = link.master.map(|index| name_of(index, links));
        let told = told_device(link.up, link.mtu, bridge.as_deref(), &held);
        (link.name.clone(), told)
    };
    links.iter().filter(is_ours).map(told).collect()
}

fn told_device(
    up: bool,
    mtu: u32,
    bridge: Option<&str>,
    addresses: &[(std::net::Ipv4Addr, u8)],
) -> String {
    let mut told = vec![if up { "up" } else { "down" }.to_owned()];
    told.push(format!("mtu {mtu}"));
    told.extend(bridge.map(|bridge| format!("in {bridge}")));
    let addresses = addresses.iter();
    told.extend(addresses.map(|(address, prefix)| format!("{address}/{prefix}")));
    told.join(", ")
}

fn told_row(row: Row, links: &[Link]) -> String {
    let mut told = Vec::new();
    told.extend(row.port.map(|port| format!("at {}", name_of(port, links))));
    told.extend(row.vtep.map(|node| format!("to node {node}")));
    told.extend(row.neighbour.then(|| "neighbour".to_owned()));
    told.join(", ")
}

fn told_ports(published: &Published) -> Told {
    let port = |((protocol, port), (address, target)): (&(_, u16), &(_, u16))| {
        let protocol = match protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        (format!("{protocol} {port}"), format!("{address}:{target}"))
    };
    published.iter().map(port).collect()
}

fn name_of(index: u32, links: &[Link]) -> String {
    let found = links.iter().find(|link| link.index == index);
    found.map_or_else(|| format!("device {index}"), |link| link.name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_and_what_is_too_much_are_both_named() {
        let told = |pairs: &[(&str, &str)]| -> Told {
            let owned = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
            pairs.iter().map(owned).collect()
        };
        let wanted = told(&[("a", "1"), ("b", "2")]);
        let found = told(&[("b", "2"), ("c", "3")]);
        let shown: Vec<String> = compare("port", wanted, found)
            .iter()
            .map(|c| format!("{} {}: {} | {}", c.kind, c.name, c.wanted, c.found))
            .collect();
        assert_eq!(shown, ["port a: 1 | ", "port b: 2 | 2", "port c:  | 3"]);
    }

    #[test]
    fn a_row_names_devices_and_nodes() {
        let links = [Link {
            index: 7,
            name: "tnd0vx".to_owned(),
            ..Link::default()
        }];
        let row = Row {
            port: Some(7),
            vtep: Some([10, 0, 15, 12].into()),
            neighbour: true,
        };
        let told = told_row(row, &links);
        assert_eq!(told, "at tnd0vx, to node 10.0.15.12, neighbour");
        let lost = Row {
            port: Some(9),
            ..Row::default()
        };
        assert_eq!(told_row(lost, &links), "at device 9");
    }
}
