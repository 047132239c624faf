//! This node's volumes: a pool in the state directory that is opened by whoever needs it first,
//! and role files, which can be read whatever state the pool is in.
//!
//! Which copy may be made, opened or destroyed is `node::volume`'s word.

use std::collections::BTreeMap;
use std::path::PathBuf;

use model::{Mebibytes, VolumeId};
use node::observed::LocalVolume;
use tokio::sync::OnceCell;
use volume::PoolConfig;
use volume::roles::Roles;

use crate::error::words;

pub(crate) struct Volumes {
    config: PoolConfig,
    open: OnceCell<volume::Volumes>,
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
        }
    }

    /// Opened unless it is; an opening that failed is tried again by the next who asks.
    pub async fn pool(&self) -> Result<&volume::Volumes, volume::Error> {
        let open = || volume::Volumes::on_btrfs(self.config.clone());
        self.open.get_or_try_init(open).await
    }

    /// Opens the pool if this node ever had a volume.
    pub async fn reopen(&self) {
        if !self.config.dir.exists() {
            return;
        }
        if let Err(error) = self.pool().await {
            tracing::error!("Could not open the volumes' pool: {}", words(&error));
        }
    }

    /// Whether it takes writes; one that nobody has opened does.
    pub async fn is_writable(&self) -> bool {
        match self.open.get() {
            Some(pool) => pool.check().await.is_ok(),
            None => true,
        }
    }

    /// What this node's copies are. None of them is open for this agent yet.
    ///
    /// # Errors
    /// A role file that cannot be understood: its copy must not be taken for one that is not
    /// there.
    pub fn found(&self) -> Result<BTreeMap<VolumeId, LocalVolume>, volume::Error> {
        if !self.config.dir.exists() {
            return Ok(BTreeMap::new());
        }
        let roles = Roles::open(self.config.dir.join("roles"))?.all()?;
        let found = roles.into_iter().map(|(volume, role)| {
            let local = LocalVolume {
                file: Some(role.file()),
                ..LocalVolume::default()
            };
            (volume, local)
        });
        Ok(found.collect())
    }
}
