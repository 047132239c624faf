//! A master of the test's own: speaks the real protocol, decides nothing, remembers what it was
//! told.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};

use model::session::{Ask, FromAgent, FromMaster, Hello, Input, Part, Welcome};
use model::volume::VolumeOrder;
use model::{
    Assigned, Assignment, ClusterId, Directory, Epoch, InstanceId, InstanceLevel, Level, NodeId,
    Revision, VolumeId, VolumeLevel,
};
use protocol::trust::Authority;
use protocol::{Listener, Opening};
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;

use super::{PATIENCE, UNDERLAY};

pub struct Master {
    pub address: SocketAddr,
    pub token: String,
    shared: Arc<Shared>,
    serving: AbortHandle,
}

struct Shared {
    authority: Authority,
    known: Mutex<Known>,
    changed: Notify,
}

#[derive(Default)]
struct Known {
    assignment: Assignment,
    directory: Directory,
    hellos: Vec<Hello>,
    levels: BTreeMap<InstanceId, Vec<InstanceLevel>>,
    volumes: BTreeMap<VolumeId, VolumeLevel>,
    answers: BTreeMap<u64, Vec<Part>>,
    session: Option<mpsc::UnboundedSender<FromMaster>>,
}

const EPOCH: Epoch = Epoch(1);

pub fn welcome() -> Welcome {
    Welcome {
        cluster: ClusterId(7),
        epoch: EPOCH,
        node: NodeId(0),
        subnet: (Ipv4Addr::new(10, 32, 0, 0), 12),
        overlay: Ipv4Addr::new(10, 32, 0, 2),
    }
}

impl Master {
    pub async fn start(dir: &Path) -> Self {
        let authority = Authority::open(dir).expect("an authority");
        let token = authority.token().expect("a token").to_string();
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = Listener::bind(any, &authority).await.expect("listen");
        let address = listener.address().expect("an address");
        let mut known = Known::default();
        known.assignment.revision = Revision(1);
        known.directory.revision = Revision(1);
        let node = model::NodeEntry {
            name: "n1".into(),
            hostname: "10.99.0.1".into(),
            underlay: UNDERLAY,
            overlay: welcome().overlay,
        };
        known.directory.nodes.insert(NodeId(0), node);
        let shared = Arc::new(Shared {
            authority,
            known: Mutex::new(known),
            changed: Notify::new(),
        });
        let serving = tokio::spawn(serve(listener, Arc::clone(&shared))).abort_handle();
        Self {
            address,
            token,
            shared,
            serving,
        }
    }

    /// Changes the assignment and sends it whole.
    pub fn assign(&self, change: impl FnOnce(&mut BTreeMap<InstanceId, Assigned>)) {
        self.change(|assignment| change(&mut assignment.instances));
    }

    pub fn order(&self, volume: &VolumeId, order: VolumeOrder) {
        self.change(|assignment| {
            assignment.volumes.insert(volume.clone(), order);
        });
    }

    fn change(&self, change: impl FnOnce(&mut Assignment)) {
        self.with(|known| {
            change(&mut known.assignment);
            known.assignment.revision.0 += 1;
            let whole = Box::new(known.assignment.clone());
            known.say(FromMaster::Assignment {
                epoch: EPOCH,
                whole,
            });
        });
    }

    pub fn direct(&self, change: impl FnOnce(&mut Directory)) {
        self.with(|known| {
            change(&mut known.directory);
            known.directory.revision.0 += 1;
            let whole = Box::new(known.directory.clone());
            known.say(FromMaster::Directory {
                epoch: EPOCH,
                whole,
            });
        });
    }

    pub fn ask(&self, ask: u64, what: Ask) {
        self.with(|known| known.say(FromMaster::Ask { ask, what }));
    }

    pub fn input(&self, ask: u64, input: Input) {
        self.with(|known| known.say(FromMaster::Input { ask, input }));
    }

    pub fn cancel(&self, ask: u64) {
        self.with(|known| known.say(FromMaster::Cancel { ask }));
    }

    /// Ends the session from this side; the agent comes back.
    pub fn hang_up(&self) {
        self.with(|known| known.session = None);
    }

    pub fn hellos(&self) -> Vec<Hello> {
        self.with(|known| known.hellos.clone())
    }

    /// Everything that was told of an instance, in order.
    pub fn levels(&self, id: InstanceId) -> Vec<InstanceLevel> {
        self.with(|known| known.levels.get(&id).cloned().unwrap_or_default())
    }

    pub async fn level(
        &self,
        id: InstanceId,
        what: &str,
        holds: impl Fn(&InstanceLevel) -> bool,
    ) -> InstanceLevel {
        self.until(what, |known| {
            let newest = known.levels.get(&id)?.last()?;
            holds(newest).then(|| newest.clone())
        })
        .await
    }

    pub async fn volume(
        &self,
        id: &VolumeId,
        what: &str,
        holds: impl Fn(&VolumeLevel) -> bool,
    ) -> VolumeLevel {
        self.until(what, |known| {
            known.volumes.get(id).filter(|level| holds(level)).cloned()
        })
        .await
    }

