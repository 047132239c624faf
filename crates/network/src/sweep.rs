//! Removing what nobody claims: veths of instances that are gone, namespaces left behind.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use model::{InstanceId, NetworkKind};

use crate::address::{PORT_PREFIX, port_name};
use crate::attach::address_in;
use crate::error::Result;
use crate::kernel::Kernel;
use crate::namespace;

/// Removes every veth of ours that `claimed` does not name, and says which.
pub(crate) async fn veths(
    kernel: &Kernel,
    claimed: &BTreeMap<InstanceId, PathBuf>,
) -> Result<BTreeSet<String>> {
    let names: BTreeSet<String> = claimed
        .keys()
        .flat_map(|&id| [NetworkKind::Overlay, NetworkKind::Fixed].map(|kind| port_name(id, kind)))
        .collect();
    let mut gone = BTreeSet::new();
    for link in kernel.links().await? {
        if address(&link.name, &link.alias).is_some() && !names.contains(&link.name) {
            kernel.delete_link(link.index, &link.name).await?;
            gone.insert(link.name);
        }
    }
    Ok(gone)
}

/// Lets every namespace held in `directory` go that `claimed` does not name, and says how many.
pub(crate) async fn namespaces(
    claimed: &BTreeMap<InstanceId, PathBuf>,
    directory: &Path,
) -> Result<usize> {
    let paths: BTreeSet<&PathBuf> = claimed.values().collect();
    let mut gone = 0;
    for path in namespace::list(directory)? {
        if !paths.contains(&path) {
            namespace::remove(&path).await?;
            gone += 1;
        }
    }
    Ok(gone)
}

/// The address of a port of ours. The name alone could be somebody else's; the address in the
/// alias is ours.
pub(crate) fn address(name: &str, alias: &str) -> Option<Ipv4Addr> {
    name.starts_with(PORT_PREFIX).then(|| address_in(alias))?
}
