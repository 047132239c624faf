//! HTTP: Marathon's API, and what it lacks under `/tandem/v1`.
//!
//! A handler reads the request, runs one function of `planner::request` as one transaction, and
//! renders the answer. Nothing is decided here. What only root may ask is answered on the unix
//! socket alone ([`Door`]).

mod answer;
mod events;
mod home;
mod marathon;
mod metrics;
mod query;
mod serve;
mod tandem;
mod wire;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use master::Master;

pub use serve::{Error, serve};
pub use wire::{
    Exit, Instance, Move, Node, Planned, PublishedPort, Queued, Recovery, Status, Token, Volume,
    VolumeCopy,
};

/// No definition is larger than this.
const MAX_BODY: usize = 8 << 20;

pub struct Config {
    /// Where anybody may ask.
    pub listen: Vec<SocketAddr>,
    /// Where root may ask for more; made with mode 0600.
    pub socket: PathBuf,
    /// What `/v2/leader` and `/v2/info` say: this master's host and port.
    pub advertised: (String, u16),
}

/// Which way a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// A TCP port: whoever can reach it.
    Public,
    /// The unix socket: root on the master's machine.
    Root,
}

#[derive(Clone)]
pub(crate) struct Context {
    master: Master,
    advertised: Arc<(String, u16)>,
    events: events::Hub,
    served: Arc<metrics::Served>,
    door: Door,
}

impl Context {
    fn leader(&self) -> String {
        format!("{}:{}", self.advertised.0, self.advertised.1)
    }
}

pub(crate) fn router(context: Context) -> Router {
    Router::new()
        .merge(home::routes())
        .merge(marathon::routes())
        .merge(metrics::routes())
        .nest("/tandem/v1", tandem::routes())
        .fallback(answer::no_such_path)
        .method_not_allowed_fallback(answer::no_such_method)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(
            context.clone(),
            answer::headers,
        ))
        .with_state(context)
}
