//! Holds nftables against [`Rules`]: one executor, one transaction at a time.
//!
//! Callers state what should be true and wait until it is. Statements that arrive while nft runs
//! are carried by its next run together, so that fifty attachments cost two processes, not fifty.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::{Mutex, PoisonError};

use model::spec::Protocol;
use serde_json::Value;
use tokio::sync::Mutex as AsyncMutex;

use crate::conntrack;
use crate::error::Result;
use crate::kernel::Kernel;
use crate::placement::Endpoint;
use crate::program::NFT;
use crate::ruleset::{self, Rules};

pub(crate) type Published = BTreeMap<Endpoint, (Ipv4Addr, u16)>;

pub(crate) struct Firewall {
    wanted: Mutex<Rules>,
    /// What nft took last; held while it runs. `None`: unknown, so that tables are made anew.
    taken: AsyncMutex<Option<Rules>>,
}

impl Firewall {
    pub fn new(rules: Rules) -> Self {
        Self {
            wanted: Mutex::new(rules),
            taken: AsyncMutex::new(None),
        }
    }

    /// Changes what should be true and waits until it is.
    pub async fn change(&self, kernel: &Kernel, change: impl FnOnce(&mut Rules)) -> Result<()> {
        change(&mut self.wanted.lock().unwrap_or_else(PoisonError::into_inner));
        self.settle(kernel).await
    }

    /// What should be published now.
    pub fn published(&self) -> Published {
        let wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.open()
    }

    /// Forgets what nft took, so that the next change writes everything.
    pub async fn distrust(&self) {
        *self.taken.lock().await = None;
    }

    async fn settle(&self, kernel: &Kernel) -> Result<()> {
        let mut taken = self.taken.lock().await;
        let wanted = self
            .wanted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if taken.as_ref() == Some(&wanted) {
            return Ok(());
        }
        let before = match taken.take() {
            Some(before) => {
                // Somebody may have flushed the whole ruleset meanwhile; then elements alone fail.
                if let Err(fault) = write(&ruleset::elements(&wanted)).await {
                    tracing::warn!("Making the nftables tables anew: {fault}");
                    write(&ruleset::whole(&wanted)).await?;
                }
                before.open()
            }
            None => {
                let before = read_published().await?;
                write(&ruleset::whole(&wanted)).await?;
                before
            }
        };
        let changed = changed(&before, &wanted.open());
        *taken = Some(wanted);
        if changed.is_empty() {
            return Ok(());
        }
        conntrack::forget(kernel, &changed).await
    }
}

async fn write(text: &str) -> Result<()> {
    NFT.output(&["-f", "-"], text).await.map(drop)
}

/// The ports whose target is another one than before, or that appeared or went.
fn changed(before: &Published, now: &Published) -> BTreeSet<Endpoint> {
    before
        .keys()
        .chain(now.keys())
        .filter(|endpoint| before.get(endpoint) != now.get(endpoint))
        .copied()
        .collect()
}

/// What the kernel publishes now.
pub(crate) async fn read_published() -> Result<Published> {
    let output = NFT
        .run(&["-j", "list", "map", "inet", "tandem", "published"], "")
        .await?;
    // Refused means that there is no such map yet.
    let listing: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    Ok(published_in(&listing))
}

/// The elements in nft's listing of the map; what is not of our making is passed over.
fn published_in(listing: &Value) -> Published {
    let objects = listing["nftables"].as_array().map(Vec::as_slice);
    objects
        .unwrap_or_default()
        .iter()
        .filter_map(|object| object["map"]["elem"].as_array())
        .flatten()
        .filter_map(|element| {
            let (key, value) = (&element[0]["concat"], &element[1]["concat"]);
            let protocol = match key[0].as_str()? {
                "tcp" => Protocol::Tcp,
                "udp" => Protocol::Udp,
                _ => return None,
            };
            let port = |value: &Value| u16::try_from(value.as_u64()?).ok();
            let target = (value[0].as_str()?.parse().ok()?, port(&value[1])?);
            Some(((protocol, port(&key[1])?), target))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nfts_listing_is_read_back() {
        let listing = serde_json::json!({"nftables": [
            {"metainfo": {"version": "1.0.6"}},
            {"map": {"name": "published", "elem": [
                [{"concat": ["tcp", 8080]}, {"concat": ["10.32.0.101", 80]}],
                [{"concat": ["sctp", 8080]}, {"concat": ["10.32.0.101", 80]}],
            ]}}
        ]});
        let target = (Ipv4Addr::new(10, 32, 0, 101), 80);
        assert_eq!(
            published_in(&listing),
            [((Protocol::Tcp, 8080), target)].into()
        );
        assert_eq!(published_in(&Value::Null), Published::new());
    }

    #[test]
    fn added_removed_and_redirected_ports_changed() {
        let (a, b) = (
            (Ipv4Addr::new(10, 32, 0, 1), 80),
            (Ipv4Addr::new(10, 32, 0, 2), 80),
        );
        let port = |port| (Protocol::Tcp, port);
        let before = [(port(1), a), (port(2), a), (port(3), a)].into();
        let now = [(port(1), a), (port(2), b), (port(4), a)].into();
        assert_eq!(changed(&before, &now), [port(2), port(3), port(4)].into());
    }
}
