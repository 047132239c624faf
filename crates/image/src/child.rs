//! Runs the tools that build images, and hands on what they say line by line.

use std::collections::VecDeque;
use std::io;
use std::process::Stdio;

use rustix::process::{Pid, Signal};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::Command;
use tokio::sync::mpsc;

/// How much of the last output an error can quote.
const LINES_KEPT: usize = 20;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("`{tool}` is missing: install the Debian package {package}")]
    Missing {
        tool: &'static str,
        package: &'static str,
    },
    #[error("`{tool}` cannot be run")]
    Run {
        tool: &'static str,
        source: io::Error,
    },
    /// `said` is the end of its output.
    #[error("`{tool}` failed: {}", said.last().map_or("it said nothing", String::as_str))]
    Failed {
        tool: &'static str,
        said: Vec<String>,
    },
}

/// A tool and the Debian package that brings it.
#[derive(Clone, Copy)]
pub(crate) struct Tool {
    pub name: &'static str,
    pub package: &'static str,
}

/// Runs to the end; both streams' lines go to `on_line` in the order of arrival,
/// and the last of them come back. With the future ends the child, by a signal that
/// lets it clear up after itself.
pub(crate) async fn run(
    tool: Tool,
    command: &mut Command,
    on_line: impl FnMut(&str),
) -> Result<Vec<String>, Error> {
    run_with(tool, command, Stdio::null(), on_line).await
}

/// As [`run`], with a standard input: a file's, say, that the child is to hold open.
pub(crate) async fn run_with(
    tool: Tool,
    command: &mut Command,
    stdin: Stdio,
    mut on_line: impl FnMut(&str),
) -> Result<Vec<String>, Error> {
    command
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => Error::Missing {
            tool: tool.name,
            package: tool.package,
        },
        _ => Error::Run {
            tool: tool.name,
            source,
        },
    })?;
    let mut unfinished = Unfinished(child.id().and_then(|id| Pid::from_raw(id as i32)));
    let (sender, mut lines) = mpsc::channel(64);
    let readers = [
        child
            .stdout
            .take()
            .map(|out| read_lines(out, sender.clone())),
        child
            .stderr
            .take()
            .map(|err| read_lines(err, sender.clone())),
    ];
    drop(sender);
    let mut kept = VecDeque::new();
    while let Some(line) = lines.recv().await {
        on_line(&line);
        if kept.len() == LINES_KEPT {
            kept.pop_front();
        }
        kept.push_back(line);
    }
    for reader in readers.into_iter().flatten() {
        reader.abort();
    }
    let status = child.wait().await.map_err(|source| Error::Run {
        tool: tool.name,
        source,
    })?;
    let said = Vec::from(kept);
    unfinished.0 = None;
    if status.success() {
        Ok(said)
    } else {
        Err(Error::Failed {
            tool: tool.name,
            said,
        })
    }
}

/// A child that nobody has waited for yet, so that its id is surely its own.
struct Unfinished(Option<Pid>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(child) = self.0 {
            // Gone already: then there is nothing to end.
            let _ = rustix::process::kill_process(child, Signal::TERM);
        }
    }
}

fn read_lines(
    stream: impl AsyncRead + Unpin + Send + 'static,
    sender: mpsc::Sender<String>,
) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        while let Ok(1..) = reader.read_until(b'\n', &mut line).await {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            if sender.send(text).await.is_err() {
                return;
            }
            line.clear();
        }
    })
}
