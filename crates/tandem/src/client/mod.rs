//! The client of the public API: one connection per request, over TCP or, for what only root may
//! ask, over the master's unix socket. It knows no command; what it decodes is in [`views`].

mod answer;
mod connect;
pub mod path;
pub mod views;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, CONNECTION, CONTENT_TYPE, HOST, UPGRADE};
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::fault::{Doing, Exit, Fault, Result};
pub use answer::{Answer, Lines};
use connect::{Origin, Place};

/// No answer takes as long as this.
const PATIENCE: Duration = Duration::from_secs(60);
/// A master is back sooner, unless nobody starts it again.
const RESTART: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(200);

/// How commands find the cluster.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Connection")]
pub struct Connection {
    /// The master's API [default: http://127.0.0.1:8080]
    #[arg(
        long,
        env = "TANDEM_MASTER",
        hide_env_values = true,
        value_name = "URL"
    )]
    master: Option<String>,
    /// State directory, whose master/api.sock answers root on the master's machine
    #[arg(
        long,
        env = "TANDEM_STATE_DIR",
        hide_env_values = true,
        default_value = "/var/lib/tandem",
        value_name = "DIR"
    )]
    state_dir: PathBuf,
}

pub struct Client {
    origin: Origin,
    /// Asked what is for root alone, where the origin is this machine.
    socket: Option<Socket>,
}

struct Socket {
    path: PathBuf,
    compared: Compared,
}

/// Whether a socket must lead to the same cluster as the origin, which commands ask besides.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Compared {
    Never,
    /// Where the origin, which nobody named, answers.
    IfAnswered,
    Always,
}

/// What is to be asked.
pub struct Ask {
    method: Method,
    path: String,
    body: Option<Value>,
    root: bool,
    accept: Option<&'static str>,
}

impl Ask {
    fn new(method: Method, path: impl Into<String>) -> Self {
        Ask {
            method,
            path: path.into(),
            body: None,
            root: false,
            accept: None,
        }
    }

    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    pub fn put(path: impl Into<String>, body: Value) -> Self {
        Self::new(Method::PUT, path).with(body)
    }

    pub fn patch(path: impl Into<String>, body: Value) -> Self {
        Self::new(Method::PATCH, path).with(body)
    }

    pub fn post(path: impl Into<String>) -> Self {
        Self::new(Method::POST, path)
    }

    pub fn delete(path: impl Into<String>) -> Self {
        Self::new(Method::DELETE, path)
    }

    pub fn with(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }

    /// The kind of answer that is wanted.
    pub fn accepting(mut self, kind: &'static str) -> Self {
        self.accept = Some(kind);
        self
    }

    /// Answered only to root, on the socket.
    pub fn for_root(mut self) -> Self {
        self.root = true;
        self
    }
}

/// What a command's requests run on.
pub fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .doing(|| "start a runtime".into())
}

impl Connection {
    pub fn open(&self) -> Result<Client> {
        let named = self.master.as_deref();
        let origin = Origin::parse(named.unwrap_or("http://127.0.0.1:8080"))?;
        // Another machine's cluster must not be mixed up with the one that runs here.
        let socket = origin
            .is_loopback()
            .then(|| self.state_dir.join("master/api.sock"))
            .filter(|path| path.exists())
            .map(|path| Socket {
                path,
                compared: match named {
                    Some(_) => Compared::Always,
                    None => Compared::IfAnswered,
                },
            });
        Ok(Client { origin, socket })
    }
}

impl Client {
    /// A client of the master on this machine, by its socket alone.
    pub fn of_socket(path: PathBuf) -> Self {
        Client {
            origin: Origin::loopback(8080),
            socket: Some(Socket {
                path,
                compared: Compared::Never,
            }),
        }
    }

    /// A client of the API on a port of this machine.
    pub fn of_loopback(port: u16) -> Self {
        Client {
            origin: Origin::loopback(port),
            socket: None,
        }
    }

    /// A client of another plain-http service, such as the registry.
    pub fn of_address(address: &str) -> Result<Self> {
        Ok(Client {
            origin: Origin::parse(address)?,
            socket: None,
        })
    }

    /// Where the cluster is, for people.
    pub fn origin(&self) -> String {
        self.origin.to_string()
    }

