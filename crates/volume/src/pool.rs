//! A node's pool: the btrfs in which its volumes live.
//!
//! ```text
//! DIR/lock           held by the agent that uses it
//! DIR/pool.btrfs     the preallocated file (pool.btrfs.making while it is made)
//! DIR/pool/          where it is mounted
//! ```
//!
//! Flow: nothing is made before the first volume asks ([`Pool::ready`]); a file that exists is
//! mounted when the agent starts. Guarantees: the file is whole or counts as never begun; its
//! blocks are reserved, so that a full host cannot tear the filesystem in it; full quotas count;
//! the mount is private, and its loop device goes with the last mount. Assumptions: one agent for
//! a pool, which the lock enforces. The mount outlives the agent: containers run on it.
//!
//! A btrfs directory that the operator gives takes the place of file and mount.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::fs::{FallocateFlags, FlockOperation, StatVfs, StatVfsMountFlags};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

use crate::driver::Room;
use crate::error::{Doing, Error, Result};
use crate::{disk, loop_device, sys, tool};

const BTRFS_MAGIC: u64 = 0x9123_683E;
/// The inode number of every subvolume's own directory.
const SUBVOLUME_INODE: u64 = 256;
/// What a pool leaves on its host, so that others there (and our role files) can still write.
const HOST_RESERVE: u64 = 64 << 20;
const FILE: &str = "pool.btrfs";
const LOCK_TRIES: u32 = 40;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

#[derive(Clone, Debug)]
pub struct PoolConfig {
    /// For file and mount; made if it is not there.
    pub dir: PathBuf,
    /// Bytes of the file, when it is made.
    pub size: u64,
    /// A directory on btrfs to use instead of a file of our own.
    pub btrfs: Option<PathBuf>,
}

pub struct Pool {
    config: PoolConfig,
    stage: Mutex<Stage>,
    _lock: File,
}

/// How far the filesystem is for this agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// Not made, or not mounted.
    Absent,
    /// Can be read.
    Mounted,
    /// Counted, and with a place for volumes.
    Prepared,
}

impl Pool {
    /// Takes the pool of `config.dir`, mounting it if it was ever made. One that is read-only
    /// opens too: [`Pool::check`] says so. Blocks, as all calls here.
    pub fn open(config: PoolConfig) -> Result<Self> {
        disk::private_directory(&config.dir)?;
        let pool = Self {
            _lock: lock(&config.dir)?,
            config,
            stage: Mutex::new(Stage::Absent),
        };
        if Self::was_made(&pool.config) {
            match pool.ready() {
                Err(error) if !matches!(error, Error::ReadOnly { .. }) => return Err(error),
                _ => {}
            }
        }
        Ok(pool)
    }

    /// The directory that holds the volumes, made and mounted; fails when it cannot be written.
    pub fn ready(&self) -> Result<PathBuf> {
        let root = self.root();
        let mut stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        if *stage == Stage::Absent {
            if self.config.btrfs.is_none() {
                self.make()?;
                self.mount()?;
            }
            *stage = Stage::Mounted;
        }
        if stat(&root)?.f_flag.contains(StatVfsMountFlags::RDONLY) {
            return Err(Error::ReadOnly { path: root });
        }
        if *stage == Stage::Mounted {
            prepare(&root)?;
            *stage = Stage::Prepared;
        }
        Ok(root)
    }

    /// The directory that holds the volumes, if there ever was one.
    pub fn existing(&self) -> Option<PathBuf> {
        let stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        (*stage > Stage::Absent).then(|| self.root())
    }

    /// Whether volumes can be written; `Ok` too while there is none.
    pub fn check(&self) -> Result<()> {
        match self.existing() {
            Some(_) => self.ready().map(drop),
            None => Ok(()),
        }
    }

    pub fn room(&self) -> Result<Room> {
        let Some(root) = self.existing() else {
            return Self::prospect(&self.config);
        };
        let stat = stat(&root)?;
        Ok(Room {
            free: free_of(&stat),
            total: stat.f_blocks.saturating_mul(stat.f_frsize),
        })
    }

    /// What a pool that is not made yet would have: nothing on a host that it does not fit on.
    pub fn prospect(config: &PoolConfig) -> Result<Room> {
        let mut hosts = config.dir.ancestors();
        let host = hosts.find(|host| host.exists()).unwrap_or(Path::new("/"));
        let fits = free_of(&stat(host)?) >= config.size.saturating_add(HOST_RESERVE);
        Ok(Room {
            free: if fits { config.size } else { 0 },
            total: config.size,
        })
    }

    /// Whether it was ever made, by what is on disk.
    pub fn was_made(config: &PoolConfig) -> bool {
        config.btrfs.is_some() || config.dir.join(FILE).exists()
    }

    /// Unmounts it, for a node that ends; fails while anything uses it.
    pub fn close(&self) -> Result<()> {
        let mut stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        if self.config.btrfs.is_none() {
            let mount = self.mount_point();
            while is_mount_point(&mount)? {
                rustix::mount::unmount(&mount, UnmountFlags::empty())
                    .doing(|| format!("unmount {}", mount.display()))?;
            }
        }
        *stage = Stage::Absent;
        Ok(())
    }

    fn root(&self) -> PathBuf {
        match &self.config.btrfs {
            Some(given) => given.clone(),
            None => self.mount_point(),
        }
    }

    fn file(&self) -> PathBuf {
        self.config.dir.join(FILE)
    }

    fn mount_point(&self) -> PathBuf {
        self.config.dir.join("pool")
    }

