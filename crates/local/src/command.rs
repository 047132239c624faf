//! Child processes that set things up (`ip`, `nft`, …): started, waited for, and
//! quoted with their own words when they fail. Also: starting them in another
//! network namespace. Set-up is not hot, so none of this speaks netlink itself.

use crate::error::{Doing, Error, Result};
use nix::sched::{CloneFlags, setns};
use std::io::Write;
use std::os::fd::BorrowedFd;
use std::process::{Command, Stdio};

/// Runs a program to its end and returns what it printed.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<String> {
    run_with_input(program, arguments, "")
}

/// The same, with something on its standard input.
pub(crate) fn run_with_input(program: &str, arguments: &[&str], input: &str) -> Result<String> {
    let shown = || format!("{program} {}", arguments.join(" "));
    let mut child = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .doing(|| format!("start `{}`", shown()))?;
    // A program that ends before it has read everything says why on its own.
    if let Some(mut stdin) = child.stdin.take() {
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child
        .wait_with_output()
        .doing(|| format!("wait for `{}`", shown()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr)
        .trim()
        .replace('\n', "; ");
    let command = if input.is_empty() {
        shown()
    } else {
        format!("{} <<< {}", shown(), input.trim().replace('\n', "; "))
    };
    Err(Error::Command { command, said })
}

/// Several `ip` commands in one process; stops at the first that fails.
pub(crate) fn ip_batch(lines: &[String]) -> Result<String> {
    run_with_input("ip", &["-batch", "-"], &(lines.join("\n") + "\n"))
}

/// Runs `act` on a thread of its own inside a network namespace: what it starts
/// is born there, and no other thread of this process is moved.
pub(crate) fn inside<T: Send>(
    namespace: BorrowedFd,
    act: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setns(namespace, CloneFlags::CLONE_NEWNET)
                .doing(|| "enter a network namespace".into())?;
            act()
        });
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
