//! One more command in a running container: for `tandem exec`, health checks and hooks. It runs
//! in the instance's namespaces and cgroup, under its filter, and never with new privileges.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use rustix::termios::{Winsize, tcsetwinsize};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe;

use crate::channel::{Channel, Reply, Request};
use crate::forkserver::launch;
use crate::shim::Role;
use crate::{Error, How, Instance, User, sys};

/// What is kept of each stream by [`Instance::run`].
const OUTPUT_BYTES_MAX: u64 = 64 << 10;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecSpec {
    pub args: Vec<String>,
    /// Added to the instance's own, `KEY=value`; later wins.
    pub env: Vec<String>,
    /// `None`: the instance's.
    pub cwd: Option<PathBuf>,
    /// `None`: the instance's.
    pub user: Option<User>,
    /// One terminal instead of three pipes.
    pub terminal: bool,
}

/// A command under way; dropped, it is killed.
#[derive(Debug)]
pub struct Exec {
    pub streams: Streams,
    channel: Channel,
    id: String,
}

/// What connects us to the command.
#[derive(Debug)]
pub enum Streams {
    Pipes {
        stdin: pipe::Sender,
        stdout: pipe::Receiver,
        stderr: pipe::Receiver,
    },
    Terminal(Console),
}

/// The end of a command that ran to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// `None`: it was killed, its time was over.
    pub how: Option<How>,
    /// The first 64 KiB of each.
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Instance {
    /// Starts a command; returns once it is executed.
    pub async fn exec(&self, spec: &ExecSpec) -> Result<Exec, Error> {
        let id = self.dir().id().to_owned();
        let broken = |source| Error::Channel {
            id: id.clone(),
            source,
        };
        if self.is_frozen().await? {
            // It would enter the group and stop there, halfway into the container.
            return Err(Error::Exec {
                message: "the instance is frozen".to_owned(),
                code: None,
            });
        }
        let (channel, _shim) = launch(self.dir(), Role::Exec, self.shim_cgroup()).await?;
        let request = Request::Exec(spec.clone());
        let pipes = if spec.terminal {
            channel.send(&request, &[]).map_err(broken)?;
            None
        } else {
            let (ours, theirs) = pipes().map_err(broken)?;
            let fds = theirs.each_ref().map(AsFd::as_fd);
            channel.send(&request, &fds).map_err(broken)?;
            Some(ours)
        };
        match channel.receive().await.map_err(broken)? {
            Some((Reply::Started, master)) => {
                let streams = match (pipes, master.into_iter().next()) {
                    (Some(pipes), _) => pipes,
                    (None, Some(master)) => {
                        Streams::Terminal(Console::new(master).map_err(broken)?)
                    }
                    (None, None) => return Err(Error::ShimGone { id }),
                };
                Ok(Exec {
                    streams,
                    channel,
                    id,
                })
            }
            Some((Reply::Failed { message, code }, _)) => Err(Error::Exec { message, code }),
            _ => Err(Error::ShimGone { id }),
        }
    }

    /// Runs a command to its end, or kills it after `timeout`: a health check.
    pub async fn run(&self, spec: &ExecSpec, timeout: Duration) -> Result<Output, Error> {
        let spec = ExecSpec {
            terminal: false,
            ..spec.clone()
        };
        let mut output = Output {
            how: None,
            stdout: Vec::new(),
            stderr: Vec::new(),
        };
        let work = async {
            let Exec {
                streams,
                channel,
                id,
            } = self.exec(&spec).await?;
            let Streams::Pipes {
                stdin,
                stdout,
                stderr,
            } = streams
            else {
                return Err(Error::ShimGone { id });
            };
            drop(stdin);
            let (out, err) = (&mut output.stdout, &mut output.stderr);
            let (how, (), ()) =
                tokio::join!(end(&channel, &id), keep(stdout, out), keep(stderr, err));
            how.map(Some)
        };
        let how = tokio::time::timeout(timeout, work)
            .await
            .unwrap_or(Ok(None))?;
        output.how = how;
        Ok(output)
    }
}

impl Exec {
    /// The command's end. Its streams may still hold output.
    pub async fn wait(&self) -> Result<How, Error> {
        end(&self.channel, &self.id).await
    }
}

async fn end(channel: &Channel, id: &str) -> Result<How, Error> {
    let broken = |source| Error::Channel {
        id: id.to_owned(),
        source,
    };
    match channel.receive().await.map_err(broken)? {
        Some((Reply::Ended { how }, _)) => Ok(how),
        _ => Err(Error::ShimGone { id: id.to_owned() }),
    }
}

/// Keeps the beginning, and reads on so that the command is not held up.
async fn keep(mut from: pipe::Receiver, into: &mut Vec<u8>) {
    let _ = (&mut from).take(OUTPUT_BYTES_MAX).read_to_end(into).await;
    let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
}

fn pipes() -> io::Result<(Streams, [OwnedFd; 3])> {
    let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC);
    let ((their_in, our_in), (our_out, their_out), (our_err, their_err)) =
        (pipe()?, pipe()?, pipe()?);
    let ours = Streams::Pipes {
        stdin: pipe::Sender::from_owned_fd(our_in)?,
        stdout: pipe::Receiver::from_owned_fd(our_out)?,
        stderr: pipe::Receiver::from_owned_fd(our_err)?,
    };
    Ok((ours, [their_in, their_out, their_err]))
}

/// The master of a command's terminal.
#[derive(Debug)]
pub struct Console(AsyncFd<OwnedFd>);

impl Console {
    fn new(master: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&master, true)?;
        Ok(Self(sys::watched(master)?))
    }

    /// Reads what the command wrote; 0 when it has gone.
    pub async fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.0.readable().await?;
            let got = ready.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut *into)?));
            match got {
                // How a master says that nobody holds the other side any more.
                Ok(Err(error)) if error.raw_os_error() == Some(nix::libc::EIO) => return Ok(0),
                Ok(got) => return got,
                Err(_would_block) => {}
            }
        }
    }

    /// Types all of `bytes`.
    pub async fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut ready = self.0.writable().await?;
            match ready.try_io(|fd| Ok(rustix::io::write(fd.get_ref(), bytes)?)) {
                Ok(done) => bytes = &bytes[done?..],
                Err(_would_block) => {}
            }
        }
        Ok(())
    }

    /// The window's size in characters; the kernel tells the command by SIGWINCH.
    pub fn resize(&self, columns: u16, rows: u16) -> io::Result<()> {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        Ok(tcsetwinsize(self.0.get_ref(), size)?)
    }
}
