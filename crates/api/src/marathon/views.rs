//! Views of the state that several endpoints show.

use marathon::query::Embed;
use marathon::render::{AppView, Counts, FailureView, TaskView, task_stats};
use model::{App, Health, Instance, NodeId, Presence, Rung, State};

/// An instance as a task, until what is left of it has been removed.
pub fn task(state: &State, instance: &Instance) -> Option<TaskView> {
    let node = state.node(instance.placement.node)?;
    (!instance.has_ended()).then(|| TaskView::of(instance, node))
}

pub fn tasks(state: &State, app: &App) -> Vec<TaskView> {
    state
        .instances_of(app)
        .filter_map(|instance| task(state, instance))
        .collect()
}

pub fn app<'a>(state: &State, app: &'a App, embed: Embed) -> AppView<'a> {
    let mut view = AppView::of(app, state.cluster);
    without_lost(state, app, &mut view.counts);
    view.readiness = embed.readiness;
    if embed.last_task_failure {
        view.last_task_failure = app.last_failure.as_ref().map(|failure| {
            let agent = state
                .node(failure.node)
                .map_or("", |node| &node.machine.name);
            FailureView::of(&app.id, failure, agent)
        });
    }
    if embed.tasks || embed.task_stats {
        let tasks = tasks(state, app);
        if embed.task_stats {
            view.task_stats = Some(task_stats(
                &tasks,
                app.last_scaling,
                app.last_config_change,
                state.now,
            ));
        }
        view.tasks = embed.tasks.then_some(tasks);
    }
    view
}

/// What runs on a node that is lost is TASK_UNREACHABLE and counts as nothing.
fn without_lost(state: &State, app: &App, counts: &mut Counts) {
    let is_lost = |node: NodeId| {
        let node = state.node(node);
        node.is_none_or(|node| node.presence != Presence::Here)
    };
    if !app.on_nodes.keys().any(|node| is_lost(*node)) {
        return;
    }
    let running = state
        .instances_of(app)
        .filter(|instance| instance.is_active() && instance.rung == Rung::Running);
    for instance in running.filter(|instance| is_lost(instance.placement.node)) {
        counts.running = counts.running.saturating_sub(1);
        let of_its_health = match instance.health {
            Health::Healthy => &mut counts.healthy,
            Health::Unhealthy => &mut counts.unhealthy,
            Health::Unknown => continue,
        };
        *of_its_health = of_its_health.saturating_sub(1);
    }
}

/// What `GET /v2/apps/ID` always shows.
pub const WHOLE: Embed = Embed {
    tasks: true,
    last_task_failure: true,
    task_stats: false,
    readiness: false,
};
