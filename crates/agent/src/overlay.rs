//! Keeps the kernel's network and the containers' names in line with the newest directory, with
//! or without a session.
//!
//! Flow: wait for a directory to follow, open the network, apply; then every change at once,
//! addresses that change hands first; and now and then a look whether somebody broke something.
//! What fails is tried again: instances go on with what is programmed.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use model::session::Welcome;
use model::{Directory, Entry, InstanceId};
use network::{Dns, Names, Network, Settings, Subnet, Upstreams};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::error::words;
use crate::event::{Event, NetworkState};
use crate::{Config, Error};

const DNS_PORT: u16 = 53;
const RECONCILE_EVERY: Duration = Duration::from_secs(30);
const PAUSE_FIRST: Duration = Duration::from_millis(500);
const PAUSE_LAST: Duration = Duration::from_secs(15);

/// What to follow, on the word of this boot.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub welcome: Welcome,
    pub directory: Arc<Directory>,
}

pub(crate) type Wants = watch::Receiver<Option<Wanted>>;

/// The gateway and name server of every container: the overlay's first address.
pub(crate) fn gateway(welcome: &Welcome) -> Ipv4Addr {
    let (address, prefix) = welcome.subnet;
    let mask = u32::MAX
        .checked_shl(32 - u32::from(prefix.min(32)))
        .unwrap_or(0);
    Ipv4Addr::from((u32::from(address) & mask).saturating_add(1))
}

pub(crate) async fn run(config: &Config, mut wants: Wants, events: mpsc::Sender<Event>) -> Error {
    let mut pause = PAUSE_FIRST;
    loop {
        let Some(wanted) = newest(&mut wants).await else {
            // The heart has gone, and says itself why.
            return std::future::pending().await;
        };
        let mut opened = false;
        let why = match follow(config, &wanted, &mut wants, &events, &mut opened).await {
            Ok(never) => match never {},
            Err(error) => words(&error),
        };
        if opened {
            pause = PAUSE_FIRST;
        } else {
            let state = NetworkState::Down(why.clone());
            let _ = events.send(Event::Network(state)).await;
        }
        tracing::error!("The overlay network is in trouble: {why}");
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_LAST);
    }
}

async fn newest(wants: &mut Wants) -> Option<Wanted> {
    let wanted = wants.wait_for(Option::is_some).await.ok()?;
    wanted.clone()
}

/// Opens the network and follows the directory until something fails, or this node is told
/// another place in the network.
async fn follow(
    config: &Config,
    first: &Wanted,
    wants: &mut Wants,
    events: &mpsc::Sender<Event>,
    opened: &mut bool,
) -> Result<Infallible, network::Error> {
    let settings = settings(config, &first.welcome);
    let gateway = settings.gateway;
    let subnet = settings.subnet;
    let network = Arc::new(Network::open(settings).await?);
    network.apply(&first.directory).await?;
    let up = NetworkState::Up(Arc::clone(&network));
    let _ = events.send(Event::Network(up)).await;
    let revision = first.directory.revision;
    let _ = events.send(Event::Applied(revision)).await;
    *opened = true;

    let upstreams = match &config.upstreams {
        Some(servers) => Upstreams::fixed(servers.clone()),
        None => Upstreams::of_machine(gateway),
    };
    let dns = Arc::new(Dns::bind(SocketAddr::from((gateway, DNS_PORT)), upstreams).await?);
    dns.publish(Names::of(&first.directory, subnet));
    let directory = Arc::clone(&first.directory);
    tokio::select! {
        failed = Arc::clone(&dns).serve() => failed,
        failed = keep(&network, &dns, subnet, directory, wants, events) => failed,
    }
}

fn settings(config: &Config, welcome: &Welcome) -> Settings {
    Settings {
        node: welcome.node,
        underlay: config.machine.address,
        overlay: welcome.overlay,
        subnet: Subnet::new(welcome.subnet.0, welcome.subnet.1),
        gateway: gateway(welcome),
        own_namespace: config.own_namespace,
    }
}

async fn keep(
    network: &Network,
    dns: &Dns,
    subnet: Subnet,
    mut applied: Arc<Directory>,
    wants: &mut Wants,
    events: &mpsc::Sender<Event>,
) -> Result<Infallible, network::Error> {
    let mut look = interval(RECONCILE_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    look.reset();
    loop {
        let next = tokio::select! {
            changed = wants.changed() => match changed {
                Ok(()) => wants.borrow_and_update().clone(),
                Err(_) => return std::future::pending().await,
            },
            _ = look.tick() => {
                let mended = network.reconcile().await?;
                if mended.written + mended.removed > 0 {
                    tracing::warn!("Mended {mended:?} of the overlay's tables");
                }
                None
            }
        };
        let Some(next) = next else { continue };
        for (id, entry) in handed_over(&applied, &next.directory) {
            network.flip(id, entry).await?;
        }
        network.apply(&next.directory).await?;
        dns.publish(Names::of(&next.directory, subnet));
        applied = next.directory;
        let _ = events.send(Event::Applied(applied.revision)).await;
    }
}

/// Instances that now have an address which another had before.
fn handed_over<'a>(before: &Directory, after: &'a Directory) -> Vec<(InstanceId, &'a Entry)> {
    let changed: Vec<(InstanceId, &Entry)> = after
        .instances
        .iter()
        .filter(|(id, entry)| {
            before
                .instances
                .get(id)
                .is_none_or(|known| known.interfaces != entry.interfaces)
        })
        .map(|(id, entry)| (*id, entry))
        .collect();
    if changed.is_empty() {
        return changed;
    }
    let taken: std::collections::BTreeSet<Ipv4Addr> = before
        .instances
        .values()
        .flat_map(|entry| entry.interfaces.iter().map(|interface| interface.address))
        .collect();
    let takes = |entry: &Entry| {
        entry
            .interfaces
            .iter()
            .any(|interface| taken.contains(&interface.address))
    };
    changed
        .into_iter()
        .filter(|(_, entry)| takes(entry))
        .collect()
}

#[cfg(test)]
mod tests {
    use model::{AppId, Interface, NetworkKind, NodeId};

    use super::*;

    fn entry(last: u8) -> Entry {
        Entry {
            app: AppId::parse("/db").expect("an id"),
            node: NodeId(0),
            interfaces: vec![Interface {
                network: NetworkKind::Overlay,
                address: Ipv4Addr::new(10, 32, 0, last),
                prefix: 12,
            }],
            hostname: None,
            running: true,
            healthy: true,
            ports: Vec::new(),
        }
    }

    fn directory(entries: &[(u64, u8)]) -> Directory {
        let instances = entries
            .iter()
            .map(|(birth, last)| {
                (
                    InstanceId {
                        birth: *birth,
                        slot: 0,
                    },
                    entry(*last),
                )
            })
            .collect();
        Directory {
            instances,
            ..Directory::default()
        }
    }

    #[test]
    fn an_address_that_changes_hands_goes_first_and_new_ones_wait() {
        let before = directory(&[(1, 7), (2, 8)]);
        let after = directory(&[(2, 8), (3, 7), (4, 9)]);
        let first: Vec<u64> = handed_over(&before, &after)
            .into_iter()
            .map(|(id, _)| id.birth)
            .collect();
        assert_eq!(first, vec![3]);
        assert_eq!(handed_over(&after, &after), vec![]);
    }
}
