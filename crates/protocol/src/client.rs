//! The agent's end: join, renew, connect.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use model::session::{FromAgent, FromMaster};
use rcgen::{CertificateParams, KeyPair};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::channel::{Channel, Error, Receiver, Sender};
use crate::identity::Identity;
use crate::server::{FirstWord, Grant};
use crate::trust::{self, MASTER_NAME, Token};

/// For everything up to the first answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Opens a session.
pub async fn connect(
    master: SocketAddr,
    identity: &Identity,
) -> Result<(Sender<FromAgent>, Receiver<FromMaster>), Error> {
    let mut channel = dial(master, identity.client_config()?).await?;
    channel.send(&FirstWord::Session).await?;
    Ok(channel.split())
}

/// Becomes a node of the cluster that `token` is of.
pub async fn join(master: SocketAddr, token: &str, node: &str) -> Result<Identity, Error> {
    trust::node_name(node)?;
    let token: Token = token.parse()?;
    let mut channel = dial(master, pinned_config(token.pin.clone())?).await?;
    let key = KeyPair::generate()?;
    let word = FirstWord::Join {
        token: token.digest(),
        node: node.to_owned(),
        request: request(&key)?,
    };
    ask(&mut channel, &word, key.serialize_pem()).await
}

/// A fresh certificate for the same key.
pub async fn renew(master: SocketAddr, identity: &Identity, node: &str) -> Result<Identity, Error> {
    let mut channel = dial(master, identity.client_config()?).await?;
    let key = KeyPair::from_pem(&identity.key)?;
    let word = FirstWord::Renew {
        node: node.to_owned(),
        request: request(&key)?,
    };
    ask(&mut channel, &word, identity.key.clone()).await
}

async fn ask(channel: &mut Channel, word: &FirstWord, key: String) -> Result<Identity, Error> {
    channel.send(word).await?;
    let grant = timeout(PATIENCE, channel.receive())
        .await
        .map_err(|_| Error::Slow)??;
    match grant {
        Grant::Given {
            certificate,
            authority,
        } => Ok(Identity {
            certificate,
            key,
            authority,
        }),
        Grant::Denied(why) => Err(Error::Refused(why)),
    }
}

fn request(key: &KeyPair) -> Result<String, Error> {
    Ok(CertificateParams::default().serialize_request(key)?.pem()?)
}

async fn dial(address: SocketAddr, config: ClientConfig) -> Result<Channel, Error> {
    let attempt = async {
        let stream = TcpStream::connect(address)
            .await
            .and_then(|stream| stream.set_nodelay(true).map(|()| stream))
            .map_err(|source| Error::Connect { address, source })?;
        let name = ServerName::try_from(MASTER_NAME).expect("the constant is a host name");
        TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
            .map_err(|source| Error::Handshake {
                peer: address,
                source,
            })
    };
    let stream = timeout(PATIENCE, attempt)
        .await
        .map_err(|_| Error::Slow)??;
    Ok(Channel::new(stream))
}

/// Trusts the master whose authority's certificate has this digest.
fn pinned_config(pin: String) -> Result<ClientConfig, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let schemes = provider
        .signature_verification_algorithms
        .supported_schemes();
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned { pin, schemes }))
        .with_no_client_auth())
}

/// Looks for the pinned authority in the chain that the server shows, then checks the server
/// against that authority as anybody would.
#[derive(Debug)]
struct Pinned {
    pin: String,
    schemes: Vec<SignatureScheme>,
}

impl Pinned {
    fn check(
        &self,
        chain: &[CertificateDer<'_>],
    ) -> Result<Arc<WebPkiServerVerifier>, rustls::Error> {
        let unknown = || rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let authority = chain
            .iter()
            .find(|der| trust::digest(der) == self.pin)
            .ok_or_else(unknown)?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|_| unknown())
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.check(intermediates)?.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        )
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let provider = rustls::crypto::ring::default_provider();
        let algorithms = &provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let provider = rustls::crypto::ring::default_provider();
        let algorithms = &provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}
