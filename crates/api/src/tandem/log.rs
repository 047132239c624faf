//! What an instance wrote, as newline-delimited JSON; with `follow`, until it ends.

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use futures::stream;
use master::Answer as Relayed;
use model::session::{Ask, Part};
use serde_json::json;

use crate::Context;
use crate::answer::{Answer, Failure};
use crate::query::Query;
use crate::tandem::instances;

pub async fn read(State(context): State<Context>, Path(id): Path<String>, query: Query) -> Answer {
    let state = context.master.store().state();
    let instance = instances::find(&state, &id)?;
    let tail = query.get("tail").map(str::parse).transpose();
    let what = Ask::Log {
        instance: instance.id,
        tail: tail.map_err(|_| Failure::bad_request("tail must be a number of lines"))?,
        follow: query.flag("follow", false),
    };
    let mut answer = ask(&context, instance.placement.node, what)?;
    // The first part decides the status: a log that cannot be read is no empty log.
    let first = match answer.next().await {
        Some(Part::Failed(why)) => {
            return Err(Failure::Other(StatusCode::SERVICE_UNAVAILABLE, why));
        }
        first => first,
    };
    let rows = stream::unfold((answer, first), |(mut answer, part)| async move {
        let bytes = rows(part?)?;
        let next = answer.next().await;
        Some((Ok::<_, std::convert::Infallible>(bytes), (answer, next)))
    });
    Ok((
        [(header::CONTENT_TYPE, "application/x-ndjson")],
        Body::from_stream(rows),
    )
        .into_response())
}

/// Puts a question to the node's agent.
pub fn ask(context: &Context, node: model::NodeId, what: Ask) -> Result<Relayed, Failure> {
    context
        .master
        .ask(node, what)
        .map_err(|error| Failure::Other(StatusCode::SERVICE_UNAVAILABLE, error.to_string()))
}

/// The rows of one part; `None` when it is the last.
fn rows(part: Part) -> Option<Bytes> {
    match part {
        Part::Log(lines) => {
            let rows = lines.iter().map(|line| {
                format!(
                    "{}\n",
                    json!({ "time": line.time, "stream": line.stream, "text": line.text })
                )
            });
            Some(rows.collect::<String>().into())
        }
        Part::End
        | Part::Failed(_)
        | Part::Exited(_)
        | Part::Stdout(_)
        | Part::Stderr(_)
        | Part::Compared(_)
        | Part::Tables(_) => None,
    }
}