    /// The answer's value; refusals are faults.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.ask(Ask::get(path)).await?.decode()
    }

    /// As [`Client::get`], and through a restart of the master.
    pub async fn get_patiently<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let end = Instant::now() + RESTART;
        loop {
            match self.get(path).await {
                Err(fault) if fault.exit == Exit::Unreachable && Instant::now() < end => {
                    tokio::time::sleep(PAUSE).await;
                }
                answer => return answer,
            }
        }
    }

    /// The whole answer; refusals are faults.
    pub async fn ask(&self, ask: Ask) -> Result<Answer> {
        let method = ask.method.clone();
        let path = ask.path.clone();
        let answer = self.try_ask(ask).await?;
        answer.accepted(&method, &path)
    }

    /// The whole answer, whatever its status.
    pub async fn try_ask(&self, ask: Ask) -> Result<Answer> {
        let answered = tokio::time::timeout(PATIENCE, self.answer(ask)).await;
        answered.unwrap_or_else(|_| {
            let said = format!("the master gave no answer within {} s", PATIENCE.as_secs());
            Err(Fault::new(Exit::Unreachable, said))
        })
    }

    async fn answer(&self, ask: Ask) -> Result<Answer> {
        let response = self.send(ask, None).await?;
        let status = response.status();
        let headers = response.headers().clone();
        let body = response.into_body().collect().await;
        let body = body.doing(|| "read the master's answer".into())?.to_bytes();
        Ok(Answer {
            status,
            headers,
            body,
        })
    }

    /// An answer of lines that may never end.
    pub async fn lines(&self, ask: Ask) -> Result<Lines> {
        let (method, path) = (ask.method.clone(), ask.path.clone());
        let response = self.send(ask, None).await?;
        if response.status() != StatusCode::OK {
            return Err(refused(response, &method, &path).await);
        }
        Ok(Lines::new(response.into_body()))
    }

    /// A connection that speaks `protocol` from here on.
    pub async fn upgrade(&self, ask: Ask, protocol: &str) -> Result<TokioIo<Upgraded>> {
        let (method, path) = (ask.method.clone(), ask.path.clone());
        let response = self.send(ask, Some(protocol)).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(refused(response, &method, &path).await);
        }
        let upgraded = hyper::upgrade::on(response).await;
        Ok(TokioIo::new(
            upgraded.doing(|| "take over the connection".into())?,
        ))
    }

    async fn send(&self, ask: Ask, upgrade: Option<&str>) -> Result<Response<Incoming>> {
        match &self.socket {
            Some(socket) if ask.root => {
                self.compare(socket).await?;
                self.send_to(&Place::Socket(&socket.path), ask, upgrade)
                    .await
            }
            _ => {
                self.send_to(&Place::Origin(&self.origin), ask, upgrade)
                    .await
            }
        }
    }

    /// Refuses a socket of another cluster than the origin's: volumes of the same name may be in
    /// both.
    async fn compare(&self, socket: &Socket) -> Result<()> {
        let Socket { path, compared } = socket;
        if *compared == Compared::Never {
            return Ok(());
        }
        let at_socket = self.cluster(&Place::Socket(path)).await?;
        let at_origin = match self.cluster(&Place::Origin(&self.origin)).await {
            Err(_) if *compared == Compared::IfAnswered => return Ok(()),
            found => found?,
        };
        if at_origin == at_socket {
            return Ok(());
        }
        let said = format!(
            "{} is another cluster than the one whose socket is {}",
            self.origin,
            path.display()
        );
        Err(Fault::new(Exit::Usage, said).hint("name both, with --master and --state-dir"))
    }

    async fn cluster(&self, place: &Place<'_>) -> Result<String> {
        let asked = async {
            let response = self.send_to(place, Ask::get("/v2/info"), None);
            let body = response.await?.into_body().collect().await;
            let body = body.doing(|| "read the master's answer".into())?.to_bytes();
            let info = serde_json::from_slice::<views::Info>(&body);
            Ok(info
                .doing(|| "find out which cluster this is".into())?
                .framework_id)
        };
        let answered = tokio::time::timeout(PATIENCE, asked).await;
        answered.unwrap_or_else(|_| Err(Fault::new(Exit::Unreachable, "the master is silent")))
    }

    async fn send_to(
        &self,
        place: &Place<'_>,
        ask: Ask,
        upgrade: Option<&str>,
    ) -> Result<Response<Incoming>> {
        let body = ask.body.map(|body| body.to_string()).unwrap_or_default();
        let mut request = Request::builder()
            .method(ask.method)
            .uri(&ask.path)
            .header(HOST, self.origin.authority());
        if let Some(kind) = ask.accept {
            request = request.header(ACCEPT, kind);
        }
        if let Some(protocol) = upgrade {
            request = request
                .header(CONNECTION, "upgrade")
                .header(UPGRADE, protocol);
        }
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request = request
            .body(Full::new(Bytes::from(body)))
            .doing(|| format!("ask for {}", ask.path))?;
        connect::send(place, request).await
    }
}

async fn refused(response: Response<Incoming>, method: &Method, path: &str) -> Fault {
    let (status, headers) = (response.status(), response.headers().clone());
    let body = match response.into_body().collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return error.into(),
    };
    let answer = Answer {
        status,
        headers,
        body,
    };
    match answer.accepted(method, path) {
        Err(fault) => fault,
        Ok(_) => Fault::new(
            Exit::Failed,
            format!("the master answered {status} to {path}"),
        ),
    }
}
