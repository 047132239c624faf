//! Root filesystems: an image's layers and a writable directory, joined by
//! overlayfs. Knows neither containers nor what is written into the root.
//!
//! ```text
//! <dir>/upper  work   what the instance writes; thrown away with it
//!       rootfs        the mount point
//!       image         the image's id, for whoever removes images later
//! ```

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{
    self, FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, UnmountFlags,
};

use crate::digest::Digest;
use crate::store::Image;
use crate::trash;
use crate::unpack::OWN_ROOT;
use crate::workdir;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("root filesystem {rootfs} of image {image} cannot be mounted{}", said(.words))]
    Mount {
        rootfs: PathBuf,
        image: Digest,
        words: String,
        source: io::Error,
    },
    #[error("root filesystem {rootfs} cannot be unmounted")]
    Unmount { rootfs: PathBuf, source: io::Error },
}

fn said(words: &str) -> String {
    if words.is_empty() {
        String::new()
    } else {
        format!(": {words}")
    }
}

/// Mounts `image` at `dir/rootfs`, unless it is mounted there already, and
/// returns that path. What an earlier mount left in `upper` is still there.
pub fn mount_root(image: &Image, dir: &Path) -> Result<PathBuf, Error> {
    let rootfs = dir.join("rootfs");
    mount_layers(image, dir, &rootfs).map_err(|(words, source)| Error::Mount {
        rootfs: rootfs.clone(),
        image: image.id.clone(),
        words,
        source,
    })?;
    Ok(rootfs)
}

/// Unmounts `dir/rootfs`; one that is not mounted is fine. Files stay.
pub fn unmount_root(dir: &Path) -> Result<(), Error> {
    let rootfs = dir.join("rootfs");
    // The namespace of a container that is still ending may hold it for a moment;
    // detached, it goes with that.
    match mount::unmount(&rootfs, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => Ok(()),
        Err(error) => Err(Error::Unmount {
            rootfs,
            source: error.into(),
        }),
    }
}

