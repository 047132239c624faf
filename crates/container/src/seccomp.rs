//! The system calls a container may make.
//!
//! The rules are data of the distribution (Debian's `golang-github-containers-common`), resolved
//! against the capabilities held. On top of them, as in Docker: without `SYS_ADMIN` nobody makes
//! or joins namespaces or mounts; a call that exists and is not allowed answers EPERM; one that
//! this machine's libseccomp has never heard of answers ENOSYS, so that newer C libraries fall
//! back to what is allowed. Compiling takes 15 ms: it is done once per set of capabilities and
//! the result handed to shims as bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Seek};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};

use libseccomp::{
    ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall,
};
use serde::{Deserialize, Serialize};

use crate::Error;

const PROFILE: &str = "/usr/share/containers/seccomp.json";
const EPERM: i32 = 1;
const ENOSYS: i32 = 38;
/// Above every system call number of any kernel that this library could know.
const SYSCALLS_END: i32 = 1024;

/// What only `SYS_ADMIN` may do; the profile's authors leave it to the kernel's own checks,
/// which user namespaces get around.
const NAMESPACES: [&str; 16] = [
    "clone",
    "clone3",
    "fsconfig",
    "fsmount",
    "fsopen",
    "fspick",
    "mount",
    "mount_setattr",
    "move_mount",
    "open_tree",
    "pivot_root",
    "setns",
    "umount",
    "umount2",
    "unshare",
    "listmount",
];
/// Every `CLONE_NEW…` flag.
const NAMESPACE_FLAGS: u64 = 0x7E02_0000;

#[derive(Debug, Deserialize)]
struct Profile {
    syscalls: Vec<Group>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    names: Vec<String>,
    action: String,
    errno_ret: Option<i32>,
    #[serde(default)]
    args: Option<Vec<Arg>>,
    #[serde(default)]
    includes: Condition,
    #[serde(default)]
    excludes: Condition,
}

#[derive(Debug, Default, Deserialize)]
struct Condition {
    #[serde(default)]
    caps: Vec<String>,
    #[serde(default)]
    arches: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Arg {
    index: u32,
    value: u64,
    value_two: u64,
    op: String,
}

/// One rule as OCI writes it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    names: Vec<String>,
    action: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    errno_ret: Option<i32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    args: Vec<Arg>,
}

/// Compiled filters by the capabilities they are for.
type Filters = BTreeMap<BTreeSet<String>, Arc<Vec<u8>>>;

/// The filter for these capabilities (`CAP_…`), as an array of BPF instructions.
pub fn compiled(capabilities: &BTreeSet<String>) -> Result<Arc<Vec<u8>>, Error> {
    static DONE: OnceLock<Mutex<Filters>> = OnceLock::new();
    let done = DONE.get_or_init(Mutex::default);
    // Held while compiling: fifty starts at once shall compile once.
    let mut done = done
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(filter) = done.get(capabilities) {
        return Ok(filter.clone());
    }
    let filter = Arc::new(compile(&resolve(profile()?, capabilities))?);
    done.insert(capabilities.clone(), filter.clone());
    Ok(filter)
}

/// The same rules for the runtime to compile, as OCI's `linux.seccomp`.
pub fn described(capabilities: &BTreeSet<String>) -> Result<serde_json::Value, Error> {
    Ok(serde_json::json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": ENOSYS,
        "architectures": architectures().map(|(_, name)| name),
        "syscalls": resolve(profile()?, capabilities),
    }))
}

