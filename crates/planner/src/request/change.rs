//! A change of several apps at once: checked whole, then applied whole, with one deployment.
//! Every other request about apps is made of this one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::ids::{AppId, DeploymentId, Version};
use model::instance::StopCause;
use model::movement::Reason;
use model::quantity::Quantity;
use model::{Action, App, AppSpec, Change, Deployment, Draft, State, Volume};
use scheduler::Wish;

use crate::request::{Accepted, Force, Refusal};
use crate::request::{apps, moves, service_ports};
use crate::rollout::{self, Planned};
use crate::stop;

/// Makes every named app what it is to be: `Some` puts it, `None` removes it. All or nothing.
///
/// 200 or 201; 404 for the removal of an app that does not exist, 409 [`Refusal::Locked`], 422
/// for what no node could ever run. An app whose removal is under way may be put again: its
/// instances start when the old ones have ended.
pub fn change(
    draft: &mut Draft,
    wanted: Vec<(AppId, Option<AppSpec>)>,
    force: Force,
) -> Result<Accepted, Refusal> {
    let state = draft.state();
    let wanted: BTreeMap<AppId, Option<AppSpec>> = wanted.into_iter().collect();
    let wanted = service_ports::assign(state, wanted)?;
    for (app, spec) in &wanted {
        match spec {
            Some(spec) => check(state, app, spec)?,
            None if state.app(app).is_none() => return Err(Refusal::NoApp(app.clone())),
            None => {}
        }
    }
    let targets: Vec<Target> = wanted
        .iter()
        .filter_map(|(app, spec)| Target::of(state, app, spec.as_ref()))
        .collect();
    if targets.is_empty() {
        return Ok(unchanged(state, wanted.keys()));
    }
    let locks = locks(state, &targets);
    if !locks.is_empty() && force == Force::No {
        return Err(Refusal::Locked(locks.into_iter().collect()));
    }
    if force == Force::No {
        let mut kept = targets.iter().filter(|target| target.spec.is_some());
        kept.try_for_each(|target| moves::let_be(state, &target.app))?;
    }
    let planned: Vec<Planned> = targets.iter().map(Target::planned).collect();
    let steps = rollout::plan(state, &planned).map_err(Refusal::Cyclic)?;
    let superseded = superseded(state, &targets, locks);

    let version = draft.next_version();
    for deployment in superseded {
        apps::break_off(draft, deployment);
    }
    for target in &targets {
        target.overrule_move(draft);
        target.apply(draft, version);
    }
    let deployment = draft.next_deployment();
    let before = targets.iter().map(|t| (t.app.clone(), t.before.clone()));
    let record = Deployment {
        id: deployment,
        version,
        began: draft.now(),
        steps,
        current: 0,
        before: before.collect(),
    };
    draft.apply(Change::DeploymentBegan {
        deployment: Box::new(record),
    });
    Ok(Accepted {
        version,
        deployment,
        created: targets.iter().any(|t| t.before.is_none()),
        changed: true,
    })
}

/// An app that changes.
struct Target {
    app: AppId,
    /// What it was; `None` for one that did not exist or whose removal was under way.
    before: Option<Arc<AppSpec>>,
    spec: Option<Arc<AppSpec>>,
    action: Action,
    revived: bool,
}

impl Target {
    fn of(state: &State, id: &AppId, spec: Option<&Arc<AppSpec>>) -> Option<Self> {
        let old = state.app(id);
        let living = old.filter(|app| !app.removing);
        let action = match (living, spec) {
            (None, None) => return None,
            (Some(_), None) => Action::Stop,
            (Some(old), Some(spec)) if old.spec == *spec => return None,
            (Some(old), Some(spec)) if !restarts(old, spec) => Action::Scale,
            (Some(_), Some(_)) => Action::Restart,
            (None, Some(_)) => Action::Start,
        };
        Some(Self {
            app: id.clone(),
            before: living.map(|app| Arc::clone(&app.spec)),
            spec: spec.cloned(),
            action,
            revived: old.is_some_and(|app| app.removing),
        })
    }

    fn planned(&self) -> Planned {
        Planned {
            app: self.app.clone(),
            spec: self.spec.clone(),
            action: self.action,
        }
    }

    /// Abandons a move that leads the app; one of an app that is to go at any phase.
    fn overrule_move(&self, draft: &mut Draft) {
        match self.spec.is_none() {
            true => moves::abandon(draft, &self.app, Reason::AppRemoved),
            false => moves::overrule(draft, &self.app, Reason::Forced),
        }
    }

