//! One agent's session, from its hello to its end.
//!
//! ```text
//! hello ──▶ joined ──▶ reading: sightings into the store, acknowledged when durable
//!     └▶ refused   └▶ writing: whole assignment and directory, then a delta for every step of
//!                      the durable state, acknowledgements, relayed questions, heartbeats
//! ```
//! The two halves run side by side, so that an agent that reads slowly is still heard.

use std::convert::Infallible;
use std::time::Duration;

use model::session::{FromAgent, FromMaster, Hello};
use model::{Incarnation, NodeId, Revision, Sighting, State, Touched};
use planner::derive;
use protocol::{Error, Peer, Receiver, Sender, Session};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::Master;
use crate::sessions::Outgoing;

const HEARTBEAT: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(10);

pub async fn run(master: Master, session: Session) -> Result<(), Error> {
    let Session {
        peer,
        mut sender,
        mut receiver,
    } = session;
    let Some(hello) = first(&mut receiver).await? else {
        return Ok(());
    };
    let name = hello.machine.name.clone();
    let node = match open(&master, &peer, hello).await {
        Ok(welcome) => {
            let node = welcome.node;
            sender.send(&FromMaster::Welcome(Box::new(welcome))).await?;
            node
        }
        Err(why) => {
            tracing::warn!(node.name = name, "Refused a session to {name}: {why}");
            return sender.send(&FromMaster::Refused(why)).await;
        }
    };
    tracing::info!(node.id = %node, node.name = name, "Session with {name} is open");
    master.sessions.heard(node, master.store.now());
    let (outgoing, queue) = mpsc::unbounded_channel();
    let (number, replaced) = master.sessions.open(node, outgoing.clone());
    let ended = tokio::select! {
        ended = read(&master, node, receiver, outgoing) => ended,
        ended = write(&master, node, sender, queue) => ended,
        _ = replaced => Ok(()),
    };
    master.sessions.close(node, number);
    ended
}

async fn first(receiver: &mut Receiver<FromAgent>) -> Result<Option<Hello>, Error> {
    match timeout(PATIENCE, receiver.receive())
        .await
        .map_err(|_| Error::Slow)??
    {
        Some(FromAgent::Hello(hello)) => Ok(Some(*hello)),
        Some(_) | None => Ok(None),
    }
}

async fn open(
    master: &Master,
    peer: &Peer,
    hello: Hello,
) -> Result<model::session::Welcome, String> {
    let name = &hello.machine.name;
    let identity = if peer.is(name) {
        name.clone()
    } else {
        "another".to_owned()
    };
    let opened = master
        .store
        .write(move |draft| planner::session::hello(draft, &hello, &identity))
        .await;
    match opened {
        Ok(Ok(welcome)) => Ok(welcome),
        Ok(Err(refusal)) => Err(refusal.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// Takes what the agent says, until it hangs up.
async fn read(
    master: &Master,
    node: NodeId,
    mut receiver: Receiver<FromAgent>,
    outgoing: UnboundedSender<Outgoing>,
) -> Result<(), Error> {
    while let Some(message) = receiver.receive().await? {
        master.sessions.heard(node, master.store.now());
        match message {
            FromAgent::Sightings(sightings) => {
                if let Some(acknowledged) = record(master, node, sightings).await {
                    let _ = outgoing.send(Outgoing::Message(acknowledged));
                }
            }
            FromAgent::WholeAssignment => drop(outgoing.send(Outgoing::WholeAssignment)),
            FromAgent::WholeDirectory => drop(outgoing.send(Outgoing::WholeDirectory)),
            FromAgent::Answer { ask, part } => master.sessions.answer(node, ask, part),
            FromAgent::Arriving(arriving) => {
                master.progress.heard(&master.store.state(), node, arriving);
            }
            FromAgent::Heartbeat | FromAgent::Hello(_) => {}
        }
    }
    Ok(())
}

/// Records sightings; the acknowledgement, once they are durable. What could not be made durable
/// is sent again by the agent.
async fn record(master: &Master, node: NodeId, sightings: Vec<Sighting>) -> Option<FromMaster> {
    let stamp = sightings.iter().map(|s| (s.incarnation, s.sequence)).max();
    let (incarnation, sequence): (Incarnation, u64) = stamp?;
    let written = master
        .store
        .write(move |draft| {
            planner::session::sightings(draft, node, &sightings);
            Ok::<_, Infallible>(())
        })
        .await;
    written.is_ok().then_some(FromMaster::Acknowledged {
        incarnation,
        sequence,
    })
}

/// What the agent was last told, so that the next delta has a base.
struct Told {
    sender: Sender<FromMaster>,
    node: NodeId,
    assignment: Revision,
    directory: Revision,
}

async fn write(
    master: &Master,
    node: NodeId,
    sender: Sender<FromMaster>,
    mut queue: UnboundedReceiver<Outgoing>,
) -> Result<(), Error> {
    let (state, mut watch) = master.store.watch();
    let mut told = Told {
        sender,
        node,
        assignment: state.revision,
        directory: state.revision,
    };
    // Addresses first: what the assignment starts must be reachable.
    told.whole_directory(&state).await?;
    told.whole_assignment(&state).await?;
    let mut heartbeat = interval(HEARTBEAT);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            step = watch.next() => match step {
                Some((state, touched)) => told.step(&state, &touched).await?,
                None => return Ok(()),
            },
            outgoing = queue.recv() => match outgoing {
                Some(Outgoing::Message(message)) => told.sender.send(&message).await?,
                Some(Outgoing::WholeAssignment) => told.whole_assignment(&master.store.state()).await?,
                Some(Outgoing::WholeDirectory) => told.whole_directory(&master.store.state()).await?,
                None => return Ok(()),
            },
            _ = heartbeat.tick() => told.sender.send(&FromMaster::Heartbeat).await?,
        }
    }
}

impl Told {
    async fn whole_assignment(&mut self, state: &State) -> Result<(), Error> {
        self.assignment = state.revision;
        let whole = Box::new(derive::assignment(state, self.node));
        self.sender
            .send(&FromMaster::Assignment {
                epoch: state.epoch,
                whole,
            })
            .await
    }

    async fn whole_directory(&mut self, state: &State) -> Result<(), Error> {
        self.directory = state.revision;
        let whole = Box::new(derive::directory(state));
        self.sender
            .send(&FromMaster::Directory {
                epoch: state.epoch,
                whole,
            })
            .await
    }

    async fn step(&mut self, state: &State, touched: &Touched) -> Result<(), Error> {
        if let Some(delta) = derive::directory_delta(state, touched, self.directory) {
            self.directory = delta.revision;
            let delta = Box::new(delta);
            self.sender
                .send(&FromMaster::DirectoryDelta {
                    epoch: state.epoch,
                    delta,
                })
                .await?;
        }
        if touched.assignments.contains(&self.node) {
            let delta = derive::assignment_delta(state, touched, self.node, self.assignment);
            self.assignment = delta.revision;
            let delta = Box::new(delta);
            self.sender
                .send(&FromMaster::AssignmentDelta {
                    epoch: state.epoch,
                    delta,
                })
                .await?;
        }
        Ok(())
    }
}
