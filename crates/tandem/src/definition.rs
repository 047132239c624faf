//! What a file of `tandem deploy` defines: one app, an array of apps, or a group with apps and
//! groups inside. Groups become apps with whole ids; what an app may say is the master's to judge.

use serde_json::{Map, Value};

use crate::fault::{Exit, Fault, Result};

/// An app as it is sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Definition {
    /// `/shop/web`
    pub id: String,
    pub app: Map<String, Value>,
}

/// What of a group has a meaning here.
const GROUP_KEYS: [&str; 4] = ["id", "apps", "groups", "dependencies"];

/// The apps of a file. `id` names the one app of a file without an id, or another one.
pub fn apps(source: &str, value: Value, id: Option<&str>) -> Result<Vec<Definition>> {
    let wrong = |said: String| Fault::new(Exit::Usage, format!("{source}: {said}"));
    let several = |count: usize| wrong(format!("--id is for one app, here are {count}"));
    match (value, id) {
        (Value::Array(apps), None) => {
            let mut found = Vec::new();
            for (n, app) in apps.into_iter().enumerate() {
                let source = format!("{source}, app {}", n + 1);
                found.push(one(&source, object(&source, app)?, None, "/")?);
            }
            Ok(found)
        }
        (Value::Array(apps), Some(_)) => Err(several(apps.len())),
        (Value::Object(group), id) if is_group(&group) => {
            if id.is_some() {
                return Err(wrong("--id is for an app, this is a group".into()));
            }
            let mut found = Vec::new();
            flatten(source, group, "/", &[], &mut found)?;
            match found.is_empty() {
                true => Err(wrong("the group has no apps".into())),
                false => Ok(found),
            }
        }
        (Value::Object(app), id) => Ok(vec![one(source, app, id, "/")?]),
        _ => Err(wrong(
            "an app is a JSON object, several are an array".into(),
        )),
    }
}

fn is_group(object: &Map<String, Value>) -> bool {
    object.contains_key("apps") || object.contains_key("groups")
}

fn object(source: &str, value: Value) -> Result<Map<String, Value>> {
    match value {
        Value::Object(object) => Ok(object),
        _ => Err(Fault::new(
            Exit::Usage,
            format!("{source}: this is no JSON object"),
        )),
    }
}

/// One app, its id and dependencies made whole.
fn one(
    source: &str,
    mut app: Map<String, Value>,
    id: Option<&str>,
    group: &str,
) -> Result<Definition> {
    let written = app.get("id").and_then(Value::as_str);
    let Some(id) = id.or(written) else {
        let fault = Fault::new(Exit::Usage, format!("{source}: the app has no `id`"));
        return Err(fault.hint("write one into it, or name it by --id ID"));
    };
    let id = within(group, id);
    app.insert("id".into(), Value::String(id.clone()));
    if let Some(Value::Array(dependencies)) = app.get_mut("dependencies") {
        for dependency in dependencies {
            if let Value::String(name) = dependency {
                *name = within(group, name);
            }
        }
    }
    Ok(Definition { id, app })
}

/// `name` as seen from a group: `/x` is whole, `x` and `../x` are relative.
fn within(group: &str, name: &str) -> String {
    let mut parts: Vec<&str> = match name.starts_with('/') {
        true => Vec::new(),
        false => group.split('/').collect(),
    };
    for part in name.split('/') {
        match part {
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.retain(|part| !part.is_empty() && *part != ".");
    format!("/{}", parts.join("/"))
}

/// `needed` is what the groups around this one depend on.
fn flatten(
    source: &str,
    mut group: Map<String, Value>,
    parent: &str,
    needed: &[String],
    found: &mut Vec<Definition>,
) -> Result<()> {
    let wrong = |said: String| Fault::new(Exit::Usage, format!("{source}: {said}"));
    if let Some(key) = group.keys().find(|key| !GROUP_KEYS.contains(&key.as_str())) {
        return Err(wrong(format!("`{key}` of a group is not there yet")));
    }
    let id = within(
        parent,
        group.get("id").and_then(Value::as_str).unwrap_or("/"),
    );
    let mut needed = needed.to_vec();
    for dependency in array(source, &mut group, "dependencies")? {
        let name = dependency.as_str();
        let name = name.ok_or_else(|| wrong(format!("a dependency of {id} is no text")))?;
        needed.push(within(&id, name));
    }
    for app in array(source, &mut group, "apps")? {
        let mut app = one(source, object(source, app)?, None, &id)?;
        depend(&mut app.app, &needed);
        found.push(app);
    }
    for inner in array(source, &mut group, "groups")? {
        flatten(source, object(source, inner)?, &id, &needed, found)?;
    }
    Ok(())
}

fn array(source: &str, group: &mut Map<String, Value>, key: &str) -> Result<Vec<Value>> {
    match group.remove(key) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(values)) => Ok(values),
        Some(_) => Err(Fault::new(
            Exit::Usage,
            format!("{source}: `{key}` is no array"),
        )),
    }
}

fn depend(app: &mut Map<String, Value>, needed: &[String]) {
    if needed.is_empty() {
        return;
    }
    let entry = app
        .entry("dependencies")
        .or_insert_with(|| Value::Array(Vec::new()));
    if let Value::Array(dependencies) = entry {
        for name in needed {
            let name = Value::String(name.clone());
            if !dependencies.contains(&name) {
                dependencies.push(name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(value: Value, id: Option<&str>) -> Result<Vec<Value>> {
        let found = apps("x.json", value, id)?;
        Ok(found
            .into_iter()
            .map(|found| Value::Object(found.app))
            .collect())
    }

    #[test]
    fn an_app_is_named_by_itself_or_by_the_command() {
        assert_eq!(
            of(json!({"id": "shop/web"}), None),
            Ok(vec![json!({"id": "/shop/web"})])
        );
        assert_eq!(
            of(json!({"cpus": 1}), Some("a/b")),
            Ok(vec![json!({"id": "/a/b", "cpus": 1})])
        );
        let fault = of(json!({"cpus": 1}), None).unwrap_err();
        assert!(fault.text().contains("--id"), "{}", fault.text());
    }

    #[test]
    fn a_group_becomes_its_apps() {
        let group = json!({"id": "/shop", "groups": [
            {"id": "db", "apps": [{"id": "pg"}]},
            {"id": "app", "dependencies": ["../db"], "apps": [{"id": "node", "dependencies": ["/x"]}]}]});
        // Dependencies are seen from the group that names them.
        let expected = vec![
            json!({"id": "/shop/db/pg"}),
            json!({"id": "/shop/app/node", "dependencies": ["/x", "/shop/db"]}),
        ];
        assert_eq!(of(group, None), Ok(expected));
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        let cases = [
            (json!(3), None),
            (json!([{"id": "a"}]), Some("b")),
            (json!([3]), None),
            (json!({"id": "g", "groups": []}), None),
            (
                json!({"id": "g", "apps": [{"id": "a"}], "scaleBy": 2}),
                None,
            ),
        ];
        for (value, id) in cases {
            assert_eq!(
                of(value.clone(), id).unwrap_err().exit,
                Exit::Usage,
                "{value}"
            );
        }
    }
}
