//! One health check, once: does it pass, and if not, why. When to check and what follows is
//! `health.rs` and `node::health`.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use container::{ExecSpec, How, Instance};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::header::{HOST, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use model::Assigned;
use model::spec::{HealthCheck, Probe, ProbePort};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Where an instance is asked.
pub(crate) struct Place {
    pub instance: Instance,
    pub reach: Reach,
}

/// How it is reached.
pub(crate) struct Reach {
    /// `None`: on the node's own network.
    pub namespace: Option<PathBuf>,
    /// What others reach it by.
    pub address: Ipv4Addr,
    pub tls: TlsConnector,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("no answer within {0:?}")]
    Slow(Duration),
    #[error("the check names port {0}, which the app does not have")]
    NoPort(u32),
    #[error("connect to {address}")]
    Connect {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("agree on encryption with {address}")]
    Handshake {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("{path} is not a path of a URL")]
    Path {
        path: String,
        source: hyper::http::Error,
    },
    #[error("ask {address} by http")]
    Http {
        address: SocketAddr,
        source: hyper::Error,
    },
    #[error("answered {0}")]
    Status(StatusCode),
    #[error("the command ended with {0:?}")]
    Command(How),
    #[error("run the command")]
    Run(#[source] container::Error),
}

/// Asks once, for at most `limit`.
pub(crate) async fn probe(
    place: &Place,
    assigned: &Assigned,
    check: &HealthCheck,
    limit: Duration,
) -> Result<(), Failure> {
    // Mesos' own checks ask from inside, by loopback; Marathon's ask as a client would.
    let host = match check.protocol.starts_with("MESOS_") {
        true => Ipv4Addr::LOCALHOST,
        false => place.reach.address,
    };
    let work = async {
        match &check.probe {
            Probe::Command(line) => command(place, line, limit).await,
            Probe::Tcp { port } => {
                let address = (host, number(*port, assigned)?).into();
                place.reach.connect(address).await.map(drop)
            }
            Probe::Http { tls, path, port } => {
                let address = (host, number(*port, assigned)?).into();
                place.reach.ask(address, *tls, path).await
            }
        }
    };
    timeout(limit, work)
        .await
        .unwrap_or(Err(Failure::Slow(limit)))
}

/// The port inside the instance's network.
fn number(port: ProbePort, assigned: &Assigned) -> Result<u16, Failure> {
    let index = match port {
        ProbePort::Number(number) => return Ok(number),
        ProbePort::Index(index) => index,
    };
    let missing = Failure::NoPort(index);
    let Ok(position) = usize::try_from(index) else {
        return Err(missing);
    };
    let (Some(port), host) = (
        assigned.spec.ports.get(position),
        assigned.placement.host_ports.get(position),
    ) else {
        return Err(missing);
    };
    let on_the_node = assigned.placement.address.is_none();
    match (port.container, host.copied().unwrap_or(0)) {
        (0, 0) => Err(missing),
        (0, host) => Ok(host),
        (_, host) if on_the_node && host != 0 => Ok(host),
        (container, _) => Ok(container),
    }
}

impl Reach {
    async fn ask(&self, address: SocketAddr, tls: bool, path: &str) -> Result<(), Failure> {
        let stream = self.connect(address).await?;
        match tls {
            false => get(stream, address, path).await,
            true => get(self.encrypt(stream, address).await?, address, path).await,
        }
    }

    async fn connect(&self, address: SocketAddr) -> Result<TcpStream, Failure> {
        let connected = match &self.namespace {
            Some(path) => network::connect_in(path, address).await,
            None => TcpStream::connect(address).await,
        };
        connected.map_err(|source| Failure::Connect { address, source })
    }

    async fn encrypt(
        &self,
        stream: TcpStream,
        address: SocketAddr,
    ) -> Result<TlsStream<TcpStream>, Failure> {
        let name = ServerName::from(address.ip());
        let agreed = self.tls.connect(name, stream).await;
        agreed.map_err(|source| Failure::Handshake { address, source })
    }
}