/// The image that was mounted in `dir`, if one was.
///
/// # Errors
/// That cannot be read: none must be concluded from it.
pub fn mounted_image(dir: &Path) -> io::Result<Option<Digest>> {
    match fs::read_to_string(dir.join("image")) {
        // What is not whole was never written, and what was never written never mounted.
        Ok(text) => Ok(Digest::parse(text.trim()).ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

type Failure = (String, io::Error);

fn mount_layers(image: &Image, dir: &Path, rootfs: &Path) -> Result<(), Failure> {
    // `image` goes on saying what is mounted, whatever a name means by now.
    if is_mount_point(rootfs).map_err(silent)? {
        return Ok(());
    }
    prepare(image, dir, rootfs).map_err(silent)?;
    // `volatile` marks the work directory, and refuses one that bears the mark of
    // a machine that died; there is nothing in it to keep.
    trash::remove(&dir.join("work"))
        .and_then(|_| fs::create_dir(dir.join("work")))
        .map_err(silent)?;
    let lower = image.lower_dirs();
    match mount_by_parts(&lower, dir, &[]) {
        Ok(mounted) => attach(&mounted, rootfs).map_err(|error| silent(error.into())),
        Err(failure) if needs_options(&failure) => {
            mount_by_options(&lower, dir, rootfs, &[]).map_err(silent)
        }
        Err(failure) => Err(failure),
    }
}

/// Copies must be whole, and names of this directory alone, whatever the kernel's defaults.
const WHOLE_COPIES: [(&str, &str); 3] = [
    ("metacopy", "off"),
    ("index", "off"),
    ("redirect_dir", "off"),
];

/// Joins layers, top first, for this process alone: what is returned is mounted nowhere and goes
/// when it is closed. What is changed in it is in `dir/upper`.
pub(crate) fn view(lower: &[PathBuf], dir: &Path) -> io::Result<OwnedFd> {
    for part in ["upper", "work", "rootfs"] {
        fs::create_dir_all(dir.join(part))?;
    }
    match mount_by_parts(lower, dir, &WHOLE_COPIES) {
        Err(failure) if needs_options(&failure) => view_by_options(lower, dir),
        joined => joined.map_err(|(words, error)| {
            let layers = lower.len();
            let text = format!("join {layers} layers: {error}{}", said(&words));
            io::Error::new(error.kind(), text)
        }),
    }
}

/// Older kernels mount nothing without a place, which is given back at once.
fn view_by_options(lower: &[PathBuf], dir: &Path) -> io::Result<OwnedFd> {
    let rootfs = dir.join("rootfs");
    mount_by_options(lower, dir, &rootfs, &WHOLE_COPIES)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(CWD, &rootfs, flags, Mode::empty());
    mount::unmount(&rootfs, UnmountFlags::DETACH)?;
    Ok(opened?)
}

/// Before 6.5 overlayfs takes no layers one by one, and says so in the kernel's log alone.
fn needs_options((words, error): &Failure) -> bool {
    let invalid = error.raw_os_error() == Some(Errno::INVAL.raw_os_error());
    invalid && (words.is_empty() || words.contains("lowerdir+"))
}

fn silent(error: io::Error) -> Failure {
    (String::new(), error)
}

fn prepare(image: &Image, dir: &Path, rootfs: &Path) -> io::Result<()> {
    for part in [&dir.join("upper"), &dir.join("work"), rootfs] {
        fs::create_dir_all(part)?;
    }
    // What the root directory is like, the upper directory says for all layers.
    let says =
        |layer: &&PathBuf| rustix::fs::getxattr(layer.as_path(), OWN_ROOT, &mut [0; 8][..]).is_ok();
    if let Some(layer) = image.lower_dirs().iter().find(says) {
        let root = fs::metadata(layer)?;
        std::os::unix::fs::chown(dir.join("upper"), Some(root.uid()), Some(root.gid()))?;
        fs::set_permissions(dir.join("upper"), root.permissions())?;
    }
    fs::write(dir.join("image"), image.id.as_str())
}

fn is_mount_point(path: &Path) -> io::Result<bool> {
    match rustix::fs::statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty()) {
        Ok(stat) => Ok(stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Mounted nowhere yet.
fn mount_by_parts(
    lower: &[PathBuf],
    dir: &Path,
    options: &[(&str, &str)],
) -> Result<OwnedFd, Failure> {
    let fs = mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(|e| silent(e.into()))?;
    let told = |error: Errno| (kernel_words(&fs), io::Error::from(error));
    for layer in lower {
        mount::fsconfig_set_string(fs.as_fd(), "lowerdir+", layer).map_err(told)?;
    }
    mount::fsconfig_set_string(fs.as_fd(), "upperdir", dir.join("upper")).map_err(told)?;
    mount::fsconfig_set_string(fs.as_fd(), "workdir", dir.join("work")).map_err(told)?;
    mount::fsconfig_set_flag(fs.as_fd(), "volatile").map_err(told)?;
    for (option, value) in options {
        mount::fsconfig_set_string(fs.as_fd(), *option, *value).map_err(told)?;
    }
    mount::fsconfig_create(fs.as_fd()).map_err(told)?;
    mount::fsmount(
        fs.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::empty(),
    )
    .map_err(told)
}

fn attach(mounted: &OwnedFd, rootfs: &Path) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    mount::move_mount(mounted, "", CWD, rootfs, flags)
}

/// The kernel says in the mount context what it did not like, a line at a time.
fn kernel_words(fs: &OwnedFd) -> String {
    let mut words = Vec::new();
    let mut line = [0; 512];
    while let Ok(n @ 1..) = rustix::io::read(fs, &mut line) {
        let text = String::from_utf8_lossy(&line[..n]);
        words.push(
            text.trim_start_matches(['e', 'w', 'i', ' '])
                .trim()
                .to_owned(),
        );
    }
    words.join("; ")
}

/// All options in one page: layers are named relative to their common parent,
/// which leaves room for some fifty.
fn mount_by_options(
    lower: &[PathBuf],
    dir: &Path,
    rootfs: &Path,
    options: &[(&str, &str)],
) -> io::Result<()> {
    let parent = lower
        .first()
        .and_then(|layer| layer.parent())
        .unwrap_or(Path::new("/"));
    let names: Vec<&[u8]> = lower
        .iter()
        .filter_map(|layer| layer.file_name())
        .map(|name| name.as_bytes())
        .collect();
    let dir = fs::canonicalize(dir)?;
    let upper = [
        b",upperdir=",
        dir.join("upper").as_os_str().as_bytes(),
        b",workdir=",
        dir.join("work").as_os_str().as_bytes(),
    ]
    .concat();
    let options = options
        .iter()
        .map(|(option, value)| format!(",{option}={value}"));
    let options = options.collect::<String>().into_bytes();
    let lower = names.join(&b':');
    let options = [b"volatile,lowerdir=".to_vec(), lower, upper, options].concat();
    let options = std::ffi::CString::new(options).map_err(io::Error::other)?;
    let rootfs = fs::canonicalize(rootfs)?;
    workdir::within(parent, || {
        Ok(mount::mount(
            "overlay",
            &rootfs,
            "overlay",
            MountFlags::empty(),
            Some(options.as_c_str()),
        )?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_kernel_s_refusal_is_told_from_others() {
        let failure = |words: &str, errno: Errno| (words.to_owned(), io::Error::from(errno));
        // As 6.1 answers, and as others that know the option by name.
        assert!(needs_options(&failure("", Errno::INVAL)));
        assert!(needs_options(&failure(
            "Unknown parameter 'lowerdir+'",
            Errno::INVAL
        )));
        assert!(!needs_options(&failure(
            "maximum fs stacking depth exceeded",
            Errno::INVAL
        )));
        assert!(!needs_options(&failure("", Errno::NOSPC)));
    }

    #[test]
    fn kernels_without_single_layers_are_served_by_options() {
        if !rustix::process::geteuid().is_root() {
            return println!("skipped: mounting needs root");
        }
        let room = tempfile::tempdir().unwrap();
        for part in ["layers/a", "layers/b", "i/upper", "i/work", "i/rootfs"] {
            fs::create_dir_all(room.path().join(part)).unwrap();
        }
        fs::write(room.path().join("layers/a/top"), "a").unwrap();
        fs::write(room.path().join("layers/b/top"), "b").unwrap();
        fs::write(room.path().join("layers/b/low"), "b").unwrap();
        let lower = [room.path().join("layers/a"), room.path().join("layers/b")];
        let instance = room.path().join("i");
        let before = std::env::current_dir().unwrap();
        mount_by_options(&lower, &instance, &instance.join("rootfs"), &[]).unwrap();
        let seen = (
            fs::read_to_string(instance.join("rootfs/top")).unwrap(),
            fs::read_to_string(instance.join("rootfs/low")).unwrap(),
        );
        unmount_root(&instance).unwrap();
        assert_eq!(seen, ("a".to_owned(), "b".to_owned()));
        assert_eq!(std::env::current_dir().unwrap(), before);

        let room = room.path().join("v");
        for part in ["upper", "work", "rootfs"] {
            fs::create_dir_all(room.join(part)).unwrap();
        }
        let view = view_by_options(&lower, &room).unwrap();
        assert!(!is_mount_point(&room.join("rootfs")).unwrap());
        let time = crate::metadata::times((1, 2));
        rustix::fs::utimensat(&view, "low", &time, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        let copy = fs::read_to_string(room.join("upper/low")).unwrap();
        assert_eq!(copy, "b", "copied by the kernel, with nothing mounted");
    }
}
