//! `/v2/queue`: what waits to be started, and why it waits.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use marathon::render::{Offers, QueueView, Rejection, UnusedOffer};
use model::{App, AppId, Millis, State as Cluster};
use planner::request;
use scheduler::{Why, Wish, explain};
use serde_json::json;

use crate::Context;
use crate::answer::{self, Answer, Failure};
use crate::marathon::apps;
use crate::query::Query;

/// Instances that are wanted and not yet placed.
pub fn missing(app: &App) -> u32 {
    let wanted = if app.removing { 0 } else { app.spec.instances };
    wanted.saturating_sub(app.counters.active)
}

/// Why nothing more of an app is placed now; `None` for a spec whose constraints do not compile,
/// which no request lets in.
pub fn why(state: &Cluster, app: &App) -> Option<Why> {
    let wish = Wish::compile(&app.id, &Arc::clone(&app.spec)).ok()?;
    Some(explain(state, &wish))
}

pub async fn list(State(context): State<Context>, query: Query) -> Answer {
    let store = context.master.store();
    let state = store.state().at(store.now());
    let embed = query.all("embed").any(|value| value == "lastUnusedOffers");
    let waiting = state.apps().filter(|app| missing(app) > 0);
    let queue: Vec<_> = waiting.map(|app| view(&state, app, embed)).collect();
    Ok(answer::json(json!({ "queue": queue })))
}

fn view<'a>(state: &Cluster, app: &'a App, embed: bool) -> QueueView<'a> {
    let why = why(state, app).unwrap_or_default();
    let refused = why.nodes.iter().filter(|node| !node.reasons.is_empty());
    let unused: Vec<UnusedOffer> = refused
        .filter_map(|verdict| {
            let node = state.node(verdict.node)?;
            let free = node.free();
            Some(UnusedOffer {
                agent: verdict.name.clone(),
                hostname: node.machine.hostname.clone(),
                resources: BTreeMap::from([
                    ("cpus".to_owned(), free.cpus.as_f64()),
                    ("mem".to_owned(), free.mem.as_f64()),
                    ("disk".to_owned(), free.disk.as_f64()),
                ]),
                attributes: node.machine.attributes.clone(),
                reasons: verdict
                    .reasons
                    .iter()
                    .map(|r| format!("{:?}", r.kind()))
                    .collect(),
                timestamp: state.now,
            })
        })
        .collect();
    let processed = why.nodes.len() as u64;
    let mut left = processed;
    let rejections = why.kinds().into_iter().map(|(kind, count)| {
        let rejection = Rejection {
            reason: format!("{kind:?}"),
            declined: u64::from(count),
            processed: left,
        };
        left = left.saturating_sub(u64::from(count));
        rejection
    });
    QueueView {
        id: &app.id,
        spec: &app.spec,
        version: app.version,
        count: missing(app),
        since: app.last_scaling,
        time_left: app.delay.map_or(Millis(0), |delay| delay.until - state.now),
        offers: Offers {
            processed,
            unused: unused.len() as u64,
            last_unused_at: (!unused.is_empty()).then_some(state.now),
            last_used_at: None,
            rejections: rejections.collect(),
        },
        last_unused_offers: embed.then_some(unused),
    }
}

/// `DELETE /v2/queue/ID/delay`.
pub async fn reset_delay(State(context): State<Context>, Path(path): Path<String>) -> Answer {
    let unknown = || Failure::not_found(format!("Path '/v2/queue/{path}' does not exist"));
    let id = path
        .trim_end_matches('/')
        .strip_suffix("/delay")
        .ok_or_else(unknown)?;
    let id = AppId::parse(id).map_err(|_| unknown())?;
    apps::change(&context, move |draft| {
        apps::accept(draft, |draft| request::reset_delay(draft, &id))
    })
    .await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
