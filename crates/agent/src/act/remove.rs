//! Removes what is left of an instance: its network, its root filesystem, its directory with the
//! log. Everything absent is fine.

use super::{Done, Error, Tools, Work, blocking};
use crate::event::NetworkState;

pub(super) async fn remove(tools: &Tools, work: Work) -> Result<Done, Error> {
    let namespace = tools.disk.namespace(work.id);
    match &work.network {
        NetworkState::Up(network) => network.detach(work.id, &namespace).await?,
        NetworkState::Down(why) if namespace.exists() => {
            return Err(Error::NoNetwork(why.clone()));
        }
        NetworkState::Down(_) => {}
    }
    let dir = tools.disk.instance(work.id);
    blocking(move || Ok(image::unmount_root(&dir)?)).await?;
    container::remove(&tools.disk.container(work.id)).await?;
    Ok(Done::Removed)
}
