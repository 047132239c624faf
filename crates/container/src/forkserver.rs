//! Where shims come from: one small process of this very binary, which forks itself for each.
//!
//! ```text
//!  agent ── Order, [channel, log] ──▶ fork server ── fork ──▶ shim
//!    │ ◀────────── pidfd ────────────────┘                     │
//!    └──────────────────── channel ────────────────────────────┘
//! ```
//!
//! An execution costs a shim what the linker writes into it (about 1 MiB of memory that is its
//! own), and joining a cgroup costs the kernel's grace periods; a fork shares the one with all its
//! siblings and has the other already. The server has one thread, as shims must have. It ends with
//! its agent, and shims go on without it; when it is killed, the next order starts another.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};

use crate::cgroup::Cgroup;
use crate::channel::{self, Channel};
use crate::create::joined;
use crate::instance::Shim;
use crate::shim::{self, Role};
use crate::{Dir, Error, sys};

/// The argument that makes this binary a fork server.
pub const ROLE: &str = "fork-server";
/// A fork takes a millisecond: one that does not come within this is not coming.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Serialize, Deserialize)]
struct Order {
    role: Role,
    dir: PathBuf,
    cgroup: String,
}

/// Like the binary that shims are made of, there is one of it in a process.
static SERVER: Mutex<Option<Server>> = Mutex::new(None);

/// Starts a shim for `dir` in `cgroup`.
pub async fn launch(dir: &Dir, role: Role, cgroup: &str) -> Result<(Channel, Shim), Error> {
    let order = Order {
        role,
        dir: dir.path().to_owned(),
        cgroup: cgroup.to_owned(),
    };
    let log = dir.shim_log();
    let begun = tokio::task::spawn_blocking(move || begin(&order, &log));
    let (channel, pidfd) = joined(begun).await?;
    let spawn = |source| Error::Spawn { source };
    Ok((
        Channel::new(channel).map_err(spawn)?,
        Shim::new(pidfd).map_err(spawn)?,
    ))
}

/// Our end of a new shim's channel, and the shim, unless it has ended already.
fn begin(order: &Order, log: &Path) -> Result<(OwnedFd, Option<OwnedFd>), Error> {
    let file = File::options().create(true).append(true).open(log);
    let file = file.map_err(Error::file("open", log))?;
    fork(order, &file).map_err(|source| Error::Spawn { source })
}

fn fork(order: &Order, log: &File) -> io::Result<(OwnedFd, Option<OwnedFd>)> {
    let mut server = SERVER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(running) = &*server
        && let Ok(begun) = running.fork(order, log)
    {
        return Ok(begun);
    }
    server.insert(Server::start()?).fork(order, log)
}

/// The agent's end.
#[derive(Debug)]
struct Server {
    process: Child,
    control: OwnedFd,
}

impl Server {
    fn start() -> io::Result<Self> {
        let (control, theirs) = channel::pair()?;
        set_socket_timeout(&control, Timeout::Recv, Some(PATIENCE))?;
        // Its standard input is the only kind of descriptor that reaches a child without others
        // of ours. The runtime cannot bear an environment that is not UTF-8.
        let process = Command::new("/proc/self/exe")
            .arg0("tandem-shim")
            .arg(ROLE)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self { process, control })
    }

    /// With a channel of its own each time: what a server forked that did not live to say so
    /// hears that nobody is there.
    fn fork(&self, order: &Order, log: &File) -> io::Result<(OwnedFd, Option<OwnedFd>)> {
        let (ours, theirs) = channel::pair()?;
        channel::send(&self.control, order, &[theirs.as_fd(), log.as_fd()])?;
        match channel::receive(&self.control)? {
            Some(((), pidfd)) => Ok((ours, pidfd.into_iter().next())),
            None => Err(io::Error::other("the fork server ended")),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The server's own life, and in its children a shim's.
pub fn serve() -> io::Result<ExitCode> {
    let control = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    // A session of its own, so that nothing sent to the agent's reaches it.
    let _ = rustix::process::setsid();
    // A name for those who list processes; without it they all are called `exe`.
    let _ = rustix::thread::set_name(c"tandem-shim");
    sys::reap_children(true);
    let mut group = String::new();
    while let Some((order, fds)) = channel::receive::<Order>(&control)? {
        let Ok([channel, log]) = <[OwnedFd; 2]>::try_from(fds) else {
            return Err(io::Error::other("an order without its descriptors"));
        };
        if group != order.cgroup {
            // A shim that is not in its group joins by itself, and says what went wrong.
            let _ = Cgroup::new(&order.cgroup).and_then(|group| group.join());
            group.clone_from(&order.cgroup);
        }
        let Some(child) = sys::fork()? else {
            drop(control);
            sys::reap_children(false);
            rustix::stdio::dup2_stderr(log)?;
            return Ok(shim::run(order.role, Dir::new(order.dir), channel));
        };
        // It waits for its first word, which the agent sends after this, unless it has failed.
        let pidfd = Pid::from_raw(child).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        let fds: Vec<BorrowedFd<'_>> = pidfd.iter().map(AsFd::as_fd).collect();
        channel::send(&control, &(), &fds)?;
    }
    Ok(ExitCode::SUCCESS)
}
