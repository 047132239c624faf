//! Instances whose task state or health changed.

use std::collections::BTreeSet;

use model::instance::{Goal, Health, StopCause};
use model::machine::Presence;
use model::{Instance, InstanceId, NodeRecord, State, Touched};
use serde_json::{Value, json};

use super::Event;
use crate::render::{self, TaskState, TaskView};

pub fn changed(before: &State, state: &State, touched: &Touched, events: &mut Vec<Event>) {
    for id in subjects(before, state, touched) {
        let was = Seen::of(before, id);
        match Seen::of(state, id) {
            Some(now) => {
                kill(state, was.as_ref(), &now, events);
                status(state, was.as_ref(), &now, events);
                health(state, was.as_ref(), &now, events);
            }
            None => {
                if let Some(was) = was.filter(|was| !was.task.is_last()) {
                    let now = was.gone(state);
                    status(state, Some(&was), &now, events);
                }
            }
        }
    }
}

/// Instances that were touched, and those on nodes that fell silent or came back.
fn subjects(before: &State, state: &State, touched: &Touched) -> BTreeSet<InstanceId> {
    let is_lost = |node: &NodeRecord| matches!(node.presence, Presence::Lost { .. });
    let mut subjects = touched.instances.clone();
    for node in &touched.nodes {
        if let (Some(was), Some(now)) = (before.node(*node), state.node(*node))
            && is_lost(was) != is_lost(now)
        {
            subjects.extend(now.instances.keys().copied());
        }
    }
    subjects
}

/// An instance as one state has it.
struct Seen<'a> {
    instance: &'a Instance,
    node: &'a NodeRecord,
    task: TaskState,
    /// Why it ended, or what is being done for it.
    message: String,
}

impl<'a> Seen<'a> {
    fn of(state: &'a State, id: InstanceId) -> Option<Self> {
        let instance = state.instance(id)?;
        let node = state.node(instance.placement.node)?;
        let task = TaskState::of(instance, node.presence);
        let message = match &instance.exit {
            Some(exit) if task.is_last() => render::explained(exit),
            Some(_) | None => instance.detail.clone().unwrap_or_default(),
        };
        Some(Self {
            instance,
            node,
            task,
            message,
        })
    }

    /// What became of an instance whose end was not seen: nothing is left of it.
    fn gone(&self, state: &State) -> Self {
        let app = state.app(&self.instance.app);
        let failure = app.and_then(|app| app.last_failure.as_ref());
        let failure = failure.filter(|failure| failure.instance == self.instance.id);
        let (task, message) = match failure {
            Some(failure) => (
                TaskState::of_exit(&failure.exit),
                render::explained(&failure.exit),
            ),
            None => (TaskState::Killed, String::new()),
        };
        Self {
            instance: self.instance,
            node: self.node,
            task,
            message,
        }
    }

    fn is_unhealthy_stop(&self) -> bool {
        let cause = StopCause::Unhealthy;
        matches!(self.instance.goal, Goal::Stop { cause: why, .. } if why == cause)
    }

    fn instance_id(&self) -> String {
        render::instance_id(&self.instance.task_id())
    }
}

fn status(state: &State, was: Option<&Seen>, now: &Seen, events: &mut Vec<Event>) {
    if was.is_some_and(|was| was.task == now.task || was.task.is_last()) {
        return;
    }
    let view = TaskView::of(now.instance, now.node);
    let version = view.version.to_string();
    let fields = json!({
        "slaveId": view.slave_id,
        "taskId": view.id,
        "taskStatus": now.task,
        "message": now.message,
        "appId": view.app_id,
        "host": view.host,
        "ipAddresses": view.ip_addresses,
        "ports": view.ports,
        "version": version,
    });
    events.push(Event::new("status_update_event", state, fields));
    let fields = json!({
        "instanceId": now.instance_id(),
        "condition": condition(now.task),
        "runSpecId": view.app_id,
        "agentId": view.slave_id,
        "host": view.host,
        "runSpecVersion": version,
    });
    events.push(Event::new("instance_changed_event", state, fields));
}

/// Marathon's own word for a task's state.
fn condition(task: TaskState) -> &'static str {
    match task {
        TaskState::Staging => "Staging",
        TaskState::Starting => "Starting",
        TaskState::Running => "Running",
        TaskState::Killing => "Killing",
        TaskState::Unreachable => "Unreachable",
        TaskState::Finished => "Finished",
        TaskState::Failed => "Failed",
        TaskState::Killed => "Killed",
        TaskState::Lost => "Unknown",
    }
}

/// An instance that is stopped because its checks fail.
fn kill(state: &State, was: Option<&Seen>, now: &Seen, events: &mut Vec<Event>) {
    if !now.is_unhealthy_stop() || was.is_some_and(Seen::is_unhealthy_stop) {
        return;
    }
    let fields = json!({
        "appId": now.instance.app.as_str(),
        "taskId": now.instance.task_id(),
        "instanceId": now.instance_id(),
        "version": now.instance.version.to_string(),
        "reason": now.message,
        "host": now.node.machine.hostname,
        "slaveId": now.node.machine.name,
    });
    events.push(Event::new("unhealthy_instance_kill_event", state, fields));
}

fn health(state: &State, was: Option<&Seen>, now: &Seen, events: &mut Vec<Event>) {
    let before = was.map_or(Health::Unknown, |was| was.instance.health);
    let alive = match now.instance.health {
        health if health == before => return,
        Health::Unknown => return,
        Health::Healthy => true,
        Health::Unhealthy => false,
    };
    let app = now.instance.app.as_str();
    let version = now.instance.version.to_string();
    let instance: Value = now.instance_id().into();
    let fields = json!({
        "appId": app,
        "taskId": now.instance.task_id(),
        "instanceId": instance,
        "version": version,
        "alive": alive,
    });
    events.push(Event::new("health_status_changed_event", state, fields));
    let fields = json!({
        "instanceId": instance,
        "runSpecId": app,
        "healthy": alive,
        "runSpecVersion": version,
    });
    events.push(Event::new("instance_health_changed_event", state, fields));
}
