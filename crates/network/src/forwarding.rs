//! The kernel's rows about addresses: read, and written one address at a time.
//!
//! Three tables hold an address: the bridge's (MAC to port), the VXLAN device's (MAC to node) and
//! the bridge device's neighbours (address to MAC), from which the bridge answers ARP in place of
//! containers on other nodes. Everything is written by replace. A delete follows only from a
//! comparison of whole generations, never from an event that may come late.

use std::net::Ipv4Addr;

use model::NetworkKind;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::Error as Fault;

use crate::address::{address_of, mac};
use crate::devices::Devices;
use crate::error::{Result, netlink};
use crate::kernel::{Kernel, OURS, STATIC, is_absent};
use crate::placement::{Row, Rows, Spot};

/// What the tables hold about addresses of ours now.
pub(crate) async fn read(kernel: &Kernel, devices: &Devices) -> Result<Rows> {
    let links = kernel.links().await?;
    let layer_of = |port: u32| {
        let master = links.iter().find(|link| link.index == port)?.master?;
        [NetworkKind::Overlay, NetworkKind::Fixed]
            .into_iter()
            .find(|&kind| devices.layer(kind).bridge == master)
    };
    let mut rows = Rows::new();
    for found in kernel.forwarding_rows().await? {
        let (Some(kind), Some(address)) = (layer_of(found.port), address_of(&found.mac)) else {
            continue;
        };
        let row = rows.entry((kind, address)).or_default();
        match found.vtep {
            Some(vtep) => row.vtep = Some(vtep),
            None => row.port = Some(found.port),
        }
    }
    for (bridge, address) in kernel.own_neighbours().await? {
        for kind in [NetworkKind::Overlay, NetworkKind::Fixed] {
            if devices.layer(kind).bridge == bridge {
                rows.entry((kind, address)).or_default().neighbour = true;
            }
        }
    }
    Ok(rows)
}

/// Turns the row of one address from `have` into `want`, frames first.
pub(crate) async fn write(
    kernel: &Kernel,
    devices: &Devices,
    spot: Spot,
    have: Row,
    want: Row,
) -> Result<()> {
    let (kind, address) = spot;
    let layer = devices.layer(kind);
    let what = || netlink(format!("set the forwarding of {address}"));
    if (have.port, have.vtep) != (want.port, want.vtep) {
        match (want.port, want.vtep) {
            (Some(port), Some(vtep)) => remote(kernel, port, address, vtep).await.map_err(what())?,
            (Some(port), None) => local(kernel, port, address).await.map_err(what())?,
            (None, _) => {
                if let Some(port) = have.port {
                    forget(kernel, port, address, NeighbourFlags::Controller)
                        .await
                        .map_err(what())?;
                }
            }
        }
        if have.vtep.is_some() && want.vtep.is_none() {
            forget(kernel, layer.vxlan, address, NeighbourFlags::Own)
                .await
                .map_err(what())?;
        }
    }
    match (have.neighbour, want.neighbour) {
        (false, true) => meet(kernel, layer.bridge, address).await.map_err(what()),
        (true, false) => part(kernel, layer.bridge, address).await.map_err(what()),
        _ => Ok(()),
    }
}

/// One message writes both tables.
async fn remote(
    kernel: &Kernel,
    port: u32,
    address: Ipv4Addr,
    vtep: Ipv4Addr,
) -> Result<(), Fault> {
    kernel
        .handle
        .neighbours()
        .add_bridge(port, &mac(address))
        .destination(vtep.into())
        .state(STATIC)
        .flags(NeighbourFlags::Own | NeighbourFlags::Controller)
        .replace()
        .execute()
        .await
}

async fn local(kernel: &Kernel, port: u32, address: Ipv4Addr) -> Result<(), Fault> {
    kernel
        .handle
        .neighbours()
        .add_bridge(port, &mac(address))
        .state(STATIC)
        .flags(NeighbourFlags::Controller)
        .replace()
        .execute()
        .await
}

/// Removes a row of the bridge (`Controller`) or of the device itself (`Own`); absent is fine,
/// since rows go with their device.
async fn forget(
    kernel: &Kernel,
    port: u32,
    address: Ipv4Addr,
    flags: NeighbourFlags,
) -> Result<(), Fault> {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = port;
    message.header.flags = flags;
    message
        .attributes
        .push(NeighbourAttribute::LinkLayerAddress(mac(address).to_vec()));
    absent_is_fine(kernel.handle.neighbours().del(message).execute().await)
}

async fn meet(kernel: &Kernel, bridge: u32, address: Ipv4Addr) -> Result<(), Fault> {
    let mut request = kernel
        .handle
        .neighbours()
        .add(bridge, address.into())
        .link_layer_address(&mac(address))
        .state(NeighbourState::Permanent)
        .replace();
    request
        .message_mut()
        .attributes
        .push(NeighbourAttribute::Protocol(OURS));
    request.execute().await
}

async fn part(kernel: &Kernel, bridge: u32, address: Ipv4Addr) -> Result<(), Fault> {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.ifindex = bridge;
    message
        .attributes
        .push(NeighbourAttribute::Destination(NeighbourAddress::Inet(
            address,
        )));
    absent_is_fine(kernel.handle.neighbours().del(message).execute().await)
}

fn absent_is_fine(outcome: Result<(), Fault>) -> Result<(), Fault> {
    match outcome {
        Err(fault) if is_absent(&fault) => Ok(()),
        outcome => outcome,
    }
}
