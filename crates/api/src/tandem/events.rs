//! What Marathon has no event for: nodes that come and go, and moves.

use marathon::events::Event;
use model::{Move, NodeRecord, Presence, State, Touched};
use serde_json::{Value, json};

/// What happened to nodes and moves between two states, given what was touched.
pub fn between(before: &State, state: &State, touched: &Touched) -> Vec<Event> {
    let nodes = touched.nodes.iter().filter_map(|id| {
        let (was, now) = (before.node(*id).map(node), state.node(*id).map(node));
        let gone = |was: Value| {
            let mut was = was;
            was["presence"] = "removed".into();
            was
        };
        let fields = match now {
            Some(now) => now,
            None => gone(was.clone()?),
        };
        (was.as_ref() != Some(&fields)).then(|| Event::new("node_changed_event", state, fields))
    });
    let moves = touched.moves.iter().filter_map(|id| {
        let was = before.movement(*id);
        let now = state.movement(*id);
        let phase = match (was, now) {
            (_, Some(now)) => now.phase.to_string(),
            (Some(_), None) => "over".to_owned(),
            (None, None) => return None,
        };
        let same = was.is_some_and(|was| was.phase.to_string() == phase);
        let fields = movement(state, now.or(was)?, &phase);
        (!same).then(|| Event::new("move_changed_event", state, fields))
    });
    nodes.chain(moves).collect()
}

fn node(node: &NodeRecord) -> Value {
    let presence = match node.presence {
        Presence::Here => "here",
        Presence::Lost { .. } => "lost",
    };
    json!({
        "node": node.machine.name,
        "hostname": node.machine.hostname,
        "presence": presence,
        "draining": node.draining,
    })
}

fn movement(state: &State, movement: &Move, phase: &str) -> Value {
    let name = |id| state.node(id).map(|node| node.machine.name.as_str());
    let mut fields = json!({
        "move": movement.id.to_string(),
        "volumes": movement.volumes.keys().map(ToString::to_string).collect::<Vec<_>>(),
        "from": name(movement.from),
        "to": name(movement.to),
        "phase": phase,
    });
    if let Some(app) = &movement.app {
        fields["appId"] = app.as_str().into();
    }
    if let model::Phase::Abandon { reason, .. } = &movement.phase {
        fields["reason"] = reason.to_string().into();
    }
    fields
}