/// Anything from 200 to 399 passes; redirections are not followed.
async fn get(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    address: SocketAddr,
    path: &str,
) -> Result<(), Failure> {
    let path = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    };
    let request = Request::get(&path)
        .header(HOST, address.to_string())
        .header(USER_AGENT, "tandem-health")
        .body(Empty::<Bytes>::new())
        .map_err(|source| Failure::Path { path, source })?;
    let broken = |source| Failure::Http { address, source };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let answer = sender.send_request(request);
    tokio::pin!(answer, connection);
    let answer = tokio::select! {
        biased;
        answer = &mut answer => answer,
        // The server may close as it answers; without an answer this says why.
        _ = &mut connection => answer.await,
    };
    let answer = answer.map_err(broken)?;
    match answer.status() {
        status if status.is_success() || status.is_redirection() => Ok(()),
        status => Err(Failure::Status(status)),
    }
}

async fn command(place: &Place, line: &str, limit: Duration) -> Result<(), Failure> {
    let spec = ExecSpec {
        args: vec!["/bin/sh".into(), "-c".into(), line.to_owned()],
        ..ExecSpec::default()
    };
    let output = place
        .instance
        .run(&spec, limit)
        .await
        .map_err(Failure::Run)?;
    match output.how {
        Some(How::Code(0)) => Ok(()),
        Some(how) => Err(Failure::Command(how)),
        None => Err(Failure::Slow(limit)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::spec::{HostPort, Network, Port, Protocols};
    use model::{AppId, AppSpec, Goal, Placement, Time};
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    fn reach() -> Reach {
        Reach {
            namespace: None,
            address: Ipv4Addr::LOCALHOST,
            tls: crate::tls::connector().expect("tls"),
        }
    }

    async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, words: &str) {
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            asked.push(stream.read_u8().await.expect("a request"));
        }
        assert!(asked.starts_with(b"GET /health?x=1 HTTP/1.1\r\n"));
        let words = format!("HTTP/1.1 {words}\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(words.as_bytes()).await.expect("answer");
        let _ = stream.shutdown().await;
    }

    #[tokio::test]
    async fn two_and_three_hundreds_pass_and_nothing_else_does() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen");
        let address = listener.local_addr().expect("an address");
        for (words, passes) in [
            ("200 OK", true),
            ("302 Found", true),
            ("404 Not Found", false),
            ("503 Busy", false),
        ] {
            let reach = reach();
            let serve = async { answer(listener.accept().await.expect("a client").0, words).await };
            let (asked, ()) = tokio::join!(reach.ask(address, false, "health?x=1"), serve);
            assert_eq!(asked.is_ok(), passes, "{words}: {asked:?}");
        }
        drop(listener);
        let refused = reach().ask(address, false, "/").await;
        assert!(
            matches!(refused, Err(Failure::Connect { .. })),
            "{refused:?}"
        );
    }

    #[tokio::test]
    async fn https_passes_whoever_signed_the_certificate() {
        let made = rcgen::generate_simple_self_signed(["elsewhere.example".to_owned()]);
        let made = made.expect("a certificate");
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], PrivateKeyDer::from(key))
            .expect("a server");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen");
        let address = listener.local_addr().expect("an address");
        let reach = reach();
        let serve = async {
            let stream = listener.accept().await.expect("a client").0;
            let stream = acceptor.accept(stream).await.expect("a handshake");
            answer(stream, "200 OK").await;
        };
        let (asked, ()) = tokio::join!(reach.ask(address, true, "/health?x=1"), serve);
        assert!(asked.is_ok(), "{asked:?}");
    }

    #[test]
    fn an_index_means_the_containers_port_and_on_the_nodes_network_the_hosts() {
        let port = |container| Port {
            name: None,
            protocol: Protocols::Tcp,
            container,
            host: HostPort::Dynamic,
            service: 0,
            labels: Default::default(),
            published: false,
        };
        let mut assigned = Assigned {
            app: AppId::parse("/web").expect("an id"),
            slot: 0,
            version: Time(0),
            spec: Arc::new(AppSpec {
                network: Network::Bridge,
                ports: vec![port(8080), port(0)],
                ..AppSpec::default()
            }),
            placement: Placement {
                address: Some(Ipv4Addr::new(10, 32, 0, 7)),
                host_ports: vec![31_000, 31_001],
                ..Placement::default()
            },
            goal: Goal::Run,
        };
        let of = |assigned: &Assigned, index| number(ProbePort::Index(index), assigned).ok();
        assert_eq!(of(&assigned, 0), Some(8080));
        assert_eq!(of(&assigned, 1), Some(31_001));
        assert_eq!(of(&assigned, 2), None);
        assigned.placement.address = None;
        assert_eq!(of(&assigned, 0), Some(31_000));
        assert_eq!(number(ProbePort::Number(5), &assigned).ok(), Some(5));
    }
}
