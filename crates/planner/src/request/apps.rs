//! Requests about apps and deployments.

use model::ids::{AppId, DeploymentId};
use model::movement::Reason;
use model::{Action, App, AppSpec, Change, Deployment, Draft, Step};

use crate::request::change::change;
use crate::request::moves;
use crate::request::{Accepted, Force, Refusal};

/// Makes an app what `spec` says, new or not. 200 or 201; refusals as [`change`].
pub fn put_app(
    draft: &mut Draft,
    app: AppId,
    spec: AppSpec,
    force: Force,
) -> Result<Accepted, Refusal> {
    change(draft, vec![(app, Some(spec))], force)
}

/// Creates an app. 201; 409 when it exists, unless its removal is under way.
pub fn post_app(
    draft: &mut Draft,
    app: AppId,
    spec: AppSpec,
    force: Force,
) -> Result<Accepted, Refusal> {
    match draft.state().app(&app) {
        Some(existing) if !existing.removing => Err(Refusal::AlreadyExists(app)),
        _ => change(draft, vec![(app, Some(spec))], force),
    }
}

/// Several apps in one deployment, ordered by their dependencies. All or nothing.
pub fn put_apps(
    draft: &mut Draft,
    apps: Vec<(AppId, AppSpec)>,
    force: Force,
) -> Result<Accepted, Refusal> {
    let apps = apps.into_iter().map(|(app, spec)| (app, Some(spec)));
    change(draft, apps.collect(), force)
}

/// Removes an app: its instances are stopped first. 200; 404; 409 when locked.
pub fn remove_app(draft: &mut Draft, app: &AppId, force: Force) -> Result<Accepted, Refusal> {
    existing(draft, app)?;
    change(draft, vec![(app.clone(), None)], force)
}

/// Changes the number of instances. 200; 404; 409; 422 for more than one with a volume.
pub fn scale(
    draft: &mut Draft,
    app: &AppId,
    instances: u32,
    force: Force,
) -> Result<Accepted, Refusal> {
    let spec = AppSpec {
        instances,
        ..existing(draft, app)?.spec.as_ref().clone()
    };
    change(draft, vec![(app.clone(), Some(spec))], force)
}

/// Replaces every instance. 200; 404; 409 when locked.
pub fn restart_app(draft: &mut Draft, app: &AppId, force: Force) -> Result<Accepted, Refusal> {
    let record = existing(draft, app)?;
    let (lock, before) = (record.deployment, record.spec.clone());
    if force == Force::No {
        moves::let_be(draft.state(), app)?;
    }
    match (lock, force) {
        (Some(lock), Force::No) => return Err(Refusal::Locked(vec![lock])),
        (Some(deployment), Force::Yes) => break_off(draft, deployment),
        (None, _) => {}
    }
    moves::overrule(draft, app, Reason::Forced);
    let version = draft.next_version();
    draft.apply(Change::AppRestarted {
        app: app.clone(),
        version,
    });
    reset_delay(draft, app)?;
    let deployment = draft.next_deployment();
    let record = Deployment {
        id: deployment,
        version,
        began: draft.now(),
        steps: vec![Step {
            actions: vec![(app.clone(), Action::Restart)],
        }],
        current: 0,
        before: vec![(app.clone(), Some(before))],
    };
    draft.apply(Change::DeploymentBegan {
        deployment: Box::new(record),
    });
    Ok(Accepted {
        version,
        deployment,
        created: false,
        changed: true,
    })
}

/// Lets an app start again at once after failures. 204; 404.
pub fn reset_delay(draft: &mut Draft, app: &AppId) -> Result<(), Refusal> {
    if existing(draft, app)?.delay.is_some() {
        draft.apply(Change::AppDelay {
            app: app.clone(),
            delay: None,
        });
    }
    Ok(())
}

/// Ends a deployment. Without force (200) a new one takes every app back to what it was before
/// and is given back; with force (202, `None`) things stay as they are. 404.
pub fn cancel_deployment(
    draft: &mut Draft,
    deployment: DeploymentId,
    force: Force,
) -> Result<Option<Accepted>, Refusal> {
    let record = draft.state().deployment(deployment);
    let record = record.ok_or(Refusal::NoDeployment(deployment))?;
    let before = record.before.clone();
    if force == Force::Yes {
        break_off(draft, deployment);
        return Ok(None);
    }
    let wanted = before.into_iter().filter_map(|(app, spec)| {
        let exists = draft.state().app(&app).is_some();
        let spec = spec.map(|spec| spec.as_ref().clone());
        (exists || spec.is_some()).then_some((app, spec))
    });
    let wanted: Vec<_> = wanted.collect();
    // What else may hold these apps was refused when this deployment began, or broken by force.
    let accepted = change(draft, wanted, Force::Yes)?;
    if draft.state().deployment(deployment).is_some() {
        break_off(draft, deployment);
    }
    Ok(Some(accepted))
}

/// Ends a deployment before it is done.
pub(super) fn break_off(draft: &mut Draft, deployment: DeploymentId) {
    draft.apply(Change::DeploymentEnded {
        deployment,
        broken: true,
    });
}

/// An app that exists and is not being removed.
pub(super) fn existing<'a>(draft: &'a Draft, app: &AppId) -> Result<&'a App, Refusal> {
    let record = draft.state().app(app).filter(|app| !app.removing);
    record.ok_or_else(|| Refusal::NoApp(app.clone()))
}
