//! What is wrong with a definition, and the bodies in which Marathon says so.
//!
//! Faults are collected, not raised: a user sees everything that is wrong at once.

use serde_json::{Value, json};

use crate::warnings::Warning;
use crate::wire::Place;

/// Everything that is wrong at one place of a definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// `/upgradeStrategy/minimumHealthCapacity`, `/healthChecks(0)/path`.
    pub path: String,
    pub errors: Vec<String>,
}

impl Violation {
    /// The same of one item of an array: `(1)/cpus`.
    pub fn of_item(self, index: usize) -> Self {
        Self {
            path: of_item(index, &self.path),
            ..self
        }
    }
}

/// As [`Place`] writes it.
pub(crate) fn of_item(index: usize, path: &str) -> String {
    format!("({index}){}", path.trim_end_matches('/'))
}

/// A body that is not a definition at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("the request has no body")]
    Empty,
    /// What the JSON parser says, with line and column.
    #[error("the body is not JSON: {0}")]
    Json(String),
    /// JSON of wrong types.
    #[error("the body has values of wrong types: {}", sentence(.0))]
    Types(Vec<Violation>),
}

impl Fault {
    /// The HTTP status that Marathon answers with.
    pub fn status(&self) -> u16 {
        match self {
            Self::Empty | Self::Json(_) => 400,
            Self::Types(_) => 422,
        }
    }

    pub fn body(&self) -> Value {
        match self {
            Self::Empty => json!({
                "message": "Please specify data in JSON format",
                "details": "the request has no body",
            }),
            Self::Json(text) => json!({ "message": "Invalid JSON", "details": text }),
            Self::Types(violations) => details("Invalid JSON", violations),
        }
    }
}

/// The body of a 422 for a definition that reads well and cannot be.
pub fn invalid(violations: &[Violation]) -> Value {
    details("Object is not valid", violations)
}

fn details(message: &str, violations: &[Violation]) -> Value {
    let list: Vec<Value> = violations
        .iter()
        .map(|violation| json!({ "path": violation.path, "errors": violation.errors }))
        .collect();
    json!({ "message": message, "details": list })
}

/// All violations in one line, for logs and terminals.
pub fn sentence(violations: &[Violation]) -> String {
    let parts: Vec<String> = violations
        .iter()
        .map(|violation| format!("{}: {}", violation.path, violation.errors.join(", ")))
        .collect();
    parts.join("; ")
}

/// So many keys that are not known are told of in one body: it may have a million.
const UNKNOWN_MAX: usize = 16;

/// Collects violations, one per path, and beside them what is accepted and means nothing.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    violations: Vec<Violation>,
    unknown: Vec<Warning>,
    unknown_told: usize,
}

impl Faults {
    /// A key that none of `known` is.
    pub(crate) fn unknown(&mut self, at: Place<'_>, key: &str, known: &[&str]) {
        if self.unknown_told == UNKNOWN_MAX {
            return;
        }
        self.unknown_told += 1;
        let shown: String = key.chars().take(64).collect();
        let hint = did_you_mean(key, known.iter().copied());
        self.unknown.push(Warning {
            path: Place::Key(&at, &shown).to_string(),
            message: format!("is not known and has no effect{hint}"),
        });
    }

    pub(crate) fn take_unknown(&mut self) -> Vec<Warning> {
        std::mem::take(&mut self.unknown)
    }

    pub(crate) fn at(&mut self, path: impl Into<String>, error: impl Into<String>) {
        let (path, error) = (path.into(), error.into());
        match self
            .violations
            .iter_mut()
            .find(|violation| violation.path == path)
        {
            Some(violation) if violation.errors.contains(&error) => {}
            Some(violation) => violation.errors.push(error),
            None => self.violations.push(Violation {
                path,
                errors: vec![error],
            }),
        }
    }

    /// The value, or its default and a fault.
    pub(crate) fn take<T: Default, E: ToString>(
        &mut self,
        path: impl Into<String>,
        result: Result<T, E>,
    ) -> T {
        result.unwrap_or_else(|error| {
            self.at(path, error.to_string());
            T::default()
        })
    }

    pub(crate) fn into_violations(self) -> Vec<Violation> {
        self.violations
    }
}

/// `; did you mean 'hostname'?` when one of the names is close, else nothing.
pub(crate) fn did_you_mean<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    names
        .into_iter()
        .map(|name| (distance(wrong, name), name))
        .filter(|(far, name)| *far <= 1 + name.len() / 4)
        .min()
        .map(|(_, name)| format!("; did you mean '{name}'?"))
        .unwrap_or_default()
}

/// Edits (insert, delete, replace) between two words; long input counts as far.
fn distance(a: &str, b: &str) -> usize {
    if a.len() > 64 {
        return usize::MAX;
    }
    let b: Vec<char> = b.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.to_lowercase().chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = corner + usize::from(x != *y);
            corner = row[j + 1];
            row[j + 1] = replaced.min(corner + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_miss_is_suggested_and_a_far_one_is_not() {
        assert_eq!(
            did_you_mean("hostnme", ["hostname", "env"]),
            "; did you mean 'hostname'?"
        );
        assert_eq!(
            did_you_mean("Volume", ["volume"]),
            "; did you mean 'volume'?"
        );
        assert_eq!(did_you_mean("dns", ["hostname", "volume"]), "");
        assert_eq!(did_you_mean(&"x".repeat(1000), ["hostname"]), "");
    }

    #[test]
    fn faults_at_one_path_are_said_together() {
        let mut faults = Faults::default();
        faults.at("/a", "one");
        faults.at("/b", "two");
        faults.at("/a", "three");
        faults.at("/a", "one");
        assert_eq!(
            invalid(&faults.into_violations()),
            json!({"message": "Object is not valid", "details": [
                {"path": "/a", "errors": ["one", "three"]},
                {"path": "/b", "errors": ["two"]},
            ]})
        );
    }
}
