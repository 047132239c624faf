//! A command run in an instance: the connection is taken over (`Upgrade: tandem-exec`) and
//! carries frames, a length in four bytes and JSON, both ways: `Input` in, `Part` out.

use axum::body::Bytes;
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use futures::{SinkExt, StreamExt};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use master::Answer as Relayed;
use model::session::{Ask, Part};
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use crate::Context;
use crate::answer::{Answer, Failure};
use crate::query::Query;
use crate::tandem::{instances, log, only_root};

const PROTOCOL: &str = "tandem-exec";

pub async fn exec(
    State(context): State<Context>,
    Path(id): Path<String>,
    query: Query,
    mut request: Request,
) -> Answer {
    only_root(&context)?;
    let asked = request
        .headers()
        .get(header::UPGRADE)
        .is_some_and(|value| value == PROTOCOL);
    if !asked {
        let text = format!("send 'Upgrade: {PROTOCOL}': the command talks over the connection");
        return Err(Failure::Other(StatusCode::UPGRADE_REQUIRED, text));
    }
    let args: Vec<String> = query
        .get("args")
        .and_then(|text| serde_json::from_str(text).ok())
        .filter(|args: &Vec<String>| !args.is_empty())
        .ok_or_else(|| Failure::bad_request("args must be a JSON array of words"))?;
    let tty = query.get("tty").map(size).transpose()?;
    let state = context.master.store().state();
    let instance = instances::find(&state, &id)?;
    let what = Ask::Exec {
        instance: instance.id,
        args,
        tty,
    };
    let relayed = log::ask(&context, instance.placement.node, what)?;
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(talk(upgrade, relayed));
    let headers = [(header::CONNECTION, "upgrade"), (header::UPGRADE, PROTOCOL)];
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers).into_response())
}

/// `ROWSxCOLUMNS`.
fn size(text: &str) -> Result<(u16, u16), Failure> {
    text.split_once('x')
        .and_then(|(rows, columns)| Some((rows.parse().ok()?, columns.parse().ok()?)))
        .ok_or_else(|| Failure::bad_request("tty must be ROWSxCOLUMNS, such as 24x80"))
}

async fn talk(upgrade: OnUpgrade, relayed: Relayed) {
    match upgrade.await {
        Ok(upgraded) => carry(upgraded, relayed).await,
        Err(error) => tracing::debug!(%error, "A client left before its exec began"),
    }
}

/// Carries frames until the command's last part, or until the client goes, which ends it.
async fn carry(upgraded: Upgraded, mut relayed: Relayed) {
    let mut frames = Framed::new(TokioIo::new(upgraded), LengthDelimitedCodec::new());
    loop {
        tokio::select! {
            part = relayed.next() => {
                let part = part.unwrap_or_else(|| {
                    Part::Failed("the node's session ended, or its output was not read in time".to_owned())
                });
                let last = matches!(part, Part::Exited(_) | Part::Failed(_) | Part::End);
                let bytes: Bytes = serde_json::to_vec(&part).expect("parts are plain values").into();
                if frames.send(bytes).await.is_err() || last {
                    return;
                }
            }
            frame = frames.next() => {
                let input = frame
                    .and_then(Result::ok)
                    .and_then(|bytes| serde_json::from_slice(&bytes).ok());
                let Some(input) = input else { return };
                if relayed.input(input).is_err() {
                    return;
                }
            }
        }
    }
}
