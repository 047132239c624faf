//! Running `btrfs` and `mkfs.btrfs`: every command line of them passes through here, and what
//! they complain of becomes the error, in their own words.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::process::{Child, Command, Stdio};

use crate::error::{Doing, Error, Result};

/// Daemons are started with all kinds of PATH; these tools live in the administrators' half.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs `btrfs` to its end and returns what it printed. `action` says what for.
pub fn btrfs<A: AsRef<OsStr>>(action: &str, arguments: &[A]) -> Result<String> {
    run("btrfs", action, arguments)
}

pub fn make_filesystem<A: AsRef<OsStr>>(action: &str, arguments: &[A]) -> Result<String> {
    run("mkfs.btrfs", action, arguments)
}

fn run<A: AsRef<OsStr>>(program: &str, action: &str, arguments: &[A]) -> Result<String> {
    let output = command(program, arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|source| not_started(program, action, source))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(refused(
        action,
        output.status,
        &String::from_utf8_lossy(&output.stderr),
    ))
}

fn command<A: AsRef<OsStr>>(program: &str, arguments: &[A]) -> Command {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("PATH", PATH)
        .env("LC_ALL", "C")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn not_started(program: &str, action: &str, source: io::Error) -> Error {
    if source.kind() == io::ErrorKind::NotFound {
        return Error::Missing {
            program: program.to_owned(),
            package: "btrfs-progs",
        };
    }
    Error::Io {
        action: format!("{action}: start {program}"),
        source,
    }
}

fn refused(action: &str, status: std::process::ExitStatus, words: &str) -> Error {
    let words = words
        .lines()
        .map(|line| line.trim().trim_start_matches("ERROR: "))
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join("; ");
    Error::Tool {
        action: action.to_owned(),
        words: if words.is_empty() {
            status.to_string()
        } else {
            words
        },
    }
}

/// A `btrfs` that runs beside us, at one end of a pipe. Killed when it is dropped unfinished.
pub struct Process {
    action: String,
    child: Option<Child>,
}

impl Process {
    /// `stdin` and `stdout` are the pipe's end or nothing.
    pub fn start<A: AsRef<OsStr>>(
        action: String,
        arguments: &[A],
        stdin: Stdio,
        stdout: Stdio,
    ) -> Result<Self> {
        let child = command("btrfs", arguments)
            .stdin(stdin)
            .stdout(stdout)
            .spawn()
            .map_err(|source| not_started("btrfs", &action, source))?;
        Ok(Self {
            action,
            child: Some(child),
        })
    }

    /// Waits for its end. An exit code other than 0 is an error in its words.
    pub fn finish(mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else {
            return Ok(());
        };
        let mut words = String::new();
        // Its complaints end when it does, and reading first keeps a talkative one from blocking.
        if let Some(mut stderr) = child.stderr.take() {
            let mut raw = Vec::new();
            let _ = stderr.read_to_end(&mut raw);
            words = String::from_utf8_lossy(&raw).into_owned();
        }
        let status = child
            .wait()
            .doing(|| format!("{}: wait for btrfs", self.action))?;
        if status.success() {
            Ok(())
        } else {
            Err(refused(&self.action, status, &words))
        }
    }

    /// Ends it and waits until it is gone.
    pub fn kill(mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            // Dropped on the runtime's threads too, and a process in the kernel's hands may take
            // its time to die.
            std::thread::spawn(move || child.wait());
        }
    }
}