    fn apply(&self, draft: &mut Draft, version: Version) {
        let Some(spec) = &self.spec else {
            draft.apply(Change::AppRemoving {
                app: self.app.clone(),
            });
            return;
        };
        if self.revived {
            stop_all(draft, &self.app);
        }
        let before = self.before.as_ref();
        let config = before.is_none_or(|old| !old.differs_only_in_scale(spec));
        draft.apply(Change::AppPut {
            app: self.app.clone(),
            spec: Arc::clone(spec),
            version,
            config,
        });
        let delayed = |app: &App| config && app.delay.is_some();
        if draft.state().app(&self.app).is_some_and(delayed) {
            draft.apply(Change::AppDelay {
                app: self.app.clone(),
                delay: None,
            });
        }
        take_volumes(draft, &self.app, spec);
    }
}

/// Whether instances must be replaced to get from what the app is to `spec`.
fn restarts(old: &App, spec: &AppSpec) -> bool {
    spec.instances > 0 && !old.spec.differs_only_in_scale(spec)
}

/// What was not yet told to stop when its app's removal is overtaken by a new beginning.
fn stop_all(draft: &mut Draft, app: &AppId) {
    let Some(record) = draft.state().app(app) else {
        return;
    };
    let active = draft.state().instances_of(record);
    let active: Vec<_> = active.filter(|i| i.is_active()).map(|i| i.id).collect();
    for id in active {
        stop::stop(draft, id, StopCause::AppRemoved);
    }
}

/// Volumes that the app names: made when they are new, the app's when they are nobody's.
pub(crate) fn take_volumes(draft: &mut Draft, app: &AppId, spec: &AppSpec) {
    for (id, size) in spec.volumes() {
        match draft.state().volume(id) {
            None => {
                let size = size.unwrap_or(draft.state().settings.volume_size);
                let volume = Volume {
                    tenant: Some(app.clone()),
                    ..Volume::empty(id.clone(), size, draft.now())
                };
                draft.apply(Change::VolumePut {
                    volume: Box::new(volume),
                });
            }
            Some(volume) if volume.tenant.is_none() && !volume.removing => {
                draft.apply(Change::VolumeTenant {
                    volume: id.clone(),
                    tenant: Some(app.clone()),
                });
            }
            Some(_) => {}
        }
    }
}

/// Refuses what no node could ever run.
fn check(state: &State, app: &AppId, spec: &Arc<AppSpec>) -> Result<(), Refusal> {
    let wish = Wish::compile(app, spec).map_err(|fault| Refusal::Constraint {
        app: app.clone(),
        fault,
    })?;
    if let Some((volume, _)) = spec.volumes().next()
        && spec.instances > 1
    {
        return Err(Refusal::VolumeShared {
            app: app.clone(),
            volume: volume.clone(),
            instances: spec.instances,
        });
    }
    let nowhere = |permission: &&String| {
        state.node_count() > 0 && !state.nodes().any(|node| node.machine.allows(permission))
    };
    match wish.permissions().iter().find(nowhere) {
        Some(permission) => Err(Refusal::NotAllowed {
            app: app.clone(),
            permission: permission.clone(),
        }),
        None => Ok(()),
    }
}

/// Deployments that hold an app of `targets`. A removal does not hold an app that begins anew.
fn locks(state: &State, targets: &[Target]) -> BTreeSet<DeploymentId> {
    let held = targets.iter().filter(|target| !target.revived);
    held.filter_map(|target| state.app(&target.app)?.deployment)
        .collect()
}

/// Deployments that end with this change: those it breaks, and removals that it overtakes.
fn superseded(
    state: &State,
    targets: &[Target],
    mut ended: BTreeSet<DeploymentId>,
) -> BTreeSet<DeploymentId> {
    let revived: BTreeSet<&AppId> = targets
        .iter()
        .filter(|target| target.revived)
        .map(|target| &target.app)
        .collect();
    let removals = revived.iter().filter_map(|app| state.app(app)?.deployment);
    let overtaken = removals
        .filter_map(|id| state.deployment(id))
        .filter(|deployment| deployment.apps().all(|app| revived.contains(app)));
    ended.extend(overtaken.map(|deployment| deployment.id));
    ended
}

fn unchanged<'a>(state: &State, apps: impl Iterator<Item = &'a AppId>) -> Accepted {
    let apps: Vec<&App> = apps.filter_map(|app| state.app(app)).collect();
    let version = apps.iter().map(|app| app.version).max();
    let version = version.unwrap_or(state.last_version);
    let running = apps.iter().find_map(|app| app.deployment);
    Accepted {
        version,
        deployment: running.unwrap_or(finished(version)),
        created: false,
        changed: false,
    }
}

/// A deployment that never was and so is finished: numbers that are drawn begin with an epoch,
/// which never gets so high.
fn finished(version: Version) -> DeploymentId {
    DeploymentId((1 << 63) | version.0)
}

/// Shares of `n`, rounded as Marathon does: up for health, down for what may be added.
pub(crate) fn share_up(n: u32, share: Quantity) -> u32 {
    (u64::from(n).saturating_mul(share.0)).div_ceil(1000) as u32
}

pub(crate) fn share_down(n: u32, share: Quantity) -> u32 {
    (u64::from(n).saturating_mul(share.0) / 1000) as u32
}
