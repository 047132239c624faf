//! Makes an instance's network namespace and plugs it in, unless its published ports would take
//! what somebody else on the node serves.

use model::spec::Protocol;
use model::{Assigned, Interface, NetworkKind};
use network::Attachment;
use node::Stage;

use super::{Done, Error, Tools, Work, blocking};
use crate::event::NetworkState;

pub(super) async fn attach(tools: &Tools, work: &Work) -> Result<Done, Error> {
    let network = match &work.network {
        NetworkState::Up(network) => network,
        NetworkState::Down(why) => return Err(Error::NoNetwork(why.clone())),
    };
    // A network that is up was opened on a welcome.
    let prefix = work.welcome.as_ref().map_or(32, |welcome| welcome.subnet.1);
    let assigned = work.assigned()?;
    // A node has one device for them, and it takes one address.
    let fixed = assigned.placement.fixed_addresses.len();
    if fixed > 1 {
        return Err(Error::FixedAddresses(fixed));
    }
    let published: Vec<_> = assigned.published().collect();
    blocking(move || {
        published
            .into_iter()
            .try_for_each(|(protocol, port, _)| check_free(protocol, port))
    })
    .await?;
    let attachment = Attachment {
        id: work.id,
        interfaces: interfaces(assigned, prefix),
        namespace: tools.disk.namespace(work.id),
    };
    network.attach(&attachment).await?;
    Ok(Done::Reached(Stage::Attached))
}

/// Published ports are no sockets: they would pass over a listener's head.
fn check_free(protocol: Protocol, port: u16) -> Result<(), Error> {
    let listeners = network::listeners(protocol).map_err(Error::Listeners)?;
    match listeners.iter().find(|listener| listener.port == port) {
        None => Ok(()),
        Some(listener) => Err(Error::PortTaken {
            port,
            holder: listener.holder(),
        }),
    }
}

/// At most one per network.
fn interfaces(assigned: &Assigned, prefix: u8) -> Vec<Interface> {
    let overlay = assigned.placement.address.map(|address| Interface {
        network: NetworkKind::Overlay,
        address,
        prefix,
    });
    let fixed = assigned
        .placement
        .fixed_addresses
        .first()
        .map(|fixed| Interface {
            network: NetworkKind::Fixed,
            address: fixed.address,
            prefix: fixed.prefix,
        });
    overlay.into_iter().chain(fixed).collect()
}
