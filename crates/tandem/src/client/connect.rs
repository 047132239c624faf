//! Where the API is, and one request to it.

use std::fmt;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::Path;
use std::pin::Pin;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::fault::{Doing, Exit, Fault, Result};

/// The API's host and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    host: String,
    port: u16,
}

impl Origin {
    pub fn loopback(port: u16) -> Self {
        Origin {
            host: "127.0.0.1".into(),
            port,
        }
    }

    /// `http://host:port`, `host:port` or `host`.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |why: &str| {
            Fault::new(
                Exit::Usage,
                format!("`{text}` is not a master's URL: {why}"),
            )
            .hint("it looks like http://10.0.15.10:8080")
        };
        let whole = match text.contains("://") {
            true => text.to_owned(),
            false => format!("http://{text}"),
        };
        let uri: Uri = whole.parse().map_err(|_| wrong("it cannot be read"))?;
        match uri.scheme_str() {
            Some("http") => {}
            _ => return Err(wrong("the API is spoken in plain http")),
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(wrong("it has no path"));
        }
        let host = uri.host().filter(|host| !host.is_empty());
        Ok(Origin {
            host: host.ok_or_else(|| wrong("it has no host"))?.to_owned(),
            port: uri.port_u16().unwrap_or(8080),
        })
    }

    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    pub fn is_loopback(&self) -> bool {
        let address = self.host.trim_matches(['[', ']']).parse::<IpAddr>();
        self.host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}:{}", self.host, self.port)
    }
}

/// What is connected to.
pub enum Place<'a> {
    Origin(&'a Origin),
    Socket(&'a Path),
}

trait Stream: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Stream for T {}

/// Sends one request on a connection of its own.
pub async fn send(place: &Place<'_>, request: Request<Full<Bytes>>) -> Result<Response<Incoming>> {
    let stream = connect(place).await?;
    let lost = || "talk to the master".into();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .doing(lost)
        .exit(Exit::Unreachable)?;
    tokio::spawn(connection.with_upgrades());
    let response = sender.send_request(request).await;
    response.doing(lost).exit(Exit::Unreachable)
}

async fn connect(place: &Place<'_>) -> Result<Pin<Box<dyn Stream>>> {
    match place {
        Place::Origin(origin) => {
            let host = origin.host.trim_matches(['[', ']']);
            let connected = TcpStream::connect((host, origin.port)).await;
            let connected = connected
                .doing(|| format!("reach the master at {origin}"))
                .exit(Exit::Unreachable)
                .hint(|| {
                    "start a cluster with `tandem up`, or name its master by --master URL or \
                     TANDEM_MASTER"
                        .into()
                });
            Ok(Box::pin(connected?))
        }
        Place::Socket(path) => {
            let connected = UnixStream::connect(path).await;
            let hint = match &connected {
                Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                    "only root may ask this: run it with sudo"
                }
                _ => "start the master with `tandem up` or `tandem master`",
            };
            let connected = connected
                .doing(|| format!("reach the master at {}", path.display()))
                .exit(Exit::Unreachable)
                .hint(|| hint.into());
            Ok(Box::pin(connected?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_masters_url_may_be_short() {
        let cases = [
            ("http://10.0.15.10:8080/", "http://10.0.15.10:8080"),
            ("10.0.15.10:81", "http://10.0.15.10:81"),
            ("master", "http://master:8080"),
        ];
        for (text, expected) in cases {
            assert_eq!(Origin::parse(text).unwrap().to_string(), expected);
        }
        for text in ["https://x", "http://x/v2", "", "http://"] {
            assert_eq!(Origin::parse(text).unwrap_err().exit, Exit::Usage, "{text}");
        }
    }

    #[test]
    fn only_this_machines_master_has_a_socket_here() {
        for (text, expected) in [
            ("localhost", true),
            ("127.0.0.2:1", true),
            ("10.0.15.10", false),
        ] {
            assert_eq!(
                Origin::parse(text).unwrap().is_loopback(),
                expected,
                "{text}"
            );
        }
    }
}
