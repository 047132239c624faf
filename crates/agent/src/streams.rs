//! Gives streams of volumes to other nodes: exactly what this node's assignment orders now, to
//! exactly the node that it names. Nothing else is given to anybody.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use protocol::Identity;
use protocol::peer::{Asked, Handshake, Listener, Outgoing, Request};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use volume::transfer::Transfer;

use crate::act::Tools;
use crate::error::words;

/// Both ends are told at once, and the asker's word may be faster than the leader's.
const ORDER: Duration = Duration::from_secs(10);
/// How often an asker hears that it is still to wait.
const SIGN: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_secs(1);

/// A stream that may be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    /// The name of the node that may.
    pub to: String,
    pub what: Request,
    /// It is made: the hook has run, the app stands still, whatever it takes.
    pub ready: bool,
}

impl Offer {
    fn is_for(&self, asked: &Asked) -> bool {
        self.what == asked.request && asked.peer.is(&self.to)
    }
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Peer(#[from] protocol::Error),
    #[error(transparent)]
    Volume(#[from] volume::Error),
    #[error("this node has no certificate yet")]
    NoIdentity,
    #[error("volume {0} is not to be sent any more")]
    Withdrawn(model::VolumeId),
}

/// Never ends by itself: without its port the node only sends nothing.
pub(crate) async fn run(tools: Arc<Tools>, offers: watch::Receiver<Vec<Offer>>) -> Infallible {
    let machine = &tools.config.machine;
    let address = SocketAddr::from((machine.address, machine.stream_port));
    let listener = listen(address).await;
    let mut givings = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(handshake) => {
                    givings.spawn(serve(Arc::clone(&tools), handshake, offers.clone()));
                }
                Err(error) => {
                    tracing::warn!("Could not take a connection from another node: {error}");
                    sleep(PAUSE).await;
                }
            },
            Some(ended) = givings.join_next() => if let Err(error) = ended {
                tracing::error!("A stream to another node panicked: {error}");
            },
        }
    }
}

async fn listen(address: SocketAddr) -> Listener {
    let mut said = false;
    loop {
        match Listener::bind(address).await {
            Ok(listener) => return listener,
            Err(error) if !said => {
                tracing::warn!("No volume can leave this node: {}", words(&error));
                said = true;
            }
            Err(_) => {}
        }
        sleep(PAUSE).await;
    }
}

async fn serve(tools: Arc<Tools>, handshake: Handshake, offers: watch::Receiver<Vec<Offer>>) {
    let from = handshake.peer();
    if let Err(error) = talk(&tools, handshake, offers).await {
        tracing::warn!("Gave no volume to {from}: {}", words(&error));
    }
}

async fn talk(
    tools: &Tools,
    handshake: Handshake,
    mut offers: watch::Receiver<Vec<Offer>>,
) -> Result<(), Error> {
    // Read anew each time: certificates are renewed.
    let identity = Identity::load(&tools.disk.identity())?.ok_or(Error::NoIdentity)?;
    let mut asked = handshake.finish(&identity).await?;
    let ordered = offers.wait_for(|all| all.iter().any(|offer| offer.is_for(&asked)));
    if !matches!(timeout(ORDER, ordered).await, Ok(Ok(_))) {
        let Request {
            volume, snapshot, ..
        } = &asked.request;
        let why = format!("it was not ordered to send {snapshot:?} of volume {volume} there");
        return Ok(asked.deny(why).await?);
    }
    let Some(offer) = made(&mut asked, &mut offers).await? else {
        return Ok(asked
            .deny("the order to send it was taken back".into())
            .await?);
    };
    let outgoing = asked.grant().await?;
    let withdrawn = offers.wait_for(|all| !all.contains(&offer));
    tokio::select! {
        sent = send(tools, outgoing, &offer.what) => sent,
        _ = withdrawn => Err(Error::Withdrawn(offer.what.volume.clone())),
    }
}

/// What was asked for, as soon as it is made; `None`: it is not wanted any more.
async fn made(
    asked: &mut Asked,
    offers: &mut watch::Receiver<Vec<Offer>>,
) -> Result<Option<Offer>, Error> {
    loop {
        let all = offers.borrow_and_update().clone();
        match all.into_iter().find(|offer| offer.is_for(asked)) {
            Some(offer) if !offer.ready => {}
            offer => return Ok(offer),
        }
        tokio::select! {
            changed = offers.changed() => if changed.is_err() {
                return Ok(None);
            },
            () = sleep(SIGN) => asked.wait().await?,
        }
    }
}

async fn send(tools: &Tools, mut outgoing: Outgoing, what: &Request) -> Result<(), Error> {
    let pool = tools.volumes.pool().await?;
    let base = what.base.map(Into::into);
    let snapshot = what.snapshot.into();
    let mut stream = pool
        .send(&what.volume, base.as_ref(), &snapshot, Transfer::default())
        .await?;
    outgoing.copy(&mut stream).await?;
    let sent = stream.finish().await?;
    Ok(outgoing.finish(&sent).await?)
}
