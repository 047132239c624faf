//! Our part of every cgroup hierarchy: `<base>/<node>/{init,agent,…}`,
//! `<base>/master`, `<base>/registry`.
//!
//! Machines mount version 1 controllers, the unified hierarchy, or both side by
//! side. A process joins all of them (named ones such as systemd's excepted),
//! so that it can be found and killed by any. Limits are not set here.

use crate::error::{Doing, Error, Result};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// One mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Hierarchy {
    root: PathBuf,
    /// Version 2, which kills and freezes by itself.
    unified: bool,
    /// Version 1 with a name and no controller: somebody else's book-keeping.
    named: bool,
}

/// The processes of all hierarchies would not leave within this time.
const PATIENCE: Duration = Duration::from_secs(20);

/// Moves this process into `group` (a path such as `tandem/n1/agent`) everywhere.
pub(crate) fn join(group: &Path) -> Result<()> {
    for hierarchy in hierarchies()?.iter().filter(|h| !h.named) {
        let directory = create(hierarchy, group)?;
        let file = directory.join("cgroup.procs");
        fs::write(&file, "0").doing(|| format!("join {}", directory.display()))?;
    }
    Ok(())
}

/// Creates `group` and hands the parent's controllers, processors and memory
/// nodes down to it, without which version 2 and cpuset groups are of no use.
fn create(hierarchy: &Hierarchy, group: &Path) -> Result<PathBuf> {
    let mut directory = hierarchy.root.clone();
    for part in group.components() {
        if hierarchy.unified {
            enable_controllers(&directory);
        }
        let parent = directory.clone();
        directory.push(part);
        match fs::create_dir(&directory) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(error).doing(|| format!("create cgroup {}", directory.display()));
            }
            _ => inherit_cpuset(&parent, &directory)?,
        }
    }
    Ok(directory)
}

/// One by one: a controller that cannot be had (a real-time task in the root,
/// say) must not keep the others away.
fn enable_controllers(directory: &Path) {
    let words = |file| fs::read_to_string(directory.join(file)).unwrap_or_default();
    let enabled = words("cgroup.subtree_control");
    for controller in words("cgroup.controllers").split_whitespace() {
        let wanted = ["cpu", "cpuset", "memory", "pids", "io"].contains(&controller);
        if wanted && !enabled.split_whitespace().any(|name| name == controller) {
            let _ = fs::write(
                directory.join("cgroup.subtree_control"),
                format!("+{controller}"),
            );
        }
    }
}

/// Tasks cannot enter a version 1 cpuset group whose `cpus` or `mems` are empty.
fn inherit_cpuset(parent: &Path, directory: &Path) -> Result<()> {
    for name in ["cpuset.cpus", "cpuset.mems"] {
        let (from, to) = (parent.join(name), directory.join(name));
        let is_empty =
            |path: &Path| fs::read_to_string(path).is_ok_and(|text| text.trim().is_empty());
        let is_version_1 = !directory.join("cgroup.controllers").exists();
        if is_version_1 && is_empty(&to) && from.exists() {
            let value = fs::read_to_string(&from).doing(|| format!("read {}", from.display()))?;
            fs::write(&to, value).doing(|| format!("write {}", to.display()))?;
        }
    }
    Ok(())
}

