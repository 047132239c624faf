//! Join tokens, for root alone: whoever has one runs containers in the cluster.

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use model::Millis;
use serde::Deserialize;

use crate::Context;
use crate::answer::{self, Answer, Failure};
use crate::tandem::only_root;
use crate::wire::Token;

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wish {
    life_seconds: Option<u64>,
}

/// A token is good for an hour unless another life is asked for.
const LIFE: u64 = 3600;

pub async fn create(State(context): State<Context>, body: Bytes) -> Answer {
    only_root(&context)?;
    let wish: Wish = match body.trim_ascii() {
        b"" => Wish::default(),
        text => serde_json::from_slice(text).map_err(|error| {
            Failure::bad_request(format!("the body must be {{lifeSeconds}}: {error}"))
        })?,
    };
    let life = Millis::seconds(wish.life_seconds.unwrap_or(LIFE));
    let made = context.master.create_token(life).await;
    let (token, expires) =
        made.map_err(|error| Failure::Other(StatusCode::SERVICE_UNAVAILABLE, error.to_string()))?;
    Ok(answer::json(Token {
        token,
        expires: expires.to_string(),
    }))
}
