//! The agent's handle on a running container: signals, freezing, and its end.
//!
//! *Flow:* one task awaits [`Instance::wait`] for as long as the instance runs; it is also what
//! notices that the shim was killed, and starts the next. *Guarantees:* with a handle alive, no
//! output is lost to a shim's death (the handle holds the FIFOs open), and the exit status is
//! known even when container and shim die together, on Linux 6.15 and later.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, OFlags};
use tokio::io::unix::AsyncFd;
use tokio::sync::Mutex;

use crate::cgroup::Cgroup;
use crate::create::{joined, take_over};
use crate::process::{self, Identity, ending};
use crate::{Dir, Error, Exit, Spec, exit, sys};

const SIGKILL: i32 = 9;
/// A shim that dies this often in a row will not do better the next time.
const SHIMS_MAX: u32 = 5;
/// One that lived so long was killed by somebody, not by itself.
const SHIM_GOOD: Duration = Duration::from_secs(10);
const SHIM_PAUSE: Duration = Duration::from_millis(200);

/// A container whose command was started. Clones are the same instance.
#[derive(Debug, Clone)]
pub struct Instance {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    dir: Dir,
    cgroup: String,
    shim_cgroup: String,
    init: Identity,
    /// Opened while init lived: the second witness of its end.
    pidfd: AsyncFd<OwnedFd>,
    _keepers: Keepers,
    shim: Mutex<Shim>,
}

impl Instance {
    pub(crate) fn new(
        dir: Dir,
        spec: &Spec,
        init: Identity,
        pidfd: OwnedFd,
        keepers: Keepers,
        shim: Shim,
    ) -> Result<Self, Error> {
        let pidfd = sys::watched(pidfd).map_err(|source| Error::Spawn { source })?;
        let shim = Mutex::new(shim);
        let inner = Inner {
            dir,
            cgroup: spec.cgroup.clone(),
            shim_cgroup: spec.shim_cgroup.clone(),
            init,
            pidfd,
            _keepers: keepers,
            shim,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    pub fn dir(&self) -> &Dir {
        &self.inner.dir
    }

    /// The container's init, as this process sees it.
    pub fn pid(&self) -> i32 {
        self.inner.init.pid
    }

    pub(crate) fn shim_cgroup(&self) -> &str {
        &self.inner.shim_cgroup
    }

    /// The end. When the shim is killed meanwhile, another takes over. Cancelling is harmless.
    pub async fn wait(&self) -> Result<Exit, Error> {
        let inner = &self.inner;
        let mut shim = inner.shim.lock().await;
        let mut started = 0;
        loop {
            let began = Instant::now();
            // The shim ends last: after it, there is nothing of the container left.
            shim.ended().await;
            if let Some(exit) = exit::read(&inner.dir)? {
                return Ok(exit);
            }
            if began.elapsed() > SHIM_GOOD {
                started = 0;
            }
            if started == SHIMS_MAX {
                return self.witness().await;
            }
            tokio::time::sleep(SHIM_PAUSE * started).await;
            started += 1;
            tracing::warn!(
                instance.id = inner.dir.id(),
                "Started another shim, the last one died"
            );
            let witness = Some(inner.pidfd.get_ref().as_fd());
            *shim = take_over(&inner.dir, &inner.shim_cgroup, witness).await?;
        }
    }

    /// Without any shim: the status is known, the last output is not written.
    async fn witness(&self) -> Result<Exit, Error> {
        self.init_ended().await;
        let inner = &self.inner;
        let exit = Exit::now(ending(inner.pidfd.get_ref(), inner.init.pid), false);
        if let Err(error) = exit::write(&inner.dir, &exit) {
            tracing::error!(
                instance.id = inner.dir.id(),
                "Could not record an end: {error}"
            );
        }
        Ok(exit)
    }

    async fn init_ended(&self) {
        // Readable once init has ended; an error could only come from a runtime shutting down.
        if let Ok(mut ready) = self.inner.pidfd.readable().await {
            ready.retain_ready();
        }
    }

    /// Sends a signal to the container's init.
    pub fn signal(&self, signal: i32) -> Result<(), Error> {
        let id = || self.inner.dir.id().to_owned();
        match sys::send_signal(self.inner.pidfd.get_ref().as_fd(), signal) {
            Err(source) if source.raw_os_error() == Some(nix::libc::ESRCH) => {
                Err(Error::Ended { id: id() })
            }
            Err(source) if source.raw_os_error() == Some(nix::libc::EINVAL) => {
                Err(Error::NoSignal(signal))
            }
            other => other.map_err(|source| Error::Signal {
                id: id(),
                signal,
                source,
            }),
        }
    }

    /// Whether its init would notice a signal: the kernel keeps from the first process of a pid
    /// namespace what it neither handles nor waits for. SIGKILL is no such signal.
    pub fn hears(&self, signal: i32) -> bool {
        process::handles(self.inner.init.pid, signal)
    }

    /// Asks it to end with `signal`; after `grace` every task is killed. A frozen instance is
    /// thawed: whoever froze a writer that must never run again uses [`Instance::kill`].
    pub async fn stop(&self, signal: i32, grace: Duration) -> Result<Exit, Error> {
        match self.signal(signal) {
            Ok(()) => {
                // The group may have gone with the container, which is what was asked for.
                let _ = self.thaw().await;
                let _ = tokio::time::timeout(grace, self.init_ended()).await;
            }
            Err(Error::Ended { .. }) => {}
            Err(error) => return Err(error),
        }
        self.kill().await?;
        self.wait().await
    }

    /// Kills every task, frozen or not; returns when none is left.
    pub async fn kill(&self) -> Result<(), Error> {
        // Killing init takes the pid namespace along, even should the group be gone.
        let _ = self.signal(SIGKILL);
        self.with_group(|group, _| group.kill()).await
    }

    /// Sends SIGKILL to every task of a frozen instance, which stays frozen where the kernel can
    /// keep it so; elsewhere it ends at once.
    pub async fn kill_frozen(&self) -> Result<(), Error> {
        self.with_group(|group, _| {
            group.doom();
            Ok(())
        })
        .await
    }

    /// Stops every task where it is. Fails, and leaves them running, unless all are stopped and
    /// init is among them, within half a second.
    pub async fn freeze(&self) -> Result<(), Error> {
        self.with_group(|group, init| group.freeze(init)).await
    }

    pub async fn thaw(&self) -> Result<(), Error> {
        self.with_group(|group, _| group.thaw()).await
    }

    pub async fn is_frozen(&self) -> Result<bool, Error> {
        self.with_group(|group, _| Ok(group.is_frozen())).await
    }

    /// Processes that the instance's cgroup holds, as this process sees them.
    pub async fn processes(&self) -> Result<Vec<i32>, Error> {
        self.with_group(|group, _| Ok(group.processes().into_iter().collect()))
            .await
    }

    async fn with_group<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Cgroup, &Identity) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let inner = self.inner.clone();
        let act = move || act(&Cgroup::new(&inner.cgroup)?, &inner.init);
        joined(tokio::task::spawn_blocking(act)).await
    }
}

