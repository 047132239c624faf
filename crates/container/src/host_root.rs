//! The root filesystem of a command task without an image: the node's own `/`, read-only.
//!
//! It is put together in a mount namespace of the shim's, which the container's init copies; the
//! shim then returns to its first namespace. Were it to stay, it would hold copies of every
//! volume mounted at that moment, and none of them could be detached from its device.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags};
use nix::sched::CloneFlags;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use crate::{Dir, Error, sys};

/// Where a command task finds its sandbox, as under Mesos.
pub const SANDBOX: &str = "/mnt/mesos/sandbox";
const MNT: &str = "/mnt";
/// Always covered, besides what the caller names.
const RUN: &str = "/run";
/// Covered by mounts of the container's own; what lies below must not shine through.
const OWN: [&str; 4] = ["/proc", "/sys", "/dev", "/tmp"];

/// The way back to the namespace the shim came from.
pub struct Return(File);

impl Return {
    pub fn go(self) -> Result<(), Error> {
        let path = Path::new("/proc/self/ns/mnt");
        sys::join_mounts(self.0.as_fd()).map_err(Error::file("return to", path))
    }
}

/// Enters a mount namespace in which `dir`'s `rootfs` is the finished root.
pub fn assemble(dir: &Dir, sandbox: &Path, hidden: &[PathBuf]) -> Result<Return, Error> {
    let own = Path::new("/proc/self/ns/mnt");
    let back = Return(File::open(own).map_err(Error::file("open", own))?);
    let root = dir.rootfs();
    fs::create_dir_all(&root).map_err(Error::file("create", &root))?;
    build(&root, sandbox, hidden).map_err(Error::file("assemble", &root))?;
    Ok(back)
}

fn build(root: &Path, sandbox: &Path, hidden: &[PathBuf]) -> io::Result<()> {
    nix::sched::unshare(CloneFlags::CLONE_NEWNS)?;
    mount(
        None,
        Path::new("/"),
        None,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        None,
    )?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    let tree = open_tree(rustix::fs::CWD, "/", flags)?;
    sys::read_only_recursive(tree.as_fd())?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(&tree, "", rustix::fs::CWD, root, flags)?;
    drop(tree);
    let own = OWN.iter().map(Path::new);
    for path in hidden
        .iter()
        .map(PathBuf::as_path)
        .chain([Path::new(RUN)])
        .chain(own.clone())
    {
        detach_below(&inside(root, path))?;
    }
    for path in hidden.iter().map(PathBuf::as_path).chain([Path::new(RUN)]) {
        cover(&inside(root, path))?;
    }
    mount_sandbox(root, sandbox)
}

/// `/mnt` may lack the directory, and is read-only: it gets a new one, and all it had.
fn mount_sandbox(root: &Path, sandbox: &Path) -> io::Result<()> {
    let target = inside(root, Path::new(SANDBOX));
    if !target.is_dir() {
        let mnt = inside(root, Path::new(MNT));
        let had: Vec<_> = fs::read_dir(MNT)?
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        tmpfs(&mnt, MsFlags::empty())?;
        fs::create_dir_all(&target)?;
        for name in had.iter().filter(|name| *name != "mesos") {
            let (from, to) = (Path::new(MNT).join(name), mnt.join(name));
            if from.is_dir() && !from.is_symlink() {
                fs::create_dir(&to)?;
                bind(&from, &to, true)?;
            }
        }
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
        mount(None, &mnt, None, flags, None)?;
    }
    bind(sandbox, &target, false)
}

fn bind(from: &Path, to: &Path, read_only: bool) -> io::Result<()> {
    mount(
        Some(from),
        to,
        None,
        MsFlags::MS_BIND | MsFlags::MS_REC,
        None,
    )?;
    if read_only {
        let flags = OpenTreeFlags::OPEN_TREE_CLOEXEC;
        sys::read_only_recursive(open_tree(rustix::fs::CWD, to, flags)?.as_fd())?;
    }
    Ok(())
}

fn cover(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        tmpfs(path, MsFlags::MS_RDONLY)
    } else {
        Ok(())
    }
}

fn tmpfs(path: &Path, flags: MsFlags) -> io::Result<()> {
    let guarded = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(
        Some(Path::new("tmpfs")),
        path,
        Some("tmpfs"),
        flags | guarded,
        Some("mode=755"),
    )
}

fn mount(
    from: Option<&Path>,
    to: &Path,
    kind: Option<&str>,
    flags: MsFlags,
    data: Option<&str>,
) -> io::Result<()> {
    nix::mount::mount(from, to, kind, flags, data)
        .map_err(|errno| io::Error::other(format!("mount {}: {}", to.display(), errno.desc())))
}

/// Lets go of every mount at or below `path`: volumes of other instances are among them, and a
/// copy that nobody sees keeps their devices all the same.
fn detach_below(path: &Path) -> io::Result<()> {
    let text = fs::read_to_string("/proc/self/mountinfo")?;
    let points = text
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(unescape);
    let below: Vec<PathBuf> = points.filter(|point| point.starts_with(path)).collect();
    for point in below.iter().rev() {
        // Detaching a parent has taken its children along.
        let _ = nix::mount::umount2(point, MntFlags::MNT_DETACH);
    }
    Ok(())
}

fn inside(root: &Path, path: &Path) -> PathBuf {
    // Resolved on the node first: /run may be reached through a link, and a mount follows it.
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    root.join(real.strip_prefix("/").unwrap_or(&real))
}

/// Mount tables write blanks, tabs, newlines and backslashes as octal numbers.
fn unescape(field: &str) -> PathBuf {
    let pairs = [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ];
    pairs
        .iter()
        .fold(field.to_owned(), |text, (code, plain)| {
            text.replace(code, plain)
        })
        .into()
}
