//! The node's own devices: bridges, VXLAN devices, their addresses and settings.
//!
//! Compare and mend: what is right stays as it is. A wrong VXLAN device is made anew; a bridge
//! never, since that would detach every container from it.

use std::net::Ipv4Addr;

use model::NetworkKind;
use netlink_packet_route::link::{InfoBridge, InfoBridgePort, InfoKind, InfoVxlan};
use rtnetlink::{LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkUnspec, LinkVxlan};

use crate::address::bridge_mac;
use crate::error::{Error, Result, netlink};
use crate::kernel::{Address, Kernel, Link};
use crate::network::Settings;
use crate::subnet::Subnet;
use crate::sysctl;

/// Bytes that VXLAN adds to a frame on its way.
const ENCAPSULATION: u32 = 50;
const VXLAN_PORT: u16 = 4789;

/// What the rest of the crate needs to know about them.
#[derive(Clone, Debug)]
pub(crate) struct Devices {
    pub underlay: Subnet,
    /// Of every device on the overlay.
    pub mtu: u32,
    pub overlay: Layer,
    pub fixed: Layer,
}

/// One layer-2 network across the nodes: device indices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layer {
    pub bridge: u32,
    pub vxlan: u32,
}

impl Devices {
    pub fn layer(&self, kind: NetworkKind) -> Layer {
        match kind {
            NetworkKind::Overlay => self.overlay,
            NetworkKind::Fixed => self.fixed,
        }
    }
}

/// A network's bridge and VXLAN device.
pub(crate) fn names(kind: NetworkKind) -> (&'static str, &'static str) {
    match kind {
        NetworkKind::Overlay => ("tnd0", "tnd0vx"),
        NetworkKind::Fixed => ("tnd1", "tnd1vx"),
    }
}

/// Those of the overlay's bridge: the node's own first, which makes it the preferred source, then
/// the shared gateway.
pub(crate) fn addresses(settings: &Settings) -> [(Ipv4Addr, u8); 2] {
    [
        (settings.overlay, settings.subnet.prefix()),
        (settings.gateway, 32),
    ]
}

struct Wanted {
    bridge: &'static str,
    vxlan: &'static str,
    vni: u32,
    mac: [u8; 6],
    mtu: u32,
    local: Ipv4Addr,
    underlay: u32,
}

/// Makes the node's devices right and says which they are.
///
/// # Errors
/// [`Error::NoUnderlay`] when no device has the node's address; [`Error::ForeignDevice`] when a
/// name of ours is taken; [`Error::Overlap`]; what the kernel refuses.
pub(crate) async fn ensure(kernel: &Kernel, settings: &Settings) -> Result<Devices> {
    let addresses = kernel.addresses().await?;
    let own = addresses
        .iter()
        .find(|address| address.address == settings.underlay)
        .ok_or(Error::NoUnderlay(settings.underlay))?;
    let links = kernel.links().await?;
    let underlay = links
        .iter()
        .find(|link| link.index == own.index)
        .ok_or(Error::NoUnderlay(settings.underlay))?;
    refuse_overlap(kernel, settings, &links).await?;
    let mtu = underlay.mtu.saturating_sub(ENCAPSULATION);
    let wanted = |kind: NetworkKind| {
        let (bridge, vxlan) = names(kind);
        let vni = match kind {
            NetworkKind::Overlay => 4096,
            NetworkKind::Fixed => 4097,
        };
        Wanted {
            bridge,
            vxlan,
            vni,
            mac: bridge_mac(kind, settings.overlay),
            mtu,
            local: settings.underlay,
            underlay: own.index,
        }
    };
    let overlay = layer(kernel, &wanted(NetworkKind::Overlay), &links).await?;
    let fixed = layer(kernel, &wanted(NetworkKind::Fixed), &links).await?;
    assign(kernel, settings, overlay.bridge, &addresses).await?;
    tune(settings)?;
    Ok(Devices {
        underlay: Subnet::new(own.address, own.prefix),
        mtu,
        overlay,
        fixed,
    })
}

