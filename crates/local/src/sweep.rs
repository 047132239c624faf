//! Removing whatever a cluster left in the kernel. Works with and without what
//! the cluster was, may be repeated, and never touches what is on disk.

use crate::error::{Doing, Result};
use crate::machine::Machine;
use crate::options::Options;
use crate::{cgroup, command, control};
use rustix::mount::{UnmountFlags, unmount};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Processes first, as they hold the rest.
pub(crate) fn sweep(options: &Options) -> Result<()> {
    let group = Path::new(&options.cgroup);
    cgroup::kill(group)?;
    let undone = Machine::open(&options.state_dir)?.undo();
    unmount_below(&options.state_dir)?;
    detach_loops(&options.state_dir)?;
    cgroup::remove(group)?;
    // It may never have been created.
    let _ = fs::remove_file(control::path(&options.state_dir));
    undone
}

/// Only kinds that nobody but us mounts there: an operator may well have put a
/// disk of his own below the state directory.
fn unmount_below(directory: &Path) -> Result<()> {
    let text =
        fs::read_to_string("/proc/self/mountinfo").doing(|| "read /proc/self/mountinfo".into())?;
    let ours: Vec<PathBuf> = text
        .lines()
        .filter_map(mount)
        .filter(|mount| mount.is_ours(directory))
        .map(|m| m.point)
        .collect();
    for point in ours.iter().rev() {
        unmount(point, UnmountFlags::DETACH).doing(|| format!("unmount {}", point.display()))?;
    }
    Ok(())
}

struct Mount {
    point: PathBuf,
    kind: String,
    source: String,
}

impl Mount {
    fn is_ours(&self, directory: &Path) -> bool {
        let kind =
            self.kind == "overlay" || self.kind == "nsfs" || self.source.starts_with("/dev/loop");
        kind && self.point != directory && self.point.starts_with(directory)
    }
}

fn mount(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let mut right = right.split(' ');
    let point = left.split(' ').nth(4)?.replace("\\040", " ");
    Some(Mount {
        point: point.into(),
        kind: right.next()?.into(),
        source: right.next()?.into(),
    })
}

/// Loop devices go by themselves with their last mount, a moment after the node;
/// those that never were mounted are told to.
fn detach_loops(directory: &Path) -> Result<()> {
    let patience = Instant::now() + Duration::from_secs(10);
    loop {
        let left = loops(directory);
        if left.is_empty() || Instant::now() > patience {
            return match left.first() {
                None => Ok(()),
                Some((device, _)) => Err(crate::error::Error::Stuck {
                    left: device.display().to_string(),
                }),
            };
        }
        for (device, _) in &left {
            if let Some(device) = device.to_str() {
                // It may have gone in between.
                let _ = command::run("losetup", &["-d", device]);
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Loop devices whose files lie below `directory`, with these files.
pub(crate) fn loops(directory: &Path) -> Vec<(PathBuf, PathBuf)> {
    let devices = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let with_file = devices.filter_map(|device| {
        let file = fs::read_to_string(device.path().join("loop/backing_file")).ok()?;
        let file = PathBuf::from(file.trim().trim_end_matches(" (deleted)"));
        file.starts_with(directory)
            .then(|| (Path::new("/dev").join(device.file_name()), file))
    });
    with_file.collect()
}
