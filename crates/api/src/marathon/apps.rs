//! `/v2/apps` and everything below it.

use std::collections::BTreeSet;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use marathon::query::{Embed, Filter, Selector};
use marathon::{Update, Violation, Warning, render};
use model::ids::ParseAppId;
use model::time::ParseTime;
use model::{AppId, AppSpec, ClusterId, Draft, Version};
use planner::request::{self, Accepted, Force, Refusal};
use serde_json::json;

use crate::Context;
use crate::answer::{self, Answer, Failure};
use crate::marathon::{tasks, views};
use crate::query::Query;

/// What a path below `/v2/apps/` means.
pub enum Target {
    App(AppId),
    /// `GROUP/*`: the apps of a group.
    Group(String),
    Restart(AppId),
    Tasks(AppId),
    Task(AppId, String),
    Versions(AppId),
    Version(AppId, Version),
}

/// Why a path is no [`Target`].
pub enum BadPath {
    App(String, ParseAppId),
    Version(ParseTime),
}

impl From<BadPath> for Failure {
    fn from(bad: BadPath) -> Self {
        match bad {
            BadPath::App(id, _) => Self::not_found(format!("App '/{id}' does not exist")),
            BadPath::Version(fault) => Self::bad_request(fault.to_string()),
        }
    }
}

impl Target {
    pub fn parse(path: &str) -> Result<Self, BadPath> {
        let segments: Vec<&str> = path.split('/').filter(|s| !s.is_empty()).collect();
        let app = |segments: &[&str]| {
            let text = segments.join("/");
            AppId::parse(&text).map_err(|fault| BadPath::App(text, fault))
        };
        match segments.as_slice() {
            [group @ .., "*"] => Ok(Self::Group(format!("/{}", group.join("/")))),
            [of @ .., "restart"] => Ok(Self::Restart(app(of)?)),
            [of @ .., "tasks"] => Ok(Self::Tasks(app(of)?)),
            [of @ .., "tasks", task] => Ok(Self::Task(app(of)?, (*task).to_owned())),
            [of @ .., "versions"] => Ok(Self::Versions(app(of)?)),
            [of @ .., "versions", version] => {
                let version = version.parse().map_err(BadPath::Version)?;
                Ok(Self::Version(app(of)?, version))
            }
            of => Ok(Self::App(app(of)?)),
        }
    }

    /// The refusal of any other method than those that mean something here.
    fn not_here(&self) -> Failure {
        Failure::Method(match self {
            Self::App(_) => "GET, PUT, PATCH, DELETE",
            Self::Restart(_) => "POST",
            Self::Tasks(_) => "GET, DELETE",
            Self::Task(..) => "DELETE",
            Self::Group(_) | Self::Versions(_) | Self::Version(..) => "GET",
        })
    }
}

pub async fn list(State(context): State<Context>, query: Query) -> Answer {
    let label = query.get("label").map(Selector::parse).transpose();
    let filter = Filter {
        cmd: query.get("cmd").map(str::to_owned),
        id: query.get("id").map(str::to_owned),
        label: label.map_err(|fault| Failure::bad_request(fault.to_string()))?,
    };
    let embed = Embed::parse(query.all("embed"));
    let state = context.master.store().state();
    let apps: Vec<_> = state
        .apps()
        .filter(|app| !app.removing && filter.matches(&app.id, &app.spec))
        .map(|app| views::app(&state, app, embed))
        .collect();
    Ok(answer::json(json!({ "apps": apps })))
}

