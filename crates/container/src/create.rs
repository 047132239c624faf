//! The beginning of an instance, on the agent's side: lay out its directory, have a shim forked,
//! and let it build the container. Between [`create`] and [`Created::start`] the init process
//! exists and waits: the moment to persist its pid.

use std::fs;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::{CWD, FileType, Gid, Mode, Uid};

use crate::channel::{Channel, Reply, Request};
use crate::forkserver::launch;
use crate::instance::{Instance, Keepers, Shim};
use crate::process::Identity;
use crate::shim::Role;
use crate::{Dir, Error, Root, Spec, bundle, exit, workdir};

/// A container that waits for its start. Dropped without one, it is killed and removed by its
/// shim, and recorded as never having run.
#[derive(Debug)]
pub struct Created {
    channel: Channel,
    instance: Instance,
}

/// Builds a container in `dir`, which must be new. A failure is recorded there as well.
pub async fn create(dir: &Dir, spec: &Spec) -> Result<Created, Error> {
    let (at, wanted) = (dir.clone(), spec.clone());
    let prepared = tokio::task::spawn_blocking(move || prepare(&at, &wanted));
    let keepers = joined(prepared).await?;
    let (channel, shim) = launch(dir, Role::Instance, &spec.shim_cgroup).await?;
    let broken = |source| Error::Channel {
        id: dir.id().to_owned(),
        source,
    };
    channel.send(&Request::Create, &[]).map_err(broken)?;
    match channel.receive().await.map_err(broken)? {
        Some((Reply::Created { pid }, _)) => {
            let gone = || Error::Ended {
                id: dir.id().to_owned(),
            };
            let init = Identity::load(&dir.init())
                .filter(|init| init.pid == pid)
                .ok_or_else(gone)?;
            let pidfd = init.open().ok_or_else(gone)?;
            let instance = Instance::new(dir.clone(), spec, init, pidfd, keepers, shim)?;
            Ok(Created { channel, instance })
        }
        Some((Reply::Failed { message, code }, _)) => {
            shim.ended().await;
            Err(Error::Create { message, code })
        }
        _ => Err(Error::ShimGone {
            id: dir.id().to_owned(),
        }),
    }
}

impl Created {
    /// The container's init, as this process sees it.
    pub fn pid(&self) -> i32 {
        self.instance.pid()
    }

    /// Runs the command; returns once it is executed.
    pub async fn start(self) -> Result<Instance, Error> {
        let id = || self.instance.dir().id().to_owned();
        let broken = |source| Error::Channel { id: id(), source };
        self.channel.send(&Request::Go, &[]).map_err(broken)?;
        match self.channel.receive().await.map_err(broken)? {
            Some((Reply::Started, _)) => Ok(self.instance),
            Some((Reply::Failed { message, code }, _)) => Err(Error::Create { message, code }),
            _ => Err(Error::ShimGone { id: id() }),
        }
    }
}

fn prepare(dir: &Dir, spec: &Spec) -> Result<Keepers, Error> {
    let path = dir.path();
    fs::create_dir_all(path).map_err(Error::file("create", path))?;
    for fifo in dir.fifos() {
        make_fifo(&fifo, spec).map_err(Error::file("create", &fifo))?;
    }
    if let Root::Mounted(root) = &spec.root {
        let cwd = bundle::cwd(spec);
        workdir::ensure(root, cwd).map_err(Error::file("create working directory", cwd))?;
    }
    bundle::write(dir, spec)?;
    exit::reserve(dir)?;
    // Last: where it is, the instance was begun.
    let file = path.join("spec.json");
    let bytes = serde_json::to_vec(spec).expect("a Spec is plain values");
    fs::write(&file, bytes).map_err(Error::file("write", &file))?;
    Keepers::open(dir)
}

/// Owned by the container's user, who may open `/dev/stdout` by name.
fn make_fifo(path: &Path, spec: &Spec) -> io::Result<()> {
    rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0)?;
    let (user, group) = (Uid::from_raw(spec.user.uid), Gid::from_raw(spec.user.gid));
    rustix::fs::chown(path, Some(user), Some(group))?;
    Ok(())
}

/// Starts a shim that takes over a container whose shim is dead.
pub(crate) async fn take_over(
    dir: &Dir,
    cgroup: &str,
    witness: Option<BorrowedFd<'_>>,
) -> Result<Shim, Error> {
    let (channel, shim) = launch(dir, Role::Instance, cgroup).await?;
    let fds: Vec<_> = witness.into_iter().collect();
    match channel.send(&Request::Adopt, &fds) {
        // Dead before it was told: who waits for it finds out, as for one that dies later.
        Err(source) if source.kind() != io::ErrorKind::BrokenPipe => Err(Error::Channel {
            id: dir.id().to_owned(),
            source,
        }),
        _ => Ok(shim),
    }
}

/// A blocking task's own result; they neither panic nor are cancelled.
pub(crate) async fn joined<T>(task: tokio::task::JoinHandle<Result<T, Error>>) -> Result<T, Error> {
    task.await.unwrap_or_else(|error| {
        Err(Error::Spawn {
            source: io::Error::other(error),
        })
    })
}
