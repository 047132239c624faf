//! Processes by identity: a pid alone may be somebody else's tomorrow, so records hold its start
//! time, the boot, and the start of the node's pid 1 as well. Handles are pidfds.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open};

use crate::exit::How;
use crate::{Error, sys};

/// `<pid> <starttime> <boot id>/<starttime of pid 1>`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub pid: i32,
    started: u64,
    boot: String,
}

impl Identity {
    /// Of a living process.
    pub fn of(pid: i32) -> std::io::Result<Self> {
        Ok(Self {
            pid,
            started: Stat::read(pid)?.started,
            boot: boot()?,
        })
    }

    /// The record in `path`; `None` if there is none, or none that can be read.
    pub fn load(path: &Path) -> Option<Self> {
        let text = fs::read_to_string(path).ok()?;
        let mut fields = text.split_whitespace();
        let pid = fields.next()?.parse().ok()?;
        let started = fields.next()?.parse().ok()?;
        Some(Self {
            pid,
            started,
            boot: fields.next()?.to_owned(),
        })
    }

    pub fn save(&self, path: &Path) -> Result<(), Error> {
        let line = format!("{} {} {}\n", self.pid, self.started, self.boot);
        let temporary = path.with_extension("tmp");
        fs::write(&temporary, line).map_err(Error::file("write", &temporary))?;
        fs::rename(&temporary, path).map_err(Error::file("rename", &temporary))
    }

    /// Whether this very process still exists and has not ended (a zombie has).
    pub fn alive(&self) -> bool {
        Stat::read(self.pid).is_ok_and(|stat| stat.started == self.started && !stat.zombie)
            && boot().is_ok_and(|boot| boot == self.boot)
    }

    /// A handle on exactly this process, zombie or not.
    pub fn open(&self) -> Option<OwnedFd> {
        let pidfd = pidfd_open(Pid::from_raw(self.pid)?, PidfdFlags::empty()).ok()?;
        // Compared after opening: now the pid cannot be given to another any more.
        let same = Stat::read(self.pid).is_ok_and(|stat| stat.started == self.started)
            && boot().is_ok_and(|boot| boot == self.boot);
        same.then_some(pidfd)
    }
}

/// Whether a process has a handler for a signal, or blocks it, to read it in its own time. Where
/// that cannot be seen, it may.
pub fn handles(pid: i32, signal: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    handles_by(&status, signal).unwrap_or(true)
}

fn handles_by(status: &str, signal: i32) -> Option<bool> {
    let bit = u32::try_from(signal).ok()?.checked_sub(1)?;
    let mask = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        u64::from_str_radix(line.trim(), 16).ok()
    };
    let both = mask("SigBlk:")? | mask("SigCgt:")?;
    Some(both.checked_shr(bit)? & 1 == 1)
}

/// How the process behind `pidfd` ended, by whatever witness is left: our own wait, the
/// zombie's `/proc` entry, or the kernel's memory of a reaped process.
pub fn ending(pidfd: impl AsFd, pid: i32) -> How {
    let waited = rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
    if let Ok(Some(status)) = waited {
        return match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => How::Code(code),
            (None, Some(signal)) => How::Signal(signal),
            (None, None) => How::Unknown,
        };
    }
    // Between the zombie's last moment and the kernel's record there is a gap of microseconds.
    for _ in 0..100 {
        if let Some(status) = sys::pidfd_exit_status(pidfd.as_fd()) {
            return How::from_status(status);
        }
        match Stat::read(pid) {
            Ok(stat) if stat.zombie => return How::from_status(stat.status),
            _ => std::thread::sleep(std::time::Duration::from_millis(1)),
        }
    }
    How::Unknown
}

struct Stat {
    zombie: bool,
    started: u64,
    /// As `wait(2)` would give it; meaningful for zombies.
    status: i32,
}

impl Stat {
    fn read(pid: i32) -> std::io::Result<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        Self::parse(&text).ok_or_else(|| std::io::Error::other("unreadable /proc/PID/stat"))
    }

    fn parse(text: &str) -> Option<Self> {
        // The name in parentheses may hold anything, parentheses too.
        let fields: Vec<&str> = text[text.rfind(')')? + 1..].split_whitespace().collect();
        Some(Self {
            zombie: matches!(*fields.first()?, "Z" | "X"),
            started: fields.get(19)?.parse().ok()?,
            status: fields.get(49)?.parse().ok()?,
        })
    }
}

/// Changes whenever everything on this node started anew: a new boot, or a new pid 1.
fn boot() -> std::io::Result<String> {
    let kernel = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(format!("{}/{}", kernel.trim(), Stat::read(1)?.started))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_that_a_process_handles_or_waits_for_are_seen() {
        let status = "SigPnd:\t0\nSigBlk:\t0000000000000002\nSigIgn:\t0000000000001000\nSigCgt:\t0000000000004000\n";
        let seen = [1, 2, 13, 15].map(|signal| handles_by(status, signal));
        assert_eq!(seen, [Some(false), Some(true), Some(false), Some(true)]);
        assert_eq!(handles_by("", 15), None);
    }

    #[test]
    fn a_process_is_found_again_and_its_namesake_is_not() {
        let me = i32::try_from(std::process::id()).expect("pids are small");
        let identity = Identity::of(me).expect("we live");
        assert!(identity.alive() && identity.open().is_some());
        let other = Identity {
            started: identity.started + 1,
            ..identity
        };
        assert!(!other.alive() && other.open().is_none());
    }

    #[test]
    fn a_name_full_of_parentheses_does_not_shift_the_fields() {
        let rest = (4..=52)
            .map(|n| n.to_string())
            .collect::<Vec<_>>()
            .join(" ");
        let stat = Stat::parse(&format!("7 (a) b) (c) Z {rest}\n")).expect("well formed");
        assert!(stat.zombie);
        assert_eq!((stat.started, stat.status), (22, 52));
    }
}
