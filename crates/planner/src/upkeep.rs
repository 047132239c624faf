//! Keeping what is wanted: what ended is accounted for and cleared away, what is missing is
//! started, what is too much is stopped, and lost nodes are given up.
//!
//! Guarantees: an instance that ended by itself counts once towards its app's backoff; a
//! volume's app is never started while its volume's writer may still run; a lost node's
//! stateless instances are told to stop before their claims pass on.

use model::ids::{AppId, InstanceId, NodeId, VolumeId};
use model::instance::{ExitStatus, StopCause};
use model::quantity::Quantity;
use model::spec::Unreachable;
use model::state::{Delay, Failure};
use model::time::{Millis, Time};
use model::{App, Change, Draft, Exit, Health, Instance, Presence, Rung, State};

use crate::leader::{Agenda, Lead, Subject, lead};
use crate::{relocate, rollout, start, stop};

/// When many nodes are lost together, one is given up per this span.
const PACE: Millis = Millis::seconds(1);

/// An app's turn: towards its wanted number, by whoever leads it.
pub(crate) fn advance(agenda: &mut Agenda, draft: &mut Draft, id: &AppId, room: usize) {
    let Some(app) = draft.state().app(id).cloned() else {
        agenda.forget(id);
        return;
    };
    agenda.wait_no_more(id);
    let lead = lead(draft.state(), &app);
    if let Some(deployment) = app.deployment {
        agenda.queue_deployment(deployment);
    }
    // It waits for the app, as long as that is wanted.
    if let Some(movement) = draft.state().move_of_app(id) {
        agenda.queue_move(movement.id);
    }
    // After a hand-over even a removal waits until the move is over.
    if app.removing && lead != Lead::Settling {
        remove(agenda, draft, &app, room);
        return;
    }
    forget_delay(agenda, draft, &app);
    match lead {
        Lead::Move => {}
        Lead::Settling if app.removing => {}
        Lead::Settling => {
            let missing = app.spec.instances.saturating_sub(app.counters.active);
            start::start(agenda, draft, id, missing as usize, room);
        }
        Lead::Upkeep => {
            keep(agenda, draft, &app, app.spec.instances, room);
            empty_draining(agenda, draft, &app);
        }
        Lead::Rollout => rollout::replace(agenda, draft, &app, room),
        Lead::Pending { keep } => {
            let missing = keep.saturating_sub(app.counters.active);
            start::start(agenda, draft, id, missing as usize, room);
        }
    }
}

/// Starts what is missing, stops what is too much.
pub(crate) fn keep(agenda: &mut Agenda, draft: &mut Draft, app: &App, wanted: u32, room: usize) {
    let active = app.counters.active;
    if active < wanted {
        start::start(agenda, draft, &app.id, (wanted - active) as usize, room);
    } else if active > wanted {
        let surplus = (active - wanted) as usize;
        let order = stop::order(draft.state(), app, |_| true);
        for id in order.into_iter().take(surplus.min(room)) {
            stop::stop(draft, id, StopCause::ScaledDown);
        }
    }
}

/// Takes one instance off a node that is being drained, when the app can spare it. Instances
/// with volumes move with them.
fn empty_draining(agenda: &mut Agenda, draft: &mut Draft, app: &App) {
    if app.spec.volumes().next().is_some() {
        relocate::drain(agenda, draft, app);
        return;
    }
    let counters = &app.counters;
    if counters.active != app.spec.instances || rollout::ready(app) != counters.active {
        return;
    }
    let state = draft.state();
    let draining = |node: &NodeId| state.node(*node).is_some_and(|node| node.draining);
    if !app.on_nodes.keys().any(draining) {
        return;
    }
    let order = stop::order(state, app, |instance| draining(&instance.placement.node));
    if let Some(first) = order.first() {
        stop::stop(draft, *first, StopCause::Killed);
    }
}

