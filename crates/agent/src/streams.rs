//! Gives streams of volumes to other nodes: exactly what this node's assignment orders now, to
//! exactly the node that it names. Nothing else is given to anybody.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use protocol::peer::{Asked, Handshake, Listener, Outgoing, PORT, Request};
use protocol::{Identity, peer};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use volume::transfer::Transfer;

use crate::act::Tools;
use crate::error::words;

/// Both ends are told at once, and the giver may have to run a hook and take a snapshot first.
const MAKING: Duration = Duration::from_secs(90);
const PAUSE: Duration = Duration::from_secs(1);

/// A stream that may be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    /// The name of the node that may.
    pub to: String,
    pub what: Request,
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
    let address = SocketAddr::from((tools.config.machine.address, PORT));
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
    let asked = handshake.finish(&identity).await?;
    let wanted = asked.request.clone();
    let mine = |offer: &Offer, asked: &Asked| offer.what == wanted && asked.peer.is(&offer.to);
    let offered = offers.wait_for(|all| all.iter().any(|offer| mine(offer, &asked)));
    let found = timeout(MAKING, offered).await;
    let Some(offer) = found.ok().and_then(Result::ok).and_then(|all| {
        let mut mine = all.iter().filter(|offer| mine(offer, &asked));
        mine.next().cloned()
    }) else {
        let peer::Request {
            volume, snapshot, ..
        } = &wanted;
        let why = format!("it was not ordered to send {snapshot:?} of volume {volume} there");
        return Ok(asked.deny(why).await?);
    };
    let outgoing = asked.grant().await?;
    let withdrawn = offers.wait_for(|all| !all.contains(&offer));
    tokio::select! {
        sent = send(tools, outgoing, &offer.what) => sent,
        _ = withdrawn => Err(Error::Withdrawn(wanted.volume)),
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
