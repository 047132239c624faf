//! Bodies that are no definition, and bodies that nobody should send: never a panic.

use std::collections::BTreeSet;

use marathon::{Fault, merge, parse_app, parse_apps, parse_task_ids};
use serde_json::{Value, json};

use crate::common::{WILD, id, round_trip, text, wild};

#[test]
fn bodies_that_are_no_json_are_answered_with_400() {
    for (body, expected) in [
        ("", "Please specify data in JSON format"),
        ("{", "Invalid JSON"),
    ] {
        let fault = parse_app(body.as_bytes()).unwrap_err();
        assert_eq!(fault.status(), 400);
        assert_eq!(fault.body()["message"], expected);
    }
    assert!(parse_app(b"\xff{}").is_err());
}

#[test]
fn types_are_all_checked_and_named_by_path() {
    let body = json!({
        "id": 5, "cpus": "1", "instances": 1.5, "env": {"A": 1}, "args": "x",
        "container": {"docker": {"image": 3}, "volumes": [{"mode": 1}]}, "requirePorts": "yes",
        "constraints": [["a", {}]], "mem": [], "labels": [], "backoffSeconds": 1e30,
    });
    let fault = parse_app(body.to_string().as_bytes()).unwrap_err();
    assert_eq!(fault.status(), 422);
    let Fault::Types(found) = &fault else {
        panic!("{fault:?}")
    };
    let mut said: Vec<(&str, &str)> = found
        .iter()
        .map(|v| (v.path.as_str(), v.errors[0].as_str()))
        .collect();
    said.sort_unstable();
    assert_eq!(
        said,
        [
            ("/args", "error.expected.jsarray"),
            ("/backoffSeconds", "error.expected.int"),
            ("/constraints(0)(1)", "error.expected.jsstring"),
            ("/container/docker/image", "error.expected.jsstring"),
            ("/container/volumes(0)/mode", "error.expected.jsstring"),
            ("/cpus", "error.expected.jsnumber"),
            ("/env/A", "error.expected.jsstring"),
            ("/id", "error.expected.jsstring"),
            ("/instances", "error.expected.int"),
            ("/labels", "error.expected.jsobject"),
            ("/mem", "error.expected.jsnumber"),
            ("/requirePorts", "error.expected.jsboolean"),
        ]
    );
    let fault = parse_apps(br#"[{"id": 1}]"#).unwrap_err();
    assert_eq!(
        fault.body(),
        json!({"message": "Invalid JSON", "details":
            [{"path": "(0)/id", "errors": ["error.expected.jsstring"]}]})
    );
    assert!(matches!(parse_app(b"[]"), Err(Fault::Types(_))));
    assert!(matches!(parse_apps(b"{}"), Err(Fault::Types(_))));
}

#[test]
fn keys_that_nobody_knows_are_told_of_with_their_nearest() {
    let told = |body: Value| -> Vec<String> {
        let update = parse_app(body.to_string().as_bytes()).unwrap();
        let told = update.unknown().iter();
        let told: BTreeSet<String> = told.map(|w| format!("{}: {}", w.path, w.message)).collect();
        told.into_iter().collect()
    };
    let near = |key: &str| format!(": is not known and has no effect; did you mean '{key}'?");
    let body = json!({
        "id": "/x", "cmd": "sleep 1", "instanses": 3, "nothing": null, "env": {"ANY": "x"},
        "container": {"Docker": {}, "docker": {"image": "i", "forcePulImage": true},
            "portMappings": [{}, {"container_port": 80}], "volumes": [{"containerPaht": "/x"}]},
        "healthChecks": [{"gracePeriod": 3}], "portDefinitions": [{"prot": 1}],
        "upgradeStrategy": {"minimumHealthCapasity": 1}, "zzz": {"instanses": 1},
    });
    assert_eq!(
        told(body),
        [
            format!("/container/Docker{}", near("docker")),
            format!("/container/docker/forcePulImage{}", near("forcePullImage")),
            format!(
                "/container/portMappings(1)/container_port{}",
                near("containerPort")
            ),
            format!(
                "/container/volumes(0)/containerPaht{}",
                near("containerPath")
            ),
            "/healthChecks(0)/gracePeriod: is not known and has no effect".to_owned(),
            format!("/instanses{}", near("instances")),
            format!("/portDefinitions(0)/prot{}", near("port")),
            format!(
                "/upgradeStrategy/minimumHealthCapasity{}",
                near("minimumHealthCapacity")
            ),
            "/zzz: is not known and has no effect".to_owned(),
        ]
    );
    let many: Value = (0..1000).map(|n| (format!("{n}"), json!(1))).collect();
    assert_eq!(told(many).len(), 16, "as many as an answer's headers hold");
    let items = parse_apps(br#"[{"cmd": "x"}, {"cmdd": "x"}]"#).unwrap();
    assert!(items[0].unknown().is_empty());
    assert_eq!(items[1].unknown()[0].path, "(1)/cmdd");
}

#[test]
fn nothing_that_was_ever_written_for_marathon_or_read_from_it_is_unknown() {
    for (app, file) in WILD {
        let shown = crate::common::rendered(app, &wild(app, file)).to_string();
        for body in [text(app, file), shown] {
            let update = parse_app(body.as_bytes()).unwrap();
            assert_eq!(update.unknown(), [], "{file}");
        }
    }
    // With all that can be embedded.
    for answer in [
        include_str!("../golden/legacy.json"),
        include_str!("../golden/canonical.json"),
    ] {
        assert_eq!(parse_app(answer.as_bytes()).unwrap().unknown(), []);
    }
}

#[test]
fn hostile_bodies_are_refused_and_never_panic() {
    let deep = "[".repeat(10_000) + &"]".repeat(10_000);
    assert_eq!(parse_app(deep.as_bytes()).unwrap_err().status(), 400);
    let deep = r#"{"container":"#.repeat(10_000) + "1" + &"}".repeat(10_000);
    assert_eq!(parse_app(deep.as_bytes()).unwrap_err().status(), 400);
    for number in [
        "1e400",
        "-1e400",
        "99999999999999999999999999",
        "-0.0",
        "1e-400",
        "9007199254740993",
    ] {
        for field in [
            "instances",
            "cpus",
            "mem",
            "backoffFactor",
            "backoffSeconds",
            "gpus",
        ] {
            let body = format!(r#"{{"cmd":"x","{field}":{number}}}"#);
            if let Ok(update) = parse_app(body.as_bytes()) {
                let _ = marathon::merge(&crate::common::id("/x"), None, &update, true);
            }
        }
        let body = format!(
            r#"{{"cmd":"x","ports":[{number}],"healthChecks":[{{"portIndex":{number},"maxConsecutiveFailures":{number}}}]}}"#
        );
        if let Ok(update) = parse_app(body.as_bytes()) {
            let _ = marathon::merge(&crate::common::id("/x"), None, &update, true);
        }
    }
}

#[test]
fn whatever_stands_in_place_of_a_value_is_refused_or_reads_back_the_same() {
    let strange = [
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(1.5),
        json!(70_000),
        json!(1e300),
        json!(""),
        json!("x"),
        json!("/"),
        json!("HOST"),
        json!("a:b"),
        json!([]),
        json!([[]]),
        json!({}),
        json!({"a": {}}),
    ];
    for (app, file) in WILD {
        let current = wild(app, file);
        let body: Value = serde_json::from_str(&text(app, file)).unwrap();
        let shown = crate::common::rendered(app, &current);
        for whole in [body, shown] {
            for place in places(&whole, String::new()) {
                for value in &strange {
                    let mut changed = whole.clone();
                    *changed.pointer_mut(&place).unwrap() = value.clone();
                    let Ok(update) = parse_app(changed.to_string().as_bytes()) else {
                        continue;
                    };
                    let update = &update;
                    for (now, partial) in [(None, true), (Some(&current), true)] {
                        if let Ok(spec) = merge(&id(app), now, update, partial) {
                            round_trip(app, &spec);
                        }
                    }
                }
            }
        }
    }
}

/// The JSON pointers of everything inside a value.
fn places(value: &Value, at: String) -> Vec<String> {
    let inside: Vec<(String, &Value)> = match value {
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| (key.clone(), value))
            .collect(),
        Value::Array(list) => {
            let numbered = list.iter().enumerate();
            numbered
                .map(|(index, value)| (index.to_string(), value))
                .collect()
        }
        _ => Vec::new(),
    };
    let below = inside
        .into_iter()
        .flat_map(|(key, value)| places(value, format!("{at}/{key}")));
    let own = Some(at.clone()).filter(|at| !at.is_empty());
    own.into_iter().chain(below).collect()
}

#[test]
fn tasks_to_be_killed_are_named_in_a_list() {
    assert_eq!(
        parse_task_ids(br#"{"ids": ["a", "b"]}"#).unwrap(),
        ["a", "b"]
    );
    assert_eq!(parse_task_ids(b"{}").unwrap_err().status(), 422);
    assert_eq!(parse_task_ids(b"{").unwrap_err().status(), 400);
}