/// A route of the machine's own into the overlay would lead containers' frames astray, or its
/// own traffic to us.
async fn refuse_overlap(kernel: &Kernel, settings: &Settings, links: &[Link]) -> Result<()> {
    let overlay = settings.subnet;
    let ours = named(links, "tnd0").map(|link| link.index);
    let foreign =
        |(device, route): &(u32, Subnet)| Some(*device) != ours && route.overlaps(overlay);
    match kernel.routes().await?.into_iter().find(foreign) {
        Some((_, route)) => Err(Error::Overlap { overlay, route }),
        None => Ok(()),
    }
}

async fn layer(kernel: &Kernel, wanted: &Wanted, links: &[Link]) -> Result<Layer> {
    let bridge = bridge(kernel, wanted, links).await?;
    let vxlan = vxlan(kernel, wanted, links, bridge).await?;
    Ok(Layer { bridge, vxlan })
}

async fn bridge(kernel: &Kernel, wanted: &Wanted, links: &[Link]) -> Result<u32> {
    let name = wanted.bridge;
    let what = || netlink(format!("set up the bridge {name}"));
    let Some(link) = named(links, name) else {
        let message = LinkMessageBuilder::<LinkBridge>::new(name)
            .append_info_data(InfoBridge::MulticastSnooping(false))
            .address(wanted.mac.to_vec())
            .mtu(wanted.mtu)
            .up()
            .build();
        kernel
            .handle
            .link()
            .add(message)
            .execute()
            .await
            .map_err(what())?;
        return index(kernel, name).await;
    };
    if link.kind != Some(InfoKind::Bridge) {
        return Err(Error::ForeignDevice(name.to_owned()));
    }
    if link.mac != wanted.mac || link.mtu != wanted.mtu || !link.up {
        let message = LinkUnspec::new_with_index(link.index)
            .address(wanted.mac.to_vec())
            .mtu(wanted.mtu)
            .up()
            .build();
        kernel
            .handle
            .link()
            .set(message)
            .execute()
            .await
            .map_err(what())?;
    }
    Ok(link.index)
}

async fn vxlan(kernel: &Kernel, wanted: &Wanted, links: &[Link], bridge: u32) -> Result<u32> {
    let name = wanted.vxlan;
    let what = || netlink(format!("set up the VXLAN device {name}"));
    let mut existing = named(links, name).cloned();
    if let Some(link) = &existing {
        if link.kind != Some(InfoKind::Vxlan) {
            return Err(Error::ForeignDevice(name.to_owned()));
        }
        if !tunnel_is_right(link, wanted) {
            tracing::warn!("Making {name} anew: it was not as it should be");
            kernel.delete_link(link.index, name).await?;
            existing = None;
        }
    }
    let link = match existing {
        Some(link) => link,
        None => {
            // It comes up only when it floods no more and learns nothing.
            let message = LinkMessageBuilder::<LinkVxlan>::new(name)
                .id(wanted.vni)
                .dev(wanted.underlay)
                .local(wanted.local)
                .port(VXLAN_PORT)
                .learning(false)
                .mtu(wanted.mtu)
                .controller(bridge)
                .build();
            kernel
                .handle
                .link()
                .add(message)
                .execute()
                .await
                .map_err(what())?;
            present(kernel, name).await?
        }
    };
    if link.master != Some(bridge) || link.mtu != wanted.mtu {
        let message = LinkUnspec::new_with_index(link.index)
            .controller(bridge)
            .mtu(wanted.mtu)
            .build();
        kernel
            .handle
            .link()
            .set(message)
            .execute()
            .await
            .map_err(what())?;
    }
    set_port(kernel, &link, bridge, &tunnel_port()).await?;
    if !link.up {
        let message = LinkUnspec::new_with_index(link.index).up().build();
        kernel
            .handle
            .link()
            .set(message)
            .execute()
            .await
            .map_err(what())?;
    }
    Ok(link.index)
}

fn tunnel_is_right(link: &Link, wanted: &Wanted) -> bool {
    [
        InfoVxlan::Id(wanted.vni),
        InfoVxlan::Link(wanted.underlay),
        InfoVxlan::Local(wanted.local),
        InfoVxlan::Port(VXLAN_PORT),
        InfoVxlan::Learning(false),
    ]
    .iter()
    .all(|fact| link.vxlan.contains(fact))
}