/// Readers of both FIFOs that never read: what is in a FIFO is lost when its last holder closes
/// it, and that could be a container dying while its shim is dead.
#[derive(Debug)]
pub(crate) struct Keepers {
    _fifos: [OwnedFd; 2],
}

impl Keepers {
    pub fn open(dir: &Dir) -> Result<Self, Error> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let [out, err] = dir.fifos().map(|path| {
            rustix::fs::openat(CWD, &path, flags, Mode::empty())
                .map_err(|errno| Error::file("open", &path)(errno.into()))
        });
        Ok(Self {
            _fifos: [out?, err?],
        })
    }
}

/// A shim, ours or a former agent's.
#[derive(Debug)]
pub(crate) struct Shim(Option<AsyncFd<OwnedFd>>);

impl Shim {
    /// `None`: it has ended already.
    pub fn new(pidfd: Option<OwnedFd>) -> std::io::Result<Self> {
        Ok(Self(pidfd.map(sys::watched).transpose()?))
    }

    /// The one recorded in the directory, which may have ended long ago.
    pub fn recorded(dir: &Dir) -> Self {
        let alive = Identity::load(&dir.shim()).filter(Identity::alive);
        let pidfd = alive.and_then(|identity| identity.open());
        Self(pidfd.and_then(|pidfd| sys::watched(pidfd).ok()))
    }

    /// Known to be dead already when it was looked for.
    pub fn is_gone(&self) -> bool {
        self.0.is_none()
    }

    pub async fn ended(&self) {
        let Some(pidfd) = &self.0 else { return };
        if let Ok(mut ready) = pidfd.readable().await {
            ready.retain_ready();
        }
    }
}