pub async fn read(
    State(context): State<Context>,
    Path(path): Path<String>,
    query: Query,
) -> Answer {
    let state = context.master.store().state();
    let find = |id: &AppId| {
        let found = state.app(id).filter(|app| !app.removing);
        found.ok_or_else(|| Failure::Refusal(Refusal::NoApp(id.clone()), state.cluster))
    };
    match Target::parse(&path)? {
        Target::App(id) => {
            let embed = Embed {
                task_stats: query.all("embed").any(|e| e.ends_with("taskStats")),
                ..views::WHOLE
            };
            Ok(answer::json(
                json!({ "app": views::app(&state, find(&id)?, embed) }),
            ))
        }
        Target::Group(group) => {
            let inside = |id: &AppId| {
                group == "/"
                    || id
                        .as_str()
                        .strip_prefix(&group)
                        .is_some_and(|rest| rest.starts_with('/'))
            };
            let embed = Embed::parse(query.all("embed"));
            let apps = state.apps().filter(|app| !app.removing && inside(&app.id));
            let apps: Vec<_> = apps.map(|app| views::app(&state, app, embed)).collect();
            Ok(answer::json(json!({ "*": apps })))
        }
        Target::Tasks(id) => Ok(answer::json(
            json!({ "tasks": views::tasks(&state, find(&id)?) }),
        )),
        Target::Versions(id) => {
            let app = find(&id)?;
            let older = app.history.iter().rev().map(|(version, _)| *version);
            Ok(answer::json(render::versions(
                std::iter::once(app.version).chain(older),
            )))
        }
        Target::Version(id, version) => {
            let spec = spec_of(&state, &id, version)?;
            Ok(answer::json(render::definition(&id, &spec, version)))
        }
        other @ (Target::Restart(_) | Target::Task(..)) => Err(other.not_here()),
    }
}

fn spec_of(state: &model::State, id: &AppId, version: Version) -> Result<AppSpec, Failure> {
    let app = state.app(id).filter(|app| !app.removing);
    let app = app.ok_or_else(|| Failure::Refusal(Refusal::NoApp(id.clone()), state.cluster))?;
    let current = std::iter::once((app.version, &app.spec));
    let older = app.history.iter().map(|(version, spec)| (*version, spec));
    current
        .chain(older)
        .find(|(of, _)| *of == version)
        .map(|(_, spec)| spec.as_ref().clone())
        .ok_or_else(|| Failure::NoVersion {
            app: id.to_string(),
            version,
        })
}

/// `POST /v2/apps`: a new app.
pub async fn create(State(context): State<Context>, query: Query, body: Bytes) -> Answer {
    let update = marathon::parse_app(&body)?;
    let id = update.id()?.ok_or_else(missing_id)?;
    let force = Force::from(query.flag("force", false));
    let app = id.clone();
    let (done, warnings) = change(&context, move |draft| {
        let spec = marathon::merge(&app, None, &update, false).map_err(Failure::Violations)?;
        let warnings = warnings(&update, &spec);
        let done = accept(draft, |draft| request::post_app(draft, app, spec, force))?;
        Ok((done, warnings))
    })
    .await?;
    let response = created(&context, &id, &done);
    Ok(answer::with_warnings(response, &warnings))
}

/// What the author of an accepted update would be misled without.
fn warnings(update: &Update, spec: &AppSpec) -> Vec<Warning> {
    let unknown = update.unknown().iter().cloned();
    unknown.chain(marathon::warnings(spec)).collect()
}

fn missing_id() -> Violation {
    bad_id("must not be empty".to_owned())
}

fn bad_id(error: String) -> Violation {
    Violation {
        path: "/id".to_owned(),
        errors: vec![error],
    }
}

/// `201` with the app, as Marathon answers a creation.
fn created(context: &Context, id: &AppId, accepted: &Accepted) -> Response {
    let state = context.master.store().state();
    let deployment = accepted.deployment.uuid(state.cluster);
    let Some(app) = state.app(id) else {
        return answer::deployment(StatusCode::CREATED, accepted, state.cluster);
    };
    let mut view = views::app(&state, app, Embed::default());
    view.deployments = vec![deployment.clone()];
    let body = axum::Json(view);
    let location = [(header::LOCATION, id.to_string())];
    let response = (StatusCode::CREATED, location, body).into_response();
    answer::with_deployment(response, &deployment)
}

/// Runs one request as one transaction.
pub async fn change<R: Send + 'static>(
    context: &Context,
    decide: impl FnOnce(&mut Draft) -> Result<R, Failure> + Send + 'static,
) -> Result<R, Failure> {
    context.master.store().write(decide).await?
}

/// Words a refusal with what only the state knows.
pub fn accept<R>(
    draft: &mut Draft,
    request: impl FnOnce(&mut Draft) -> Result<R, Refusal>,
) -> Result<R, Failure> {
    let cluster = draft.state().cluster;
    request(draft).map_err(|refusal| Failure::Refusal(refusal, cluster))
}

