//! The kernel's links, addresses and forwarding rows, as far as we use them.
//!
//! A thin layer over rtnetlink: one socket, which belongs for ever to the namespace it was born
//! in, and readers that turn dumps into small values.

use std::net::{IpAddr, Ipv4Addr};

use futures::TryStreamExt;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::AddressAttribute;
use netlink_packet_route::link::{
    InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoVxlan, LinkAttribute, LinkFlags,
    LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol,
};
use rtnetlink::{Handle, RouteMessageBuilder};

use crate::error::{Error, Result, netlink, system};
use crate::subnet::Subnet;

/// Static, and not "the bridge's own": with `Permanent` frames would go to the host.
pub(crate) const STATIC: NeighbourState = NeighbourState::Other(0x42);
/// The mark on neighbours that are ours.
pub(crate) const OURS: RouteProtocol = RouteProtocol::Other(84);

#[derive(Clone, Debug)]
pub(crate) struct Kernel {
    pub handle: Handle,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Link {
    pub index: u32,
    pub name: String,
    pub up: bool,
    pub kind: Option<InfoKind>,
    pub mac: Vec<u8>,
    pub mtu: u32,
    pub master: Option<u32>,
    pub alias: String,
    pub vxlan: Vec<InfoVxlan>,
    pub port: Vec<InfoBridgePort>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub index: u32,
    pub address: Ipv4Addr,
    pub prefix: u8,
}

/// One row of a forwarding table: of a bridge (`vtep` absent) or of a VXLAN device.
#[derive(Clone, Debug)]
pub(crate) struct ForwardingRow {
    pub port: u32,
    pub mac: Vec<u8>,
    pub vtep: Option<Ipv4Addr>,
}

impl Kernel {
    /// Opens a socket in the current thread's network namespace. Must be called inside a runtime,
    /// on which it leaves a task that ends with the last clone.
    pub fn open() -> Result<Self> {
        let (connection, handle, _) =
            rtnetlink::new_connection().map_err(system("open a netlink socket"))?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    pub async fn links(&self) -> Result<Vec<Link>> {
        let messages: Vec<LinkMessage> = self
            .handle
            .link()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(netlink("list the network devices"))?;
        Ok(messages.into_iter().map(Link::from).collect())
    }

    pub async fn link(&self, name: &str) -> Result<Option<Link>> {
        let found = self
            .handle
            .link()
            .get()
            .match_name(name)
            .execute()
            .try_next()
            .await;
        match found {
            Ok(message) => Ok(message.map(Link::from)),
            Err(fault) if is_absent(&fault) => Ok(None),
            Err(fault) => Err(netlink(format!("look for the network device {name}"))(
                fault,
            )),
        }
    }

    /// Deletes a link; absent is fine.
    pub async fn delete_link(&self, index: u32, name: &str) -> Result<()> {
        match self.handle.link().del(index).execute().await {
            Err(fault) if !is_absent(&fault) => {
                Err(netlink(format!("delete the network device {name}"))(fault))
            }
            _ => Ok(()),
        }
    }

    /// All IPv4 addresses of the namespace.
    pub async fn addresses(&self) -> Result<Vec<Address>> {
        let messages: Vec<_> = self
            .handle
            .address()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(netlink("list the addresses"))?;
        Ok(messages
            .into_iter()
            .filter_map(|message| {
                let address = message
                    .attributes
                    .iter()
                    .find_map(|attribute| match attribute {
                        AddressAttribute::Local(IpAddr::V4(address)) => Some(*address),
                        _ => None,
                    })?;
                Some(Address {
                    index: message.header.index,
                    address,
                    prefix: message.header.prefix_len,
                })
            })
            .collect())
    }

    /// The main table's routes to subnets, without default routes, with their devices.
    pub async fn routes(&self) -> Result<Vec<(u32, Subnet)>> {
        let ipv4 = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let messages: Vec<RouteMessage> = self
            .handle
            .route()
            .get(ipv4)
            .execute()
            .try_collect()
            .await
            .map_err(netlink("list the routes"))?;
        Ok(messages.iter().filter_map(route).collect())
    }

    /// Every static row of every forwarding table; rows of the bridges' own MACs are left out.
    pub async fn forwarding_rows(&self) -> Result<Vec<ForwardingRow>> {
        let messages = self.neighbours(AddressFamily::Bridge).await?;
        Ok(messages.iter().filter_map(forwarding_row).collect())
    }

    /// The addresses of the neighbours that we set, with their devices.
    pub async fn own_neighbours(&self) -> Result<Vec<(u32, Ipv4Addr)>> {
        let messages = self.neighbours(AddressFamily::Inet).await?;
        Ok(messages
            .iter()
            .filter(|message| {
                message
                    .attributes
                    .contains(&NeighbourAttribute::Protocol(OURS))
            })
            .filter_map(|message| {
                let address = message
                    .attributes
                    .iter()
                    .find_map(|attribute| match attribute {
                        NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => {
                            Some(*address)
                        }
                        _ => None,
                    })?;
                Some((message.header.ifindex, address))
            })
            .collect())
    }

    async fn neighbours(&self, family: AddressFamily) -> Result<Vec<NeighbourMessage>> {
        self.handle
            .neighbours()
            .get()
            .set_address_family(family)
            .execute()
            .try_collect()
            .await
            .map_err(netlink("list the forwarding and neighbour tables"))
    }
}

fn route(message: &RouteMessage) -> Option<(u32, Subnet)> {
    let header = &message.header;
    if header.table != RouteHeader::RT_TABLE_MAIN || header.destination_prefix_length == 0 {
        return None;
    }
    let find =
        |wanted: fn(&RouteAttribute) -> Option<u32>| message.attributes.iter().find_map(wanted);
    let destination = find(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(u32::from(*address)),
        _ => None,
    })?;
    let device = find(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    });
    let subnet = Subnet::new(destination.into(), header.destination_prefix_length);
    Some((device.unwrap_or_default(), subnet))
}

