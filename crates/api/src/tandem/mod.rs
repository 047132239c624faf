//! What Marathon lacks: nodes, instances with their logs, volumes and moves, tokens, the network.

pub mod events;
mod exec;
mod instances;
mod log;
mod moves;
mod network;
mod nodes;
mod status;
mod tokens;
mod volumes;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::{delete, get, post};

use crate::answer::Failure;
use crate::marathon::events::follow_all;
use crate::{Context, Door};

pub fn routes() -> Router<Context> {
    Router::new()
        .route("/status", get(status::status))
        .route("/queue", get(status::queue))
        .route("/nodes", get(nodes::list))
        .route("/nodes/{name}", get(nodes::read))
        .route("/nodes/{name}/network", get(network::of_node))
        .route("/nodes/{name}/drain", post(nodes::drain))
        .route("/nodes/{name}/undrain", post(nodes::undrain))
        .route("/nodes/{name}/lost", post(nodes::lost))
        .route("/instances", get(instances::list))
        .route("/instances/{id}", get(instances::read))
        .route("/instances/{id}/log", get(log::read))
        .route("/instances/{id}/exec", post(exec::exec))
        .route("/volumes", get(volumes::list))
        .route(
            "/volumes/{name}",
            get(volumes::read)
                .put(volumes::create)
                .delete(volumes::remove),
        )
        .route("/volumes/{name}/recover", post(volumes::recover))
        .route(
            "/volumes/{name}/copies/{node}/{copy}",
            delete(volumes::remove_copy),
        )
        .route("/moves", get(moves::list).post(moves::begin))
        .route("/moves/{*what}", delete(moves::cancel))
        .route("/network", get(network::read))
        .route("/events", get(follow_all))
        .route("/tokens", post(tokens::create))
}

/// What is only for root: refused at the public door with the way to the other.
fn only_root(context: &Context) -> Result<(), Failure> {
    match context.door {
        Door::Root => Ok(()),
        Door::Public => Err(Failure::Other(
            StatusCode::FORBIDDEN,
            "this is answered only on the socket <state-dir>/master/api.sock, as root on the master's machine"
                .to_owned(),
        )),
    }
}