/// Kills everything at and below `group` in all hierarchies and waits until it is
/// gone. Frozen tasks die only when they are thawed, and are thawed only after
/// they were killed, so that none of them runs once more.
pub(crate) fn kill(group: &Path) -> Result<()> {
    let patience = Instant::now() + PATIENCE;
    loop {
        let mut left = Vec::new();
        for hierarchy in hierarchies()? {
            let directory = hierarchy.root.join(group);
            let _ = fs::write(directory.join("cgroup.kill"), "1");
            for part in tree(&directory) {
                left.extend(processes(&part));
            }
            left.iter().for_each(|pid| kill_one(*pid));
        }
        thaw(group)?;
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() > patience {
            return Err(Error::Stuck {
                left: format!("processes {left:?} of cgroup {}", group.display()),
            });
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Thaws whatever a version 1 freezer holds at or below `group`.
pub(crate) fn thaw(group: &Path) -> Result<()> {
    for hierarchy in hierarchies()?.iter().filter(|h| !h.unified) {
        for part in tree(&hierarchy.root.join(group)) {
            let state = part.join("freezer.state");
            if fs::read_to_string(&state).is_ok_and(|text| text.trim() != "THAWED") {
                let _ = fs::write(&state, "THAWED");
            }
        }
    }
    Ok(())
}

/// Removes `group` and all below it from all hierarchies; nothing may run there.
pub(crate) fn remove(group: &Path) -> Result<()> {
    let patience = Instant::now() + PATIENCE;
    for hierarchy in hierarchies()? {
        // A dying task holds its group for a moment after it left the list.
        for directory in tree(&hierarchy.root.join(group)) {
            while let Err(error) = fs::remove_dir(&directory) {
                match error.kind() {
                    ErrorKind::NotFound => break,
                    ErrorKind::ResourceBusy if Instant::now() < patience => {
                        std::thread::sleep(Duration::from_millis(5))
                    }
                    _ => {
                        return Err(error)
                            .doing(|| format!("remove cgroup {}", directory.display()));
                    }
                }
            }
        }
    }
    Ok(())
}

/// The directories of `group` in all hierarchies, for listings.
pub(crate) fn directories(group: &Path) -> Result<Vec<PathBuf>> {
    Ok(hierarchies()?
        .iter()
        .flat_map(|hierarchy| tree(&hierarchy.root.join(group)))
        .collect())
}

/// The processes at or below `group`, in any hierarchy.
pub(crate) fn members(group: &Path) -> Result<Vec<i32>> {
    let mut pids: Vec<i32> = directories(group)?
        .iter()
        .flat_map(|directory| processes(directory))
        .collect();
    pids.sort_unstable();
    pids.dedup();
    Ok(pids)
}

/// A directory and all below it, the deepest first; none if it does not exist.
fn tree(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let below = entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut found: Vec<PathBuf> = below.flat_map(|entry| tree(&entry.path())).collect();
    found.push(directory.into());
    found
}

/// 0 stands for a process of another pid namespace, which is not ours to kill.
fn processes(directory: &Path) -> Vec<i32> {
    let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.parse().ok())
        .filter(|pid| *pid > 0)
        .collect()
}

fn kill_one(pid: i32) {
    let _ = nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid),
        nix::sys::signal::Signal::SIGKILL,
    );
}

fn hierarchies() -> Result<Vec<Hierarchy>> {
    let mounts =
        fs::read_to_string("/proc/self/mountinfo").doing(|| "read /proc/self/mountinfo".into())?;
    Ok(parse(&mounts))
}

/// Is any hierarchy mounted at all?
pub(crate) fn exist() -> Result<bool> {
    Ok(hierarchies()?.iter().any(|hierarchy| !hierarchy.named))
}

fn parse(mountinfo: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else {
            continue;
        };
        let (Some(root), Some(kind)) = (left.split(' ').nth(4), right.split(' ').next()) else {
            continue;
        };
        let is_new = !found
            .iter()
            .any(|hierarchy| hierarchy.root == Path::new(root));
        if is_new && (kind == "cgroup" || kind == "cgroup2") {
            let named = right
                .rsplit(' ')
                .next()
                .is_some_and(|options| options.split(',').any(|o| o.starts_with("name=")));
            found.push(Hierarchy {
                root: root.into(),
                unified: kind == "cgroup2",
                named,
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_of_a_hybrid_machine_are_told_apart() {
        let mounts = "\
25 1 0:22 / / rw - ext4 /dev/vda rw
30 25 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
32 30 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
33 30 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate
34 30 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate
";
        let expected = [
            ("memory", false, false),
            ("systemd", false, true),
            ("unified", true, false),
        ]
        .map(|(name, unified, named)| Hierarchy {
            root: Path::new("/sys/fs/cgroup").join(name),
            unified,
            named,
        });
        assert_eq!(parse(mounts), expected);
    }
}