/// Answers for the addresses behind it; passes on only frames whose place it knows. `hairpin`
/// stays off: two nodes that point at each other would play ping-pong.
fn tunnel_port() -> [InfoBridgePort; 6] {
    [
        InfoBridgePort::NeighSupress(true),
        InfoBridgePort::Learning(false),
        InfoBridgePort::UnicastFlood(false),
        InfoBridgePort::MulticastFlood(false),
        InfoBridgePort::BroadcastFlood(false),
        InfoBridgePort::HairpinMode(false),
    ]
}

/// A container's port: takes only frames from the MAC that we bound to it, and gives the
/// container its own frames back when they were meant for its own published port.
pub(crate) fn instance_port() -> [InfoBridgePort; 3] {
    [
        InfoBridgePort::Learning(false),
        InfoBridgePort::Locked(true),
        InfoBridgePort::HairpinMode(true),
    ]
}

/// Sets the flags of a port of `bridge`, if they differ.
pub(crate) async fn set_port(
    kernel: &Kernel,
    link: &Link,
    bridge: u32,
    flags: &[InfoBridgePort],
) -> Result<()> {
    if link.master == Some(bridge) && flags.iter().all(|flag| link.port.contains(flag)) {
        return Ok(());
    }
    let message = flags
        .iter()
        .fold(LinkBridgePort::new(link.index), |message, flag| {
            message.append_info_data(flag.clone())
        })
        .build();
    kernel
        .handle
        .link()
        .set_port(message)
        .execute()
        .await
        .map_err(netlink(format!(
            "set the flags of the bridge port {}",
            link.name
        )))
}

async fn assign(
    kernel: &Kernel,
    settings: &Settings,
    bridge: u32,
    addresses: &[Address],
) -> Result<()> {
    let wanted = self::addresses(settings);
    let present: Vec<(Ipv4Addr, u8)> = addresses
        .iter()
        .filter(|address| address.index == bridge)
        .map(|address| (address.address, address.prefix))
        .collect();
    if present == wanted {
        return Ok(());
    }
    for (address, prefix) in present {
        let message = rtnetlink::AddressMessageBuilder::<Ipv4Addr>::new()
            .index(bridge)
            .address(address, prefix)
            .build();
        kernel
            .handle
            .address()
            .del(message)
            .execute()
            .await
            .map_err(netlink(format!("remove {address}/{prefix} from tnd0")))?;
    }
    for (address, prefix) in wanted {
        kernel
            .handle
            .address()
            .add(bridge, address.into(), prefix)
            .replace()
            .execute()
            .await
            .map_err(netlink(format!("give tnd0 the address {address}/{prefix}")))?;
    }
    Ok(())
}

fn tune(settings: &Settings) -> Result<()> {
    sysctl::set("net/ipv4/ip_forward", "1")?;
    sysctl::set("net/ipv4/conf/tnd0/route_localnet", "1")?;
    // Every container's neighbours count together; only the machine's own namespace has the key.
    for (key, entries) in [
        ("gc_thresh1", 8192),
        ("gc_thresh2", 32768),
        ("gc_thresh3", 65536),
    ] {
        sysctl::raise_if_present(&format!("net/ipv4/neigh/default/{key}"), entries)?;
    }
    if settings.own_namespace {
        for key in ["iptables", "ip6tables", "arptables"] {
            sysctl::set_if_present(&format!("net/bridge/bridge-nf-call-{key}"), "0")?;
        }
    }
    Ok(())
}

fn named<'a>(links: &'a [Link], name: &str) -> Option<&'a Link> {
    links.iter().find(|link| link.name == name)
}

async fn present(kernel: &Kernel, name: &str) -> Result<Link> {
    kernel.link(name).await?.ok_or_else(|| Error::System {
        what: format!("find the network device {name}, made a moment ago"),
        source: std::io::ErrorKind::NotFound.into(),
    })
}

async fn index(kernel: &Kernel, name: &str) -> Result<u32> {
    Ok(present(kernel, name).await?.index)
}
