//! What the agent calls: a node's volumes and their roles, with all blocking work on the threads
//! made for it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use model::VolumeId;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::net::unix::pipe;

use crate::btrfs::Btrfs;
use crate::driver::{Driver, Found, Identity, Incoming, Outgoing, Room, SnapshotName, Usage};
use crate::error::{Doing, Error, Result};
use crate::pool::{Pool, PoolConfig};
use crate::roles::{Role, Roles};
use crate::transfer::{Metered, Sent, Transfer};
use crate::users::foreign_users;

/// Bytes that go from a stream to a receiver at once.
const CHUNK: usize = 256 << 10;

/// Cheap to clone.
#[derive(Clone)]
pub struct Volumes {
    driver: Arc<dyn Driver>,
    roles: Arc<Roles>,
}

/// What this node has of a volume, and what it takes it for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalCopy {
    /// `None`: data that no role was ever given, of a making that a crash cut short.
    pub role: Option<Role>,
    /// `None`: no data, of a removal that a crash cut short.
    pub found: Option<Found>,
}

impl Volumes {
    /// The volumes of a btrfs pool, with the role files beside it.
    pub async fn on_btrfs(config: PoolConfig) -> Result<Self> {
        let roles = config.dir.join("roles");
        let driver = blocking(move || Ok(Btrfs::new(Pool::open(config)?))).await?;
        Self::open(roles, Arc::new(driver)).await
    }

    /// `roles` is the directory of the role files. What an earlier agent left half done is swept
    /// away.
    pub async fn open(roles: PathBuf, driver: Arc<dyn Driver>) -> Result<Self> {
        blocking(move || {
            let roles = Arc::new(Roles::open(roles)?);
            // What cannot be written is not swept either; it is read, and says so when asked.
            match driver.check() {
                Ok(()) => driver.sweep()?,
                Err(error) => tracing::error!("{error}"),
            }
            Ok(Self { driver, roles })
        })
        .await
    }

    /// Whether the filesystem still takes writes; `Ok` too before there is one.
    pub async fn check(&self) -> Result<()> {
        let driver = self.driver.clone();
        blocking(move || driver.check()).await
    }

    /// Unmounts, for a node that ends. An agent that ends leaves the mount to its containers.
    pub async fn close(&self) -> Result<()> {
        let driver = self.driver.clone();
        blocking(move || driver.close()).await
    }

    /// See [`crate::roles`] for what must be persisted before what.
    pub async fn persist_role(&self, volume: &VolumeId, role: Role) -> Result<()> {
        let (roles, volume) = (self.roles.clone(), volume.clone());
        blocking(move || roles.persist(&volume, &role)).await
    }

    pub async fn roles(&self) -> Result<BTreeMap<VolumeId, Role>> {
        let roles = self.roles.clone();
        blocking(move || roles.all()).await
    }

    /// Deletes the role file; the last thing to go.
    pub async fn forget_role(&self, volume: &VolumeId) -> Result<()> {
        let (roles, volume) = (self.roles.clone(), volume.clone());
        blocking(move || roles.forget(&volume)).await
    }

    /// Everything that is here, with and without role or data.
    pub async fn list(&self) -> Result<BTreeMap<VolumeId, LocalCopy>> {
        let (driver, roles) = (self.driver.clone(), self.roles.clone());
        blocking(move || {
            let mut copies: BTreeMap<VolumeId, LocalCopy> = roles
                .all()?
                .into_iter()
                .map(|(volume, role)| {
                    let role = Some(role);
                    (volume, LocalCopy { role, found: None })
                })
                .collect();
            for found in driver.found()? {
                let empty = LocalCopy {
                    role: None,
                    found: None,
                };
                let copy = copies.entry(found.volume.clone()).or_insert(empty);
                copy.found = Some(found);
            }
            Ok(copies)
        })
        .await
    }

    /// See [`Driver::create`], as for all that follow. Sizes are in bytes.
    pub async fn create(&self, volume: &VolumeId, size: u64) -> Result<()> {
        self.on(volume, move |driver, volume| driver.create(volume, size))
            .await
    }

    /// The live copy's directory, to be bind-mounted.
    pub async fn path(&self, volume: &VolumeId) -> Result<PathBuf> {
        self.on(volume, |driver, volume| driver.open(volume)).await
    }