#[cfg(target_arch = "x86_64")]
fn architectures() -> [(ScmpArch, &'static str); 3] {
    [
        (ScmpArch::X8664, "SCMP_ARCH_X86_64"),
        (ScmpArch::X86, "SCMP_ARCH_X86"),
        (ScmpArch::X32, "SCMP_ARCH_X32"),
    ]
}
#[cfg(target_arch = "aarch64")]
fn architectures() -> [(ScmpArch, &'static str); 2] {
    [
        (ScmpArch::Aarch64, "SCMP_ARCH_AARCH64"),
        (ScmpArch::Arm, "SCMP_ARCH_ARM"),
    ]
}

/// This machine, by the names the profile uses.
#[cfg(target_arch = "x86_64")]
const ARCHES: [&str; 3] = ["amd64", "x86", "x32"];
#[cfg(target_arch = "aarch64")]
const ARCHES: [&str; 2] = ["arm64", "arm"];

fn profile() -> Result<Profile, Error> {
    let path = Path::new(PROFILE);
    let bytes = fs::read(path).map_err(|source| Error::NoProfile {
        path: path.to_owned(),
        source,
    })?;
    serde_json::from_slice(&bytes).map_err(|source| Error::Record {
        path: path.to_owned(),
        source,
    })
}

fn resolve(profile: Profile, capabilities: &BTreeSet<String>) -> Vec<Rule> {
    let admin = capabilities.contains("CAP_SYS_ADMIN");
    let reserved = |name: &str| !admin && NAMESPACES.contains(&name);
    let mut rules: Vec<Rule> = Vec::new();
    for group in profile.syscalls {
        let arches = &group.includes.arches;
        let ours = arches.is_empty() || arches.iter().any(|a| ARCHES.contains(&a.as_str()));
        let held = group
            .includes
            .caps
            .iter()
            .all(|cap| capabilities.contains(cap));
        let excluded = group
            .excludes
            .caps
            .iter()
            .any(|cap| capabilities.contains(cap));
        if ours && held && !excluded {
            let names = group
                .names
                .into_iter()
                .filter(|name| !reserved(name))
                .collect();
            rules.push(Rule {
                names,
                action: group.action,
                errno_ret: group.errno_ret,
                args: group.args.unwrap_or_default(),
            });
        }
    }
    if !admin {
        let plain = Arg {
            index: 0,
            value: NAMESPACE_FLAGS,
            value_two: 0,
            op: "SCMP_CMP_MASKED_EQ".into(),
        };
        rules.push(allow(&["clone"], vec![plain]));
    }
    let named: BTreeSet<&str> = rules
        .iter()
        .flat_map(|rule| &rule.names)
        .map(String::as_str)
        .collect();
    // clone3 hides its flags from filters: ENOSYS, the default, makes callers use clone.
    let denied = known().filter(|name| !named.contains(name.as_str()) && name != "clone3");
    let denied = Rule {
        names: denied.collect(),
        action: "SCMP_ACT_ERRNO".into(),
        errno_ret: Some(EPERM),
        args: Vec::new(),
    };
    rules.retain(|rule| !rule.names.is_empty());
    rules.push(denied);
    rules
}

fn allow(names: &[&str], args: Vec<Arg>) -> Rule {
    let names = names.iter().map(ToString::to_string).collect();
    Rule {
        names,
        action: "SCMP_ACT_ALLOW".into(),
        errno_ret: None,
        args,
    }
}

/// The calls of this machine that libseccomp has a name for.
fn known() -> impl Iterator<Item = String> {
    (0..SYSCALLS_END).filter_map(|number| ScmpSyscall::from(number).get_name().ok())
}

fn compile(rules: &[Rule]) -> Result<Vec<u8>, Error> {
    let default = ScmpAction::Errno(ENOSYS);
    let mut filter = ScmpFilterContext::new(default).map_err(wrong)?;
    for (architecture, _) in architectures() {
        filter.add_arch(architecture).map_err(wrong)?;
    }
    // 2: a binary tree, which halves the length of the way to the average call.
    filter.set_ctl_optimize(2).map_err(wrong)?;
    for rule in rules {
        let action = ScmpAction::from_str(&rule.action, rule.errno_ret).map_err(wrong)?;
        let conditions = rule
            .args
            .iter()
            .map(condition)
            .collect::<Result<Vec<_>, _>>()?;
        if action == default {
            continue;
        }
        for name in &rule.names {
            // Names of other architectures and of newer kernels are in the data too.
            if let Ok(syscall) = ScmpSyscall::from_name(name) {
                filter
                    .add_rule_conditional(action, syscall, &conditions)
                    .map_err(wrong)?;
            }
        }
    }
    instructions(&filter)
}

fn condition(arg: &Arg) -> Result<ScmpArgCompare, Error> {
    let (op, value) = match arg.op.as_str() {
        "SCMP_CMP_NE" => (ScmpCompareOp::NotEqual, arg.value),
        "SCMP_CMP_LT" => (ScmpCompareOp::Less, arg.value),
        "SCMP_CMP_LE" => (ScmpCompareOp::LessOrEqual, arg.value),
        "SCMP_CMP_EQ" => (ScmpCompareOp::Equal, arg.value),
        "SCMP_CMP_GE" => (ScmpCompareOp::GreaterEqual, arg.value),
        "SCMP_CMP_GT" => (ScmpCompareOp::Greater, arg.value),
        "SCMP_CMP_MASKED_EQ" => (ScmpCompareOp::MaskedEqual(arg.value), arg.value_two),
        other => {
            return Err(Error::Profile {
                message: format!("unknown comparison {other}"),
            });
        }
    };
    Ok(ScmpArgCompare::new(arg.index, op, value))
}

/// By way of a file in memory: libseccomp 2.5 can write a filter only to a descriptor.
fn instructions(filter: &ScmpFilterContext) -> Result<Vec<u8>, Error> {
    let memory = rustix::fs::memfd_create("seccomp", rustix::fs::MemfdFlags::CLOEXEC);
    let mut memory = fs::File::from(memory.map_err(wrong)?);
    filter.export_bpf(&memory).map_err(wrong)?;
    let mut bytes = Vec::new();
    memory.rewind().map_err(wrong)?;
    memory.read_to_end(&mut bytes).map_err(wrong)?;
    Ok(bytes)
}

fn wrong(error: impl std::error::Error) -> Error {
    Error::Profile {
        message: error.to_string(),
    }
}
