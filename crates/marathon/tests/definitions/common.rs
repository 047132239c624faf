//! What the tests of this crate share: the wild files, and the way from text to spec and back.

use std::collections::BTreeMap;

use marathon::{Violation, merge, parse_app, render};
use model::machine::{Machine, Resources};
use model::spec::AppSpec;
use model::{AppId, Time};
use serde_json::Value;

/// Every wild file, with the id it is put under.
pub const WILD: [(&str, &str); 7] = [
    ("/myapp", "start_myapp.json"),
    ("/app", "app.json"),
    ("/mongo", "db.json"),
    ("/testweave", "testweave.json"),
    ("/application/web/nginx", "nginx.json.j2"),
    ("/application/app/nodeapp", "nodeapp.json.j2"),
    ("/application/db/mongo", "mongo.json.j2"),
];

pub fn id(text: &str) -> AppId {
    AppId::parse(text).unwrap()
}

/// A wild file's text with its variables filled in.
pub fn text(app: &str, file: &str) -> String {
    let path = format!("{}/tests/wild/{file}", env!("CARGO_MANIFEST_DIR"));
    #[allow(clippy::disallowed_methods, reason = "test data is read from files")]
    let text = std::fs::read_to_string(&path).unwrap();
    let id = id(app);
    let instances = if id.name() == "nodeapp" { "2" } else { "1" };
    [
        ("docker_registry", "10.0.15.10:5000"),
        ("app_group", id.group().trim_start_matches('/')),
        ("app_id", id.name()),
        ("tag", "1"),
        ("instances", instances),
        ("cpus", "0.1"),
        ("memory", "128"),
        ("slavetype", "app"),
        ("db_server", "10.0.15.12"),
    ]
    .into_iter()
    .fold(text, |text, (name, value)| {
        text.replace(&format!("{{{{ {name} }}}}"), value)
    })
}

pub fn wild(app: &str, file: &str) -> AppSpec {
    merged(app, None, &text(app, file)).unwrap()
}

pub fn merged(app: &str, current: Option<&AppSpec>, body: &str) -> Result<AppSpec, Vec<Violation>> {
    let update = parse_app(body.as_bytes()).unwrap();
    merge(&id(app), current, &update, true)
}

pub fn rendered(app: &str, spec: &AppSpec) -> Value {
    render::definition(&id(app), spec, Time(1_795_263_726_218))
}

/// Rendered and read back, on nothing and on itself, a spec is the same.
pub fn round_trip(app: &str, spec: &AppSpec) {
    let body = rendered(app, spec).to_string();
    let update = parse_app(body.as_bytes()).unwrap();
    for (current, partial) in [(None, true), (Some(spec), true), (Some(spec), false)] {
        let again = merge(&id(app), current, &update, partial);
        assert_eq!(again.as_ref(), Ok(spec), "{app}: {body}");
    }
}

/// The node n1.
pub fn machine() -> Machine {
    Machine {
        name: "n1".to_owned(),
        hostname: "10.0.15.11".to_owned(),
        address: [10, 0, 15, 11].into(),
        resources: Resources::default(),
        attributes: BTreeMap::new(),
        ports: (31_000, 32_000),
        stream_port: 4434,
        allow: Vec::new(),
        boot: String::new(),
        version: String::new(),
    }
}