    pub async fn set_limit(&self, volume: &VolumeId, size: u64) -> Result<()> {
        self.on(volume, move |driver, volume| driver.set_limit(volume, size))
            .await
    }

    pub async fn usage(&self, volume: &VolumeId) -> Result<Usage> {
        self.on(volume, |driver, volume| driver.usage(volume)).await
    }

    pub async fn sizes(&self) -> Result<BTreeMap<VolumeId, u64>> {
        let driver = self.driver.clone();
        blocking(move || driver.sizes()).await
    }

    pub async fn room(&self) -> Result<Room> {
        let driver = self.driver.clone();
        blocking(move || driver.room()).await
    }

    pub async fn flush(&self, volume: &VolumeId) -> Result<()> {
        self.on(volume, |driver, volume| driver.flush(volume)).await
    }

    pub async fn snapshot(&self, volume: &VolumeId, name: &SnapshotName) -> Result<()> {
        let name = name.clone();
        self.on(volume, move |driver, volume| driver.snapshot(volume, &name))
            .await
    }

    pub async fn delete_snapshot(&self, volume: &VolumeId, name: &SnapshotName) -> Result<()> {
        let name = name.clone();
        self.on(volume, move |driver, volume| {
            driver.delete_snapshot(volume, &name)
        })
        .await
    }

    pub async fn promote(
        &self,
        volume: &VolumeId,
        snapshot: &SnapshotName,
        size: u64,
    ) -> Result<()> {
        let snapshot = snapshot.clone();
        self.on(volume, move |driver, volume| {
            driver.promote(volume, &snapshot, size)
        })
        .await
    }

    /// Deletes the live copy, of which a snapshot is known to be good. Refused while a process
    /// uses it.
    pub async fn retire(&self, volume: &VolumeId) -> Result<()> {
        self.on(volume, |driver, volume| {
            refuse_used(driver, volume)?;
            driver.retire(volume)
        })
        .await
    }

    /// Refused while a process uses the live copy.
    pub async fn set_aside(
        &self,
        volume: &VolumeId,
        name: &SnapshotName,
        snapshot: Option<&SnapshotName>,
    ) -> Result<()> {
        let (name, snapshot) = (name.clone(), snapshot.cloned());
        self.on(volume, move |driver, volume| {
            refuse_used(driver, volume)?;
            driver.set_aside(volume, &name, snapshot.as_ref())
        })
        .await
    }

    pub async fn delete_aside(&self, volume: &VolumeId, name: &SnapshotName) -> Result<()> {
        let name = name.clone();
        self.on(volume, move |driver, volume| {
            driver.delete_aside(volume, &name)
        })
        .await
    }

    /// Deletes every copy, then the role file. Refused while a process uses the live copy.
    pub async fn remove(&self, volume: &VolumeId) -> Result<()> {
        self.on(volume, |driver, volume| {
            refuse_used(driver, volume)?;
            driver.remove(volume)
        })
        .await?;
        self.forget_role(volume).await
    }

    /// Starts to send a snapshot: whole, or what differs from `base`, which the receiver must
    /// have. Read it to its end, then [`Sending::finish`].
    pub async fn send(
        &self,
        volume: &VolumeId,
        base: Option<&SnapshotName>,
        snapshot: &SnapshotName,
        transfer: Transfer,
    ) -> Result<Sending> {
        let (base, name) = (base.cloned(), snapshot.clone());
        let outgoing = self
            .on(volume, move |driver, volume| {
                driver.send(volume, base.as_ref(), &name)
            })
            .await?;
        let Outgoing {
            pipe,
            identity,
            finish,
        } = outgoing;
        let pipe = pipe::Receiver::from_owned_fd(pipe)
            .doing(|| format!("send snapshot {snapshot} of volume {volume}"))?;
        Ok(Sending {
            stream: Metered::new(pipe, transfer),
            identity,
            finish,
        })
    }