/// How an update is laid over what is there.
#[derive(Clone, Copy)]
struct Mode {
    partial: bool,
    /// PATCH only: the app must be there.
    existing: bool,
    force: Force,
}

impl Mode {
    fn of(query: &Query, existing: bool) -> Self {
        Self {
            partial: existing || query.flag("partialUpdate", true),
            existing,
            force: Force::from(query.flag("force", false)),
        }
    }
}

/// The spec that an update asks for: merged, replaced, or taken from an earlier version.
fn wanted(draft: &Draft, id: &AppId, update: &Update, mode: Mode) -> Result<AppSpec, Failure> {
    let state = draft.state();
    let current = state.app(id).filter(|app| !app.removing);
    if mode.existing && current.is_none() {
        return Err(Failure::Refusal(Refusal::NoApp(id.clone()), state.cluster));
    }
    match update.rollback() {
        Some(version) if current.is_some() => spec_of(state, id, version?),
        _ => marathon::merge(
            id,
            current.map(|app| app.spec.as_ref()),
            update,
            mode.partial,
        )
        .map_err(Failure::Violations),
    }
}

pub async fn put(context: State<Context>, path: Path<String>, query: Query, body: Bytes) -> Answer {
    update_one(context.0, &path, Mode::of(&query, false), body).await
}

pub async fn patch(
    context: State<Context>,
    path: Path<String>,
    query: Query,
    body: Bytes,
) -> Answer {
    update_one(context.0, &path, Mode::of(&query, true), body).await
}

async fn update_one(context: Context, path: &str, mode: Mode, body: Bytes) -> Answer {
    let id = match Target::parse(path) {
        Ok(Target::App(id)) => id,
        Ok(other) => return Err(other.not_here()),
        // What would make the app says why it cannot.
        Err(BadPath::App(_, fault)) if !mode.existing => {
            return Err(bad_id(fault.to_string()).into());
        }
        Err(bad) => return Err(bad.into()),
    };
    let update = marathon::parse_app(&body)?;
    if update
        .id()?
        .is_some_and(|given| given != id && given.name() != id.as_str().trim_start_matches('/'))
    {
        return Err(bad_id(format!("differs from the path's, {id}")).into());
    }
    let app = id.clone();
    let (done, warnings) = change(&context, move |draft| {
        let spec = wanted(draft, &app, &update, mode)?;
        let warnings = warnings(&update, &spec);
        let done = accept(draft, |draft| {
            request::put_app(draft, app, spec, mode.force)
        })?;
        Ok((done, warnings))
    })
    .await?;
    let status = if done.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let cluster = context.master.store().state().cluster;
    Ok(answer::with_warnings(
        answer::deployment(status, &done, cluster),
        &warnings,
    ))
}

pub async fn put_many(context: State<Context>, query: Query, body: Bytes) -> Answer {
    update_many(context.0, Mode::of(&query, false), body).await
}

pub async fn patch_many(context: State<Context>, query: Query, body: Bytes) -> Answer {
    update_many(context.0, Mode::of(&query, true), body).await
}

async fn update_many(context: Context, mode: Mode, body: Bytes) -> Answer {
    let named = named(marathon::parse_apps(&body)?)?;
    let (done, warnings) = change(&context, move |draft| {
        let (apps, warnings) = wanted_of_many(draft, &named, mode)?;
        let done = request::put_apps(draft, apps, mode.force);
        let done = done.map_err(|refusal| refused(refusal, &named, draft.state().cluster))?;
        Ok((done, warnings))
    })
    .await?;
    let cluster = context.master.store().state().cluster;
    Ok(answer::with_warnings(
        answer::deployment(StatusCode::OK, &done, cluster),
        &warnings,
    ))
}

/// A refusal of one app's definition says which item of the array it was.
fn refused(refusal: Refusal, named: &[(AppId, Update)], cluster: ClusterId) -> Failure {
    if let Refusal::Constraint { app, .. }
    | Refusal::VolumeShared { app, .. }
    | Refusal::NotAllowed { app, .. } = &refusal
        && let Some(index) = named.iter().position(|(id, _)| id == app)
    {
        return Failure::ItemRefusal(refusal, cluster, index);
    }
    Failure::Refusal(refusal, cluster)
}

