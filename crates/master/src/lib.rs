//! The master: runs the pure `planner` on the durable `store`, and carries what it derives to
//! the agents.
//!
//! ```text
//! agents ⇄ session ─ sightings ─▶ store ◀─ leader::step ─ leader loop
//!             ▲                     │ ▲
//!             └── deltas ── watch ──┘ └── NodeLost ── presence loop
//! ```
//! The loops never call each other: they meet in the state. Nothing is decided here; HTTP is in
//! `api`.

mod admission;
mod leader;
mod presence;
mod progress;
mod relay;
mod session;
mod sessions;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::state::Settings;
use model::{Directory, Epoch, Millis, NodeId, Time};
use planner::request;
use protocol::Listener;
use protocol::trust::Authority;
use store::{RedbLog, Store};
use tokio::task::{JoinError, JoinSet};

pub use progress::Arrived;
use progress::Progress;
pub use relay::{Answer, NoSession};
use sessions::Sessions;

pub struct Config {
    /// The master's state directory.
    pub dir: PathBuf,
    /// Where agents connect.
    pub listen: SocketAddr,
    pub settings: Settings,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("read what the master remembers in {}", dir.display())]
    Open {
        dir: PathBuf,
        source: store::LogError,
    },
    #[error("begin a leadership")]
    Lead { source: store::Error },
    #[error(
        "this cluster keeps the settings that it was founded with: start it with them, or purge its \
         state"
    )]
    Subnet { source: request::OtherSubnet },
    #[error("open the master's authority")]
    Authority { source: protocol::Error },
    #[error("serve agents")]
    Listen { source: protocol::Error },
    #[error("lost the store")]
    Store { source: store::LogError },
    #[error("the {0} loop ended")]
    Ended(&'static str),
    #[error("the {name} loop failed")]
    Panicked {
        name: &'static str,
        source: JoinError,
    },
}

/// A handle to the running master; clones share it.
#[derive(Clone)]
pub struct Master {
    store: Store,
    authority: Arc<Authority>,
    sessions: Arc<Sessions>,
    progress: Arc<Progress>,
    epoch: Epoch,
}

impl Master {
    /// Opens the state, begins a leadership, and starts the loops. The first of them to end ends
    /// the master; see [`Running::ended`].
    pub async fn start(config: Config) -> Result<(Self, Running), Error> {
        let (store, writer) = open(&config.dir)?;
        let authority = Authority::open(&config.dir.join("trust"))
            .map_err(|source| Error::Authority { source })?;
        let settings = config.settings;
        let epoch = store
            .write(move |draft| {
                let cluster = model::ClusterId(protocol::trust::random_number().max(1));
                request::found(draft, cluster, settings)?;
                Ok(request::lead(draft))
            })
            .await
            .map_err(|source| Error::Lead { source })?
            .map_err(|source| Error::Subnet { source })?;
        let listener = Listener::bind(config.listen, &authority)
            .await
            .map_err(|source| Error::Listen { source })?;
        let master = Self {
            sessions: Arc::new(Sessions::new(store.now())),
            progress: Arc::default(),
            authority: Arc::new(authority),
            store,
            epoch,
        };
        tracing::info!(%epoch, listen = %config.listen, "Leading; agents are served on {}", config.listen);
        let mut loops = JoinSet::new();
        let named = |name: &'static str| move |()| (name, Ok(()));
        loops.spawn(then(leader::run(master.store.clone()), named("leader")));
        loops.spawn(then(presence::run(master.clone()), named("presence")));
        loops.spawn(then(
            admission::run(master.clone(), listener),
            named("agents"),
        ));
        loops.spawn_blocking(move || {
            let ended = writer.join().unwrap_or(Ok(()));
            ("store", ended)
        });
        Ok((master, Running { loops }))
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The number of this leadership.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// How much of a move has arrived; `None`: nothing yet.
    pub fn arrived(&self, movement: &model::Move) -> Option<Arrived> {
        self.progress.of(movement)
    }

    pub fn has_session(&self, node: NodeId) -> bool {
        self.sessions.is_open(node)
    }

    /// A token that lets one node join within `life`, and when it expires.
    pub async fn create_token(&self, life: Millis) -> Result<(String, Time), TokenError> {
        let token = self.authority.token()?;
        let digest = token.digest();
        let expires = self
            .store
            .write(move |draft| {
                Ok::<_, std::convert::Infallible>(request::make_token(draft, digest, life))
            })
            .await?;
        let Ok(expires) = expires;
        Ok((token.to_string(), expires))
    }

    /// Who has which address and name.
    pub fn directory(&self) -> Directory {
        planner::derive::directory(&self.store.state())
    }

    /// Asks a node's agent something on behalf of a client.
    pub fn ask(&self, node: NodeId, what: model::session::Ask) -> Result<Answer, NoSession> {
        self.sessions.ask(node, what)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("draw a token")]
    Draw(#[from] protocol::Error),
    #[error("remember the token")]
    Store(#[from] store::Error),
}

type Writer = std::thread::JoinHandle<Result<(), store::LogError>>;

fn open(dir: &Path) -> Result<(Store, Writer), Error> {
    RedbLog::open(&dir.join("log"))
        .and_then(Store::open)
        .map_err(|source| Error::Open {
            dir: dir.to_owned(),
            source,
        })
}

type Ending = (&'static str, Result<(), store::LogError>);

async fn then<T>(work: impl Future<Output = T>, name: impl FnOnce(T) -> Ending) -> Ending {
    name(work.await)
}

/// The master's loops.
pub struct Running {
    loops: JoinSet<Ending>,
}

impl Running {
    /// Waits for the first loop to end, which ends the master, and says why.
    pub async fn ended(mut self) -> Error {
        match self.loops.join_next().await {
            Some(Ok((_, Err(source)))) => Error::Store { source },
            Some(Ok((name, Ok(())))) => Error::Ended(name),
            Some(Err(source)) => Error::Panicked {
                name: "master's",
                source,
            },
            None => Error::Ended("last"),
        }
    }
}