    /// Receives a snapshot to the stream's end. It is on disk when this returns, and part of the
    /// volume once [`Landing::keep`] has seen what was sent. If this fails or is given up, or the
    /// landing is dropped, nothing of it stays.
    pub async fn receive(
        &self,
        volume: &VolumeId,
        snapshot: &SnapshotName,
        stream: impl AsyncRead + Unpin,
        transfer: Transfer,
    ) -> Result<Landing> {
        let name = snapshot.clone();
        let mut incoming = self
            .on(volume, move |driver, volume| driver.receive(volume, &name))
            .await?;
        let mut metered = Metered::new(stream, transfer);
        let pipe = incoming.pipe();
        if let Err(source) = pump(&mut metered, pipe).await? {
            return Err(Error::Stream {
                volume: volume.clone(),
                snapshot: snapshot.clone(),
                bytes: metered.bytes(),
                source,
            });
        }
        let (incoming, identity) = blocking(move || {
            let identity = incoming.finish()?;
            Ok((incoming, identity))
        })
        .await?;
        let (bytes, sha256) = metered.sum();
        Ok(Landing {
            volume: volume.clone(),
            snapshot: snapshot.clone(),
            got: Sent {
                bytes,
                sha256,
                identity,
            },
            incoming,
        })
    }

    async fn on<T: Send + 'static>(
        &self,
        volume: &VolumeId,
        work: impl FnOnce(&dyn Driver, &VolumeId) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (driver, volume) = (self.driver.clone(), volume.clone());
        blocking(move || work(&*driver, &volume)).await
    }
}

/// A snapshot on its way out.
pub struct Sending {
    stream: Metered<pipe::Receiver>,
    identity: Identity,
    finish: Box<dyn FnOnce() -> Result<()> + Send>,
}

impl Sending {
    /// After the stream's end: what was sent. A sender that failed, which ends its stream early
    /// too, is an error here.
    pub async fn finish(self) -> Result<Sent> {
        let Self {
            stream,
            identity,
            finish,
        } = self;
        let (bytes, sha256) = stream.sum();
        blocking(finish).await?;
        Ok(Sent {
            bytes,
            sha256,
            identity,
        })
    }
}

impl AsyncRead for Sending {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

/// A snapshot that has arrived, on disk, but is not yet part of its volume.
pub struct Landing {
    volume: VolumeId,
    snapshot: SnapshotName,
    got: Sent,
    incoming: Box<dyn Incoming>,
}

impl Landing {
    pub fn bytes(&self) -> u64 {
        self.got.bytes
    }

    /// Gives the snapshot its name, on disk, if it is what was sent.
    pub async fn keep(self, sent: &Sent) -> Result<()> {
        let got = &self.got;
        let differs = |what, got: String, wanted: String| {
            Err(Error::Differs {
                volume: self.volume.clone(),
                snapshot: self.snapshot.clone(),
                what,
                got,
                wanted,
            })
        };
        if got.bytes != sent.bytes {
            return differs("length", got.bytes.to_string(), sent.bytes.to_string());
        }
        if got.sha256 != sent.sha256 {
            return differs("digest", got.sha256.clone(), sent.sha256.clone());
        }
        if got.identity != sent.identity {
            return differs("identity", got.identity.0.clone(), sent.identity.0.clone());
        }
        let incoming = self.incoming;
        blocking(move || incoming.keep()).await
    }
}

/// Moves a stream into a pipe and closes that. The inner error is the stream's; a receiver that
/// refuses more has its own words for why, which its end will bring.
async fn pump(
    stream: &mut (impl AsyncRead + Unpin),
    pipe: Option<std::os::fd::OwnedFd>,
) -> Result<std::io::Result<()>> {
    let Some(pipe) = pipe else {
        return Ok(Ok(()));
    };
    let mut pipe =
        pipe::Sender::from_owned_fd(pipe).doing(|| "open the receiver's pipe".to_owned())?;
    let mut chunk = vec![0; CHUNK];
    loop {
        match stream.read(&mut chunk).await {
            Ok(0) => return Ok(Ok(())),
            Ok(read) => {
                if pipe.write_all(&chunk[..read]).await.is_err() {
                    return Ok(Ok(()));
                }
            }
            Err(error) => return Ok(Err(error)),
        }
    }
}

fn refuse_used(driver: &dyn Driver, volume: &VolumeId) -> Result<()> {
    let live = match driver.open(volume) {
        Err(Error::NoVolume { .. }) => return Ok(()),
        live => live?,
    };
    let users = foreign_users(Path::new(&live), &BTreeSet::new())?;
    if users.is_empty() {
        return Ok(());
    }
    Err(Error::InUse {
        volume: volume.clone(),
        users,
    })
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => Err(std::io::Error::other(error)).doing(|| "work on volumes".to_owned()),
        },
    }
}
