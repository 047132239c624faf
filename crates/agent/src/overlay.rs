//! Keeps the kernel's network and the containers' names in line with the newest directory, with
//! or without a session.
//!
//! Flow: wait for a directory to follow, open the network, apply; then every change at once,
//! addresses that change hands first; and now and then a look whether somebody broke something.
//! Beside it the name server, which fails and comes back by itself.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use model::session::Welcome;
use model::{Directory, Entry, InstanceId};
use network::{Dns, Names, Network, Settings, Subnet, Upstreams};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::Config;
use crate::error::words;
use crate::event::{Event, NetworkState};

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

/// Never ends: instances go on with what is programmed, and what fails is tried again.
pub(crate) async fn run(
    config: &Config,
    mut wants: Wants,
    events: mpsc::Sender<Event>,
) -> Infallible {
    let mut trouble = Trouble::default();
    loop {
        let Some(welcome) = newest(&mut wants).await else {
            // The heart has gone, and says itself why.
            return std::future::pending().await;
        };
        match Network::open(settings(config, &welcome)).await {
            Ok(network) => {
                trouble = Trouble::default();
                let network = Arc::new(network);
                tokio::select! {
                    () = program(&network, &welcome, wants.clone(), &events) => {}
                    never = answer(config, &welcome, wants.clone()) => match never {},
                }
            }
            Err(error) => {
                let why = words(&error);
                let state = NetworkState::Down(why.clone());
                let _ = events.send(Event::Network(state)).await;
                trouble.pause("open the overlay network", why).await;
            }
        }
    }
}

async fn newest(wants: &mut Wants) -> Option<Welcome> {
    let wanted = wants.wait_for(Option::is_some).await.ok()?;
    wanted.as_ref().map(|wanted| wanted.welcome.clone())
}

fn settings(config: &Config, welcome: &Welcome) -> Settings {
    Settings {
        node: welcome.node,
        underlay: config.machine.address,
        overlay: welcome.overlay,
        subnet: subnet(welcome),
        gateway: gateway(welcome),
        own_namespace: config.own_namespace,
    }
}

/// Whoever leads. A second network beside the first would lack what is being attached to that, and
/// its rules would replace those that let it speak.
fn is_same_place(one: &Welcome, other: &Welcome) -> bool {
    let place = |welcome: &Welcome| {
        let Welcome {
            cluster: _,
            epoch: _,
            node,
            subnet,
            overlay,
        } = *welcome;
        (node, subnet, overlay)
    };
    place(one) == place(other)
}

fn subnet(welcome: &Welcome) -> Subnet {
    Subnet::new(welcome.subnet.0, welcome.subnet.1)
}

/// What went wrong, said once, and tried again later each time.
#[derive(Default)]
struct Trouble {
    said: String,
    pause: Duration,
}

impl Trouble {
    async fn pause(&mut self, what: &str, why: String) {
        if why != self.said {
            tracing::error!("Could not {what}: {why}");
            self.said = why;
        }
        self.pause = (self.pause * 2).clamp(PAUSE_FIRST, PAUSE_LAST);
        sleep(self.pause).await;
    }
}

/// Programs every newer directory, and mends what others broke. Ends when this node is told
/// another place in the network.
async fn program(
    network: &Arc<Network>,
    welcome: &Welcome,
    mut wants: Wants,
    events: &mpsc::Sender<Event>,
) {
    let mut look = interval(RECONCILE_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    look.reset();
    let mut applied: Option<Arc<Directory>> = None;
    let mut trouble = Trouble::default();
    let mut mend = false;
    loop {
        let Some(wanted) = wants.borrow_and_update().clone() else {
            return;
        };
        if !is_same_place(&wanted.welcome, welcome) {
            return;
        }
        let before = applied.as_deref();
        if let Err(error) = bring(network, before, &wanted.directory, mend).await {
            mend = true;
            let why = words(&error);
            trouble.pause("program the overlay network", why).await;
            continue;
        }
        trouble = Trouble::default();
        if applied.is_none() {
            let up = NetworkState::Up(Arc::clone(network));
            let _ = events.send(Event::Network(up)).await;
        }
        let revision = wanted.directory.revision;
        let _ = events.send(Event::Applied(revision)).await;
        applied = Some(wanted.directory);
        mend = tokio::select! {
            changed = wants.changed() => match changed {
                Ok(()) => false,
                Err(_) => return std::future::pending().await,
            },
            _ = look.tick() => true,
        };
    }
}

/// Brings the kernel from one directory to the next.
async fn bring(
    network: &Network,
    before: Option<&Directory>,
    next: &Directory,
    mend: bool,
) -> Result<(), network::Error> {
    if mend {
        let mended = network.reconcile().await?;
        if mended.written + mended.removed > 0 {
            tracing::warn!("Mended the overlay's tables: {mended:?}");
        }
    }
    if let Some(before) = before {
        if before == next {
            return Ok(());
        }
        for (id, entry) in handed_over(before, next) {
            network.flip(id, entry).await?;
        }
    }
    network.apply(next).await.map(drop)
}

/// Serves names by the newest directory.
async fn answer(config: &Config, welcome: &Welcome, mut wants: Wants) -> Infallible {
    let address = SocketAddr::from((gateway(welcome), DNS_PORT));
    let mut trouble = Trouble::default();
    loop {
        let upstreams = match &config.upstreams {
            Some(servers) => Upstreams::fixed(servers.clone()),
            None => Upstreams::of_machine(gateway(welcome)),
        };
        let why = match Dns::bind(address, upstreams).await {
            Err(error) => words(&error),
            Ok(dns) => {
                trouble = Trouble::default();
                let dns = Arc::new(dns);
                tokio::select! {
                    failed = Arc::clone(&dns).serve() => match failed {
                        Ok(never) => match never {},
                        Err(error) => words(&error),
                    },
                    never = publish(&dns, subnet(welcome), &mut wants) => match never {},
                }
            }
        };
        trouble.pause("serve names to containers", why).await;
    }
}

async fn publish(dns: &Dns, subnet: Subnet, wants: &mut Wants) -> Infallible {
    loop {
        if let Some(wanted) = &*wants.borrow_and_update() {
            dns.publish(Names::of(&wanted.directory, subnet));
        }
        if wants.changed().await.is_err() {
            return std::future::pending().await;
        }
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
    use model::{AppId, ClusterId, Epoch, Interface, NetworkKind, NodeId};

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
    fn a_new_leadership_is_no_new_place() {
        let welcome = Welcome {
            cluster: ClusterId(7),
            epoch: Epoch(1),
            node: NodeId(0),
            subnet: (Ipv4Addr::new(10, 32, 0, 0), 12),
            overlay: Ipv4Addr::new(10, 32, 0, 10),
        };
        let mut next = welcome.clone();
        next.epoch = Epoch(2);
        assert!(is_same_place(&welcome, &next));
        next.overlay = Ipv4Addr::new(10, 32, 0, 11);
        assert!(!is_same_place(&welcome, &next));
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
