//! What a spec holds that does not do what its author may expect. Told in answers and by
//! `tandem deploy`; nothing is refused here.
//!
//! | field | what happens |
//! |---|---|
//! | `log-driver`, `log-opt` | lines stay with the node's logs; forwarding comes later |
//! | `readinessChecks`, `check` | kept and shown, not run |
//! | `executor`, `executorResources`, `tty` | kept and shown, without effect |
//! | `resourceLimits.mem` | kept and shown; `mem` is the limit |
//! | `acceptedResourceRoles` of other roles | kept; nodes have no roles |
//!
//! Keys that are not known are told of where a body is read: [`crate::Update::unknown`].
//!
//! Refused at deploy instead, because the app could not work: `fetch`, `uris`, `storeUrls`,
//! `secrets`, `gpus`, persistent and secret volumes, `linuxInfo`, `pullConfig`, several
//! networks, and parameters that are not done.

use model::spec::AppSpec;

use crate::fault::of_item;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    pub path: String,
    pub message: String,
}

impl Warning {
    /// The same of one item of an array: `(1)/tty`.
    pub fn of_item(self, index: usize) -> Self {
        Self {
            path: of_item(index, &self.path),
            ..self
        }
    }
}

pub fn warnings(spec: &AppSpec) -> Vec<Warning> {
    let kept = spec
        .kept
        .iter()
        .filter_map(|(name, text)| Some((format!("/{name}"), effect(name, text)?.to_owned())));
    let driver = spec
        .image()
        .and_then(|image| image.options.log_driver.as_ref())
        .map(|driver| {
            (
                "/container/docker/parameters".to_owned(),
                format!(
                    "log-driver={driver}: lines are kept with the node's logs, forwarding comes later"
                ),
            )
        });
    let mine = |role: &String| role == "*" || Some(role) == spec.role.as_ref();
    let roles = spec
        .accepted_resource_roles
        .iter()
        .find(|role| !mine(role))
        .map(|role| {
            (
                "/acceptedResourceRoles".to_owned(),
                format!("'{role}' matches nothing: nodes have no roles"),
            )
        });
    kept.chain(driver)
        .chain(roles)
        .map(|(path, message)| Warning { path, message })
        .collect()
}

fn effect(field: &str, text: &str) -> Option<&'static str> {
    match field {
        "readinessChecks" => {
            Some("readiness checks are not run yet: a running instance counts as ready")
        }
        "check" => Some("this check is not run yet: use healthChecks"),
        "executor" | "executorResources" => Some("has no effect: there are no executors"),
        "tty" => Some("has no effect yet: there is no terminal"),
        "resourceLimits" if text.contains("\"mem\"") => {
            Some("mem has no effect: an instance's limit is the app's mem")
        }
        _ => None,
    }
}
