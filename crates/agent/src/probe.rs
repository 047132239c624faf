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

/// Where an instance is asked.
#[derive(Clone)]
pub(crate) struct Place {
    pub instance: Instance,
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
        false => place.address,
    };
    let work = async {
        match &check.probe {
            Probe::Command(line) => command(place, line, limit).await,
            Probe::Tcp { port } => {
                let address = (host, number(*port, assigned)?).into();
                connect(place, address).await.map(drop)
            }
            Probe::Http { tls, path, port } => {
                let address = (host, number(*port, assigned)?).into();
                let stream = connect(place, address).await?;
                match tls {
                    false => get(stream, address, path).await,
                    true => get(encrypt(place, stream, address).await?, address, path).await,
                }
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

async fn connect(place: &Place, address: SocketAddr) -> Result<TcpStream, Failure> {
    let connected = match &place.namespace {
        Some(path) => network::connect_in(path, address).await,
        None => TcpStream::connect(address).await,
    };
    connected.map_err(|source| Failure::Connect { address, source })
}

async fn encrypt(
    place: &Place,
    stream: TcpStream,
    address: SocketAddr,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Failure> {
    let name = ServerName::from(address.ip());
    place
        .tls
        .connect(name, stream)
        .await
        .map_err(|source| Failure::Handshake { address, source })
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
    let answer = tokio::select! {
        answer = sender.send_request(request) => answer.map_err(broken)?,
        // It ends before the answer only by failing; the answer then says how.
        _ = connection => return Err(Failure::Connect {
            address,
            source: io::ErrorKind::ConnectionReset.into(),
        }),
    };
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
