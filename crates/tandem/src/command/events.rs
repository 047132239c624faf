//! `tandem events`: what happens in the cluster, one line for each event, as it becomes durable.

use serde_json::Value;

use crate::client::path::encoded;
use crate::client::{Ask, Connection};
use crate::fault::{Exit, Fault, Result};
use crate::{out, talk};

#[derive(Debug, clap::Args)]
pub struct EventsArgs {
    /// Only events of this type, such as status_update_event; may be repeated
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
    /// Print the API's JSON, one object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

pub async fn run(args: EventsArgs) -> Result<()> {
    let client = args.connection.open()?;
    let types = args.types.iter();
    let types: Vec<String> = types
        .map(|kind| format!("event_type={}", encoded(kind)))
        .collect();
    let path = format!("/tandem/v1/events?{}", types.join("&"));
    let ask = Ask::get(path).accepting("text/event-stream");
    let mut lines = client.lines(ask).await?;
    talk!("following the events of {}", client.origin());
    while let Some(line) = lines.next().await? {
        let Some(data) = data(&line) else { continue };
        match args.json {
            true => out::data(&format!("{}\n", String::from_utf8_lossy(data)))?,
            false => out::data(&shown(&serde_json::from_slice(data)?))?,
        }
    }
    let said = "the master ended the stream; events may have been missed";
    Err(Fault::new(Exit::Failed, said).hint("`tandem events` again; `tandem status` shows what is"))
}

/// What a line of the stream carries; the others name types and keep it alive.
fn data(line: &[u8]) -> Option<&[u8]> {
    line.strip_prefix(b"data: ").map(<[u8]>::trim_ascii_end)
}

/// Time, type, and what the type is about.
fn shown(event: &Value) -> String {
    let text = |name: &str| event[name].as_str().unwrap_or_default();
    let kind = text("eventType");
    let about: Vec<String> = match fields(kind) {
        [] => others(event),
        fields => fields
            .iter()
            .filter_map(|path| event.pointer(path).and_then(word))
            .collect(),
    };
    let kind = kind.strip_suffix("_event").unwrap_or(kind);
    let line = format!("{}  {kind:<23}  {}", text("timestamp"), about.join("  "));
    format!("{}\n", line.trim_end())
}

/// Where each type says what it is about, the most important first; none: it is shown whole.
fn fields(kind: &str) -> &'static [&'static str] {
    match kind {
        "status_update_event" => &["/appId", "/taskStatus", "/taskId", "/slaveId", "/message"],
        "instance_changed_event" => &["/runSpecId", "/condition", "/instanceId", "/agentId"],
        "api_post_event" => &["/appDefinition/id", "/appDefinition/version"],
        "deployment_info" | "deployment_step_success" => &["/plan/id", "/currentStep/actions"],
        "deployment_success" | "deployment_failed" => &["/id", "/reason"],
        _ => &[],
    }
}

fn word(value: &Value) -> Option<String> {
    match value {
        Value::Null | Value::Object(_) => None,
        Value::String(text) if text.is_empty() => None,
        Value::String(text) => Some(text.replace('\n', " ")),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        // Of strings, or of the actions of a deployment's step.
        Value::Array(items) => {
            let item = |item: &Value| match item {
                Value::Object(action) => Some(format!(
                    "{} {}",
                    action.get("action")?.as_str()?,
                    action.get("app")?.as_str()?
                )),
                item => word(item),
            };
            Some(items.iter().filter_map(item).collect::<Vec<_>>().join(", "))
        }
    }
}

/// `name=value` of every field but those that all events have.
fn others(event: &Value) -> Vec<String> {
    let fields = event.as_object().into_iter().flatten();
    let own = fields.filter(|(name, _)| !matches!(name.as_str(), "eventType" | "timestamp"));
    let mut told: Vec<String> = own
        .filter_map(|(name, value)| match name.as_str() {
            "appId" => word(value),
            name => Some(format!("{name}={}", word(value)?)),
        })
        .collect();
    // Ids of apps begin with a slash, which puts them first.
    told.sort();
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_stream_s_lines_are_told_apart() {
        assert_eq!(data(b"data: {}\r"), Some(&b"{}"[..]));
        assert_eq!(data(b"event: x"), None);
        assert_eq!(data(b":"), None);
        assert_eq!(data(b""), None);
    }

    #[test]
    fn an_event_is_a_line() {
        let at = "2026-11-21T18:00:00.000Z";
        let events = [
            json!({ "eventType": "event_stream_attached", "timestamp": at, "remoteAddress": "10.0.15.10" }),
            json!({ "eventType": "deployment_info", "timestamp": at, "plan": { "id": "d1" },
                "currentStep": { "actions": [{ "action": "StartApplication", "app": "/web" }] } }),
            json!({ "eventType": "status_update_event", "timestamp": at, "appId": "/web",
                "taskId": "web.instance-1._app.1", "taskStatus": "TASK_FAILED", "slaveId": "n1",
                "message": "Container exited\nwith status 1", "ports": [31000] }),
            json!({ "eventType": "health_status_changed_event", "timestamp": at, "appId": "/web", "alive": true }),
            json!({ "eventType": "deployment_success", "timestamp": at, "id": "d1", "plan": {} }),
        ];
        let lines: String = events.iter().map(shown).collect();
        insta::assert_snapshot!(lines, @r"
        2026-11-21T18:00:00.000Z  event_stream_attached    remoteAddress=10.0.15.10
        2026-11-21T18:00:00.000Z  deployment_info          d1  StartApplication /web
        2026-11-21T18:00:00.000Z  status_update            /web  TASK_FAILED  web.instance-1._app.1  n1  Container exited with status 1
        2026-11-21T18:00:00.000Z  health_status_changed    /web  alive=true
        2026-11-21T18:00:00.000Z  deployment_success       d1
        ");
    }
}