/// An app that is to go: stops its instances; when the last is gone, frees its volumes and goes.
fn remove(agenda: &mut Agenda, draft: &mut Draft, app: &App, room: usize) {
    if app.counters.active > 0 {
        let order = stop::order(draft.state(), app, |_| true);
        for id in order.into_iter().take(room) {
            stop::stop(draft, id, StopCause::AppRemoved);
        }
    }
    if !app.instances.is_empty() {
        return;
    }
    let volumes = draft.state().volumes();
    let volumes = volumes.filter(|volume| volume.tenant.as_ref() == Some(&app.id));
    let volumes: Vec<VolumeId> = volumes.map(|volume| volume.id.clone()).collect();
    for volume in volumes {
        draft.apply(Change::VolumeTenant {
            volume,
            tenant: None,
        });
    }
    draft.apply(Change::AppRemoved {
        app: app.id.clone(),
    });
    agenda.forget(&app.id);
}

/// Forgets an app's backoff when it has been quiet for the longest delay beyond its own.
fn forget_delay(agenda: &mut Agenda, draft: &mut Draft, app: &App) {
    let Some(delay) = app.delay else { return };
    let forgotten = delay.until + app.spec.backoff.max;
    if forgotten > draft.now() {
        agenda.remind(forgotten, Subject::App(app.id.clone()));
        return;
    }
    draft.apply(Change::AppDelay {
        app: app.id.clone(),
        delay: None,
    });
}

/// An instance's turn, after it was seen or told something.
pub(crate) fn settle(draft: &mut Draft, id: InstanceId) {
    let Some(instance) = draft.state().instance(id) else {
        return;
    };
    if instance.has_ended() {
        let gone = instance.rung == Rung::Gone;
        if !instance.goal.is_stop() {
            let instance = instance.clone();
            account(draft, &instance);
            stop::stop(draft, id, StopCause::Ended);
        }
        if gone {
            draft.apply(Change::InstanceGone { instance: id });
        }
    } else if is_to_be_killed(instance) {
        let instance = instance.clone();
        let why = instance.detail.clone();
        let why = why.unwrap_or_else(|| "its health checks fail".to_owned());
        remember(draft, &instance, ended(ExitStatus::Unhealthy(why)));
        stop::stop(draft, id, StopCause::Unhealthy);
        // Marathon does not wait here; but what is always sick must not be started without end.
        lengthen_delay(draft, &instance.app);
    }
}

fn is_to_be_killed(instance: &Instance) -> bool {
    let checks = &instance.spec.health_checks;
    instance.is_active()
        && instance.health == Health::Unhealthy
        && checks.iter().any(|check| check.max_failures > 0)
}

/// Remembers that an instance ended by itself, and lengthens its app's backoff. An end whose
/// status nobody saw says nothing against the app.
fn account(draft: &mut Draft, instance: &Instance) {
    let Some(app) = draft.state().app(&instance.app) else {
        return;
    };
    let exit = instance.exit.clone();
    let exit = exit.unwrap_or_else(|| ended(ExitStatus::Unknown));
    let counts = exit.status != ExitStatus::Unknown && app.is_current(instance.version);
    remember(draft, instance, exit);
    if counts {
        lengthen_delay(draft, &instance.app);
    }
}

fn ended(status: ExitStatus) -> Exit {
    Exit {
        status,
        out_of_memory: false,
        last_line: None,
    }
}

/// As what ended last in its app.
fn remember(draft: &mut Draft, instance: &Instance, exit: Exit) {
    let node = instance.placement.node;
    let hostname = draft.state().node(node).map(|n| n.machine.hostname.clone());
    let failure = Failure {
        instance: instance.id,
        node,
        hostname: hostname.unwrap_or_default(),
        version: instance.version,
        at: draft.now(),
        exit,
    };
    draft.apply(Change::AppFailed {
        app: instance.app.clone(),
        failure: Box::new(failure),
    });
}

/// Lets the app wait before its next start: its first delay, or the last one times the factor.
fn lengthen_delay(draft: &mut Draft, id: &AppId) {
    let now = draft.now();
    let Some(app) = draft.state().app(id) else {
        return;
    };
    let backoff = &app.spec.backoff;
    let span = match app.delay {
        Some(delay) => longer(delay.span, backoff.factor).min(backoff.max),
        None => backoff.initial.min(backoff.max),
    };
    draft.apply(Change::AppDelay {
        app: id.clone(),
        delay: Some(Delay {
            span,
            until: now + span,
        }),
    });
}