    /// The parts of an answer once `holds`.
    pub async fn answer(&self, ask: u64, holds: impl Fn(&[Part]) -> bool) -> Vec<Part> {
        self.until("an answer", |known| {
            let parts = known.answers.get(&ask)?;
            holds(parts).then(|| parts.clone())
        })
        .await
    }

    pub async fn joined(&self, times: usize) {
        self.until("a session", |known| {
            (known.hellos.len() >= times && known.session.is_some()).then_some(())
        })
        .await;
    }

    async fn until<T>(&self, what: &str, find: impl Fn(&Known) -> Option<T>) -> T {
        let search = async {
            loop {
                let changed = self.shared.changed.notified();
                if let Some(found) = self.with(|known| find(known)) {
                    return found;
                }
                changed.await;
            }
        };
        match tokio::time::timeout(PATIENCE, search).await {
            Ok(found) => found,
            Err(_) => {
                let told = self.with(|known| {
                    format!("{:?} {:?} {:?}", known.levels, known.volumes, known.answers)
                });
                panic!("waited for {what}; told: {told}")
            }
        }
    }

    fn with<T>(&self, look: impl FnOnce(&mut Known) -> T) -> T {
        look(&mut self.shared.known.lock().expect("nobody panics with it"))
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        self.serving.abort();
        self.hang_up();
    }
}

impl Known {
    fn say(&self, message: FromMaster) {
        if let Some(session) = &self.session {
            let _ = session.send(message);
        }
    }
}

async fn serve(listener: Listener, shared: Arc<Shared>) {
    loop {
        let Ok(handshake) = listener.accept().await else {
            continue;
        };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            match handshake.finish().await {
                Ok(Opening::Join(request)) => {
                    let _ = request.grant(&shared.authority).await;
                }
                Ok(Opening::Renew(request)) => {
                    let _ = request.grant(&shared.authority).await;
                }
                Ok(Opening::Session(session)) => converse(*session, &shared).await,
                Err(_) => {}
            }
        });
    }
}

async fn converse(mut session: protocol::Session, shared: &Shared) {
    let Ok(Some(FromAgent::Hello(hello))) = session.receiver.receive().await else {
        return;
    };
    assert!(session.peer.is("n1"), "a session needs the node's identity");
    let (sender, mut to_send) = mpsc::unbounded_channel();
    {
        let mut known = shared.known.lock().expect("nobody panics with it");
        known.hellos.push(*hello);
        for message in [
            FromMaster::Welcome(Box::new(welcome())),
            FromMaster::Directory {
                epoch: EPOCH,
                whole: Box::new(known.directory.clone()),
            },
            FromMaster::Assignment {
                epoch: EPOCH,
                whole: Box::new(known.assignment.clone()),
            },
        ] {
            let _ = sender.send(message);
        }
        known.session = Some(sender);
    }
    shared.changed.notify_waiters();
    let mut beat = tokio::time::interval(std::time::Duration::from_secs(1));
    loop {
        tokio::select! {
            message = to_send.recv() => match message {
                Some(message) => if session.sender.send(&message).await.is_err() { return },
                None => return,
            },
            _ = beat.tick() => {
                if session.sender.send(&FromMaster::Heartbeat).await.is_err() { return }
            }
            heard = session.receiver.receive() => match heard {
                Ok(Some(message)) => {
                    let reply = hear(message, shared);
                    shared.changed.notify_waiters();
                    if let Some(reply) = reply
                        && session.sender.send(&reply).await.is_err() { return }
                }
                _ => return,
            },
        }
    }
}

/// Remembers; acknowledges sightings, as if they were on disk.
fn hear(message: FromAgent, shared: &Shared) -> Option<FromMaster> {
    let mut known = shared.known.lock().expect("nobody panics with it");
    match message {
        FromAgent::Sightings(sightings) => {
            let last = sightings.last()?;
            let reply = FromMaster::Acknowledged {
                incarnation: last.incarnation,
                sequence: last.sequence,
            };
            for sighting in sightings {
                match sighting.level {
                    Level::Instance(id, level) => known.levels.entry(id).or_default().push(level),
                    Level::Volume(id, level) => drop(known.volumes.insert(id, level)),
                    _ => {}
                }
            }
            Some(reply)
        }
        FromAgent::Answer { ask, part } => {
            known.answers.entry(ask).or_default().push(part);
            None
        }
        FromAgent::WholeAssignment => Some(FromMaster::Assignment {
            epoch: EPOCH,
            whole: Box::new(known.assignment.clone()),
        }),
        FromAgent::WholeDirectory => Some(FromMaster::Directory {
            epoch: EPOCH,
            whole: Box::new(known.directory.clone()),
        }),
        FromAgent::Hello(_) | FromAgent::Heartbeat | FromAgent::Arriving(_) => None,
    }
}
