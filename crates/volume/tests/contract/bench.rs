//! Nodes' pools in a directory of its own, of which nothing is left afterwards.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use model::VolumeId;
use volume::{PoolConfig, SnapshotName, Volumes};

pub const MIB: u64 = 1 << 20;
pub const POOL: u64 = 400 * MIB;

pub struct Bench {
    dir: tempfile::TempDir,
    nodes: Mutex<BTreeMap<String, Volumes>>,
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
            nodes: Mutex::default(),
        })
    }

    pub fn dir(&self, node: &str) -> PathBuf {
        self.dir.path().join(node)
    }

    pub async fn node(&self, node: &str) -> Volumes {
        self.node_of_size(node, POOL).await
    }

    pub async fn node_of_size(&self, node: &str, size: u64) -> Volumes {
        self.start(node, size, None).await
    }

    /// A node that was given a directory on btrfs.
    pub async fn node_in(&self, node: &str, btrfs: &Path) -> Volumes {
        self.start(node, POOL, Some(btrfs.to_owned())).await
    }

    async fn start(&self, node: &str, size: u64, btrfs: Option<PathBuf>) -> Volumes {
        let config = PoolConfig {
            dir: self.dir(node),
            size,
            btrfs,
        };
        let volumes = Volumes::on_btrfs(config).await.unwrap();
        self.nodes
            .lock()
            .unwrap()
            .insert(node.to_owned(), volumes.clone());
        volumes
    }

    /// Ends the node's agent as kill -9 would: the mount stays. Drop what `node` gave first.
    pub fn forget(&self, node: &str) {
        self.nodes.lock().unwrap().remove(node).unwrap();
    }

    /// Unmounts the node's pool and holds that no loop device stays. Whoever dropped a landing
    /// may still be deleting it.
    pub async fn close(&self, node: &str) {
        let volumes = self.nodes.lock().unwrap().remove(node).unwrap();
        let begun = std::time::Instant::now();
        while let Err(error) = volumes.close().await {
            assert!(begun.elapsed().as_secs() < 60, "{error}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        let file = self.dir(node).join("pool.btrfs");
        if file.exists() {
            until("the loop device is gone", || !has_loop_device(&file)).await;
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for mount in mounts_below(self.dir.path()).iter().rev() {
            let _ = rustix::mount::unmount(mount, rustix::mount::UnmountFlags::DETACH);
        }
    }
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

fn has_loop_device(file: &Path) -> bool {
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

pub const EDQUOT: i32 = 122;

/// Writes until the limit refuses, in pieces of 1 MiB, and says how many went in.
pub fn fill(dir: &Path) -> (u64, Option<i32>) {
    use std::io::Write;
    let mut file = fs::File::create(dir.join("filler")).unwrap();
    let piece = noise(99, MIB);
    for pieces in 0..1000 {
        if let Err(error) = file.write_all(&piece).and_then(|()| file.sync_all()) {
            return (pieces, error.raw_os_error());
        }
    }
    (1000, None)
}

/// Bytes that nothing compresses, the same for the same seed.
pub fn noise(seed: u64, length: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(length as usize);
    while (bytes.len() as u64) < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length as usize);
    bytes
}
