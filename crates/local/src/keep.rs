//! Keeping one role on the machine running: started, listened to, started again.

use crate::backoff::Backoff;
use crate::entry;
use crate::error::{Doing, Result, chain};
use crate::log::{Log, Voice};
use crate::options::Program;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Instant;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};

/// A role by its name, its program and the cgroup it runs in.
#[derive(Clone, Debug)]
pub(crate) struct Role {
    pub(crate) name: String,
    pub(crate) program: Program,
    pub(crate) group: PathBuf,
}

/// Never returns; the role lives as long as this future.
pub(crate) async fn keep(role: Role, log: Log, voice: Voice) {
    let mut backoff = Backoff::default();
    loop {
        let began = Instant::now();
        let how = match start(&role, &log) {
            Ok(mut child) => ended(&mut child).await,
            Err(error) => chain(&error),
        };
        let pause = backoff.after(began.elapsed());
        voice.say(&format!(
            "{} ended ({}); starting it again in {} ms",
            role.name,
            with_last(&how, &log),
            pause.as_millis()
        ));
        tokio::time::sleep(pause).await;
    }
}

fn start(role: &Role, log: &Log) -> Result<Child> {
    let mut command = Command::from(entry::role(&role.group, &role.program.argv));
    command.envs(&role.program.environment).stdin(Stdio::null());
    let (writer, twin) = listen(log)?;
    command.stdout(twin).stderr(writer);
    spawn(command, &role.name)
}

/// Starts a child that ends with its handle, and that the terminal's Ctrl-C does
/// not reach: stopping in order is the supervisor's part.
pub(crate) fn spawn(mut command: Command, name: &str) -> Result<Child> {
    command
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .doing(|| format!("start {name}"))
}

pub(crate) async fn ended(child: &mut Child) -> String {
    match child.wait().await {
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    }
}

/// What happened, with what the role said last, which is usually the reason.
pub(crate) fn with_last(how: &str, log: &Log) -> String {
    match log.take_last() {
        last if last.is_empty() => how.into(),
        last => format!("{how}: {last}"),
    }
}

/// Two ends of a pipe, for standard output and error, whose lines go to the log.
pub(crate) fn listen(log: &Log) -> Result<(std::io::PipeWriter, std::io::PipeWriter)> {
    let make = || {
        let (reader, writer) = std::io::pipe()?;
        let reader = OwnedFd::from(reader);
        rustix::io::ioctl_fionbio(&reader, true)?;
        let twin = writer.try_clone()?;
        Ok::<_, std::io::Error>((pipe::Receiver::from_owned_fd(reader)?, writer, twin))
    };
    let (reader, writer, twin) = make().doing(|| "make a pipe for a log".into())?;
    tokio::spawn(copy_lines(reader, log.clone()));
    Ok((writer, twin))
}

/// Longer lines are cut into pieces of this many bytes.
const LINE_MAX: u64 = 16 << 10;

async fn copy_lines(reader: pipe::Receiver, log: Log) {
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    while (&mut reader)
        .take(LINE_MAX)
        .read_until(b'\n', &mut line)
        .await
        .is_ok_and(|count| count > 0)
    {
        log.line(String::from_utf8_lossy(&line).trim_end_matches('\n'));
        line.clear();
    }
}
