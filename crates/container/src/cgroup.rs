//! Control groups by path, in every hierarchy that is mounted: version 1, version 2, or
//! controllers in 1 beside a 2 without any (hybrid). Limits live where the controllers are;
//! freezing and killing go through version 2 wherever one is mounted.
//!
//! Groups are reached below the hierarchies' mounts, whatever group the caller is in itself.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::Error;
use crate::process::Identity;

const MOUNTS_BELOW: &str = "/sys/fs/cgroup";
/// Freezing waits for system calls in flight; beyond this a move tries another round.
const FREEZE_PATIENCE: Duration = Duration::from_millis(500);
const KILL_PATIENCE: Duration = Duration::from_secs(20);
const QUOTA_PERIOD_US: u64 = 100_000;

struct Hierarchies {
    /// Controllers and mount point of each version 1 hierarchy.
    v1: Vec<(Vec<String>, PathBuf)>,
    v2: Option<PathBuf>,
}

impl Hierarchies {
    fn mounted() -> Result<Self, Error> {
        let path = Path::new("/proc/self/mountinfo");
        let text = fs::read_to_string(path).map_err(Error::file("read", path))?;
        let mut found = Self {
            v1: Vec::new(),
            v2: None,
        };
        for line in text.lines() {
            let Some((left, right)) = line.split_once(" - ") else {
                continue;
            };
            let Some(point) = left.split(' ').nth(4).map(PathBuf::from) else {
                continue;
            };
            let mut right = right.split(' ');
            let (kind, options) = (right.next(), right.nth(1).unwrap_or(""));
            if !point.starts_with(MOUNTS_BELOW) {
                continue;
            }
            match kind {
                Some("cgroup") => {
                    found
                        .v1
                        .push((options.split(',').map(str::to_owned).collect(), point));
                }
                Some("cgroup2") => found.v2 = Some(point),
                _ => {}
            }
        }
        if found.v1.is_empty() && found.v2.is_none() {
            Err(Error::NoCgroups)
        } else {
            Ok(found)
        }
    }
}

/// One group: the same path in every hierarchy.
pub struct Cgroup {
    path: String,
    hierarchies: Hierarchies,
}

impl Cgroup {
    /// `path` without a leading slash. Nothing is made.
    pub fn new(path: &str) -> Result<Self, Error> {
        let hierarchies = Hierarchies::mounted()?;
        Ok(Self {
            path: path.trim_matches('/').to_owned(),
            hierarchies,
        })
    }

    fn v1(&self, controller: &str) -> Option<PathBuf> {
        let holds = |(names, _): &&(Vec<String>, PathBuf)| names.iter().any(|n| n == controller);
        self.hierarchies
            .v1
            .iter()
            .find(holds)
            .map(|(_, mount)| mount.join(&self.path))
    }

    fn v2(&self) -> Option<PathBuf> {
        Some(self.hierarchies.v2.as_ref()?.join(&self.path))
    }

    fn dirs(&self) -> impl Iterator<Item = PathBuf> {
        let v1 = self.hierarchies.v1.iter().map(|(_, mount)| mount);
        v1.chain(&self.hierarchies.v2)
            .map(|mount| mount.join(&self.path))
    }

    /// Moves the calling process into this group, which is made where it is missing. Nothing is
    /// written where it is already: the kernel waits for all its processors at every move.
    pub fn join(&self) -> Result<(), Error> {
        let path = Path::new("/proc/self/cgroup");
        let own = fs::read_to_string(path).map_err(Error::file("read", path))?;
        let joined = |controllers: &str| is_member(&own, controllers, &self.path);
        for (controllers, mount) in &self.hierarchies.v1 {
            // A new cpuset has no cores until somebody fills it, and takes no process: left alone.
            let cpuset = controllers.iter().any(|name| name == "cpuset");
            if !cpuset && !controllers.iter().any(|name| joined(name)) {
                enter(&mount.join(&self.path), "0")?;
            }
        }
        self.v2()
            .filter(|_| !joined(""))
            .map_or(Ok(()), |dir| enter(&dir, "0"))
    }

    /// On a hybrid machine, where a process writes `0` to enter the version 2 group by itself:
    /// the runtime knows only version 1 there.
    pub fn entrance(&self) -> Result<Option<fs::File>, Error> {
        let Some(dir) = self.v2().filter(|_| !self.hierarchies.v1.is_empty()) else {
            return Ok(None);
        };
        fs::create_dir_all(&dir).map_err(Error::file("create", &dir))?;
        let procs = dir.join("cgroup.procs");
        let file = fs::OpenOptions::new().write(true).open(&procs);
        file.map(Some).map_err(Error::file("open", &procs))
    }

