//! This node's volumes: a pool in the state directory that is opened by whoever needs it first,
//! and role files, which can be read whatever state the pool is in.
//!
//! Which copy may be made, opened or destroyed is `node::volume`'s word.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Instant, UNIX_EPOCH};

use model::session::Arriving;
use model::{Aside, Mebibytes, Millis, Snapshot, Time, VolumeId};
use node::observed::LocalVolume;
use tokio::sync::{OnceCell, watch};
use volume::driver::Found;
use volume::roles::Roles;
use volume::transfer::Sent;
use volume::{Landing, Pool, PoolConfig};

pub(crate) struct Volumes {
    config: PoolConfig,
    open: OnceCell<volume::Volumes>,
    arrived: Mutex<BTreeMap<VolumeId, (Landing, Sent)>>,
    arriving: Mutex<BTreeMap<VolumeId, Arrival>>,
}

/// A stream that comes in.
struct Arrival {
    snapshot: Snapshot,
    began: Instant,
    bytes: watch::Receiver<u64>,
}

impl Arrival {
    fn told(&self, volume: &VolumeId) -> Arriving {
        let took = self.began.elapsed().as_millis();
        Arriving {
            volume: volume.clone(),
            snapshot: self.snapshot,
            bytes: *self.bytes.borrow(),
            took: Millis(took.try_into().unwrap_or(u64::MAX)),
        }
    }
}

/// In bytes.
#[derive(Debug)]
pub(crate) struct Measures {
    pub room: u64,
    pub sizes: BTreeMap<VolumeId, u64>,
}

impl Volumes {
    /// Touches nothing.
    pub fn new(dir: PathBuf, size: Mebibytes) -> Self {
        let config = PoolConfig {
            dir,
            size: size.mebibytes_as_bytes(),
            btrfs: None,
        };
        Self {
            config,
            open: OnceCell::new(),
            arrived: Mutex::default(),
            arriving: Mutex::default(),
        }
    }

    /// Opened unless it is; an opening that failed is tried again by the next who asks.
    pub async fn pool(&self) -> Result<&volume::Volumes, volume::Error> {
        let open = || volume::Volumes::on_btrfs(self.config.clone());
        self.open.get_or_try_init(open).await
    }

    /// A stream begins to come in; how far it is can be asked until it has [`Self::came`].
    pub fn comes(&self, volume: &VolumeId, snapshot: Snapshot, bytes: watch::Receiver<u64>) {
        let arrival = Arrival {
            snapshot,
            began: Instant::now(),
            bytes,
        };
        self.arriving().insert(volume.clone(), arrival);
    }

    /// The stream has ended, well or not: how far it came.
    pub fn came(&self, volume: &VolumeId) -> Option<Arriving> {
        let arrival = self.arriving().remove(volume)?;
        Some(arrival.told(volume))
    }

    /// How far every stream is that comes in.
    pub fn coming(&self) -> Vec<Arriving> {
        let arriving = self.arriving();
        arriving.iter().map(|(id, it)| it.told(id)).collect()
    }

    fn arriving(&self) -> MutexGuard<'_, BTreeMap<VolumeId, Arrival>> {
        self.arriving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what has arrived, and what it was sent as, until it is to be on disk.
    pub fn hold(&self, volume: &VolumeId, landing: Landing, sent: Sent) {
        let mut arrived = self.arrived.lock().unwrap_or_else(PoisonError::into_inner);
        arrived.insert(volume.clone(), (landing, sent));
    }

    /// What was held, once.
    pub fn arrived(&self, volume: &VolumeId) -> Option<(Landing, Sent)> {
        let mut arrived = self.arrived.lock().unwrap_or_else(PoisonError::into_inner);
        arrived.remove(volume)
    }

    /// Whether it takes writes; one that nobody has opened does.
    pub async fn is_writable(&self) -> bool {
        match self.open.get() {
            Some(pool) => pool.check().await.is_ok(),
            None => true,
        }
    }

    /// Bytes that volumes can still grow by, and what each copy holds. `None` while it is not known:
    /// a pool that was made cannot be opened.
    pub async fn measure(&self) -> Result<Option<Measures>, volume::Error> {
        match self.open.get() {
            Some(pool) => Ok(Some(Measures {
                room: pool.room().await?.free,
                sizes: pool.sizes().await?,
            })),
            None if Pool::was_made(&self.config) => Ok(None),
            None => Ok(Some(Measures {
                room: Pool::prospect(&self.config)?.free,
                sizes: BTreeMap::new(),
            })),
        }
    }

    /// What this node's copies are, and which snapshots it has. None of them is open for this
    /// agent yet. A pool that was there before is mounted, for what runs with its volumes.
    ///
    /// # Errors
    /// A role file that cannot be understood, or a pool that cannot be read: what is there must not
    /// be taken for something that is not.
    pub async fn found(&self) -> Result<BTreeMap<VolumeId, LocalVolume>, volume::Error> {
        if !self.config.dir.exists() {
            return Ok(BTreeMap::new());
        }
        let roles = Roles::open(self.config.dir.join("roles"))?.all()?;
        let mut found: BTreeMap<VolumeId, LocalVolume> = roles
            .into_iter()
            .map(|(volume, role)| {
                let local = LocalVolume {
                    file: Some(role.file()),
                    ..LocalVolume::default()
                };
                (volume, local)
            })
            .collect();
        let copies = self.pool().await?.list().await?;
        for (volume, copy) in copies {
            if let (Some(local), Some(data)) = (found.get_mut(&volume), copy.found) {
                let names = data.snapshots.iter();
                local.snapshots = names
                    .filter_map(|name| Snapshot::named(name.as_str()))
                    .collect();
                // Until the live copy is gone, it is not done.
                local.aside = aside_of(&data).filter(|_| !data.live);
            }
        }
        Ok(found)
    }
}

/// What is set aside, of which a copy has one at most.
pub(crate) fn aside_of(found: &Found) -> Option<Aside> {
    let aside = found.asides.first()?;
    let made = aside.made.duration_since(UNIX_EPOCH).unwrap_or_default();
    Some(Aside {
        name: aside.name.as_str().to_owned(),
        made: Time(u64::try_from(made.as_millis()).unwrap_or(u64::MAX)),
    })
}
