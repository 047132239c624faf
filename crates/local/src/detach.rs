//! `up --detach`: the supervisor as a process of its own, without a terminal.
//!
//! The binary is entered anew instead of forked, so whatever the caller has
//! running (threads, a runtime) stays behind. The options travel over its
//! standard input, its one line of answer over its standard output.

use crate::error::{Doing, Error, Result, chain};
use crate::log::Voice;
use crate::options::Options;
use crate::{check, entry, state, supervise, sweep};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

const READY: &str = "ready";
/// Three nodes take about a second; a slow machine with many of them, longer.
const PATIENCE: Duration = Duration::from_secs(90);

/// Starts the supervisor and waits until the cluster is up. Its process id.
pub(crate) fn start(options: &Options) -> Result<u32> {
    let said = options.log_dir.join("up.log");
    let errors = File::options()
        .create(true)
        .append(true)
        .open(&said)
        .doing(|| format!("open {}", said.display()))?;
    let mut child = Command::new(entry::THIS_BINARY)
        .arg(entry::SUPERVISOR)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(errors)
        .spawn()
        .doing(|| "start the supervisor".into())?;
    let json = serde_json::to_vec(options).map_err(|source| Error::Json {
        what: "options".into(),
        source,
    })?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin
            .write_all(&json)
            .doing(|| "hand the supervisor its options".into())?;
    }
    let (tell, told) = mpsc::channel();
    let stdout = child.stdout.take();
    std::thread::spawn(move || {
        let mut line = String::new();
        if let Some(stdout) = stdout {
            let _ = BufReader::new(stdout).read_line(&mut line);
        }
        let _ = tell.send(line);
    });
    match told.recv_timeout(PATIENCE) {
        Ok(line) if line.trim_end() == READY => Ok(child.id()),
        Ok(line) => {
            let reason = if line.is_empty() {
                format!("see {}", said.display())
            } else {
                line.trim_end().into()
            };
            let _ = child.wait();
            Err(Error::Detached { said: reason })
        }
        Err(_) => {
            let still = format!(
                "not ready after {} s, though it goes on trying: see {}",
                PATIENCE.as_secs(),
                said.display()
            );
            Err(Error::Supervisor {
                pid: child.id(),
                said: still,
            })
        }
    }
}

/// The supervisor's side.
pub(crate) fn main() -> Result<()> {
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .doing(|| "read options".into())?;
    let options: Options = serde_json::from_str(&text).map_err(|source| Error::Json {
        what: "options".into(),
        source,
    })?;
    rustix::process::setsid().doing(|| "leave the terminal".into())?;
    let ended = supervise_alone(options);
    if let Err(error) = &ended {
        say(&chain(error).replace('\n', " "));
    }
    ended
}

fn supervise_alone(options: Options) -> Result<()> {
    let lock = state::lock_within(&options.state_dir, Duration::from_secs(5))?;
    let lock = lock.ok_or_else(|| crate::Refusal::Busy {
        state_dir: options.state_dir.clone(),
    })?;
    sweep::sweep(&options)?;
    check::all(&options)?;
    let voice = Voice::new(&options.log_dir, false)?;
    supervise::run(options, lock, voice, || say(READY))
}

/// Whoever started it may have gone.
fn say(word: &str) {
    let mut out = std::io::stdout();
    let _ = writeln!(out, "{word}").and_then(|()| out.flush());
}
