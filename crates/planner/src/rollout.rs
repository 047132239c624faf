//! Deployments: their plan, their progress, and how a changed app replaces its instances.
//!
//! ```text
//! plan: stop what is removed │ start what is new │ scale or restart, by depth of dependencies
//! ```
//! A step is done when each of its apps is; nothing but `force` or a cancel ends one before.
//! An app whose new instances never get ready keeps as many old ones as its upgrade strategy
//! says, for as long as it takes.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::ids::{AppId, DeploymentId};
use model::instance::{Health, StopCause};
use model::spec::HostPort;
use model::{Action, App, AppSpec, Change, Draft, Instance, Rung, State, Step};

use crate::leader::Agenda;
use crate::request::{share_down, share_up};
use crate::{relocate, start, stop, upkeep};

/// An app that changes, and how.
pub(crate) struct Planned {
    pub app: AppId,
    pub spec: Option<Arc<AppSpec>>,
    pub action: Action,
}

/// Marathon's steps for these apps; a cycle of dependencies otherwise.
pub(crate) fn plan(state: &State, planned: &[Planned]) -> Result<Vec<Step>, Vec<AppId>> {
    let mut depths = Depths {
        state,
        planned: planned.iter().map(|p| (&p.app, p)).collect(),
        known: BTreeMap::new(),
        path: Vec::new(),
    };
    let mut layers: BTreeMap<u32, Vec<(AppId, Action)>> = BTreeMap::new();
    for target in planned.iter().filter(|p| p.spec.is_some()) {
        let action = match target.action {
            Action::Start => Action::Scale,
            action => action,
        };
        let depth = depths.of(&target.app)?;
        let layer = layers.entry(depth).or_default();
        layer.push((target.app.clone(), action));
    }
    let with = |action| {
        let chosen = planned.iter().filter(move |p| p.action == action);
        chosen.map(move |p| (p.app.clone(), action)).collect()
    };
    let steps = [with(Action::Stop), with(Action::Start)];
    let steps = steps.into_iter().chain(layers.into_values());
    Ok(steps
        .filter(|actions: &Vec<_>| !actions.is_empty())
        .map(|actions| Step { actions })
        .collect())
}

/// How deep below other changing apps each app is.
struct Depths<'a> {
    state: &'a State,
    planned: BTreeMap<&'a AppId, &'a Planned>,
    known: BTreeMap<AppId, u32>,
    path: Vec<AppId>,
}

impl Depths<'_> {
    fn of(&mut self, app: &AppId) -> Result<u32, Vec<AppId>> {
        if let Some(depth) = self.known.get(app) {
            return Ok(*depth);
        }
        if let Some(start) = self.path.iter().position(|other| other == app) {
            let mut cycle = self.path.split_off(start);
            cycle.push(app.clone());
            return Err(cycle);
        }
        self.path.push(app.clone());
        let mut depth = 0;
        for dependency in self.dependencies(app) {
            let changes = u32::from(self.planned.contains_key(&dependency));
            depth = depth.max(self.of(&dependency)? + changes);
        }
        self.path.pop();
        self.known.insert(app.clone(), depth);
        Ok(depth)
    }

    /// The apps that `app` depends on; a dependency on a group means all of its apps.
    fn dependencies(&self, app: &AppId) -> Vec<AppId> {
        let spec = match self.planned.get(app) {
            Some(planned) => planned.spec.clone(),
            None => self.state.app(app).map(|app| Arc::clone(&app.spec)),
        };
        let Some(spec) = spec.filter(|spec| !spec.dependencies.is_empty()) else {
            return Vec::new();
        };
        let living = self.state.apps().map(|app| &app.id);
        let all = living.chain(self.planned.keys().copied());
        let wanted = |id: &&AppId| spec.dependencies.iter().any(|d| covers(d, id));
        all.filter(wanted).cloned().collect()
    }
}

