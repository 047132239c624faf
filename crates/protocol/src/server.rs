//! The master's end: the listener, and what a connection opens with.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use model::session::{FromAgent, FromMaster};
use rustls::ServerConfig;
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::channel::{Channel, Error, Receiver, Sender};
use crate::trust::{self, Authority};

/// For everything up to the first word; a connection that says nothing is not kept.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a connection opens with.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FirstWord {
    /// `token` is the token's digest, `request` a certificate request, PEM.
    Join {
        token: String,
        node: String,
        request: String,
    },
    Renew {
        node: String,
        request: String,
    },
    Session,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Grant {
    Given {
        certificate: String,
        authority: String,
    },
    Denied(String),
}

pub struct Listener {
    tcp: TcpListener,
    tls: TlsAcceptor,
}

impl Listener {
    pub async fn bind(address: SocketAddr, authority: &Authority) -> Result<Self, Error> {
        let identity = authority.master_identity()?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let clients =
            WebPkiClientVerifier::builder_with_provider(identity.roots()?, Arc::clone(&provider))
                .allow_unauthenticated()
                .build()
                .map_err(|error| rustls::Error::General(error.to_string()))?;
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(clients)
            .with_single_cert(identity.chain()?, identity.private_key()?)?;
        let tcp = TcpListener::bind(address)
            .await
            .map_err(|source| Error::Listen { address, source })?;
        Ok(Self {
            tcp,
            tls: TlsAcceptor::from(Arc::new(config)),
        })
    }

    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// The next connection, before anything was said on it. Cancel-safe.
    pub async fn accept(&self) -> std::io::Result<Handshake> {
        let (stream, peer) = self.tcp.accept().await?;
        stream.set_nodelay(true)?;
        Ok(Handshake {
            stream,
            peer,
            tls: self.tls.clone(),
        })
    }
}

/// A connection on which encryption and the first word are still to come. To be finished in a
/// task of its own, so that a slow peer delays nobody.
pub struct Handshake {
    stream: TcpStream,
    peer: SocketAddr,
    tls: TlsAcceptor,
}

impl Handshake {
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    pub async fn finish(self) -> Result<Opening, Error> {
        timeout(PATIENCE, self.talk())
            .await
            .map_err(|_| Error::Slow)?
    }

    async fn talk(self) -> Result<Opening, Error> {
        let peer = self.peer;
        let stream = self
            .tls
            .accept(self.stream)
            .await
            .map_err(|source| Error::Handshake { peer, source })?;
        let who = Peer::of(peer, stream.get_ref().1);
        let mut channel = Channel::new(stream);
        Ok(match channel.receive().await? {
            FirstWord::Join {
                token,
                node,
                request,
            } => Opening::Join(JoinRequest {
                token,
                node,
                request,
                channel,
            }),
            FirstWord::Renew { node, request } => Opening::Renew(RenewRequest {
                peer: who,
                node,
                request,
                channel,
            }),
            FirstWord::Session => {
                let (sender, receiver) = channel.split();
                Opening::Session(Box::new(Session {
                    peer: who,
                    sender,
                    receiver,
                }))
            }
        })
    }
}

pub enum Opening {
    Join(JoinRequest),
    Renew(RenewRequest),
    Session(Box<Session>),
}

/// A session before its hello.
pub struct Session {
    pub peer: Peer,
    pub sender: Sender<FromMaster>,
    pub receiver: Receiver<FromAgent>,
}

/// Who is at the other end.
pub struct Peer {
    pub address: SocketAddr,
    certificate: Option<CertificateDer<'static>>,
}

impl Peer {
    /// Whoever shook hands on this connection.
    pub(crate) fn of(address: SocketAddr, connection: &rustls::ServerConnection) -> Self {
        let chain = connection.peer_certificates();
        let certificate = chain.and_then(|chain| chain.first());
        Self {
            address,
            certificate: certificate.map(|certificate| certificate.clone().into_owned()),
        }
    }

    /// Whether the peer's certificate, checked at the handshake, is this node's.
    pub fn is(&self, node: &str) -> bool {
        let name = trust::node_name(node)
            .ok()
            .and_then(|name| ServerName::try_from(name).ok());
        let certificate = self
            .certificate
            .as_ref()
            .and_then(|c| ParsedCertificate::try_from(c).ok());
        match (name, certificate) {
            (Some(name), Some(certificate)) => verify_server_name(&certificate, &name).is_ok(),
            (None, _) | (_, None) => false,
        }
    }
}

/// Somebody with a token wants to be `node`.
pub struct JoinRequest {
    /// The token's digest.
    pub token: String,
    pub node: String,
    request: String,
    channel: Channel,
}

impl JoinRequest {
    pub async fn grant(mut self, authority: &Authority) -> Result<(), Error> {
        grant(&mut self.channel, authority, &self.node, &self.request).await
    }

    pub async fn deny(mut self, why: String) -> Result<(), Error> {
        self.channel.send(&Grant::Denied(why)).await
    }
}

/// A node wants a fresh certificate.
pub struct RenewRequest {
    pub peer: Peer,
    pub node: String,
    request: String,
    channel: Channel,
}

impl RenewRequest {
    pub async fn grant(mut self, authority: &Authority) -> Result<(), Error> {
        grant(&mut self.channel, authority, &self.node, &self.request).await
    }

    pub async fn deny(mut self, why: String) -> Result<(), Error> {
        self.channel.send(&Grant::Denied(why)).await
    }
}

async fn grant(
    channel: &mut Channel,
    authority: &Authority,
    node: &str,
    request: &str,
) -> Result<(), Error> {
    let answer = match authority.sign(node, request) {
        Ok(certificate) => Grant::Given {
            certificate,
            authority: authority.certificate().to_owned(),
        },
        Err(error) => Grant::Denied(error.to_string()),
    };
    channel.send(&answer).await
}