    /// Every process in the group or below it, in any hierarchy.
    pub fn processes(&self) -> BTreeSet<i32> {
        self.dirs().flat_map(|dir| processes_below(&dir)).collect()
    }

    pub fn exists(&self) -> bool {
        self.dirs().any(|dir| dir.exists())
    }

    /// Kills every task, frozen or not, and returns when all are gone. Thaws only after every
    /// task has its SIGKILL: what a frozen writer would have done next, it never does.
    pub fn kill(&self) -> Result<(), Error> {
        let deadline = Instant::now() + KILL_PATIENCE;
        loop {
            if self.v2().is_none() {
                // Nobody forks while everybody gets their signal.
                self.freezer_v1("FROZEN");
            }
            let left = self.doom();
            if left.is_empty() {
                return Ok(());
            }
            // Tasks frozen by version 1 take their SIGKILL only now.
            self.freezer_v1("THAWED");
            if Instant::now() > deadline {
                return Err(Error::NotKilled {
                    group: self.path.clone(),
                    left: left.len(),
                });
            }
            sleep(Duration::from_millis(2));
        }
    }

    /// SIGKILL to every task there is, and who that was. Whoever is frozen, or has forked
    /// meanwhile, may be left.
    pub fn doom(&self) -> BTreeSet<i32> {
        if let Some(dir) = self.v2() {
            // Missing before Linux 5.14, as is the group itself when all is over.
            let _ = fs::write(dir.join("cgroup.kill"), "1");
        }
        let left = self.processes();
        for pid in &left {
            signal(*pid);
        }
        left
    }

    /// Stops every task. Whatever goes wrong, `Err` means that they run (again).
    pub fn freeze(&self, init: &Identity) -> Result<(), Error> {
        let frozen = self.try_freeze(init);
        if frozen.is_err() {
            // The reason for the failure is the better answer than one about the thaw.
            let _ = self.thaw();
        }
        frozen
    }

    fn try_freeze(&self, init: &Identity) -> Result<(), Error> {
        let not = |why: &str| Error::NotFrozen {
            group: self.path.clone(),
            why: why.to_owned(),
        };
        let v1 = self.v1("freezer");
        let (dir, file, word) = match (self.v2(), v1) {
            (Some(dir), _) => (dir, "cgroup.freeze", "1"),
            (None, Some(dir)) => (dir, "freezer.state", "FROZEN"),
            (None, None) => return Err(not("no hierarchy can freeze")),
        };
        let file = dir.join(file);
        fs::write(&file, word).map_err(Error::file("write", &file))?;
        let deadline = Instant::now() + FREEZE_PATIENCE;
        while !is_frozen(&dir) {
            if Instant::now() > deadline {
                return Err(not("a system call in flight took too long"));
            }
            sleep(Duration::from_millis(1));
        }
        // An empty group calls itself frozen: what counts is who is in it.
        let frozen: BTreeSet<i32> = processes_below(&dir).into_iter().collect();
        if !frozen.contains(&init.pid) || !init.alive() {
            return Err(not("the container's init is not in it"));
        }
        if !self.processes().is_subset(&frozen) {
            return Err(not("a process of the container is outside it"));
        }
        Ok(())
    }

    pub fn is_frozen(&self) -> bool {
        self.v2()
            .or_else(|| self.v1("freezer"))
            .is_some_and(|dir| is_frozen(&dir))
    }

    pub fn thaw(&self) -> Result<(), Error> {
        if let Some(dir) = self.v2() {
            let file = dir.join("cgroup.freeze");
            return fs::write(&file, "0").map_err(Error::file("write", &file));
        }
        self.freezer_v1("THAWED");
        Ok(())
    }

    fn freezer_v1(&self, word: &str) {
        if let Some(dir) = self.v1("freezer") {
            // Fails only where the group is gone, and then nobody is in it.
            let _ = fs::write(dir.join("freezer.state"), word);
        }
    }

    /// How often the kernel killed here for want of memory.
    pub fn oom_kills(&self) -> u64 {
        let file = match (self.v1("memory"), self.v2()) {
            (Some(dir), _) => dir.join("memory.oom_control"),
            (None, Some(dir)) => dir.join("memory.events"),
            (None, None) => return 0,
        };
        let text = fs::read_to_string(file).unwrap_or_default();
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count
            .and_then(|count| count.trim().parse().ok())
            .unwrap_or(0)
    }

