//! From our spec to OCI's `config.json`, as Docker would fill it in. Two things are left out on
//! purpose: the seccomp profile (the shim loads a compiled one) and the limits on cpu and memory
//! (they would slow down or fail the runtime's own first steps).

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use serde_json::{Value, json};

use crate::host_root::SANDBOX;
use crate::{Dir, Error, Mount, Network, Root, Source, Spec, capabilities, seccomp};

const NOFILE: u64 = 1 << 20;
const MASKED: [&str; 13] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/proc/kpagecount",
];
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Writes `config.json` and, unless it is privileged, `seccomp`.
pub fn write(dir: &Dir, spec: &Spec) -> Result<(), Error> {
    let own = capabilities::own()?;
    let held = capabilities::of(spec, own)?;
    let mut config = config(dir, spec, &held, own)?;
    if !spec.privileged {
        if !spec.no_new_privileges {
            // Loading a filter without no_new_privs needs capabilities: the runtime does it early.
            config["linux"]["seccomp"] = seccomp::described(&held)?;
        }
        // exec'd commands run under no_new_privs in any case, and load the compiled form.
        let filter = seccomp::compiled(&held)?;
        fs::write(dir.seccomp(), &*filter).map_err(Error::file("write", &dir.seccomp()))?;
    }
    let bytes = serde_json::to_vec(&config).expect("a JSON value is serialisable");
    fs::write(dir.config(), bytes).map_err(Error::file("write", &dir.config()))
}

fn config(dir: &Dir, spec: &Spec, held: &BTreeSet<String>, own: u64) -> Result<Value, Error> {
    let root = match &spec.root {
        Root::Mounted(path) => path.clone(),
        Root::Host { .. } => dir.rootfs(),
    };
    let mut process = json!({
        "terminal": false,
        "user": {
            "uid": spec.user.uid, "gid": spec.user.gid,
            "additionalGids": spec.user.additional_gids,
        },
        "args": spec.args,
        "env": spec.env,
        "cwd": cwd(spec),
        "capabilities": {
            "bounding": held, "effective": held, "permitted": held,
            "inheritable": [], "ambient": [],
        },
        "rlimits": rlimits(spec, own)?,
    });
    if spec.no_new_privileges {
        // Never an explicit false: libcontainer would then load the filter too late.
        process["noNewPrivileges"] = true.into();
    }
    let mut config = json!({
        "ociVersion": "1.0.2",
        "root": { "path": root, "readonly": spec.read_only_root },
        "process": process,
        "mounts": mounts(spec),
        "linux": {
            "cgroupsPath": format!("/{}", spec.cgroup.trim_matches('/')),
            "namespaces": namespaces(spec),
            "resources": resources(spec),
        },
    });
    if spec.privileged {
        let devices = devices(Path::new("/dev")).map_err(Error::file("list", Path::new("/dev")))?;
        config["linux"]["devices"] = devices.into();
    } else {
        config["linux"]["maskedPaths"] = MASKED.as_slice().into();
        config["linux"]["readonlyPaths"] = READ_ONLY.as_slice().into();
    }
    if let Some(hostname) = &spec.hostname {
        config["hostname"] = hostname.clone().into();
    }
    if let Network::Namespace(_) = spec.network {
        config["linux"]["sysctl"] = json!({
            "net.ipv4.ip_unprivileged_port_start": "0",
            "net.ipv4.ping_group_range": "0 2147483647",
        });
    }
    Ok(config)
}

/// The working directory.
pub fn cwd(spec: &Spec) -> &Path {
    let default = match spec.root {
        Root::Mounted(_) => "/",
        Root::Host { .. } => SANDBOX,
    };
    spec.cwd.as_deref().unwrap_or(Path::new(default))
}

fn namespaces(spec: &Spec) -> Vec<Value> {
    let mut namespaces: Vec<Value> = ["pid", "mount", "ipc", "uts"]
        .iter()
        .map(|kind| json!({ "type": kind }))
        .collect();
    if let Network::Namespace(path) = &spec.network {
        namespaces.push(json!({ "type": "network", "path": path }));
    }
    namespaces
}

fn resources(spec: &Spec) -> Value {
    // The runtime itself allows null, zero, full, random, urandom, tty, ptmx and pts.
    let devices = json!([{ "allow": spec.privileged, "access": "rwm" }]);
    let mut resources = json!({ "devices": devices });
    if spec.limits.pids > 0 {
        resources["pids"] = json!({ "limit": spec.limits.pids });
    }
    if let Some(shares) = spec.limits.cpu_shares {
        resources["cpu"] = json!({ "shares": shares.max(2) });
    }
    resources
}

/// Those in `dir` and below it that the runtime does not make by itself.
fn devices(dir: &Path) -> io::Result<Vec<Value>> {
    const MADE: [&str; 12] = [
        "null", "zero", "full", "random", "urandom", "tty", "console", "ptmx", "pts", "shm",
        "mqueue", "fd",
    ];
    let mut devices = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let (kind, path) = (entry.file_type()?, entry.path());
        if MADE.iter().any(|name| path == Path::new("/dev").join(name)) {
            continue;
        }
        if kind.is_dir() {
            match self::devices(&path) {
                // Unplugged meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                found => devices.extend(found?),
            }
        }
        let letter = match (kind.is_char_device(), kind.is_block_device()) {
            (true, _) => "c",
            (_, true) => "b",
            _ => continue,
        };
        let Ok(data) = entry.metadata() else { continue };
        devices.push(json!({
            "path": path, "type": letter,
            "major": rustix::fs::major(data.rdev()), "minor": rustix::fs::minor(data.rdev()),
            "fileMode": data.mode() & 0o7777, "uid": data.uid(), "gid": data.gid(),
        }));
    }
    Ok(devices)
}

