//! `/v2/events`: what happens, as it becomes durable, as server-sent events.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::{StreamExt, stream};

use crate::Context;
use crate::answer::{Answer, Failure};
use crate::events::Told;
use crate::query::Query;

/// A line is sent after so much silence, so that both ends see when the other is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Which events a listener gets.
struct Wish {
    /// Nothing: all.
    kinds: BTreeSet<String>,
    /// Only what Marathon's clients know.
    marathon: bool,
}

impl Wish {
    fn of(query: &Query, marathon: bool) -> Self {
        Self {
            kinds: query.all("event_type").map(str::to_owned).collect(),
            marathon,
        }
    }

    fn wants(&self, told: &Told) -> bool {
        let kind = self.kinds.is_empty() || self.kinds.contains(told.kind);
        kind && (told.marathon || !self.marathon)
    }
}

/// Marathon's events.
pub async fn follow(context: State<Context>, query: Query, request: Request) -> Answer {
    tell(&context.0, Wish::of(&query, true), &request)
}

/// The same, and those of nodes and moves.
pub async fn follow_all(context: State<Context>, query: Query, request: Request) -> Answer {
    tell(&context.0, Wish::of(&query, false), &request)
}

fn tell(context: &Context, wish: Wish, request: &Request) -> Answer {
    let mut accepts = request.headers().get_all(header::ACCEPT).iter();
    let streams = |value: &header::HeaderValue| {
        let value = value.to_str().unwrap_or_default();
        value.contains("text/event-stream")
    };
    if !accepts.any(streams) {
        let text = "events are a stream: ask with 'Accept: text/event-stream'".to_owned();
        return Err(Failure::Other(StatusCode::METHOD_NOT_ALLOWED, text));
    }
    let remote = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let remote = remote.map_or_else(String::new, |info| info.0.ip().to_string());
    // Listening begins before the first word is said: what the client does next is not missed.
    let listener = context.events.listen();
    let hello = Told::attached(&context.master.store().state(), &remote);
    let hello = Arc::from(vec![hello]);
    let later = stream::unfold(listener, |mut listener| async move {
        Some((listener.next().await?, listener))
    });
    let frames = stream::once(async { hello })
        .chain(later)
        .flat_map(move |batch: Arc<[Told]>| stream::iter(frames(&wish, &batch)));
    let keep = KeepAlive::new().interval(KEEP_ALIVE);
    Ok(Sse::new(frames).keep_alive(keep).into_response())
}

fn frames(wish: &Wish, batch: &[Told]) -> Vec<Result<Event, Infallible>> {
    let wanted = batch.iter().filter(|told| wish.wants(told));
    wanted
        .map(|told| Ok(Event::default().event(told.kind).data(&told.text)))
        .collect()
}
