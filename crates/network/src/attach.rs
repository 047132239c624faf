//! Plugging an instance in, and out.
//!
//! Attaching makes the instance's namespace, a veth per network with its far end born inside, and
//! what the instance finds there. It is idempotent: what is there and right stays. Whether frames
//! for the address come here is the directory's word, so an heir can be attached long before the
//! hand-over.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::{InstanceId, Interface, NetworkKind};
use netlink_packet_route::link::{BridgePortState, InfoBridgePort, InfoData, InfoKind, InfoVeth};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};
use tokio::time::{Instant, sleep};

use crate::address::{interface_name, mac, port_name};
use crate::devices::{Devices, instance_port, set_port};
use crate::error::{Error, Result, netlink, system};
use crate::kernel::{Kernel, Link, is_present};
use crate::namespace::{self, in_namespace};
use crate::sysctl;

/// How long a port may take to notice its carrier.
const CARRIER: Duration = Duration::from_secs(2);

/// What an instance's network consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    pub id: InstanceId,
    /// At most one per network.
    pub interfaces: Vec<Interface>,
    /// Where its namespace is held; made when absent.
    pub namespace: PathBuf,
}

/// Plugs one interface in and gives its port back. Frames pass once the forwarding row is set.
pub(crate) async fn plug(
    kernel: &Kernel,
    devices: &Devices,
    attachment: &Attachment,
    interface: Interface,
) -> Result<Link> {
    let name = port_name(attachment.id, interface.network);
    let bridge = devices.layer(interface.network).bridge;
    let link = match kernel.link(&name).await? {
        Some(link) if far_end_is_inside(attachment, interface).await? => link,
        Some(link) => {
            // Its far end is in a namespace that is lost to us.
            kernel.delete_link(link.index, &name).await?;
            create(kernel, devices, attachment, interface, &name).await?
        }
        None => create(kernel, devices, attachment, interface, &name).await?,
    };
    set_port(kernel, &link, bridge, &instance_port()).await?;
    Ok(link)
}

async fn create(
    kernel: &Kernel,
    devices: &Devices,
    attachment: &Attachment,
    interface: Interface,
    name: &str,
) -> Result<Link> {
    let path = &attachment.namespace;
    let namespace = File::open(path).map_err(system(format!("open {}", path.display())))?;
    // The far end comes up from inside, after the port's flags are set. Born up, it is refused.
    let far = LinkMessageBuilder::<LinkUnspec>::new()
        .name(interface_name(interface.network))
        .address(mac(interface.address).to_vec())
        .mtu(devices.mtu)
        .setns_by_fd(namespace.as_raw_fd())
        .build();
    let near = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
        .name(name)
        .mtu(devices.mtu)
        .controller(devices.layer(interface.network).bridge)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(far)))
        .up()
        .build();
    let what = || {
        netlink(format!(
            "plug in {} of {}",
            interface.address, attachment.id
        ))
    };
    kernel
        .handle
        .link()
        .add(near)
        .execute()
        .await
        .map_err(what())?;
    let link = kernel.link(name).await?.ok_or_else(|| Error::System {
        what: format!("find the network device {name}, made a moment ago"),
        source: std::io::ErrorKind::NotFound.into(),
    })?;
    // The kernel itself remembers whose port this is; a restarted agent reads it from there.
    let alias = LinkUnspec::new_with_index(link.index)
        .alias(alias(attachment.id, interface.address))
        .build();
    kernel
        .handle
        .link()
        .set(alias)
        .execute()
        .await
        .map_err(what())?;
    Ok(link)
}

fn alias(id: InstanceId, address: Ipv4Addr) -> String {
    format!("{address} {id}")
}

/// The address that a port of ours belongs to.
pub(crate) fn address_in(alias: &str) -> Option<Ipv4Addr> {
    alias.split(' ').next()?.parse().ok()
}

async fn far_end_is_inside(attachment: &Attachment, interface: Interface) -> Result<bool> {
    let name = interface_name(interface.network);
    let found = inside(&attachment.namespace, async move |kernel| {
        kernel.link(name).await
    })
    .await?;
    Ok(found.is_some_and(|link| link.mac == mac(interface.address)))
}

