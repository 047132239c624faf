//! Refusals as Marathon words them, and what every answer carries.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use marathon::{Fault, Violation, render};
use model::{ClusterId, Version};
use planner::request::{Accepted, MoveRefusal, Refusal};
use serde_json::{Value, json};

use crate::Context;

/// Why a request gets no `2xx`.
#[derive(Debug)]
pub enum Failure {
    Fault(Fault),
    Violations(Vec<Violation>),
    Refusal(Refusal, ClusterId),
    /// Of an array's item.
    ItemRefusal(Refusal, ClusterId, usize),
    NoVersion {
        app: String,
        version: Version,
    },
    Store(store::Error),
    /// The methods that are possible.
    Method(&'static str),
    Other(StatusCode, String),
}

pub type Answer = Result<Response, Failure>;

impl Failure {
    pub fn not_found(text: impl Into<String>) -> Self {
        Self::Other(StatusCode::NOT_FOUND, text.into())
    }

    pub fn bad_request(text: impl Into<String>) -> Self {
        Self::Other(StatusCode::BAD_REQUEST, text.into())
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Violation> for Failure {
    fn from(violation: Violation) -> Self {
        Self::Violations(vec![violation])
    }
}

impl From<store::Error> for Failure {
    fn from(error: store::Error) -> Self {
        Self::Store(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let (status, body) = match self {
            Self::Fault(fault) => (status_of(fault.status()), fault.body()),
            Self::Violations(violations) => (
                StatusCode::UNPROCESSABLE_ENTITY,
                marathon::fault::invalid(&violations),
            ),
            Self::Refusal(refusal, cluster) => refused(&refusal, cluster, None),
            Self::ItemRefusal(refusal, cluster, index) => refused(&refusal, cluster, Some(index)),
            Self::NoVersion { app, version } => {
                (StatusCode::NOT_FOUND, render::no_app(&app, Some(version)))
            }
            Self::Store(error) => {
                let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
                let text = format!("{error}{}", cause.unwrap_or_default());
                (StatusCode::SERVICE_UNAVAILABLE, render::message(&text))
            }
            Self::Method(allowed) => {
                let body = render::message(&format!("only {allowed} are possible here"));
                let status = StatusCode::METHOD_NOT_ALLOWED;
                return (status, [(header::ALLOW, allowed)], Json(body)).into_response();
            }
            Self::Other(status, text) => (status, render::message(&text)),
        };
        (status, Json(body)).into_response()
    }
}

fn status_of(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_REQUEST)
}

/// `item`: which of an array's apps is refused.
fn refused(refusal: &Refusal, cluster: ClusterId, item: Option<usize>) -> (StatusCode, Value) {
    let text = refusal.to_string();
    let invalid = |path: &str| {
        let violation = Violation {
            path: path.to_owned(),
            errors: vec![text.clone()],
        };
        let violation = match item {
            Some(index) => violation.of_item(index),
            None => violation,
        };
        (
            StatusCode::UNPROCESSABLE_ENTITY,
            marathon::fault::invalid(&[violation]),
        )
    };
    let plain = |status| (status, render::message(&text));
    match refusal {
        Refusal::AlreadyExists(app) => {
            let text = format!("An app with id [{app}] already exists.");
            (StatusCode::CONFLICT, render::message(&text))
        }
        Refusal::NoApp(app) => (StatusCode::NOT_FOUND, render::no_app(app.as_str(), None)),
        Refusal::Locked(deployments) => {
            let ids: Vec<String> = deployments.iter().map(|id| id.uuid(cluster)).collect();
            (StatusCode::CONFLICT, render::locked(&ids))
        }
        Refusal::NoDeployment(id) => {
            let text = format!("DeploymentPlan {} does not exist", id.uuid(cluster));
            (StatusCode::NOT_FOUND, render::message(&text))
        }
        Refusal::Constraint { fault, .. } => invalid(&format!("/constraints({})", fault.index)),
        Refusal::VolumeShared { .. } => invalid("/instances"),
        Refusal::NotAllowed { .. } => invalid("/container"),
        Refusal::Cyclic(_) => invalid("/dependencies"),
        Refusal::NoServicePort(..) => invalid("/servicePort"),
        Refusal::ScaleAndWipe => plain(StatusCode::BAD_REQUEST),
        Refusal::NoVolume(_) | Refusal::NoNode(_) | Refusal::VolumeCopyMissing { .. } => {
            plain(StatusCode::NOT_FOUND)
        }
        Refusal::VolumeDiffers { .. }
        | Refusal::VolumeInUse { .. }
        | Refusal::VolumeGoing(_)
        | Refusal::Recover(_)
        | Refusal::NodeIsHere(_) => plain(StatusCode::CONFLICT),
        Refusal::Move(refusal) => plain(match refusal {
            MoveRefusal::NoVolumes(_) => StatusCode::UNPROCESSABLE_ENTITY,
            MoveRefusal::NoVolume(_)
            | MoveRefusal::NoNode(_)
            | MoveRefusal::NotMoving(_)
            | MoveRefusal::NoMove(_) => StatusCode::NOT_FOUND,
            MoveRefusal::UnderWay { .. }
            | MoveRefusal::Going(_)
            | MoveRefusal::Taken { .. }
            | MoveRefusal::Nowhere(_)
            | MoveRefusal::NotMade(_)
            | MoveRefusal::Apart(_)
            | MoveRefusal::SetAside { .. }
            | MoveRefusal::Strayed { .. }
            | MoveRefusal::NoSpace { .. }
            | MoveRefusal::Lost(_)
            | MoveRefusal::Draining(_)
            | MoveRefusal::SourceLost(_)
            | MoveRefusal::Refused { .. }
            | MoveRefusal::HandedOver(_)
            | MoveRefusal::Past(_)
            | MoveRefusal::Leads { .. } => StatusCode::CONFLICT,
        }),
        Refusal::NoToken
        | Refusal::NameTaken(_)
        | Refusal::TokenExpired(_)
        | Refusal::TokenUsed(_) => plain(StatusCode::FORBIDDEN),
        Refusal::NoAddress(..) => plain(StatusCode::SERVICE_UNAVAILABLE),
    }
}

/// The answer to a change: version and deployment, in the body and in Marathon's header.
pub fn deployment(status: StatusCode, accepted: &Accepted, cluster: ClusterId) -> Response {
    let id = accepted.deployment.uuid(cluster);
    let body = Json(render::deployment_result(accepted.version, &id));
    with_deployment((status, body).into_response(), &id)
}

pub fn with_deployment(mut response: Response, id: &str) -> Response {
    const DEPLOYMENT: HeaderName = HeaderName::from_static("marathon-deployment-id");
    if let Ok(value) = HeaderValue::from_str(id) {
        response.headers_mut().insert(DEPLOYMENT, value);
    }
    response
}

/// Adds what a user would be misled without. Clients read a hundred headers or so: of many
/// warnings the last says how many more there are.
pub fn with_warnings(mut response: Response, warnings: &[marathon::Warning]) -> Response {
    const WARNING: HeaderName = HeaderName::from_static("tandem-warning");
    const MOST: usize = 32;
    let told = warnings.iter().take(MOST);
    let told = told.map(|warning| format!("{}: {}", warning.path, warning.message));
    let more = warnings.len().saturating_sub(MOST);
    let more = (more > 0).then(|| format!("and {more} more"));
    for text in told.chain(more) {
        let ascii: String = text
            .chars()
            .map(|c| {
                if c.is_ascii_graphic() || c == ' ' {
                    c
                } else {
                    '?'
                }
            })
            .collect();
        if let Ok(value) = HeaderValue::from_str(&ascii) {
            response.headers_mut().append(WARNING, value);
        }
    }
    response
}

pub async fn no_such_path(request: Request) -> Failure {
    Failure::not_found(format!("Path '{}' does not exist", request.uri().path()))
}

pub async fn no_such_method(request: Request) -> Failure {
    let text = format!(
        "{} is not possible on '{}'",
        request.method(),
        request.uri().path()
    );
    Failure::Other(StatusCode::METHOD_NOT_ALLOWED, text)
}

/// The framework's own refusals, of a body or a path, are plain text: here they get Marathon's form.
async fn worded(response: Response) -> Response {
    let kind = response.headers().get(header::CONTENT_TYPE);
    let status = response.status();
    if !status.is_client_error() || kind.is_none_or(|kind| !kind.as_bytes().starts_with(b"text/")) {
        return response;
    }
    let text = match status {
        StatusCode::PAYLOAD_TOO_LARGE => {
            format!("the body is larger than {} MiB", crate::MAX_BODY >> 20)
        }
        _ => match axum::body::to_bytes(response.into_body(), crate::MAX_BODY).await {
            Ok(text) => String::from_utf8_lossy(&text).into_owned(),
            Err(error) => error.to_string(),
        },
    };
    Failure::Other(status, text).into_response()
}

/// What every answer carries; each is counted.
pub async fn headers(State(context): State<Context>, request: Request, next: Next) -> Response {
    let mut response = worded(next.run(request).await).await;
    context.served.count(response.status());
    let headers = response.headers_mut();
    if let Ok(leader) = HeaderValue::from_str(&format!("http://{}", context.leader())) {
        headers.insert(HeaderName::from_static("x-marathon-leader"), leader);
    }
    for (name, value) in [
        (header::CACHE_CONTROL, "no-cache, no-store, must-revalidate"),
        (header::PRAGMA, "no-cache"),
        (header::EXPIRES, "0"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// A JSON body with `200`.
pub fn json(value: impl serde::Serialize) -> Response {
    Json(value).into_response()
}

/// `{"message": …}` with `200`.
pub fn said(text: &str) -> Response {
    Json(json!({ "message": text })).into_response()
}
