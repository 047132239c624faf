//! Between two agents: one asks for a stream of a volume, the other gives it, both by the
//! certificates that they have from the cluster.
//!
//! ```text
//! asker ── Request ──▶ giver ─▶ Wait… ─▶ Given ─▶ chunks ─▶ empty chunk ─▶ what was sent
//!                                    └─ Denied(why)
//! ```
//! What a stream holds, and who may have it, is the agents' business.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use model::{Generation, Snapshot, VolumeId};
use rustls::pki_types::ServerName;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Sleep, sleep, timeout};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::bytes::{Buf, Bytes};

use crate::channel::{Channel, Error};
use crate::identity::Identity;
use crate::server::Peer;
use crate::trust;

/// For everything up to the request.
const PATIENCE: Duration = Duration::from_secs(10);
/// The giver may be looking for what changed.
const SILENCE: Duration = Duration::from_secs(120);
/// Bytes.
const CHUNK: usize = 256 << 10;

/// Which stream. The leader has ordered it of both ends, word for word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    pub volume: VolumeId,
    pub generation: Generation,
    pub snapshot: Snapshot,
    pub base: Option<Snapshot>,
}

#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    /// It is still being made.
    Wait,
    Given,
    Denied(String),
}

/// Asks the agent of node `name` at `address` for a stream.
///
/// Waits as long as the giver says so.
///
/// # Errors
/// Another node answers there, or it denies: [`Error::Denied`] has its reason.
pub async fn ask(
    address: SocketAddr,
    name: &str,
    identity: &Identity,
    request: &Request,
) -> Result<Incoming, Error> {
    let mut channel = timeout(PATIENCE, dial(address, name, identity))
        .await
        .map_err(|_| Error::Slow)??;
    channel.send(request).await?;
    loop {
        let answer = timeout(SILENCE, channel.receive()).await;
        match answer.map_err(|_| Error::Slow)?? {
            Answer::Wait => {}
            Answer::Given => break,
            Answer::Denied(why) => return Err(Error::Denied(why)),
        }
    }
    Ok(Incoming {
        channel,
        chunk: Bytes::new(),
        ended: false,
        silence: Box::pin(sleep(SILENCE)),
    })
}

async fn dial(address: SocketAddr, name: &str, identity: &Identity) -> Result<Channel, Error> {
    let config = identity.client_config()?;
    let invalid = || Error::Name(name.to_owned());
    let name = ServerName::try_from(trust::node_name(name)?).map_err(|_| invalid())?;
    let stream = TcpStream::connect(address)
        .await
        .and_then(|stream| stream.set_nodelay(true).map(|()| stream))
        .map_err(|source| Error::Connect { address, source })?;
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .map_err(|source| Error::Handshake {
            peer: address,
            source,
        })?;
    Ok(Channel::new(stream))
}

/// A stream that comes in. Read it to its end, then ask for what was [`Incoming::sent`].
pub struct Incoming {
    channel: Channel,
    chunk: Bytes,
    ended: bool,
    silence: Pin<Box<Sleep>>,
}

impl Incoming {
    /// What the giver says that it sent; only after the stream's end.
    pub async fn sent<T: DeserializeOwned>(&mut self) -> Result<T, Error> {
        timeout(SILENCE, self.channel.receive())
            .await
            .map_err(|_| Error::Slow)?
    }
}

impl AsyncRead for Incoming {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.chunk.is_empty() && !this.ended {
            if this.silence.as_mut().poll(context).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            match ready!(this.channel.poll_bytes(context)) {
                // A giver that gave up closes without an empty chunk.
                None => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Some(chunk) => this.chunk = chunk?,
            }
            this.ended = this.chunk.is_empty();
            this.silence.as_mut().reset(Instant::now() + SILENCE);
        }
        let now = this.chunk.len().min(buffer.remaining());
        buffer.put_slice(&this.chunk[..now]);
        this.chunk.advance(now);
        Poll::Ready(Ok(()))
    }
}

/// Where other agents ask.
pub struct Listener {
    tcp: TcpListener,
}

impl Listener {
    pub async fn bind(address: SocketAddr) -> Result<Self, Error> {
        let tcp = TcpListener::bind(address)
            .await
            .map_err(|source| Error::Listen { address, source })?;
        Ok(Self { tcp })
    }

    pub fn address(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// The next connection, before anything was said on it. Cancel-safe.
    pub async fn accept(&self) -> io::Result<Handshake> {
        let (stream, peer) = self.tcp.accept().await?;
        stream.set_nodelay(true)?;
        Ok(Handshake { stream, peer })
    }
}

/// To be finished in a task of its own, so that a slow peer delays nobody.
pub struct Handshake {
    stream: TcpStream,
    peer: SocketAddr,
}

impl Handshake {
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Who asks, and for what. Only nodes of the same cluster get so far.
    pub async fn finish(self, identity: &Identity) -> Result<Asked, Error> {
        timeout(PATIENCE, self.talk(identity))
            .await
            .map_err(|_| Error::Slow)?
    }

    async fn talk(self, identity: &Identity) -> Result<Asked, Error> {
        let address = self.peer;
        let config = identity.server_config()?;
        let stream = TlsAcceptor::from(Arc::new(config))
            .accept(self.stream)
            .await
            .map_err(|source| Error::Handshake {
                peer: address,
                source,
            })?;
        let peer = Peer::of(address, stream.get_ref().1);
        let mut channel = Channel::new(stream);
        Ok(Asked {
            request: channel.receive().await?,
            peer,
            channel,
        })
    }
}

/// Somebody wants a stream.
pub struct Asked {
    pub peer: Peer,
    pub request: Request,
    channel: Channel,
}

impl Asked {
    pub async fn deny(mut self, why: String) -> Result<(), Error> {
        self.channel.send(&Answer::Denied(why)).await
    }

    /// Tells the asker that what it asked for is not made yet.
    pub async fn wait(&mut self) -> Result<(), Error> {
        self.channel.send(&Answer::Wait).await
    }

    pub async fn grant(mut self) -> Result<Outgoing, Error> {
        self.channel.send(&Answer::Given).await?;
        Ok(Outgoing {
            channel: self.channel,
        })
    }
}

/// A stream that goes out; dropped before [`Outgoing::finish`], it is a broken one for the asker.
pub struct Outgoing {
    channel: Channel,
}

impl Outgoing {
    /// Sends all of `stream`, to its end.
    pub async fn copy(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> Result<(), Error> {
        let mut chunk = Vec::with_capacity(CHUNK);
        loop {
            chunk.clear();
            let read = stream
                .take(CHUNK as u64)
                .read_buf(&mut chunk)
                .await
                .map_err(|source| Error::Broken { source })?;
            if read == 0 {
                return Ok(());
            }
            let bytes = Bytes::copy_from_slice(&chunk);
            self.channel.send_bytes(bytes).await?;
        }
    }

    /// Ends the stream, and says what was sent.
    pub async fn finish(mut self, sent: &impl Serialize) -> Result<(), Error> {
        self.channel.send_bytes(Bytes::new()).await?;
        self.channel.send(sent).await
    }
}
