//! `/v2/info`, `/v2/leader` and `/ping`.

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::IntoResponse;
use marathon::render::InfoView;
use serde_json::json;

use crate::Context;
use crate::answer::{self, Answer};

pub async fn info(State(context): State<Context>) -> Answer {
    let state = context.master.store().state();
    let (hostname, http_port) = context.advertised.as_ref().clone();
    Ok(answer::json(InfoView {
        framework_id: format!("{:016x}", state.cluster.0),
        leader: context.leader(),
        elected: true,
        hostname,
        http_port,
        service_ports: state.settings.service_ports,
        build: env!("CARGO_PKG_VERSION").to_owned(),
    }))
}

pub async fn leader(State(context): State<Context>) -> Answer {
    Ok(answer::json(json!({ "leader": context.leader() })))
}

pub async fn ping(headers: HeaderMap) -> Answer {
    let accepts = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok());
    Ok(match accepts {
        Some(accepts) if accepts.contains("application/json") => answer::json("pong"),
        _ => "pong".into_response(),
    })
}
