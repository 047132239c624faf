//! The roles: what runs for long. Each composes crates and runs until they end or a signal comes.

pub mod agent;
pub mod down;
pub mod master;
mod token;
pub mod up;

use std::str::FromStr;

use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::fault::{Doing, Exit, Result};

/// Sends what the role says to standard error, where its supervisor keeps it.
fn log(filter: &str) -> Result<()> {
    let targets = Targets::from_str(filter)
        .doing(|| format!("read the log filter `{filter}`"))
        .exit(Exit::Usage)?;
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(rustix::termios::isatty(std::io::stderr()));
    tracing_subscriber::registry()
        .with(lines)
        .with(targets)
        .try_init()
        .doing(|| "begin to log".into())
}

fn runtime() -> Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .doing(|| "start a runtime".into())
}

/// Runs until the role fails, or somebody wants it to end.
async fn until_told(role: impl Future<Output = Result<()>>) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).doing(|| "listen for signals".into())?;
    let mut interrupt = signal(SignalKind::interrupt()).doing(|| "listen for signals".into())?;
    tokio::select! {
        ended = role => ended,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}
