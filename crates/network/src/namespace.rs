//! Network namespaces of instances: made, held by a bind mount, entered for a moment.
//!
//! A thread that changed its namespace is never used again: everything here runs on a thread of
//! its own, because a runtime's thread would carry its next task into the wrong network.

use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpStream as StdTcpStream};
use std::path::{Path, PathBuf};
use std::thread;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::statfs::{NSFS_MAGIC, statfs};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::oneshot;

use crate::error::{Result, system};

/// Runs `work` inside the network namespace at `path` and gives back what it returns. Sockets
/// that it opens stay in that namespace wherever they are used.
///
/// # Errors
/// When the namespace cannot be entered; `work` reports its own faults in its value.
pub async fn in_namespace<T, F>(path: &Path, work: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    let what = format!("enter the network namespace {}", path.display());
    let path = path.to_owned();
    on_own_thread(move || {
        let namespace = File::open(&path)?;
        setns(namespace, CloneFlags::CLONE_NEWNET)?;
        Ok(work())
    })
    .await
    .map_err(system(what))
}

/// Connects to `address` as a process inside the namespace at `path` would. Not bounded in time.
///
/// # Errors
/// As [`TcpStream::connect`]; also when the namespace cannot be entered.
pub async fn connect_in(path: &Path, address: SocketAddr) -> io::Result<TcpStream> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = in_namespace(path, move || {
        socket_with(family, SocketType::STREAM, flags, None)
    })
    .await
    .map_err(io::Error::other)??;
    TcpSocket::from_std_stream(StdTcpStream::from(socket))
        .connect(address)
        .await
}

/// Makes a network namespace that lives at `path` until [`remove`]; one that is there stays.
pub(crate) async fn ensure(path: &Path) -> Result<()> {
    let what = format!("make the network namespace {}", path.display());
    let path = path.to_owned();
    on_own_thread(move || {
        if is_held(&path)? {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        File::create(&path)?;
        unshare(CloneFlags::CLONE_NEWNET)?;
        let none: Option<&str> = None;
        mount(
            Some("/proc/thread-self/ns/net"),
            &path,
            none,
            MsFlags::MS_BIND,
            none,
        )?;
        Ok(())
    })
    .await
    .map_err(system(what))
}

/// Lets go of the namespace at `path`; absent is fine.
pub(crate) async fn remove(path: &Path) -> Result<()> {
    let what = format!("remove the network namespace {}", path.display());
    let path = path.to_owned();
    on_own_thread(move || {
        while is_held(&path)? {
            umount2(&path, MntFlags::MNT_DETACH)?;
        }
        match fs::remove_file(&path) {
            Err(fault) if fault.kind() != io::ErrorKind::NotFound => Err(fault),
            _ => Ok(()),
        }
    })
    .await
    .map_err(system(what))
}

/// What lies in a directory of namespaces; an absent directory holds none.
pub(crate) fn list(directory: &Path) -> Result<Vec<PathBuf>> {
    let read = || match fs::read_dir(directory) {
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(fault) => Err(fault),
        Ok(entries) => entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect(),
    };
    read().map_err(system(format!("list {}", directory.display())))
}

fn is_held(path: &Path) -> io::Result<bool> {
    match statfs(path) {
        Ok(found) => Ok(found.filesystem_type() == NSFS_MAGIC),
        Err(nix::errno::Errno::ENOENT) => Ok(false),
        Err(fault) => Err(fault.into()),
    }
}

async fn on_own_thread<T, F>(work: F) -> io::Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> io::Result<T> + Send + 'static,
{
    let (done, outcome) = oneshot::channel();
    thread::Builder::new()
        .name("netns".to_owned())
        .spawn(move || drop(done.send(work())))?;
    outcome
        .await
        .unwrap_or_else(|_| Err(io::Error::other("the thread inside the namespace panicked")))
}
