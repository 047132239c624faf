//! An instance's life as its shim leads it: build, wait for the word, start, copy the log, and
//! record the end.
//!
//! Guarantees: `exit` is written before the cgroup goes; the shim ends only when nothing of the
//! container is left. Assumptions: the agent starts a new shim with `Adopt` when this one is
//! killed, and the id is never used again.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use libcontainer::container::Container;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use rustix::fs::{CWD, Mode, OFlags};

use super::pump::Pump;
use super::{filter, oom_score, reap, receive, runtime_error, tell};
use crate::cgroup::Cgroup;
use crate::channel::{Reply, Request};
use crate::error::chain;
use crate::executor::{Command, Verdict};
use crate::process::{Identity, ending};
use crate::{Dir, Error, Exit, How, Root, Spec, exit, host_root, sys};

/// A shim is small, and killing it frees nothing that the container holds.
const SHIM_OOM_SCORE: i32 = -900;

/// Builds the container, and leads it from there.
pub fn create(dir: &Dir, channel: OwnedFd) -> Result<(), Error> {
    let spec = dir.spec()?;
    let group = Cgroup::new(&spec.cgroup)?;
    match begin(dir, &spec, &group, &channel) {
        Ok((init, pump)) => {
            sys::ignore_endings();
            tell(&channel, &Reply::Started);
            drop(channel);
            finish(dir, &group, pump, &init)
        }
        Err(failure) => {
            let Verdict { message, code } = failure;
            let how = How::CreateFailed {
                message: message.clone(),
                code,
            };
            let oom = group.oom_kills() > 0;
            exit::write(dir, &Exit::now(how, oom))?;
            clear(dir, &group)?;
            reap();
            tell(&channel, &Reply::Failed { message, code });
            Ok(())
        }
    }
}

/// Goes on where a dead shim stopped.
pub fn adopt(dir: &Dir, witness: Option<OwnedFd>) -> Result<(), Error> {
    let spec = dir.spec()?;
    let group = Cgroup::new(&spec.cgroup)?;
    Cgroup::new(&spec.shim_cgroup)?.join()?;
    sys::ignore_endings();
    oom_score(SHIM_OOM_SCORE);
    let mut pump = Pump::open(dir, &spec)?;
    let identity = Identity::load(&dir.init());
    let pidfd = witness.or_else(|| identity.as_ref()?.open());
    match (identity, pidfd) {
        (Some(identity), Some(pidfd)) => finish(
            dir,
            &group,
            pump,
            &Init {
                pid: identity.pid,
                pidfd,
            },
        ),
        _ => {
            // Nobody saw the end. What it wrote last may still be there.
            let _ = pump.drain();
            exit::write(dir, &Exit::now(How::Unknown, group.oom_kills() > 0))?;
            clear(dir, &group)
        }
    }
}

struct Init {
    pid: i32,
    pidfd: OwnedFd,
}

impl From<Error> for Verdict {
    fn from(error: Error) -> Self {
        Self {
            message: chain(&error),
            code: None,
        }
    }
}

/// Up to the running command.
fn begin(
    dir: &Dir,
    spec: &Spec,
    group: &Cgroup,
    channel: &OwnedFd,
) -> Result<(Init, Pump), Verdict> {
    Cgroup::new(&spec.shim_cgroup)?.join()?;
    let pump = Pump::open(dir, spec)?;
    let back = match &spec.root {
        Root::Mounted(_) => None,
        Root::Host { sandbox, hidden } => Some(host_root::assemble(dir, sandbox, hidden)?),
    };
    let (verdict, built) = build(dir, spec, group)?;
    if let Some(back) = back {
        back.go()?;
    }
    let mut container = match built {
        Ok(container) => container,
        Err(message) => {
            return Err(read(verdict).unwrap_or(Verdict {
                message,
                code: None,
            }));
        }
    };
    let pid = container.pid().map_or(0, nix_pid);
    oom_score(SHIM_OOM_SCORE);
    let identity = Identity::of(pid).map_err(Error::file("identify init for", &dir.init()))?;
    let Some(pidfd) = identity.open() else {
        return Err(Verdict {
            message: "init ended before its start".to_owned(),
            code: None,
        });
    };
    identity.save(&dir.init())?;
    if let Some(bytes) = spec.limits.memory_bytes {
        group.limit_memory(bytes)?;
    }
    tell(channel, &Reply::Created { pid });
    let Some((Request::Go, _)) = receive(dir, channel)? else {
        return Err(Verdict {
            message: "the agent ended before the start".to_owned(),
            code: None,
        });
    };
    start(dir, &mut container)?;
    if let Some(refusal) = read(verdict) {
        return Err(refusal);
    }
    if let Some(cores) = spec.limits.cpu_quota {
        group.limit_cpu(cores)?;
    }
    Ok((Init { pid, pidfd }, pump))
}

