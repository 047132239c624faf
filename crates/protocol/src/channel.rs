//! Frames: a length in four bytes, then a message as JSON.

use std::marker::PhantomData;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::task::{Context, Poll};

use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::bytes::{Bytes, BytesMut};
use tokio_util::codec::{Framed, LengthDelimitedCodec};

/// The largest frame: a whole assignment or directory of a large cluster fits.
const MAX_FRAME: usize = 256 << 20;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("connect to {address}")]
    Connect {
        address: SocketAddr,
        source: std::io::Error,
    },
    #[error("listen on {address}")]
    Listen {
        address: SocketAddr,
        source: std::io::Error,
    },
    #[error("agree with {peer} on encryption")]
    Handshake {
        peer: SocketAddr,
        source: std::io::Error,
    },
    #[error("the peer did not answer in time")]
    Slow,
    #[error("the connection broke")]
    Broken { source: std::io::Error },
    #[error("the peer sent what is no message")]
    Message { source: serde_json::Error },
    #[error("the connection was closed where a message was expected")]
    Closed,
    #[error("the master refused: {0}")]
    Refused(String),
    #[error("the other node denied: {0}")]
    Denied(String),
    #[error("'{0}' is no join token; make one with `tandem token create`")]
    Token(String),
    #[error("'{0}' cannot be a node's name: use letters, digits and dashes")]
    Name(String),
    #[error("make a certificate")]
    Certificate { source: rcgen::Error },
    #[error("use the certificate")]
    Tls { source: rustls::Error },
    #[error("{doing} {path}")]
    File {
        doing: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{path} holds no certificate or key")]
    Pem { path: PathBuf },
}

impl From<rcgen::Error> for Error {
    fn from(source: rcgen::Error) -> Self {
        Self::Certificate { source }
    }
}

impl From<rustls::Error> for Error {
    fn from(source: rustls::Error) -> Self {
        Self::Tls { source }
    }
}

type Frames = Framed<Box<dyn ReadWrite>, LengthDelimitedCodec>;

pub(crate) trait ReadWrite: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> ReadWrite for T {}

fn codec() -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder()
        .max_frame_length(MAX_FRAME)
        .new_codec()
}

/// A connection before it is known what is spoken on it.
pub(crate) struct Channel(Frames);

impl Channel {
    pub fn new(stream: impl ReadWrite + 'static) -> Self {
        Self(Framed::new(Box::new(stream), codec()))
    }

    pub async fn send(&mut self, message: &impl Serialize) -> Result<(), Error> {
        let bytes = encode(message)?;
        self.0
            .send(bytes)
            .await
            .map_err(|source| Error::Broken { source })
    }

    pub async fn receive<T: DeserializeOwned>(&mut self) -> Result<T, Error> {
        let frame = self.0.next().await.ok_or(Error::Closed)?;
        decode(&frame.map_err(|source| Error::Broken { source })?)
    }

    /// A frame that is no message.
    pub async fn send_bytes(&mut self, bytes: Bytes) -> Result<(), Error> {
        self.0
            .send(bytes)
            .await
            .map_err(|source| Error::Broken { source })
    }

    /// The next frame as it is; `None`: the connection was closed.
    pub fn poll_bytes(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<std::io::Result<Bytes>>> {
        let frame = self.0.poll_next_unpin(context);
        frame.map(|frame| frame.map(|frame| frame.map(BytesMut::freeze)))
    }

    pub fn split<S, R>(self) -> (Sender<S>, Receiver<R>) {
        let (sink, stream) = self.0.split();
        (
            Sender {
                frames: sink,
                message: PhantomData,
            },
            Receiver {
                frames: stream,
                message: PhantomData,
            },
        )
    }
}

fn encode(message: &impl Serialize) -> Result<Bytes, Error> {
    serde_json::to_vec(message)
        .map(Bytes::from)
        .map_err(|source| Error::Message { source })
}

fn decode<T: DeserializeOwned>(frame: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(frame).map_err(|source| Error::Message { source })
}

/// The sending half of a session.
pub struct Sender<T> {
    frames: SplitSink<Frames, Bytes>,
    message: PhantomData<fn(T)>,
}

impl<T: Serialize> Sender<T> {
    pub async fn send(&mut self, message: &T) -> Result<(), Error> {
        let bytes = encode(message)?;
        self.frames
            .send(bytes)
            .await
            .map_err(|source| Error::Broken { source })
    }
}

/// The receiving half of a session.
pub struct Receiver<T> {
    frames: SplitStream<Frames>,
    message: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Receiver<T> {
    /// The next message; `None`: the peer closed the session. Cancel-safe.
    pub async fn receive(&mut self) -> Result<Option<T>, Error> {
        match self.frames.next().await {
            None => Ok(None),
            Some(frame) => decode(&frame.map_err(|source| Error::Broken { source })?).map(Some),
        }
    }
}
