//! Deployments that began, went a step on, or ended.

use model::{State, Touched};
use serde_json::{Value, json};

use super::Event;
use crate::render::{DeploymentView, StepView};

pub fn began(before: &State, state: &State, touched: &Touched, events: &mut Vec<Event>) {
    for id in &touched.deployments {
        if let (None, Some(deployment)) = (before.deployment(*id), state.deployment(*id)) {
            let view = DeploymentView::of(deployment, state.cluster);
            events.push(info(state, &view, deployment.current));
        }
    }
}

/// Each step that is done, and the one that is under way now.
pub fn stepped(before: &State, state: &State, touched: &Touched, events: &mut Vec<Event>) {
    for id in &touched.deployments {
        let (Some(was), Some(deployment)) = (before.deployment(*id), state.deployment(*id)) else {
            continue;
        };
        if was.current == deployment.current {
            continue;
        }
        let view = DeploymentView::of(deployment, state.cluster);
        for step in was.current..deployment.current {
            events.push(step_done(state, &view, step));
        }
        events.push(info(state, &view, deployment.current));
    }
}

pub fn ended(before: &State, state: &State, touched: &Touched, events: &mut Vec<Event>) {
    for id in &touched.deployments {
        if state.deployment(*id).is_some() {
            continue;
        }
        let uuid = id.uuid(state.cluster);
        let broken = touched.broken.contains(id);
        let plan = match before.deployment(*id) {
            Some(was) => {
                let view = DeploymentView::of(was, state.cluster);
                if !broken {
                    let steps = was.current..view.total_steps;
                    events.extend(steps.map(|step| step_done(state, &view, step)));
                }
                plan(&view)
            }
            // It began and ended since: only its id is left, which somebody may wait for.
            None if id.0 >= before.next_number() => unseen(&uuid, state),
            None => continue,
        };
        events.push(match broken {
            true => {
                let reason = "it was cancelled, or a forced change took its place";
                let fields = json!({ "id": uuid, "plan": plan, "reason": reason });
                Event::new("deployment_failed", state, fields)
            }
            false => {
                let fields = json!({ "id": uuid, "plan": plan });
                Event::new("deployment_success", state, fields)
            }
        });
    }
}

fn info(state: &State, view: &DeploymentView, step: u32) -> Event {
    Event::new("deployment_info", state, at_step(view, step))
}

fn step_done(state: &State, view: &DeploymentView, step: u32) -> Event {
    Event::new("deployment_step_success", state, at_step(view, step))
}

fn at_step(view: &DeploymentView, step: u32) -> Value {
    let none = StepView {
        actions: Vec::new(),
    };
    let step = view.steps.get(step as usize).unwrap_or(&none);
    json!({ "plan": plan(view), "currentStep": step })
}

fn plan(view: &DeploymentView) -> Value {
    json!({ "id": view.id, "version": view.version.to_string(), "steps": view.steps })
}

fn unseen(uuid: &str, state: &State) -> Value {
    json!({ "id": uuid, "version": state.last_version.to_string(), "steps": [] })
}