fn covers(dependency: &AppId, app: &AppId) -> bool {
    let rest = app.as_str().strip_prefix(dependency.as_str());
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A deployment's turn: on to the next step when this one is done.
pub(crate) fn advance(agenda: &mut Agenda, draft: &mut Draft, id: DeploymentId) {
    let Some(deployment) = draft.state().deployment(id) else {
        return;
    };
    let mut current = deployment.current;
    let steps = deployment.steps.clone();
    let done = |step: &Step| {
        step.actions
            .iter()
            .all(|(a, act)| is_done(draft.state(), a, *act))
    };
    while steps.get(current as usize).is_some_and(done) {
        current += 1;
    }
    if current as usize >= steps.len() {
        draft.apply(Change::DeploymentEnded {
            deployment: id,
            broken: false,
        });
    } else if current != deployment.current {
        draft.apply(Change::DeploymentStepped {
            deployment: id,
            current,
        });
        for (app, _) in &steps[current as usize].actions {
            agenda.queue(app.clone());
        }
    }
}

fn is_done(state: &State, id: &AppId, action: Action) -> bool {
    let Some(app) = state.app(id) else {
        return true;
    };
    match action {
        Action::Start => true,
        Action::Stop => !app.removing || (app.counters.active == 0 && nothing_stops(state, app)),
        Action::Scale | Action::Restart => {
            let (counters, wanted) = (&app.counters, app.spec.instances);
            counters.active == wanted
                && counters.current == wanted
                && ready(app) == wanted
                && nothing_stops(state, app)
        }
    }
}

/// Whether no instance is on its way down, save on nodes that nothing reaches.
fn nothing_stops(state: &State, app: &App) -> bool {
    app.counters.living() == app.counters.active
        || state
            .instances_of(app)
            .all(|i| !i.goal.is_stop() || i.has_ended() || stop::is_cut_off(state, i))
}

/// How many active instances are ready: healthy, or running where nothing checks health.
pub(crate) fn ready(app: &App) -> u32 {
    match app.spec.health_checks.is_empty() {
        true => app.counters.running,
        false => app.counters.healthy,
    }
}

fn is_ready(instance: &Instance) -> bool {
    let healthy = instance.spec.health_checks.is_empty() || instance.health == Health::Healthy;
    instance.rung == Rung::Running && healthy
}

/// The app's turn under a deployment: old instances go and new ones come within the bounds of
/// the upgrade strategy. Without old ones this is upkeep.
pub(crate) fn replace(agenda: &mut Agenda, draft: &mut Draft, app: &App, room: usize) {
    let (wanted, counters) = (app.spec.instances, &app.counters);
    let old = counters.active - counters.current;
    if old == 0 {
        upkeep::keep(agenda, draft, app, wanted, room);
        return;
    }
    // What must go elsewhere with its volumes is replaced there.
    if relocate::evade(agenda, draft, app) {
        return;
    }
    let bounds = Bounds::of(app);
    let order = stop::order(draft.state(), app, |i| !app.is_current(i.version));
    let ready_all = draft.state().instances_of(app);
    let ready_all = ready_all.filter(|i| i.is_active() && is_ready(i)).count() as u32;
    let spare = ready_all.saturating_sub(bounds.healthy);
    let surplus = old.saturating_sub(wanted);
    let (mut stopped, mut ready_stopped) = (0, 0);
    for id in order.into_iter().take(room) {
        let is_ready = draft.state().instance(id).is_some_and(is_ready);
        if is_ready && ready_stopped >= spare && stopped >= surplus {
            continue;
        }
        stop::stop(draft, id, StopCause::Replaced);
        stopped += 1;
        ready_stopped += u32::from(is_ready);
    }
    let missing = wanted.saturating_sub(counters.current);
    let open = bounds.most.saturating_sub(counters.living());
    start::start(agenda, draft, &app.id, missing.min(open) as usize, room);
}

/// How few ready instances and how many instances at all a replacement may have.
struct Bounds {
    healthy: u32,
    most: u32,
}

impl Bounds {
    fn of(app: &App) -> Self {
        let (n, upgrade) = (app.spec.instances, &app.spec.upgrade);
        let healthy = share_up(n, upgrade.minimum_health).min(n);
        let most = n.saturating_add(share_down(n, upgrade.maximum_over));
        match (is_alone(&app.spec), healthy >= most) {
            // The old one has what the new one needs, so it must go first.
            (true, _) => Self {
                healthy: healthy.min(n.saturating_sub(1)),
                most: n,
            },
            // Nothing could move otherwise.
            (false, true) => Self {
                healthy,
                most: most + 1,
            },
            (false, false) => Self { healthy, most },
        }
    }
}

/// Whether an instance claims what two cannot have: a volume, a host port, a fixed address.
fn is_alone(spec: &AppSpec) -> bool {
    spec.volumes().next().is_some()
        || !spec.fixed_addresses.is_empty()
        || spec.require_ports
        || spec
            .ports
            .iter()
            .any(|port| matches!(port.host, HostPort::Fixed(_)))
}
