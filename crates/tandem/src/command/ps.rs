//! `tandem ps`: every instance, wanted beside seen.

use super::Reading;
use super::names::explain_app;
use super::queue::reasons;
use crate::client::views::{App, Apps, Exit, Instance, Port, Queued};
use crate::client::{Ask, Client, path};
use crate::fault::Result;
use crate::{out, table};

#[derive(Debug, clap::Args)]
pub struct PsArgs {
    /// Only this app
    app: Option<String>,
    #[command(flatten)]
    reading: Reading,
}

pub async fn run(args: PsArgs) -> Result<()> {
    let client = args.reading.open()?;
    let only = args.app.as_deref().map(path::app_id);
    if let Some(id) = &only
        && let Err(fault) = client.ask(Ask::get(path::app(id))).await
    {
        return Err(explain_app(fault, &client, id).await);
    }
    let query = only
        .as_deref()
        .map(|id| format!("?app={}", path::encoded(id)));
    let path = format!("/tandem/v1/instances{}", query.unwrap_or_default());
    let answer = client.ask(Ask::get(path)).await?;
    if args.reading.json {
        return args
            .reading
            .print(&answer, |_: Vec<Instance>| String::new());
    }
    let instances = answer.decode()?;
    let wanted = wanted(&client, only.as_deref()).await?;
    let queue: Vec<Queued> = client.get("/tandem/v1/queue").await?;
    out::data(&render(instances, &wanted, &queue))
}

/// The apps that the table is about, with what ended last in each.
async fn wanted(client: &Client, only: Option<&str>) -> Result<Vec<App>> {
    let all: Apps = client
        .get("/v2/apps?embed=apps.counts&embed=apps.lastTaskFailure")
        .await?;
    let of_interest = |app: &App| only.is_none_or(|id| id == app.id);
    Ok(all.apps.into_iter().filter(of_interest).collect())
}

fn render(mut instances: Vec<Instance>, apps: &[App], queue: &[Queued]) -> String {
    instances.sort_by(|a, b| (&a.app, &a.node, &a.id).cmp(&(&b.app, &b.node, &b.id)));
    let mut rows: Vec<[String; 9]> = instances.iter().map(seen).collect();
    rows.extend(
        apps.iter()
            .filter_map(|app| missing(app, &instances, queue)),
    );
    if rows.is_empty() {
        return "nothing runs and nothing is wanted\n".into();
    }
    rows.sort_by(|a, b| a[0].cmp(&b[0]));
    let headers = [
        "APP", "INSTANCE", "NODE", "WANTED", "STATE", "HEALTH", "ADDRESS", "PORTS", "DETAIL",
    ];
    table::render(headers, &rows)
}

fn seen(instance: &Instance) -> [String; 9] {
    let ports: Vec<String> = instance.ports.iter().map(port).collect();
    let unchecked = instance.health == "unknown";
    [
        instance.app.clone(),
        instance.id.clone(),
        instance.node.clone(),
        instance.goal.clone(),
        instance.rung.clone(),
        if unchecked {
            String::new()
        } else {
            instance.health.clone()
        },
        instance.address.clone().unwrap_or_default(),
        ports.join(" "),
        detail(instance),
    ]
}

/// A line for the instances of an app that nobody has placed, with the reason.
fn missing(app: &App, instances: &[Instance], queue: &[Queued]) -> Option<[String; 9]> {
    let placed = instances
        .iter()
        .filter(|i| i.app == app.id && i.goal != "stop");
    let missing = (app.instances as usize).checked_sub(placed.count())?;
    let mut why = queue
        .iter()
        .find(|queued| queued.app == app.id)
        .map(reasons)
        .unwrap_or_default();
    if let Some(failure) = &app.last_task_failure {
        why.push(failure.message.clone());
    }
    let row = [
        app.id.clone(),
        String::new(),
        String::new(),
        format!("{missing} more"),
        "waiting".into(),
        String::new(),
        String::new(),
        String::new(),
        why.join("; "),
    ];
    (missing > 0).then_some(row)
}

/// `9080:80`, and `/udp` where it is not TCP.
fn port(port: &Port) -> String {
    let protocol = match port.protocol.as_str() {
        "tcp" | "" => "",
        "udp" => "/udp",
        _ => "/tcp,udp",
    };
    format!("{}:{}{protocol}", port.host, port.container)
}

/// How it ended, else what it is at, else why it should stop.
fn detail(instance: &Instance) -> String {
    let ended = instance.exit.as_ref().map(exit);
    let detail = ended.or_else(|| instance.detail.clone());
    detail
        .or_else(|| instance.cause.clone())
        .unwrap_or_default()
}

/// `exit 1: last line`.
fn exit(exit: &Exit) -> String {
    let how = match exit {
        Exit {
            out_of_memory: true,
            ..
        } => "out of memory".into(),
        Exit {
            code: Some(code), ..
        } => format!("exit {code}"),
        Exit {
            signal: Some(signal),
            ..
        } => format!("signal {signal}"),
        Exit {
            reason: Some(reason),
            ..
        } => reason.clone(),
        _ => "ended, nobody saw how".into(),
    };
    match exit.last_line.as_deref() {
        Some(line) if !line.is_empty() => format!("{how}: {line}"),
        _ => how,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_show_what_is_wanted_beside_what_is_seen() {
        let instances = serde_json::from_str(
            r#"[
            {"id":"2a.1","app":"/web","node":"n2","goal":"run","rung":"preparing","health":"unknown",
             "detail":"pulling shop/web:1","ports":[{"host":9080,"container":80,"protocol":"tcp"}]},
            {"id":"1a.0","app":"/web","node":"n1","goal":"run","rung":"running","health":"healthy",
             "address":"10.32.0.5","ports":[{"host":53,"container":53,"protocol":"udp"}]},
            {"id":"3a.0","app":"/false","node":"n1","goal":"run","rung":"ended","health":"unknown",
             "exit":{"code":1,"outOfMemory":false,"lastLine":"no such table"},"ports":[]}]"#,
        )
        .unwrap();
        let apps: Apps = serde_json::from_str(
            r#"{"apps":[{"id":"/web","instances":2},{"id":"/big","instances":2}]}"#,
        )
        .unwrap();
        let queue: Vec<Queued> = serde_json::from_str(
            r#"[{"app":"/big","missing":2,"hindrances":["no node has room"]}]"#,
        )
        .unwrap();
        insta::assert_snapshot!(render(instances, &apps.apps, &queue), @r"
        APP     INSTANCE  NODE  WANTED  STATE      HEALTH   ADDRESS    PORTS      DETAIL
        /big    -         -     2 more  waiting    -        -          -          no node has room
        /false  3a.0      n1    run     ended      -        -          -          exit 1: no such table
        /web    1a.0      n1    run     running    healthy  10.32.0.5  53:53/udp  -
        /web    2a.1      n2    run     preparing  -        -          9080:80    pulling shop/web:1
        ");
    }

    #[test]
    fn ends_are_told_in_few_words() {
        let of = |json: &str| exit(&serde_json::from_str(json).unwrap());
        assert_eq!(of(r#"{"signal":9,"outOfMemory":true}"#), "out of memory");
        assert_eq!(of(r#"{"signal":15}"#), "signal 15");
        assert_eq!(of(r#"{"reason":"no such image"}"#), "no such image");
        assert_eq!(of(r#"{"unknown":true}"#), "ended, nobody saw how");
    }
}
