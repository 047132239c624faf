//! What Marathon has no event for: nodes that come and go, and moves.

use marathon::events::Event;
use model::{Move, NodeRecord, Presence, State, Touched};
use serde_json::{Value, json};

/// What happened to nodes and moves between two states, given what was touched.
pub fn between(before: &State, state: &State, touched: &Touched) -> Vec<Event> {
    let nodes = touched.nodes.iter().filter_map(|id| {
        let was = before.node(*id).map(node);
        let fields = match state.node(*id) {
            Some(now) => node(now),
            None => removed(was.clone()?),
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

fn removed(mut node: Value) -> Value {
    node["presence"] = "removed".into();
    node
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

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Change, Machine, NodeId};

    fn machine() -> Machine {
        Machine {
            name: "n1".to_owned(),
            hostname: "10.0.15.11".to_owned(),
            address: [10, 0, 15, 11].into(),
            resources: Default::default(),
            attributes: Default::default(),
            ports: (31_000, 32_000),
            stream_port: 4434,
            allow: Vec::new(),
            boot: String::new(),
            version: String::new(),
        }
    }

    #[test]
    fn a_node_s_coming_and_going_is_told_and_its_reports_are_not() {
        let node = NodeId(0);
        let joined = Change::NodeJoined {
            node,
            overlay: [10, 32, 0, 2].into(),
            machine: Box::new(machine()),
        };
        let seen = Change::NodeSeen {
            node,
            sighted: (model::Incarnation(1), 1),
            machine: Box::new(machine()),
            room: Some(7),
        };
        let presence = |presence| Change::NodePresence { node, presence };
        let since = model::Time(1);
        let story = [
            (joined, Some(("here", false))),
            (seen, None),
            (
                Change::NodeDraining {
                    node,
                    draining: true,
                },
                Some(("here", true)),
            ),
            (presence(Presence::Lost { since }), Some(("lost", true))),
            (Change::NodeRemoved { node }, Some(("removed", true))),
        ];
        let mut state = State::default();
        for (change, expected) in story {
            let before = state.clone();
            let touched = state.apply(&change);
            let told: Vec<Value> = between(&before, &state, &touched)
                .into_iter()
                .map(|event| event.body)
                .collect();
            let is = |(presence, draining): (&str, bool)| {
                json!({
                    "eventType": "node_changed_event",
                    "timestamp": state.now.to_string(),
                    "node": "n1",
                    "hostname": "10.0.15.11",
                    "presence": presence,
                    "draining": draining,
                })
            };
            let expected: Vec<Value> = expected.into_iter().map(is).collect();
            assert_eq!(told, expected, "{change:?}");
        }
    }
}