    /// The file with an empty filesystem in it, unless it is there.
    fn make(&self) -> Result<()> {
        let file = self.file();
        if file.exists() {
            return Ok(());
        }
        let making = file.with_added_extension("making");
        disk::delete(&making)?;
        let made = fill(&making, self.config.size);
        if let Err(error) = made {
            // Its blocks are what the host has too few of.
            disk::delete(&making)?;
            return Err(error);
        }
        fs::rename(&making, &file).doing(|| format!("rename {}", making.display()))?;
        disk::sync_parent(&file)
    }

    fn mount(&self) -> Result<()> {
        let (file, mount) = (self.file(), self.mount_point());
        disk::private_directory(&mount)?;
        if is_btrfs_mount(&mount)? {
            return Ok(());
        }
        let device = loop_device::attach(&file)?;
        let action = || format!("mount {} on {}", file.display(), mount.display());
        // Mounted over a private bind of itself it reaches no other mount namespace, where it
        // would pin the filesystem.
        if !is_mount_point(&mount)? {
            rustix::mount::mount_bind(&mount, &mount).doing(action)?;
        }
        rustix::mount::mount_change(&mount, MountPropagationFlags::PRIVATE).doing(action)?;
        rustix::mount::mount(
            &device.path,
            &mount,
            "btrfs",
            MountFlags::NOATIME,
            c"nodiscard",
        )
        .doing(action)?;
        rustix::mount::mount_change(&mount, MountPropagationFlags::PRIVATE).doing(action)
    }
}

/// Waits a little for its last holder: after a kill, a process that it was just starting may have
/// it for another moment.
fn lock(dir: &Path) -> Result<File> {
    let path = dir.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .doing(|| format!("open {}", path.display()))?;
    for _ in 0..LOCK_TRIES {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(LOCK_PAUSE),
            Err(error) => return Err(error).doing(|| format!("lock {}", path.display())),
        }
    }
    Err(Error::Taken {
        path: dir.to_owned(),
    })
}

/// Reserves the file's blocks and makes the filesystem, on disk.
fn fill(path: &Path, size: u64) -> Result<()> {
    let host = path.parent().unwrap_or(Path::new("/"));
    let free = free_of(&stat(host)?);
    let needed = size.saturating_add(HOST_RESERVE);
    let no_room = || Error::NoRoom {
        what: format!("the volumes' pool {}", path.display()),
        free,
        needed,
    };
    if free < needed {
        return Err(no_room());
    }
    let file = File::options()
        .create_new(true)
        .write(true)
        .open(path)
        .doing(|| format!("make {}", path.display()))?;
    match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, size) {
        Ok(()) => {}
        Err(rustix::io::Errno::NOSPC) => return Err(no_room()),
        Err(error) => return Err(error).doing(|| format!("reserve {}", path.display())),
    }
    tool::make_filesystem(
        &format!("make a btrfs in {}", path.display()),
        // -K: discarding would give the reserved blocks back.
        &["-q".as_ref(), "-K".as_ref(), path.as_os_str()],
    )?;
    file.sync_all()
        .doing(|| format!("sync {}", path.display()))?;
    Ok(())
}

/// Makes the filesystem at `root` fit for volumes: counted by full quotas, with a private
/// directory for them.
fn prepare(root: &Path) -> Result<()> {
    let open = || File::open(root).doing(|| format!("open {}", root.display()));
    if !is_btrfs(root)? {
        return Err(Error::NotBtrfs {
            path: root.to_owned(),
        });
    }
    let id = sys::filesystem_id(&open()?).doing(|| format!("identify {}", root.display()))?;
    let counters = PathBuf::from(format!("/sys/fs/btrfs/{id}/qgroups"));
    if fs::read_to_string(counters.join("mode")).is_ok_and(|mode| mode.trim() == "squota") {
        return Err(Error::SimpleQuotas {
            path: root.to_owned(),
        });
    }
    let arguments = ["quota".as_ref(), "enable".as_ref(), root.as_os_str()];
    tool::btrfs("turn quotas on", &arguments)?;
    // Kernels may give up counting when a large snapshot is deleted, and with it every limit.
    // 8, the height of the tallest tree, keeps them counting. Older ones lack file and habit.
    match fs::write(counters.join("drop_subtree_threshold"), "8") {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!("quotas at {}: {error}", root.display());
        }
        _ => {}
    }
    if fs::read_to_string(counters.join("inconsistent")).is_ok_and(|flag| flag.trim() != "0") {
        let arguments = [
            "quota".as_ref(),
            "rescan".as_ref(),
            "-w".as_ref(),
            root.as_os_str(),
        ];
        tool::btrfs("count quotas anew", &arguments)?;
    }
    disk::private_directory(&root.join("volumes"))
}

fn free_of(stat: &StatVfs) -> u64 {
    stat.f_bavail.saturating_mul(stat.f_frsize)
}

fn stat(path: &Path) -> Result<StatVfs> {
    rustix::fs::statvfs(path).doing(|| format!("look at the filesystem of {}", path.display()))
}

fn is_btrfs(path: &Path) -> Result<bool> {
    let stat = rustix::fs::statfs(path).doing(|| format!("look at {}", path.display()))?;
    // The type's width and sign depend on the architecture.
    Ok(stat.f_type as u64 & 0xFFFF_FFFF == BTRFS_MAGIC)
}

fn is_btrfs_mount(path: &Path) -> Result<bool> {
    let metadata = fs::metadata(path).doing(|| format!("look at {}", path.display()))?;
    Ok(metadata.ino() == SUBVOLUME_INODE && is_mount_point(path)? && is_btrfs(path)?)
}

/// By the mount's own number, which a bind of the same filesystem changes as well.
fn is_mount_point(path: &Path) -> Result<bool> {
    use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags};
    match rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::empty()) {
        Ok(stat) => Ok(stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)),
        Err(rustix::io::Errno::NOENT) => Ok(false),
        Err(error) => Err(error).doing(|| format!("look at {}", path.display())),
    }
}