fn forwarding_row(message: &NeighbourMessage) -> Option<ForwardingRow> {
    if message.header.state == NeighbourState::Permanent {
        return None;
    }
    let mac = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            NeighbourAttribute::LinkLayerAddress(mac) => Some(mac.clone()),
            _ => None,
        })?;
    // A VXLAN row is the device's own; its destination comes as raw bytes in this family.
    let own = message.header.flags.contains(NeighbourFlags::Own);
    let vtep = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Other(bytes)) => {
                <[u8; 4]>::try_from(bytes.as_slice())
                    .ok()
                    .map(Ipv4Addr::from)
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => Some(*address),
            _ => None,
        });
    (own == vtep.is_some()).then_some(ForwardingRow {
        port: message.header.ifindex,
        mac,
        vtep,
    })
}

/// The kernel says that the thing asked for is not there.
pub(crate) fn is_absent(fault: &rtnetlink::Error) -> bool {
    // ENOENT, ENXIO, ENODEV, EADDRNOTAVAIL: which one depends on the table.
    matches!(fault, rtnetlink::Error::NetlinkError(message)
        if matches!(message.raw_code(), -2 | -6 | -19 | -99))
}

/// The kernel says that the thing to be made is there.
pub(crate) fn is_present(fault: &Error) -> bool {
    matches!(fault, Error::Netlink { source: rtnetlink::Error::NetlinkError(message), .. }
        if message.raw_code() == -17)
}

impl From<LinkMessage> for Link {
    fn from(message: LinkMessage) -> Self {
        let mut link = Self {
            index: message.header.index,
            up: message.header.flags.contains(LinkFlags::Up),
            ..Self::default()
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::IfAlias(alias) => link.alias = alias,
                LinkAttribute::Address(mac) => link.mac = mac,
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                LinkAttribute::Controller(index) => link.master = Some(index),
                LinkAttribute::LinkInfo(infos) => {
                    infos.into_iter().for_each(|info| link.learn(info))
                }
                _ => {}
            }
        }
        link
    }
}

impl Link {
    fn learn(&mut self, info: LinkInfo) {
        match info {
            LinkInfo::Kind(kind) => self.kind = Some(kind),
            LinkInfo::Data(InfoData::Vxlan(data)) => self.vxlan = data,
            LinkInfo::PortData(InfoPortData::BridgePort(data)) => self.port = data,
            _ => {}
        }
    }
}
