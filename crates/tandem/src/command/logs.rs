//! `tandem logs`: what an app's instances wrote, merged.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::mpsc;

use super::names::explain_app;
use crate::client::path::{app, app_id, encoded};
use crate::client::views::{App, Apps, Instance};
use crate::client::{Ask, Client, Connection, Lines};
use crate::fault::{Exit, Fault, Result};
use crate::{out, talk};

/// How often new instances are looked for while following.
const LOOK: Duration = Duration::from_secs(1);
/// How long a node may take to begin its answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Lines of one instance that may wait to be printed.
const WAITING: usize = 1024;

#[derive(Debug, clap::Args)]
pub struct LogsArgs {
    /// The app's id, such as shop/web
    #[arg(required_unless_present = "tag")]
    app: Option<String>,
    /// Go on with what is written from now on
    #[arg(short, long)]
    follow: bool,
    /// Only so many lines of each instance
    #[arg(long, value_name = "LINES")]
    tail: Option<u32>,
    /// Apps whose log-opt `tag` is this
    #[arg(long)]
    tag: Option<String>,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Line {
    time: String,
    stream: String,
    text: String,
    /// Whose it is; not the API's.
    #[serde(skip)]
    instance: String,
}

pub async fn run(args: LogsArgs) -> Result<()> {
    let client = Arc::new(args.connection.open()?);
    let apps = apps(&client, &args).await?;
    match args.follow {
        true => follow(client, &apps, args.tail).await,
        false => print(&client, &apps, args.tail).await,
    }
}

/// Ids of the apps that were asked for.
async fn apps(client: &Client, args: &LogsArgs) -> Result<BTreeSet<String>> {
    let id = args.app.as_deref().map(app_id);
    if let Some(id) = &id
        && let Err(fault) = client.ask(Ask::get(app(id))).await
    {
        return Err(explain_app(fault, client, id).await);
    }
    let Some(tag) = &args.tag else {
        return Ok(id.into_iter().collect());
    };
    let all: Apps = client.get("/v2/apps").await?;
    let tagged = all.apps.iter().filter(|app| is_tagged(app, tag));
    let tagged: BTreeSet<String> = tagged
        .map(|app| app.id.clone())
        .filter(|found| id.as_ref().is_none_or(|id| id == found))
        .collect();
    match tagged.is_empty() {
        true => Err(Fault::new(
            Exit::Absent,
            format!("no such app has the log-opt tag={tag}"),
        )),
        false => Ok(tagged),
    }
}

fn is_tagged(app: &App, tag: &str) -> bool {
    let docker = app
        .container
        .as_ref()
        .and_then(|container| container.docker.as_ref());
    let mut parameters = docker.iter().flat_map(|docker| &docker.parameters);
    parameters.any(|p| p.key == "log-opt" && p.value.strip_prefix("tag=") == Some(tag))
}

async fn instances(client: &Client, apps: &BTreeSet<String>) -> Result<Vec<Instance>> {
    let mut found = Vec::new();
    for app in apps {
        let path = format!("/tandem/v1/instances?app={}", encoded(app));
        found.extend(client.get::<Vec<Instance>>(&path).await?);
    }
    Ok(found)
}

async fn open(client: &Client, instance: &str, tail: Option<u32>, follow: bool) -> Result<Lines> {
    let tail = tail
        .map(|lines| format!("&tail={lines}"))
        .unwrap_or_default();
    let path = format!(
        "/tandem/v1/instances/{}/log?follow={follow}{tail}",
        encoded(instance)
    );
    let opened = client.lines(Ask::get(path));
    if follow {
        // The first line may be hours away.
        return opened.await;
    }
    let late = || Fault::new(Exit::Failed, "its node does not answer");
    let opened = tokio::time::timeout(PATIENCE, opened).await;
    opened.unwrap_or_else(|_| Err(late().hint("`tandem nodes` shows whether it is here")))
}

/// Everything there is, in the order in which it was written.
async fn print(client: &Client, apps: &BTreeSet<String>, tail: Option<u32>) -> Result<()> {
    let instances = instances(client, apps).await?;
    let (mut lines, mut unread) = (Vec::new(), Vec::new());
    for instance in &instances {
        match read(client, &instance.id, tail).await {
            Ok(read) => lines.extend(read),
            Err(fault) => unread.push((&instance.id, fault)),
        }
    }
    if lines.is_empty() && unread.len() == 1 {
        return Err(unread.remove(0).1);
    }
    for (id, fault) in &unread {
        talk!("warning: the log of {id} cannot be read: {}", reason(fault));
    }
    match (instances.is_empty(), lines.is_empty(), tail) {
        (true, ..) => talk!(
            "no instance is there now, and a log goes with its instance; `tandem ps` shows what the \
             last one said"
        ),
        (false, true, Some(0)) | (false, false, _) => {}
        (false, true, _) => {
            talk!("nothing was written yet; `tandem ps` shows what the instances are at");
        }
    }
    lines.sort_by(|a, b| a.time.cmp(&b.time));
    out::data(&merged(&lines, instances.len() > 1))
}

fn reason(fault: &Fault) -> String {
    let text = fault.text();
    text.trim_start_matches("error: ").to_owned()
}

async fn read(client: &Client, instance: &str, tail: Option<u32>) -> Result<Vec<Line>> {
    let mut source = open(client, instance, tail, false).await?;
    let mut lines = Vec::new();
    while let Some(line) = source.next().await? {
        lines.push(parse(&line, instance)?);
    }
    Ok(lines)
}

fn parse(line: &[u8], instance: &str) -> Result<Line> {
    let line: Line = serde_json::from_slice(line)?;
    Ok(Line {
        instance: instance.to_owned(),
        ..line
    })
}

fn merged(lines: &[Line], several: bool) -> String {
    lines.iter().map(|line| shown(line, several)).collect()
}

fn shown(line: &Line, several: bool) -> String {
    match several {
        true => format!("{} | {}\n", line.instance, line.text),
        false => format!("{}\n", line.text),
    }
}

/// Lines as they come, of instances that come too.
async fn follow(client: Arc<Client>, apps: &BTreeSet<String>, tail: Option<u32>) -> Result<()> {
    let (tell, mut told) = mpsc::channel(WAITING);
    let mut known = BTreeSet::new();
    let mut look = tokio::time::interval(LOOK);
    let mut silent = true;
    loop {
        tokio::select! {
            Some(line) = told.recv() => {
                silent = false;
                out::data(&shown(&line, known.len() > 1))?;
            }
            _ = look.tick() => {
                let instances = match instances(&client, apps).await {
                    // It is started again; what runs goes on meanwhile.
                    Err(fault) if fault.exit == Exit::Unreachable => continue,
                    found => found?,
                };
                for instance in instances {
                    let begun = !matches!(instance.rung.as_str(), "placed" | "preparing" | "starting");
                    if begun && known.insert(instance.id.clone()) {
                        tokio::spawn(pass_on(Arc::clone(&client), instance.id, tail, tell.clone()));
                    }
                }
                if known.is_empty() && silent {
                    silent = false;
                    talk!("waiting for an instance to start; `tandem ps` shows what it is at");
                }
            }
        }
    }
}

/// How far each stream of an instance's log has been read: the time of its last line, and what it
/// said then. Within a stream times rise; a line's is that of its beginning, so that those of two
/// streams cross.
type Marks = BTreeMap<String, Mark>;

#[derive(Clone, Debug, Default)]
struct Mark {
    time: String,
    texts: Vec<String>,
}

impl Mark {
    fn pass(&mut self, line: &Line) {
        if self.time != line.time {
            self.time.clone_from(&line.time);
            self.texts.clear();
        }
        self.texts.push(line.text.clone());
    }
}

/// Whether a line of a log that is read again was passed on before. A stream's mark goes with its
/// last such line.
fn was_passed(before: &mut Marks, line: &Line) -> bool {
    let Some(mark) = before.get_mut(&line.stream) else {
        return false;
    };
    let same = mark.texts.iter().position(|text| *text == line.text);
    match (line.time.cmp(&mark.time), same) {
        (Ordering::Less, _) => return true,
        (Ordering::Equal, Some(same)) => drop(mark.texts.swap_remove(same)),
        (Ordering::Equal, None) => return false,
        (Ordering::Greater, _) => {
            before.remove(&line.stream);
            return false;
        }
    }
    if mark.texts.is_empty() {
        before.remove(&line.stream);
    }
    true
}

/// One instance's lines until its end. An agent that is started again ends the stream before: then
/// it is opened anew, and what was passed on before is left out.
async fn pass_on(
    client: Arc<Client>,
    instance: String,
    tail: Option<u32>,
    tell: mpsc::Sender<Line>,
) {
    let (mut marks, mut tail, mut warned) = (Marks::new(), tail, false);
    loop {
        let passed = pass(&client, &instance, tail, &mut marks, &tell).await;
        tail = tail.filter(|_| marks.is_empty());
        let whole = passed.is_ok();
        if let (Err(fault), false) = (passed, warned) {
            warned = true;
            let why = reason(&fault);
            talk!("warning: the log of {instance} cannot be read: {why}");
        }
        let path = format!("/tandem/v1/instances/{}", encoded(&instance));
        match client.get::<Instance>(&path).await {
            Ok(instance) if instance.exit.is_some() && whole => return,
            Err(fault) if fault.exit == Exit::Absent => return,
            Ok(_) | Err(_) => tokio::time::sleep(LOOK).await,
        }
        if tell.is_closed() {
            return;
        }
    }
}

async fn pass(
    client: &Client,
    instance: &str,
    tail: Option<u32>,
    marks: &mut Marks,
    tell: &mpsc::Sender<Line>,
) -> Result<()> {
    let mut before = marks.clone();
    let mut source = open(client, instance, tail, true).await?;
    while let Some(line) = source.next().await? {
        let line = parse(&line, instance)?;
        if was_passed(&mut before, &line) {
            continue;
        }
        marks.entry(line.stream.clone()).or_default().pass(&line);
        if tell.send(line).await.is_err() {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_several_instances_say_whose_they_are() {
        let line = |json: &str, instance: &str| parse(json.as_bytes(), instance).unwrap();
        let lines = [
            line(r#"{"time":"1","stream":"stdout","text":"a"}"#, "1a.0"),
            line(r#"{"time":"2","stream":"stderr","text":"b"}"#, "2a.1"),
        ];
        assert_eq!(merged(&lines, true), "1a.0 | a\n2a.1 | b\n");
        assert_eq!(merged(&lines[..1], false), "a\n");
    }

    #[test]
    fn a_log_that_is_read_again_goes_on_where_it_was_left() {
        let line = |(time, stream, text): (&str, &str, &str)| Line {
            time: time.into(),
            stream: stream.into(),
            text: text.into(),
            instance: "1a.0".into(),
        };
        // A prompt, a warning beside it, and the prompt's end: the streams' times cross.
        let log = [
            ("1", "stdout", "a"),
            ("3", "stderr", "careful"),
            ("2", "stdout", "loading… done"),
            ("4", "stdout", "b"),
            ("4", "stdout", "b"),
            ("4", "stdout", "c"),
            ("5", "stderr", "oh"),
        ]
        .map(line);
        for read in 0..=log.len() {
            let mut before = Marks::new();
            for line in &log[..read] {
                before.entry(line.stream.clone()).or_default().pass(line);
            }
            let rest: Vec<&Line> = log
                .iter()
                .filter(|line| !was_passed(&mut before, line))
                .collect();
            assert_eq!(rest, log[read..].iter().collect::<Vec<_>>(), "{read}");
        }
    }

    #[test]
    fn a_tag_is_a_log_option() {
        let app: App = serde_json::from_str(
            r#"{"container":{"docker":{"parameters":[{"key":"log-opt","value":"tag=web"}]}}}"#,
        )
        .unwrap();
        assert!(is_tagged(&app, "web"));
        assert!(!is_tagged(&app, "we"));
    }
}
