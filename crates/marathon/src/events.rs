//! What `/v2/events` tells: the difference between two states, in Marathon's words.
//!
//! ```text
//! (state before, state now, what was touched) ─ between ─▶ [Event] ─ (api) ─▶ every listener
//! ```
//! Events tell levels, not steps: of an instance that climbed two rungs between the states only
//! the higher one is told. Every deployment that ended is told. What no state holds is no event:
//! who asked (`clientIp`), and single results of health checks.

mod deployments;
mod instances;

use model::{App, State, Touched};
use serde_json::{Value, json};

use crate::render;

/// One event: its type, and the object that is sent for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub kind: &'static str,
    pub body: Value,
}

impl Event {
    /// `fields` is an object; type and time, which all events carry, are added to it. The time is
    /// that of the newest transaction in `state`.
    pub fn new(kind: &'static str, state: &State, fields: Value) -> Self {
        let mut body = fields;
        body["eventType"] = kind.into();
        body["timestamp"] = state.now.to_string().into();
        Self { kind, body }
    }

    /// The first that a listener is told.
    pub fn attached(state: &State, remote: &str) -> Self {
        let fields = json!({ "remoteAddress": remote });
        Self::new("event_stream_attached", state, fields)
    }
}

/// What happened between two states, given what was touched: requests first, then deployments
/// that began, instances, apps that went, and deployments that ended.
pub fn between(before: &State, state: &State, touched: &Touched) -> Vec<Event> {
    let mut events = Vec::new();
    requests(before, state, touched, &mut events);
    deployments::began(before, state, touched, &mut events);
    instances::changed(before, state, touched, &mut events);
    deployments::stepped(before, state, touched, &mut events);
    for app in &touched.apps {
        if before.app(app).is_some() && state.app(app).is_none() {
            let fields = json!({ "appId": app.as_str() });
            events.push(Event::new("app_terminated_event", state, fields));
        }
    }
    deployments::ended(before, state, touched, &mut events);
    events
}

/// Apps that were made, changed, or told to go.
fn requests(before: &State, state: &State, touched: &Touched, events: &mut Vec<Event>) {
    for app in touched.apps.iter().filter_map(|id| state.app(id)) {
        let was = before.app(&app.id);
        let put = was.is_none_or(|was| was.version != app.version);
        let goes = app.removing && was.is_none_or(|was| !was.removing);
        if put && !app.removing {
            events.push(Event::new("api_post_event", state, posted(app)));
        }
        if put || goes {
            let fields = json!({
                "groupId": app.id.group(),
                "version": app.version.to_string(),
            });
            events.push(Event::new("group_change_success", state, fields));
        }
    }
}

fn posted(app: &App) -> Value {
    json!({
        "uri": format!("/v2/apps{}", app.id),
        "appDefinition": render::definition(&app.id, &app.spec, app.version),
    })
}