fn mounts(spec: &Spec) -> Vec<Value> {
    let mount = |target: &str, kind: &str, options: &[&str]| json!({ "destination": target, "type": kind, "source": kind, "options": options });
    let guarded = ["nosuid", "noexec", "nodev"];
    let shm = format!("size={}", spec.shm_bytes);
    let system = ["nosuid", "noexec", "nodev", access(!spec.privileged)];
    let mut mounts = vec![
        mount("/proc", "proc", &guarded),
        mount(
            "/dev",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        mount(
            "/dev/pts",
            "devpts",
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                "gid=5",
            ],
        ),
        mount(
            "/dev/shm",
            "tmpfs",
            &["nosuid", "noexec", "nodev", "mode=1777", &shm],
        ),
        mount("/dev/mqueue", "mqueue", &guarded),
        mount("/sys", "sysfs", &system),
    ];
    if let Root::Mounted(_) = spec.root {
        // Runtimes like Java's read their limits there.
        mounts.push(mount(
            "/sys/fs/cgroup",
            "cgroup",
            &["nosuid", "noexec", "nodev", "ro"],
        ));
    }
    if let Root::Host { .. } = spec.root {
        mounts.push(mount("/tmp", "tmpfs", &["nosuid", "nodev", "mode=1777"]));
    }
    let mut given: Vec<&Mount> = spec.mounts.iter().collect();
    // A parent before what lies in it, whatever order they were given in.
    given.sort_by_key(|mount| mount.target.components().count());
    mounts.extend(given.into_iter().map(given_mount));
    mounts
}

fn access(read_only: bool) -> &'static str {
    if read_only { "ro" } else { "rw" }
}

fn given_mount(mount: &Mount) -> Value {
    let access = access(mount.read_only);
    match &mount.source {
        Source::Bind(path) => json!({
            "destination": mount.target, "type": "bind", "source": path,
            "options": ["rbind", "rprivate", access],
        }),
        Source::Tmpfs { bytes } => {
            let mut options = vec!["nosuid".to_owned(), "nodev".to_owned(), access.to_owned()];
            options.extend(bytes.map(|bytes| format!("size={bytes}")));
            json!({
                "destination": mount.target, "type": "tmpfs", "source": "tmpfs",
                "options": options,
            })
        }
    }
}

/// Without CAP_SYS_RESOURCE among our `own` capabilities, hard limits cannot be raised: they are
/// cut to our own.
fn rlimits(spec: &Spec, own: u64) -> Result<Vec<Value>, Error> {
    let own = OwnLimits::read(own)?;
    let mut limits: Vec<(String, u64, u64)> = Vec::new();
    for ulimit in &spec.limits.ulimits {
        limits.push((ulimit.name.to_uppercase(), ulimit.soft, ulimit.hard));
    }
    if !limits.iter().any(|(name, ..)| name == "NOFILE") {
        limits.push(("NOFILE".to_owned(), NOFILE, NOFILE));
    }
    let limits = limits.into_iter().map(|(name, soft, hard)| {
        let most = own.most(&name);
        let (soft, hard) = (soft.min(most), hard.min(most));
        json!({ "type": format!("RLIMIT_{name}"), "soft": soft, "hard": hard })
    });
    Ok(limits.collect())
}

struct OwnLimits {
    limits: String,
    may_raise: bool,
    nofile_max: u64,
}

const CAP_SYS_RESOURCE: u64 = 1 << 24;

impl OwnLimits {
    fn read(capabilities: u64) -> Result<Self, Error> {
        let read =
            |path: &str| fs::read_to_string(path).map_err(Error::file("read", Path::new(path)));
        Ok(Self {
            limits: read("/proc/self/limits")?,
            may_raise: capabilities & CAP_SYS_RESOURCE != 0,
            nofile_max: read("/proc/sys/fs/nr_open")?
                .trim()
                .parse()
                .unwrap_or(NOFILE),
        })
    }

    /// The highest value that setting `name` can succeed with.
    fn most(&self, name: &str) -> u64 {
        let kernel = if name == "NOFILE" {
            self.nofile_max
        } else {
            u64::MAX
        };
        if self.may_raise {
            return kernel;
        }
        let title = match name {
            "NOFILE" => "Max open files",
            "NPROC" => "Max processes",
            "CORE" => "Max core file size",
            "MEMLOCK" => "Max locked memory",
            "STACK" => "Max stack size",
            "DATA" => "Max data size",
            "FSIZE" => "Max file size",
            "CPU" => "Max cpu time",
            "AS" => "Max address space",
            "NICE" => "Max nice priority",
            "RTPRIO" => "Max realtime priority",
            "MSGQUEUE" => "Max msgqueue size",
            "SIGPENDING" => "Max pending signals",
            _ => return kernel,
        };
        let row = self
            .limits
            .lines()
            .find_map(|line| line.strip_prefix(title));
        let hard = row.and_then(|row| row.split_whitespace().nth(1));
        hard.and_then(|hard| hard.parse().ok())
            .unwrap_or(u64::MAX)
            .min(kernel)
    }
}
