//! Nodes' pools in a directory of its own, of which nothing is left afterwards.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use model::VolumeId;
use volume::{Btrfs, Pool, PoolConfig, SnapshotName, Volumes};

pub const MIB: u64 = 1 << 20;
pub const POOL: u64 = 400 * MIB;

pub struct Bench {
    dir: tempfile::TempDir,
    drivers: Mutex<BTreeMap<String, Arc<Btrfs>>>,
}

impl Bench {
    /// `None`, with a sentence, when we may not.
    pub fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: mounting needs root");
            return None;
        }
        Some(Self {
            dir: tempfile::Builder::new()
                .prefix("tandem-volume-")
                .tempdir()
                .unwrap(),
            drivers: Mutex::default(),
        })
    }

    pub fn dir(&self, node: &str) -> PathBuf {
        self.dir.path().join(node)
    }

    pub async fn node(&self, node: &str) -> Volumes {
        self.node_of_size(node, POOL).await
    }

    pub async fn node_of_size(&self, node: &str, size: u64) -> Volumes {
        let dir = self.dir(node);
        let driver = Arc::new(driver_at(&dir, size));
        self.drivers
            .lock()
            .unwrap()
            .insert(node.to_owned(), driver.clone());
        Volumes::open(dir.join("roles"), driver).await.unwrap()
    }

    /// Unmounts the node's pool and holds that no loop device stays. Whoever dropped a landing
    /// may still be deleting it.
    pub async fn close(&self, node: &str) {
        let driver = self.drivers.lock().unwrap().remove(node).unwrap();
        until("the pool is unmounted", || driver.pool().close().is_ok()).await;
        let file = self.dir(node).join("pool.btrfs");
        until("the loop device is gone", || !has_loop_device(&file)).await;
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for (_, driver) in std::mem::take(&mut *self.drivers.lock().unwrap()) {
            let _ = driver.pool().close();
        }
        for mount in mounts_below(self.dir.path()).iter().rev() {
            let _ = rustix::mount::unmount(mount, rustix::mount::UnmountFlags::DETACH);
        }
    }
}

pub fn driver_at(dir: &Path, size: u64) -> Btrfs {
    let pool = Pool::open(PoolConfig {
        dir: dir.to_owned(),
        size,
        btrfs: None,
    });
    Btrfs::new(pool.unwrap())
}

pub fn volume(name: &str) -> VolumeId {
    VolumeId::parse(name).unwrap()
}

pub fn name(name: &str) -> SnapshotName {
    SnapshotName::parse(name).unwrap()
}

pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !holds() {
        assert!(
            begun.elapsed().as_secs() < 60,
            "waited in vain until {what}"
        );
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

pub fn has_loop_device(file: &Path) -> bool {
    let listing = Command::new("losetup")
        .arg("-j")
        .arg(file)
        .output()
        .unwrap();
    !listing.stdout.is_empty()
}

fn mounts_below(dir: &Path) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(PathBuf::from)
        .filter(|point| point.starts_with(dir))
        .collect()
}