/// Sets up what the instance finds: loopback, its addresses, the way out.
pub(crate) async fn furnish(attachment: &Attachment, gateway: Ipv4Addr) -> Result<()> {
    let interfaces = attachment.interfaces.clone();
    inside(&attachment.namespace, async move |kernel| {
        for interface in interfaces {
            furnish_interface(&kernel, interface, gateway).await?;
        }
        // As Docker has it: nobody inside needs a privilege to listen on port 80.
        sysctl::set_if_present("net/ipv4/ip_unprivileged_port_start", "0")?;
        raise(&kernel, "lo").await.map(drop)
    })
    .await
}

async fn furnish_interface(kernel: &Kernel, interface: Interface, gateway: Ipv4Addr) -> Result<()> {
    let (name, address) = (interface_name(interface.network), interface.address);
    let index = raise(kernel, name).await?;
    kernel
        .handle
        .address()
        .add(index, address.into(), interface.prefix)
        .replace()
        .execute()
        .await
        .map_err(netlink(format!(
            "give {name} the address {address}/{}",
            interface.prefix
        )))?;
    if interface.network != NetworkKind::Overlay {
        return Ok(());
    }
    let route = RouteMessageBuilder::<Ipv4Addr>::new()
        .gateway(gateway)
        .output_interface(index)
        .onlink()
        .build();
    let added = kernel
        .handle
        .route()
        .add(route)
        .replace()
        .execute()
        .await
        .map_err(netlink(format!("route by {gateway}")));
    match added {
        Err(fault) if is_present(&fault) => Ok(()),
        outcome => outcome,
    }
}

async fn raise(kernel: &Kernel, name: &str) -> Result<u32> {
    let link = kernel.link(name).await?.ok_or_else(|| Error::System {
        what: format!("find {name} inside the instance's namespace"),
        source: std::io::ErrorKind::NotFound.into(),
    })?;
    if !link.up {
        let message = LinkUnspec::new_with_index(link.index).up().build();
        kernel
            .handle
            .link()
            .set(message)
            .execute()
            .await
            .map_err(netlink(format!("bring {name} up")))?;
    }
    Ok(link.index)
}

/// Waits until the ports pass frames.
///
/// The kernel notices a carrier in its own time; a first ARP request that comes before is lost,
/// and the next one follows a second later. An instance that starts slowly is no fault, so this
/// gives up without one.
pub(crate) async fn settle(kernel: &Kernel, attachment: &Attachment) -> Result<()> {
    let passes = InfoBridgePort::State(BridgePortState::Forwarding);
    let deadline = Instant::now() + CARRIER;
    for interface in &attachment.interfaces {
        let name = port_name(attachment.id, interface.network);
        while !kernel
            .link(&name)
            .await?
            .is_some_and(|link| link.port.contains(&passes))
        {
            if Instant::now() > deadline {
                tracing::warn!(instance.id = %attachment.id, "No frame passes {name} yet");
                return Ok(());
            }
            sleep(Duration::from_millis(1)).await;
        }
    }
    Ok(())
}

/// Runs `work` with a netlink socket of the namespace at `path`.
async fn inside<T, F>(path: &Path, work: F) -> Result<T>
where
    T: Send + 'static,
    F: AsyncFnOnce(Kernel) -> Result<T> + Send + 'static,
{
    in_namespace(path, move || {
        tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .map_err(system("start a runtime inside a namespace"))?
            .block_on(async { work(Kernel::open()?).await })
    })
    .await?
}

/// Unplugs what `id` has and lets its namespace go. Everything absent is fine.
///
/// The veth goes first: that is synchronous, while a namespace ends some time after its last use.
pub(crate) async fn unplug(kernel: &Kernel, id: InstanceId, namespace: &Path) -> Result<()> {
    for kind in [NetworkKind::Overlay, NetworkKind::Fixed] {
        let name = port_name(id, kind);
        if let Some(link) = kernel.link(&name).await? {
            kernel.delete_link(link.index, &name).await?;
        }
    }
    namespace::remove(namespace).await
}
