//! What a client sent: which fields of a definition, with what.
//!
//! Here JSON is read and its types are checked; [`crate::merge`] makes a spec of it.

use model::{AppId, Version};
use serde_json::Value;

use crate::fault::{Fault, Faults, Violation};
use crate::shape::App;
use crate::warnings::Warning;
use crate::wire::{Place, Wire, record};

/// The body of a POST, PUT or PATCH of one app: any of an app's fields.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    pub(crate) given: App,
    unknown: Vec<Warning>,
}

impl Wire for Update {
    fn read(value: &Value, at: Place<'_>, faults: &mut Faults) -> Option<Self> {
        let given = App::read(value, at, faults);
        let unknown = faults.take_unknown();
        given.map(|given| Self { given, unknown })
    }

    fn write(&self) -> Value {
        self.given.write()
    }
}

impl Update {
    /// Keys of the body, at any depth, that mean nothing: some of them, if there are many.
    pub fn unknown(&self) -> &[Warning] {
        &self.unknown
    }

    /// The body's id, if it has one; relative ids count from the root.
    pub fn id(&self) -> Result<Option<AppId>, Violation> {
        let read = self.given.id.as_deref().map(AppId::parse).transpose();
        read.map_err(|fault| Violation {
            path: "/id".to_owned(),
            errors: vec![fault.to_string()],
        })
    }

    /// The version to go back to, when the body gives nothing else (save the id): a rollback.
    pub fn rollback(&self) -> Option<Result<Version, Violation>> {
        let others = App {
            id: None,
            version: None,
            ..self.given.clone()
        };
        let version = self.given.version.as_deref()?;
        (others == App::default()).then(|| {
            version
                .parse()
                .map_err(|fault: model::time::ParseTime| Violation {
                    path: "/version".to_owned(),
                    errors: vec![fault.to_string()],
                })
        })
    }
}

/// Reads a body that holds one app.
pub fn parse_app(body: &[u8]) -> Result<Update, Fault> {
    parse(body)
}

/// Reads a body that holds an array of apps.
pub fn parse_apps(body: &[u8]) -> Result<Vec<Update>, Fault> {
    parse(body)
}

record! { TaskIds { ids: Vec<String> = "ids", } }

/// Reads the body of `POST /v2/tasks/delete`, `{"ids": […]}`.
pub fn parse_task_ids(body: &[u8]) -> Result<Vec<String>, Fault> {
    let read: TaskIds = parse(body)?;
    read.ids.ok_or_else(|| {
        Fault::Types(vec![Violation {
            path: "/ids".to_owned(),
            errors: vec!["error.path.missing".to_owned()],
        }])
    })
}

fn parse<T: Wire>(body: &[u8]) -> Result<T, Fault> {
    if body.trim_ascii().is_empty() {
        return Err(Fault::Empty);
    }
    let value: Value =
        serde_json::from_slice(body).map_err(|error| Fault::Json(error.to_string()))?;
    let mut faults = Faults::default();
    let read = T::read(&value, Place::Root, &mut faults);
    let violations = faults.into_violations();
    match read {
        Some(read) if violations.is_empty() => Ok(read),
        _ => Err(Fault::Types(violations)),
    }
}