fn longer(span: Millis, factor: Quantity) -> Millis {
    Millis((u128::from(span.0) * u128::from(factor.0) / 1000).min(u128::from(u64::MAX)) as u64)
}

/// A node's turn: room for apps that wait; and, when it is lost, what to do about its instances.
pub(crate) fn watch_node(agenda: &mut Agenda, draft: &mut Draft, id: NodeId, room: usize) {
    agenda.claims_freed();
    let Some(node) = draft.state().node(id) else {
        return;
    };
    agenda.waiting.room_on(node);
    if node.draining {
        let apps = node.instances.keys();
        let apps = apps.filter_map(|instance| draft.state().instance(*instance));
        apps.for_each(|instance| agenda.queue(instance.app.clone()));
        let volumes = draft.state().volumes().filter(|v| v.home == Some(id));
        let tenants = volumes.filter_map(|volume| volume.tenant.clone());
        tenants.for_each(|app| agenda.queue(app));
    }
    if let Presence::Lost { since } = node.presence {
        give_up(agenda, draft, id, since, room);
    }
}

/// Tells the stateless instances of a lost node to stop, so that their claims pass to
/// replacements. Should the node come back, it kills them before it answers for them.
fn give_up(agenda: &mut Agenda, draft: &mut Draft, id: NodeId, since: Time, room: usize) {
    let now = draft.now();
    let (due, next) = abandoned(draft.state(), id, since);
    if let Some(next) = next {
        agenda.remind(next, Subject::Node(id));
    }
    if due.is_empty() {
        return;
    }
    if let Some(last) = agenda.gave_up.filter(|last| *last + PACE > now)
        && many_are_lost(draft.state())
    {
        agenda.remind(last + PACE, Subject::Node(id));
        return;
    }
    let rest = due.len() > room;
    for instance in due.into_iter().take(room) {
        stop::stop(draft, instance, StopCause::NodeLost);
    }
    match rest {
        true => agenda.queue_node(id),
        false => agenda.gave_up = Some(now),
    }
}

/// The lost node's instances that are to be given up now, and when the next one is.
fn abandoned(state: &State, node: NodeId, since: Time) -> (Vec<InstanceId>, Option<Time>) {
    let (mut due, mut next) = (Vec::new(), None);
    let instances = state
        .node(node)
        .into_iter()
        .flat_map(|n| n.instances.keys());
    for instance in instances.filter_map(|id| state.instance(*id)) {
        let volumes = instance.spec.volumes().next().is_some();
        if volumes || !state.is_runnable(instance.id) {
            continue;
        }
        let inactive = match instance.spec.unreachable {
            None => Millis(0),
            Some(Unreachable::After { inactive, .. }) => inactive,
            Some(Unreachable::Disabled) => continue,
        };
        match since + inactive {
            time if time <= state.now => due.push(instance.id),
            time => next = Some(next.map_or(time, |next: Time| next.min(time))),
        }
    }
    (due, next)
}

/// More than a third of the nodes, and at least two: something other than machines may be ill.
fn many_are_lost(state: &State) -> bool {
    let lost = state.nodes().filter(|n| n.presence != Presence::Here);
    let lost = lost.count();
    lost >= 2 && lost * 3 > state.node_count()
}

/// A volume's turn: apps that wait for it, and its end when every node has confirmed.
pub(crate) fn watch_volume(agenda: &mut Agenda, draft: &mut Draft, id: &VolumeId) {
    agenda.claims_freed();
    let tenant = draft.state().volume(id).and_then(|v| v.tenant.clone());
    tenant.into_iter().for_each(|app| agenda.queue(app));
    let finished = |volume: &model::Volume| volume.removing && volume.copies.is_empty();
    if draft.state().volume(id).is_some_and(finished) {
        draft.apply(Change::VolumeRemoved { volume: id.clone() });
    }
}