    /// Memory without swap beside it: the limit is what it says.
    pub fn limit_memory(&self, bytes: u64) -> Result<(), Error> {
        let bytes = bytes.to_string();
        if let Some(dir) = self.v1("memory") {
            set(&dir.join("memory.limit_in_bytes"), &bytes)?;
            return set_if_there(&dir.join("memory.memsw.limit_in_bytes"), &bytes);
        }
        let Some(dir) = self.v2() else {
            return Err(Error::NoCgroups);
        };
        set(&dir.join("memory.max"), &bytes)?;
        set_if_there(&dir.join("memory.swap.max"), "0")
    }

    /// At most this many cores.
    pub fn limit_cpu(&self, cores: f64) -> Result<(), Error> {
        // The kernel takes no quota below a millisecond.
        let quota = ((cores * QUOTA_PERIOD_US as f64) as u64).max(1000);
        if let Some(dir) = self.v1("cpu") {
            set(&dir.join("cpu.cfs_period_us"), &QUOTA_PERIOD_US.to_string())?;
            return set(&dir.join("cpu.cfs_quota_us"), &quota.to_string());
        }
        let Some(dir) = self.v2() else {
            return Err(Error::NoCgroups);
        };
        set(&dir.join("cpu.max"), &format!("{quota} {QUOTA_PERIOD_US}"))
    }

    /// Removes the empty group and what is below it.
    pub fn remove(&self) -> Result<(), Error> {
        let deadline = Instant::now() + KILL_PATIENCE;
        for dir in self.dirs() {
            while let Err(source) = remove_tree(&dir) {
                // Busy for a moment after the last task's end.
                if Instant::now() > deadline {
                    return Err(Error::File {
                        what: "remove",
                        path: dir,
                        source,
                    });
                }
                sleep(Duration::from_millis(5));
            }
        }
        Ok(())
    }

    /// Names of the groups directly below this one, in any hierarchy.
    pub fn children(&self) -> BTreeSet<String> {
        let entries = self
            .dirs()
            .filter_map(|dir| fs::read_dir(dir).ok())
            .flatten()
            .flatten();
        entries
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect()
    }
}

/// Whether `/proc/PID/cgroup` says so of the hierarchy with this controller; without one, of
/// version 2.
fn is_member(table: &str, controller: &str, group: &str) -> bool {
    table.lines().any(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let has = |names: &str| names.split(',').any(|name| name == controller);
        fields.next().is_some_and(has)
            && fields
                .next()
                .is_some_and(|path| path.trim_start_matches('/') == group)
    })
}

fn enter(dir: &Path, pid: &str) -> Result<(), Error> {
    fs::create_dir_all(dir).map_err(Error::file("create", dir))?;
    set(&dir.join("cgroup.procs"), pid)
}

fn set(file: &Path, value: &str) -> Result<(), Error> {
    fs::write(file, value).map_err(Error::file("write", file))
}

/// For files that exist only where swap is accounted.
fn set_if_there(file: &Path, value: &str) -> Result<(), Error> {
    if file.exists() {
        set(file, value)
    } else {
        Ok(())
    }
}

fn signal(pid: i32) {
    // 0 is a process of another pid namespace, and would mean our own group to kill(2).
    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

fn is_frozen(dir: &Path) -> bool {
    let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap_or_default();
    read("cgroup.events").lines().any(|line| line == "frozen 1")
        || read("freezer.state").trim() == "FROZEN"
}

fn processes_below(dir: &Path) -> Vec<i32> {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    let mut pids: Vec<i32> = text.lines().filter_map(|line| line.parse().ok()).collect();
    for child in child_dirs(dir) {
        pids.extend(processes_below(&child));
    }
    pids
}

fn child_dirs(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let dirs = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    dirs.map(|entry| entry.path()).collect()
}

fn remove_tree(dir: &Path) -> io::Result<()> {
    for child in child_dirs(dir) {
        remove_tree(&child)?;
    }
    match fs::remove_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::is_member;

    #[test]
    fn membership_is_by_hierarchy() {
        let table =
            "8:pids:/\n4:cpu,cpuacct:/tandem/n1/shims\n1:name=systemd:/\n0::/tandem/n1/shims\n";
        assert!(is_member(table, "cpuacct", "tandem/n1/shims"));
        assert!(is_member(table, "", "tandem/n1/shims"));
        assert!(!is_member(table, "pids", "tandem/n1/shims"));
        assert!(!is_member(table, "cpu", "tandem/n1"));
        assert!(!is_member(table, "memory", "tandem/n1/shims"));
    }
}