/// The runtime's process ids are of another version of the same crate.
fn nix_pid(pid: impl std::fmt::Display) -> i32 {
    pid.to_string().parse().unwrap_or(0)
}

fn start(dir: &Dir, container: &mut Container) -> Result<(), Verdict> {
    container.start().map_err(|error| Verdict {
        message: runtime_error(&error, dir.path()),
        code: None,
    })?;
    File::create(dir.started()).map_err(Error::file("create", &dir.started()))?;
    Ok(())
}

/// The executor's word; none, if the command runs or its process died without one.
fn read(verdict: OwnedFd) -> Option<Verdict> {
    Verdict::read(verdict).ok().flatten()
}

type Built = Result<Container, String>;

/// Runs the runtime up to the point where init waits for its start.
fn build(dir: &Dir, spec: &Spec, group: &Cgroup) -> Result<(OwnedFd, Built), Verdict> {
    let io = |error: io::Error| Error::file("prepare", dir.path())(error);
    let (verdict, writer) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|e| io(e.into()))?;
    let command = Command {
        filter: match spec.no_new_privileges {
            true => filter(dir, spec)?,
            false => None,
        },
        verdict: Arc::new(File::from(writer)),
        entrance: group.entrance()?.map(Arc::new),
    };
    let [out, err] = dir.fifos();
    // For reading too: with a reader of its own the container never sees a broken pipe.
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let open = |path| rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(|e| io(e.into()));
    let (out, err) = (open(out)?, open(err)?);
    fs::create_dir_all(dir.oci()).map_err(Error::file("create", &dir.oci()))?;
    let built = ContainerBuilder::new(dir.id().to_owned(), SyscallType::default())
        .with_root_path(dir.oci())
        .and_then(|builder| {
            builder
                .with_executor(command)
                .with_stdout(out)
                .with_stderr(err)
                .as_init(dir.path())
                .with_systemd(false)
                .with_detach(true)
                .build()
        });
    Ok((
        verdict,
        built.map_err(|error| runtime_error(&error, dir.path())),
    ))
}

/// Copies the log until the end, records it, and leaves nothing.
fn finish(dir: &Dir, group: &Cgroup, pump: Pump, init: &Init) -> Result<(), Error> {
    let copied = pump.run(&init.pidfd);
    if copied.is_err() {
        // Without a log the container still runs, and its end still matters.
        wait(init);
    }
    let how = ending(&init.pidfd, init.pid);
    exit::write(dir, &Exit::now(how, group.oom_kills() > 0))?;
    clear(dir, group)?;
    copied.map_err(Error::file("copy the log of", dir.path()))
}

fn wait(init: &Init) {
    use rustix::event::{PollFd, PollFlags, poll};
    let mut polled = [PollFd::new(&init.pidfd, PollFlags::IN)];
    while poll(&mut polled, None) == Err(rustix::io::Errno::INTR) {}
}

fn clear(dir: &Dir, group: &Cgroup) -> Result<(), Error> {
    group.kill()?;
    group.remove()?;
    match fs::remove_dir_all(dir.oci()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::file("remove", &dir.oci())(error))
        }
        _ => Ok(()),
    }
}
