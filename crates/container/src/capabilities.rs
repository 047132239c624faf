//! Which capabilities a container holds: Docker's fourteen, and what was added and dropped.

use std::collections::BTreeSet;

use model::spec::DEFAULT_CAPABILITIES as DEFAULT;

use crate::{Error, Spec};

const OTHERS: [&str; 27] = [
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "DAC_READ_SEARCH",
    "IPC_LOCK",
    "IPC_OWNER",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "NET_ADMIN",
    "NET_BROADCAST",
    "PERFMON",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];

/// As `CAP_…`, sorted. Dropping wins over adding, but for `ALL`, which comes first on either side.
pub fn of(spec: &Spec) -> Result<BTreeSet<String>, Error> {
    let mut held: BTreeSet<&str> = DEFAULT.into();
    let added = names(&spec.capabilities_add)?;
    let dropped = names(&spec.capabilities_drop)?;
    if dropped.contains("ALL") {
        held.clear();
    }
    if added.contains("ALL") {
        held.extend(DEFAULT.iter().chain(&OTHERS));
    }
    held.extend(added);
    held.retain(|name| *name != "ALL" && !dropped.contains(name));
    Ok(held.into_iter().map(|name| format!("CAP_{name}")).collect())
}

fn names(given: &[String]) -> Result<BTreeSet<&'static str>, Error> {
    let known = || DEFAULT.iter().chain(&OTHERS).chain(&["ALL"]).copied();
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
        of(&spec)
    }

    #[test]
    fn adding_and_dropping_start_from_the_fourteen() {
        assert_eq!(held(&[], &[]).expect("known").len(), 14);
        let mixed = held(&["net_admin"], &["CAP_MKNOD"]).expect("known");
        assert!(mixed.contains("CAP_NET_ADMIN") && !mixed.contains("CAP_MKNOD"));
        let one = held(&["CHOWN"], &["all"]).expect("known");
        assert_eq!(one.into_iter().collect::<Vec<_>>(), ["CAP_CHOWN"]);
        let most = held(&["ALL"], &["SYS_ADMIN"]).expect("known");
        assert!(most.len() == 40 && !most.contains("CAP_SYS_ADMIN"));
        assert!(matches!(held(&["FLY"], &[]), Err(Error::Capability(name)) if name == "FLY"));
    }
}
