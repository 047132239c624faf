//! What listeners are told while an app lives, by `tandem events` and over HTTP.

use crate::cluster::{API, Cluster, json_of, line, wait_for, with};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// Much longer than any event takes.
const PATIENCE: Duration = Duration::from_secs(90);

/// One line after the other, of whatever gives lines.
struct Lines(mpsc::Receiver<String>);

impl Lines {
    fn of(source: impl BufRead + Send + 'static) -> Self {
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            let mut lines = source.lines().map_while(Result::ok);
            lines.try_for_each(|line| tell.send(line))
        });
        Lines(told)
    }

    /// Skips lines until one is wanted.
    fn until<T>(&self, what: &str, wanted: impl Fn(&str) -> Option<T>) -> T {
        let mut others = Vec::new();
        loop {
            match self.0.recv_timeout(PATIENCE) {
                Ok(line) => match wanted(&line) {
                    Some(found) => return found,
                    None => others.push(line),
                },
                Err(error) => panic!("no {what} ({error}); instead:\n{}", others.join("\n")),
            }
        }
    }

    /// The next event of that type whose field has that value.
    fn event(&self, kind: &str, field: &str, value: &str) -> Value {
        self.until(&format!("{kind} with {field}={value}"), |line| {
            let event = json_of(line);
            let is = event["eventType"] == kind && event[field] == value;
            is.then_some(event)
        })
    }

    fn status(&self, app: &str, status: &str) -> String {
        let event = self.event("status_update_event", "taskStatus", status);
        assert_eq!(event["appId"], app);
        event["taskId"].as_str().unwrap().to_owned()
    }
}

/// `tandem events`, ended with the case.
struct Following(Child);

impl Following {
    fn begin(arguments: &[&str]) -> (Self, Lines) {
        let mut command = Command::new(Cluster::program());
        command.args(arguments).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout: ChildStdout = child.stdout.take().unwrap();
        (Following(child), Lines::of(BufReader::new(stdout)))
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn an_app_s_life_is_told_in_its_order(cluster: &Cluster) {
    cluster.up(&["--nodes", "1"]);
    let (_following, events) = Following::begin(&["events", "--json"]);
    events.event("event_stream_attached", "remoteAddress", "127.0.0.1");
    let statuses = over_http("/v2/events?event_type=status_update_event");

    let app = with(line("exec sleep 100000"), json!({ "backoffSeconds": 1 }));
    let (_, put) = cluster.put("/told", &app);
    events.event("api_post_event", "uri", "/v2/apps/told");
    let first = events.status("/told", "TASK_RUNNING");
    let deployment = put["deploymentId"].as_str().unwrap();
    events.event("deployment_success", "id", deployment);

    let running = wait_for("its process", || {
        let processes = cluster.processes_of(&cluster.running("/told", 1));
        (!processes.is_empty()).then_some(processes).ok_or("none")
    });
    running.iter().for_each(|process| process.kill());
    assert_eq!(events.status("/told", "TASK_FAILED"), first);
    let second = events.status("/told", "TASK_RUNNING");
    assert_ne!(second, first);

    cluster.tandem(&["app", "remove", "told", "--yes", "--wait"]);
    assert_eq!(events.status("/told", "TASK_KILLED"), second);
    events.event("app_terminated_event", "appId", "/told");

    // The other listener was told of tasks alone, and of each in the same order.
    let steps = [
        (&first, "TASK_RUNNING"),
        (&first, "TASK_FAILED"),
        (&second, "TASK_RUNNING"),
        (&second, "TASK_KILLED"),
    ];
    for (task, status) in steps {
        statuses.until(&format!("{task} {status}"), |line| {
            let event = json_of(line.strip_prefix("data: ")?);
            assert_eq!(event["eventType"], "status_update_event");
            (event["taskId"] == **task && event["taskStatus"] == status).then_some(())
        });
    }
    cluster.down();
}

/// The lines of an answer that does not end.
fn over_http(path: &str) -> Lines {
    let mut stream = TcpStream::connect(API).unwrap();
    let head = format!("GET {path} HTTP/1.0\r\nHost: {API}\r\nAccept: text/event-stream\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let lines = Lines::of(BufReader::new(stream));
    lines.until("good answer", |line| {
        line.starts_with("HTTP/1.0 200").then_some(())
    });
    lines
}