/// Each item of an array with its id, of which there are no two alike.
fn named(updates: Vec<Update>) -> Result<Vec<(AppId, Update)>, Failure> {
    let mut named = Vec::with_capacity(updates.len());
    let (mut seen, mut violations) = (BTreeSet::new(), Vec::new());
    for (index, update) in updates.into_iter().enumerate() {
        let fault = match update.id() {
            Err(violation) => violation,
            Ok(None) => missing_id(),
            Ok(Some(id)) if !seen.insert(id.clone()) => bad_id(format!("{id} is given twice")),
            Ok(Some(id)) => {
                named.push((id, update));
                continue;
            }
        };
        violations.push(fault.of_item(index));
    }
    match violations.is_empty() {
        true => Ok(named),
        false => Err(Failure::Violations(violations)),
    }
}

type Specs = Vec<(AppId, AppSpec)>;

/// The specs that the items of an array ask for, with what is to be told of them; or all that is
/// wrong with any.
fn wanted_of_many(
    draft: &Draft,
    named: &[(AppId, Update)],
    mode: Mode,
) -> Result<(Specs, Vec<Warning>), Failure> {
    let (mut apps, mut told, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
    for (index, (id, update)) in named.iter().enumerate() {
        match wanted(draft, id, update, mode) {
            Ok(spec) => {
                // A key's path names its item already.
                told.extend_from_slice(update.unknown());
                let of_spec = marathon::warnings(&spec).into_iter();
                told.extend(of_spec.map(|warning| warning.of_item(index)));
                apps.push((id.clone(), spec));
            }
            Err(Failure::Violations(found)) => {
                wrong.extend(found.into_iter().map(|fault| fault.of_item(index)));
            }
            Err(other) => return Err(other),
        }
    }
    match wrong.is_empty() {
        true => Ok((apps, told)),
        false => Err(Failure::Violations(wrong)),
    }
}

/// `POST …/restart`.
pub async fn act(context: State<Context>, Path(path): Path<String>, query: Query) -> Answer {
    let id = match Target::parse(&path)? {
        Target::Restart(id) => id,
        other => return Err(other.not_here()),
    };
    let force = Force::from(query.flag("force", false));
    deploy(&context, move |draft| {
        request::restart_app(draft, &id, force)
    })
    .await
}

/// `DELETE` of an app, or of its tasks.
pub async fn remove(context: State<Context>, Path(path): Path<String>, query: Query) -> Answer {
    match Target::parse(&path)? {
        // Marathon's default for this one request is to force.
        Target::App(id) => {
            let force = Force::from(query.flag("force", true));
            deploy(&context, move |draft| {
                request::remove_app(draft, &id, force)
            })
            .await
        }
        Target::Tasks(id) => tasks::kill_of_app(&context, id, None, &query).await,
        Target::Task(id, task) => tasks::kill_of_app(&context, id, Some(task), &query).await,
        other @ (Target::Group(_)
        | Target::Restart(_)
        | Target::Versions(_)
        | Target::Version(..)) => Err(other.not_here()),
    }
}

/// A request that is answered with its deployment.
pub async fn deploy(
    context: &Context,
    request: impl FnOnce(&mut Draft) -> Result<Accepted, Refusal> + Send + 'static,
) -> Answer {
    let done = change(context, move |draft| accept(draft, request)).await?;
    let cluster = context.master.store().state().cluster;
    Ok::<Response, _>(answer::deployment(StatusCode::OK, &done, cluster))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_which_item_it_is_about() {
        let body = br#"[{"id": "/web"}, {"id": "/db"}]"#;
        let named = marathon::parse_apps(body).map(named);
        let Ok(Ok(named)) = named else {
            panic!("{named:?}")
        };
        let refusal = |name: &str| Refusal::NotAllowed {
            app: AppId::parse(name).expect("an id"),
            permission: "/etc".to_owned(),
        };
        let of = |refusal| refused(refusal, &named, ClusterId::default());
        assert!(matches!(of(refusal("/db")), Failure::ItemRefusal(.., 1)));
        assert!(matches!(of(refusal("/x")), Failure::Refusal(..)));
        assert!(matches!(of(Refusal::ScaleAndWipe), Failure::Refusal(..)));
    }
}
