//! Removes what is left of an instance: its network, its root filesystem, its directory with the
//! log. Everything absent is fine.

use std::sync::Arc;

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
    let store = Arc::clone(&tools.images.store);
    blocking(move || {
        // It was in use until now.
        if let Ok(Some(image)) = image::mounted_image(&dir) {
            store.used(&image);
        }
        Ok(image::unmount_root(&dir)?)
    })
    .await?;
    container::remove(&tools.disk.container(work.id)).await?;
    Ok(Done::Removed)
}
