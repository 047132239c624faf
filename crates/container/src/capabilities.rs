//! Which capabilities a container holds: Docker's fourteen, and what was added and dropped.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use model::spec::DEFAULT_CAPABILITIES as DEFAULT;

use crate::{Error, Spec};

/// All there are, by their numbers.
const KNOWN: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// As `CAP_…`, sorted. Dropping wins over adding, but for `ALL`, which comes first on either side.
/// Added, it is all of `own`: the mask of what this process may pass on.
pub fn of(spec: &Spec, own: u64) -> Result<BTreeSet<String>, Error> {
    let mut held: BTreeSet<&str> = DEFAULT.into();
    let mut added = names(&spec.capabilities_add)?;
    added.extend(spec.privileged.then_some("ALL"));
    let dropped = names(&spec.capabilities_drop)?;
    if dropped.contains("ALL") {
        held.clear();
    }
    if added.contains("ALL") {
        let passed = KNOWN.iter().enumerate().filter(|(n, _)| own >> n & 1 == 1);
        held = passed.map(|(_, name)| *name).collect();
    }
    held.extend(added);
    held.retain(|name| *name != "ALL" && !dropped.contains(name));
    Ok(held.into_iter().map(|name| format!("CAP_{name}")).collect())
}

/// Those that this process holds.
pub fn own() -> Result<u64, Error> {
    let path = Path::new("/proc/self/status");
    let status = fs::read_to_string(path).map_err(Error::file("read", path))?;
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let mask = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    Ok(mask.unwrap_or(0))
}

fn names(given: &[String]) -> Result<BTreeSet<&'static str>, Error> {
    let known = || KNOWN.iter().chain(&["ALL"]).copied();
    let find = |given: &String| {
        let upper = given.to_uppercase();
        let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
        known()
            .find(|name| *name == bare)
            .ok_or_else(|| Error::Capability(given.clone()))
    };
    given.iter().map(find).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Root;

    fn held(add: &[&str], drop: &[&str]) -> Result<BTreeSet<String>, Error> {
        let mut spec = Spec::new(
            vec![],
            Root::Mounted("/".into()),
            String::new(),
            String::new(),
        );
        spec.capabilities_add = add.iter().map(ToString::to_string).collect();
        spec.capabilities_drop = drop.iter().map(ToString::to_string).collect();
        of(&spec, !(1 << 24))
    }

    #[test]
    fn adding_and_dropping_start_from_the_fourteen() {
        assert_eq!(held(&[], &[]).expect("known").len(), 14);
        let mixed = held(&["net_admin"], &["CAP_MKNOD"]).expect("known");
        assert!(mixed.contains("CAP_NET_ADMIN") && !mixed.contains("CAP_MKNOD"));
        let one = held(&["CHOWN"], &["all"]).expect("known");
        assert_eq!(one.into_iter().collect::<Vec<_>>(), ["CAP_CHOWN"]);
        let most = held(&["ALL"], &["SYS_ADMIN"]).expect("known");
        assert!(most.len() == 39 && !most.contains("CAP_SYS_ADMIN"));
        assert!(!most.contains("CAP_SYS_RESOURCE"), "we have it not");
        assert!(matches!(held(&["FLY"], &[]), Err(Error::Capability(name)) if name == "FLY"));
    }
}
