//! Moves: of an app with its volumes, or of a volume with whoever has it.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use model::{AppId, MoveId, NodeId, VolumeId};
use planner::request::{self, Plan, Refusal};
use serde::Deserialize;

use crate::Context;
use crate::answer::{self, Answer, Failure};
use crate::marathon::apps;
use crate::tandem::nodes;
use crate::wire::{Move, Planned};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Wish {
    app: Option<String>,
    volume: Option<String>,
    to: String,
    #[serde(default)]
    dry_run: bool,
}

/// What is to be moved.
enum Subject {
    App(AppId),
    Volume(VolumeId),
}

impl Subject {
    fn of(wish: &Wish) -> Result<Self, Failure> {
        match (&wish.app, &wish.volume) {
            (Some(app), None) => parse(app).map(Self::App),
            (None, Some(volume)) => {
                let id = VolumeId::parse(volume);
                let id = id.map_err(|fault| Failure::bad_request(fault.to_string()));
                id.map(Self::Volume)
            }
            _ => Err(Failure::bad_request("name one of app and volume")),
        }
    }

    fn plan(&self, state: &model::State, to: NodeId) -> Result<Option<Plan>, Refusal> {
        match self {
            Self::App(app) => request::plan_move(state, app, to),
            Self::Volume(volume) => request::plan_volume_move(state, volume, to),
        }
    }
}

fn parse(app: &str) -> Result<AppId, Failure> {
    AppId::parse(app).map_err(|fault| Failure::bad_request(fault.to_string()))
}

pub async fn list(State(context): State<Context>) -> Answer {
    let state = context.master.store().state();
    let view = |movement| Move::of(&state, movement, context.master.arrived(movement));
    let moves: Vec<Move> = state.moves().map(view).collect();
    Ok(answer::json(moves))
}

/// 202 with the move; 200 without one when it is there already, or was only asked about.
pub async fn begin(State(context): State<Context>, body: Bytes) -> Answer {
    let wish: Wish = serde_json::from_slice(&body).map_err(|error| {
        Failure::bad_request(format!(
            "the body must be {{app or volume, to, dryRun}}: {error}"
        ))
    })?;
    let subject = Subject::of(&wish)?;
    let planned = apps::change(&context, move |draft| {
        let to = draft.state().find_node(&wish.to).map(|node| node.id);
        let to = to.ok_or_else(|| nodes::unknown(&wish.to))?;
        apps::accept(draft, |draft| {
            let plan = subject.plan(draft.state(), to)?;
            let mut planned = plan.map(|plan| Planned::of(draft.state(), &plan));
            if let Some(planned) = planned.as_mut().filter(|_| !wish.dry_run) {
                let id = match &subject {
                    Subject::App(app) => request::move_app(draft, app, to)?,
                    Subject::Volume(volume) => request::move_volume(draft, volume, to)?,
                };
                planned.id = id.map(|id| id.to_string());
            }
            Ok(planned)
        })
    })
    .await?;
    let begun = planned.as_ref().is_some_and(|planned| planned.id.is_some());
    let status = match begun {
        true => StatusCode::ACCEPTED,
        false => StatusCode::OK,
    };
    Ok((status, Json(planned)).into_response())
}

enum Which {
    Move(MoveId),
    App(AppId),
}

/// By the move's id, or by its app's.
pub async fn cancel(State(context): State<Context>, Path(what): Path<String>) -> Answer {
    let which = match what.strip_prefix("move-").and_then(|n| n.parse().ok()) {
        Some(number) => Which::Move(MoveId(number)),
        None => Which::App(parse(&what)?),
    };
    apps::change(&context, move |draft| {
        apps::accept(draft, |draft| match which {
            Which::Move(id) => request::cancel(draft, id),
            Which::App(app) => request::cancel_move(draft, &app),
        })
    })
    .await?;
    Ok(answer::said("the move is cancelled"))
}
