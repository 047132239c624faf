//! `.j2` files: Jinja2 as Ansible's users write it. A variable that nobody gave is an error that
//! names it.

use std::collections::BTreeMap;

use minijinja::{Environment, UndefinedBehavior};

use crate::fault::{Doing, Exit, Fault, Result};

/// The text of a template with its variables filled in; `name` is for messages.
pub fn render(name: &str, text: &str, variables: &BTreeMap<String, String>) -> Result<String> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    // JSON is no HTML, whatever the file is called.
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    // Ansible's name for it.
    environment.add_filter("to_json", minijinja::filters::tojson);
    let rendered = environment.render_named_str(name, text, variables);
    rendered.map_err(|error| {
        let missing = error.kind() == minijinja::ErrorKind::UndefinedError;
        let at = error.line().map(|line| format!(", line {line}"));
        let said = format!(
            "fill in {name}{}: {}",
            at.unwrap_or_default(),
            words(&error)
        );
        let fault = Fault::new(Exit::Usage, said);
        match missing {
            true => fault.hint(format!(
                "give every variable by -e NAME=VALUE; given: {}",
                given(variables)
            )),
            false => fault,
        }
    })
}

fn words(error: &minijinja::Error) -> String {
    match error.detail() {
        Some(detail) => detail.to_owned(),
        None => error.kind().to_string(),
    }
}

fn given(variables: &BTreeMap<String, String>) -> String {
    match variables.is_empty() {
        true => "none".into(),
        false => variables.keys().cloned().collect::<Vec<_>>().join(", "),
    }
}

/// `KEY=VALUE` of `-e`.
pub fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err(format!("`{text}` is not KEY=VALUE")),
    }
}

/// The variables as a map; the last one given wins.
pub fn variables(given: Vec<(String, String)>) -> BTreeMap<String, String> {
    given.into_iter().collect()
}

/// A template's name without `.j2`, if it is one.
pub fn is_template(name: &str) -> bool {
    name.ends_with(".j2")
}

/// What a rendered or plain file says, as JSON.
pub fn json(name: &str, text: &str) -> Result<serde_json::Value> {
    serde_json::from_str(text)
        .doing(|| format!("read {name} as JSON"))
        .exit(Exit::Usage)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(text: &str, pairs: &[(&str, &str)]) -> Result<String> {
        let pairs = pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        render("app.json.j2", text, &pairs.collect())
    }

    #[test]
    fn variables_are_filled_in_as_they_are() {
        let text = r#"{"cpus": {{ cpus }}, "id": "{{ group }}/{{ id }}"}"#;
        let pairs = [("cpus", "0.1"), ("group", "a/b"), ("id", "x\"y")];
        assert_eq!(
            with(text, &pairs).unwrap(),
            r#"{"cpus": 0.1, "id": "a/b/x"y"}"#
        );
    }

    #[test]
    fn ansibles_filters_are_there() {
        let text = r#"{{ tag | default("latest") }} {{ name | to_json }} {{ [1, 2] | to_json }}"#;
        assert_eq!(
            with(text, &[("name", "a\"b")]).unwrap(),
            r#"latest "a\"b" [1, 2]"#
        );
    }

    #[test]
    fn a_variable_that_is_missing_is_named() {
        let fault = with("{\n \"cpus\": {{ cpus }}}", &[("mem", "1")]).unwrap_err();
        let expected = "error: fill in app.json.j2, line 2: `cpus` is undefined\n\
                        hint: give every variable by -e NAME=VALUE; given: mem";
        assert_eq!(fault.text(), expected);
        assert!(with("{{ open ", &[]).unwrap_err().text().contains("line 1"));
    }

    #[test]
    fn variables_are_pairs() {
        assert_eq!(variable("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert!(variable("a").is_err());
        assert!(variable("=b").is_err());
    }
}
