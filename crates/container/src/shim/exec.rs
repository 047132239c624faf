//! One more command in a running container: its namespaces, its cgroup, its filter. The command
//! lives no longer than the channel to the agent: a health check that nobody awaits is killed.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use rustix::event::{PollFd, PollFlags, poll};
use serde_json::Value;

use super::{filter, runtime_error, tell};
use crate::cgroup::Cgroup;
use crate::channel::{self, Reply};
use crate::error::chain;
use crate::executor::{Command, Verdict};
use crate::process::{Identity, ending};
use crate::{Dir, Error, ExecSpec, How, Spec, sys};

pub fn run(
    dir: &Dir,
    channel: &OwnedFd,
    request: &ExecSpec,
    fds: Vec<OwnedFd>,
) -> Result<(), Error> {
    let scratch = Scratch::new(dir)?;
    match begin(dir, &scratch, request, fds) {
        Ok((pid, pidfd, console)) => {
            drop(scratch);
            let fds: Vec<_> = console.iter().map(AsFd::as_fd).collect();
            let _ = channel::send(channel, &Reply::Started, &fds);
            drop(fds);
            drop(console);
            tell(
                channel,
                &Reply::Ended {
                    how: wait(channel, pid, &pidfd),
                },
            );
        }
        Err(Verdict { message, code }) => tell(channel, &Reply::Failed { message, code }),
    }
    Ok(())
}

/// A copy of the runtime's state for this command alone: the runtime leaves sockets in it.
struct Scratch {
    root: PathBuf,
    state: PathBuf,
}

impl Scratch {
    fn new(dir: &Dir) -> Result<Self, Error> {
        let root = dir.path().join(format!("exec-{}", std::process::id()));
        let state = root.join(dir.id());
        fs::create_dir_all(&state).map_err(Error::file("create", &state))?;
        let (from, to) = (
            dir.oci().join(dir.id()).join("state.json"),
            state.join("state.json"),
        );
        fs::copy(&from, to).map_err(Error::file("copy", &from))?;
        Ok(Self { root, state })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays goes with the instance's directory.
        let _ = fs::remove_dir_all(&self.root);
    }
}

type Begun = (i32, OwnedFd, Option<OwnedFd>);

fn begin(
    dir: &Dir,
    scratch: &Scratch,
    request: &ExecSpec,
    fds: Vec<OwnedFd>,
) -> Result<Begun, Verdict> {
    let spec = dir.spec()?;
    let io = |error: io::Error| Error::file("prepare", dir.path())(error);
    let (verdict, writer) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|e| io(e.into()))?;
    let command = Command {
        filter: filter(dir, &spec)?,
        verdict: Arc::new(File::from(writer)),
        entrance: Cgroup::new(&spec.cgroup)?.entrance()?.map(Arc::new),
    };
    let process = process(dir, &spec, scratch, request)?;
    let console = if request.terminal {
        Some(listen(&scratch.state).map_err(io)?)
    } else {
        None
    };
    let built = ContainerBuilder::new(dir.id().to_owned(), SyscallType::default())
        .with_root_path(&scratch.root)
        .map(|builder| match <[OwnedFd; 3]>::try_from(fds) {
            Ok([stdin, stdout, stderr]) => builder
                .with_stdin(stdin)
                .with_stdout(stdout)
                .with_stderr(stderr),
            Err(_none) => builder,
        })
        .and_then(|builder| {
            builder
                .with_executor(command)
                .with_console_socket(console.as_ref().map(|(_, path)| path.clone()))
                .as_tenant()
                .with_process(Some(process))
                .with_detach(true)
                .build()
        });
    let pid = built.map_err(|error| runtime_error(&error, dir.path()));
    let refusal = Verdict::read(verdict).ok().flatten();
    let pid = match (pid, refusal) {
        (_, Some(refusal)) => return Err(refusal),
        (Err(message), None) => {
            return Err(Verdict {
                message,
                code: None,
            });
        }
        (Ok(pid), None) => pid.as_raw(),
    };
    // Our own child: its pid stays its own until we wait for it.
    let pidfd = Identity::of(pid).ok().and_then(|identity| identity.open());
    let pidfd = pidfd.ok_or(Verdict {
        message: "the command is gone".to_owned(),
        code: None,
    })?;
    let master = console
        .map(|(socket, _)| accept(&socket))
        .transpose()
        .map_err(io)?;
    Ok((pid, pidfd, master))
}

/// The container's own process description, with what the request changes.
fn process(
    dir: &Dir,
    spec: &Spec,
    scratch: &Scratch,
    request: &ExecSpec,
) -> Result<PathBuf, Error> {
    let bytes = fs::read(dir.config()).map_err(Error::file("read", &dir.config()))?;
    let mut config: Value = serde_json::from_slice(&bytes).map_err(|source| Error::Record {
        path: dir.config(),
        source,
    })?;
    let mut process = config["process"].take();
    process["terminal"] = request.terminal.into();
    process["args"] = request.args.clone().into();
    if !spec.privileged {
        process["noNewPrivileges"] = true.into();
    }
    if let Some(cwd) = &request.cwd {
        process["cwd"] = cwd.to_string_lossy().into();
    }
    if let Some(user) = &request.user {
        process["user"] = serde_json::json!({
            "uid": user.uid, "gid": user.gid, "additionalGids": user.additional_gids,
        });
    }
    if let Value::Array(env) = &mut process["env"] {
        // Later wins, where the runtime makes a map of them.
        env.extend(request.env.iter().map(|pair| Value::from(pair.as_str())));
    }
    let path = scratch.root.join("process.json");
    fs::write(&path, process.to_string()).map_err(Error::file("write", &path))?;
    Ok(path)
}

/// Bound by its short name: a socket's whole path may be too long for its address.
fn listen(state: &Path) -> io::Result<(UnixListener, PathBuf)> {
    let before = std::env::current_dir()?;
    std::env::set_current_dir(state)?;
    let socket = UnixListener::bind("console.sock");
    std::env::set_current_dir(before)?;
    Ok((socket?, state.join("console.sock")))
}

/// The runtime connected before it cloned, and the command has run its first step: the
/// terminal's master is waiting.
fn accept(socket: &UnixListener) -> io::Result<OwnedFd> {
    let (stream, _) = socket.accept()?;
    channel::receive_fd(&stream)?.ok_or_else(|| io::Error::other("the runtime sent no terminal"))
}

fn wait(channel: &OwnedFd, pid: i32, pidfd: &OwnedFd) -> How {
    let mut listening = true;
    loop {
        let mut polled = vec![PollFd::new(pidfd, PollFlags::IN)];
        if listening {
            polled.push(PollFd::new(channel, PollFlags::IN));
        }
        if let Err(error) = poll(&mut polled, None)
            && error != rustix::io::Errno::INTR
        {
            eprintln!("shim-exec: poll: {}", chain(&io::Error::from(error)));
            return How::Unknown;
        }
        if !polled[0].revents().is_empty() {
            return ending(pidfd, pid);
        }
        if polled
            .get(1)
            .is_some_and(|polled| !polled.revents().is_empty())
        {
            // Nothing is ever said here: readable means that the other end is closed.
            let _ = sys::send_signal(pidfd.as_fd(), 9);
            listening = false;
        }
    }
}
