//! Makes an instance's network namespace and plugs it in.

use model::{Assigned, Interface, NetworkKind};
use network::Attachment;
use node::Stage;

use super::{Done, Error, Tools, Work};
use crate::event::NetworkState;

pub(super) async fn attach(tools: &Tools, work: &Work) -> Result<Done, Error> {
    let network = match &work.network {
        NetworkState::Up(network) => network,
        NetworkState::Down(why) => return Err(Error::NoNetwork(why.clone())),
    };
    // A network that is up was opened on a welcome.
    let prefix = work.welcome.as_ref().map_or(32, |welcome| welcome.subnet.1);
    let attachment = Attachment {
        id: work.id,
        interfaces: interfaces(work.assigned()?, prefix),
        namespace: tools.disk.namespace(work.id),
    };
    network.attach(&attachment).await?;
    Ok(Done::Reached(Stage::Attached))
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
