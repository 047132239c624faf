//! Applies one layer's archive to an empty directory, as overlayfs wants to find
//! it. Paths are hostile: every parent is opened by the kernel as if the
//! directory were `/` (`openat2` with `IN_ROOT`), and the last component is
//! created without following anything. Verifies no digest: that is `layer`'s.
//!
//! Guarantee: whatever the archive holds, nothing outside the directory (and the
//! trash beside it) changes, and memory stays bounded by `Limits`.
//!
//! Knows nothing of other layers, with one exception: see `link.rs`.

mod link;

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, ResolveFlags, XattrFlags};
use rustix::io::Errno;

use crate::archive::{Archive, Entry, Kind, Sparse};
use crate::below::Below;
use crate::metadata;

const OPAQUE: &str = "trusted.overlay.opaque";
/// Marks a layer that says itself what its root directory is like; most leave
/// that to a layer below.
pub(crate) const OWN_ROOT: &str = "trusted.tandem.root";
const FILE_BUFFER: usize = 256 << 10;

/// What a layer may cost; the defaults fit any honest image.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Uncompressed bytes.
    pub bytes: u64,
    /// Uncompressed for each compressed byte, once past `ratio_from`.
    pub ratio: u64,
    pub ratio_from: u64,
    pub entries: u64,
    pub path_bytes: usize,
    pub depth: usize,
    /// Paths of directories are held until their times can be set.
    pub directory_path_bytes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            bytes: 16 << 30,
            ratio: 1000,
            ratio_from: 100 << 20,
            entries: 2_000_000,
            path_bytes: 4096,
            depth: 512,
            directory_path_bytes: 128 << 20,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("its archive cannot be read")]
    Archive(#[source] io::Error),
    #[error("its entry {path} cannot be unpacked")]
    Entry { path: String, source: io::Error },
    #[error("its entry {path} is refused: {reason}")]
    Refused { path: String, reason: String },
    #[error("it holds more than {limit} {what}")]
    TooMuch { what: &'static str, limit: u64 },
    #[error("its entry {path} links into a layer beneath it")]
    LinksBelow { path: String },
}

/// What is known of the layers beneath.
#[derive(Clone, Copy)]
pub(crate) enum Beneath<'a> {
    /// They are not here yet, or were not asked for: [`Error::LinksBelow`] if they matter.
    Unknown,
    Nothing,
    View(&'a Below),
}

impl Error {
    /// Whether the node could not keep a layer that may be good.
    pub fn is_nodes_fault(&self) -> bool {
        let Some(source) = self.of_the_disk() else {
            return false;
        };
        let faults = [
            Errno::NOSPC,
            Errno::DQUOT,
            Errno::IO,
            Errno::ROFS,
            Errno::MFILE,
            Errno::NFILE,
            Errno::NOMEM,
        ];
        faults
            .iter()
            .any(|fault| source.raw_os_error() == Some(fault.raw_os_error()))
    }

    /// What the kernel said, if it was that.
    pub(crate) fn of_the_disk(&self) -> Option<&io::Error> {
        match self {
            Error::Entry { source, .. } | Error::Archive(source) => Some(source),
            Error::Refused { .. } | Error::TooMuch { .. } | Error::LinksBelow { .. } => None,
        }
    }
}

/// Unpacks all of `input` below `root`; what entries of the same archive replace
/// is moved to `trash`. Both are empty directories on one file system.
pub(crate) fn unpack(
    input: impl Read,
    root: &Path,
    trash: &Path,
    beneath: Beneath<'_>,
    limits: &Limits,
) -> Result<(), Error> {
    let mut archive = Archive::new(input);
    let mut tree = Tree::open(root, trash, beneath, limits).map_err(Error::Archive)?;
    let mut entries = 0;
    while let Some(entry) = archive.next().map_err(Error::Archive)? {
        entries += 1;
        if entries > limits.entries {
            return Err(Error::TooMuch {
                what: "entries",
                limit: limits.entries,
            });
        }
        let told = || String::from_utf8_lossy(&entry.path).into_owned();
        let path = normalise(&entry.path, limits).map_err(|reason| Error::Refused {
            path: told(),
            reason,
        })?;
        tree.apply(&path, &entry, &mut archive.data())
            .map_err(|source| match source {
                Fault::Refused(reason) => Error::Refused {
                    path: told(),
                    reason,
                },
                Fault::Io(source) => Error::Entry {
                    path: told(),
                    source,
                },
                Fault::TooMuch(what, limit) => Error::TooMuch { what, limit },
                Fault::LinksBelow => Error::LinksBelow { path: told() },
            })?;
    }
    tree.set_directory_times().map_err(Error::Archive)
}

enum Fault {
    Refused(String),
    Io(io::Error),
    /// What, and the limit.
    TooMuch(&'static str, u64),
    LinksBelow,
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Fault {
        Fault::Io(error)
    }
}

impl From<Errno> for Fault {
    fn from(error: Errno) -> Fault {
        Fault::Io(error.into())
    }
}

/// Components without `/` and `.`; the empty path is the layer's root.
fn normalise(path: &[u8], limits: &Limits) -> Result<Vec<u8>, String> {
    let mut clean = Vec::with_capacity(path.len());
    let mut depth = 0;
    for component in path.split(|b| *b == b'/') {
        match component {
            b"" | b"." => continue,
            b".." => return Err("it leads upward".into()),
            _ if component.contains(&0) => return Err("its name holds a zero byte".into()),
            _ if component.len() > 255 => return Err("a name has more than 255 bytes".into()),
            _ => {}
        }
        if !clean.is_empty() {
            clean.push(b'/');
        }
        clean.extend_from_slice(component);
        depth += 1;
    }
    if clean.len() > limits.path_bytes {
        return Err(format!(
            "its path has more than {} bytes",
            limits.path_bytes
        ));
    }
    if depth > limits.depth {
        return Err(format!("it lies deeper than {} directories", limits.depth));
    }
    Ok(clean)
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

struct Tree<'a> {
    root: OwnedFd,
    trash: OwnedFd,
    thrown_away: u64,
    /// The parent of the last entry: archives are sorted, so it is often the next
    /// one's too. Any other entry in between forgets it, so it is never stale.
    parent: Option<(Vec<u8>, OwnedFd)>,
    directories: BTreeMap<Vec<u8>, (i64, u32)>,
    directory_bytes: usize,
    /// Large, so that most files take one write; one for all of them.
    buffer: Vec<u8>,
    beneath: Beneath<'a>,
    copied_bytes: u64,
    limits: &'a Limits,
}

impl Tree<'_> {
    fn open<'a>(
        root: &Path,
        trash: &Path,
        beneath: Beneath<'a>,
        limits: &'a Limits,
    ) -> io::Result<Tree<'a>> {
        let open = |path: &Path| {
            fs::open(
                path,
                OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                Mode::empty(),
            )
        };
        Ok(Tree {
            root: open(root)?,
            trash: open(trash)?,
            thrown_away: 0,
            parent: None,
            directories: BTreeMap::new(),
            directory_bytes: 0,
            buffer: vec![0; FILE_BUFFER],
            beneath,
            copied_bytes: 0,
            limits,
        })
    }

    fn apply(&mut self, path: &[u8], entry: &Entry, data: &mut impl Read) -> Result<(), Fault> {
        if path.is_empty() {
            return self.apply_root(entry);
        }
        let (directory, name) = split(path);
        if let Some(hidden) = name.strip_prefix(b".wh.") {
            return self.apply_whiteout(directory, hidden);
        }
        let parent = self.open_parent(directory)?;
        self.create(parent.as_fd(), path, name, entry, data)?;
        self.parent = Some((directory.to_vec(), parent));
        Ok(())
    }

    fn apply_root(&mut self, entry: &Entry) -> Result<(), Fault> {
        if entry.kind != Kind::Directory {
            return Err(Fault::Refused(
                "the layer's root must be a directory".into(),
            ));
        }
        let root = fs::openat(
            &self.root,
            ".",
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        metadata::set(root.as_fd(), entry)?;
        fs::fsetxattr(&root, OWN_ROOT, b"y", XattrFlags::empty())?;
        self.remember_times(b"", entry.modified)
    }

    fn apply_whiteout(&mut self, directory: &[u8], hidden: &[u8]) -> Result<(), Fault> {
        let parent = self.open_parent(directory)?;
        if hidden == b".wh..opq" {
            fs::setxattr(
                metadata::by_descriptor(parent.as_fd(), b""),
                OPAQUE,
                b"y",
                XattrFlags::empty(),
            )?;
        } else if hidden.starts_with(b".wh.") {
            // Book-keeping of aufs, of no meaning to anybody else.
        } else if matches!(hidden, b"" | b"." | b"..") {
            return Err(Fault::Refused("it hides no name".into()));
        } else {
            let name = c_string(hidden)?;
            self.clear(parent.as_fd(), &name)?;
            fs::mknodat(&parent, &name, FileType::CharacterDevice, Mode::empty(), 0)?;
        }
        Ok(())
    }

    fn create(
        &mut self,
        parent: BorrowedFd<'_>,
        path: &[u8],
        name: &[u8],
        entry: &Entry,
        data: &mut impl Read,
    ) -> Result<(), Fault> {
        let name = c_string(name)?;
        if entry.kind == Kind::Directory {
            self.create_directory(parent, &name, entry)?;
            self.remember_times(path, entry.modified)?;
            return Ok(());
        }
        if matches!(entry.kind, Kind::CharacterDevice { major: 0, minor: 0 }) {
            // It would act as a whiteout, which a layer has to write as `.wh.`.
            return Ok(());
        }
        // The target is looked up first: an entry may be a link to what it replaces.
        let target = match &entry.kind {
            Kind::HardLink(target) => Some(self.open_link_target(target)?),
            _ => None,
        };
        if let Some((directory, last)) = &target
            && same_file(directory.as_fd(), last, parent, &name)
        {
            return Ok(());
        }
        self.clear(parent, &name)?;
        match &entry.kind {
            Kind::File => write_file(parent, &name, entry, data, &mut self.buffer)?,
            Kind::Symlink(target) => {
                if target.is_empty() || target.len() > self.limits.path_bytes || target.contains(&0)
                {
                    return Err(Fault::Refused("its target is no path".into()));
                }
                fs::symlinkat(OsStr::from_bytes(target), parent, &name)?;
                metadata::set_by_name(parent, &name, entry)?;
            }
            Kind::HardLink(_) => {
                let (directory, last) = target.expect("opened above for every hard link");
                fs::linkat(directory, &last, parent, &name, AtFlags::empty())?;
            }
            Kind::CharacterDevice { major, minor } => make_node(
                parent,
                &name,
                entry,
                FileType::CharacterDevice,
                fs::makedev(*major, *minor),
            )?,
            Kind::BlockDevice { major, minor } => make_node(
                parent,
                &name,
                entry,
                FileType::BlockDevice,
                fs::makedev(*major, *minor),
            )?,
            Kind::Fifo => make_node(parent, &name, entry, FileType::Fifo, 0)?,
            Kind::Directory => {}
        }
        Ok(())
    }

    /// An existing directory keeps its content and takes the new metadata.
    fn create_directory(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &CString,
        entry: &Entry,
    ) -> Result<(), Fault> {
        let open = || {
            fs::openat(
                parent,
                name,
                OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                Mode::empty(),
            )
        };
        let mut hides_lower = false;
        let directory = match open() {
            Ok(directory) => directory,
            Err(Errno::NOENT) => {
                fs::mkdirat(parent, name, Mode::RWXU)?;
                open()?
            }
            Err(Errno::NOTDIR | Errno::LOOP | Errno::NXIO) => {
                // Hidden and made anew within one layer: the lower one stays hidden.
                hides_lower = is_whiteout(parent, name)?;
                self.clear(parent, name)?;
                fs::mkdirat(parent, name, Mode::RWXU)?;
                open()?
            }
            Err(error) => return Err(error.into()),
        };
        if hides_lower {
            fs::fsetxattr(&directory, OPAQUE, b"y", XattrFlags::empty())?;
        }
        metadata::set(directory.as_fd(), entry)?;
        Ok(())
    }

    fn open_parent(&mut self, directory: &[u8]) -> Result<OwnedFd, Fault> {
        if let Some((path, descriptor)) = self.parent.take()
            && path == directory
        {
            return Ok(descriptor);
        }
        match self.open_within(directory) {
            Err(Errno::NOENT) => self.make_parents(directory),
            Err(Errno::NOTDIR) => Err(Fault::Refused("its parent is no directory".into())),
            other => Ok(other?),
        }
    }

    /// Directories that the archive does not mention: 0755, root's.
    fn make_parents(&mut self, directory: &[u8]) -> Result<OwnedFd, Fault> {
        let mut current = self.open_within(b"")?;
        let ends = directory
            .iter()
            .enumerate()
            .filter(|(_, b)| **b == b'/')
            .map(|(i, _)| i)
            .chain([directory.len()]);
        for end in ends {
            let path = &directory[..end];
            current = match self.open_within(path) {
                Ok(found) => found,
                Err(Errno::NOENT) => {
                    match fs::mkdirat(
                        &current,
                        &c_string(split(path).1)?,
                        Mode::from_raw_mode(0o755),
                    ) {
                        Err(Errno::EXIST) => {
                            return Err(Fault::Refused(
                                "its parent is a link to nowhere in this layer".into(),
                            ));
                        }
                        made => made?,
                    }
                    self.open_within(path)?
                }
                Err(error) => return Err(error.into()),
            };
        }
        Ok(current)
    }

    fn open_within(&self, path: &[u8]) -> rustix::io::Result<OwnedFd> {
        let path = if path.is_empty() { &b"."[..] } else { path };
        fs::openat2(
            &self.root,
            OsStr::from_bytes(path),
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        )
    }

    /// Removes what bears the name, whole directories by moving them to the trash.
    fn clear(&mut self, parent: BorrowedFd<'_>, name: &CString) -> io::Result<()> {
        match fs::unlinkat(parent, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::ISDIR | Errno::PERM) => {
                self.thrown_away += 1;
                fs::renameat(parent, name, &self.trash, self.thrown_away.to_string())?;
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn remember_times(&mut self, path: &[u8], modified: (i64, u32)) -> Result<(), Fault> {
        if self.directories.insert(path.to_vec(), modified).is_none() {
            self.directory_bytes += path.len() + 64;
        }
        let limit = self.limits.directory_path_bytes;
        if self.directory_bytes > limit {
            Err(Fault::TooMuch("bytes of directory names", limit as u64))
        } else {
            Ok(())
        }
    }

    /// Last, because creating an entry changes its directory's time. The map is
    /// sorted, so in reverse every directory comes after what it holds.
    fn set_directory_times(&mut self) -> io::Result<()> {
        for (path, modified) in self.directories.iter().rev() {
            let path = if path.is_empty() { &b"."[..] } else { path };
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
            match fs::openat2(
                &self.root,
                OsStr::from_bytes(path),
                flags,
                Mode::empty(),
                resolve,
            ) {
                Ok(directory) => fs::futimens(&directory, &metadata::times(*modified))?,
                // Replaced by a later entry.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

fn write_file(
    parent: BorrowedFd<'_>,
    name: &CString,
    entry: &Entry,
    data: &mut impl Read,
    buffer: &mut [u8],
) -> Result<(), Fault> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR)?);
    match &entry.sparse {
        Some(sparse) => write_sparse(&mut file, sparse, data, buffer)?,
        None => copy(data, &mut file, buffer)?,
    }
    metadata::set(file.as_fd(), entry)?;
    fs::futimens(&file, &metadata::times(entry.modified))?;
    Ok(())
}

fn write_sparse(
    file: &mut File,
    sparse: &Sparse,
    data: &mut impl Read,
    buffer: &mut [u8],
) -> Result<(), Fault> {
    for (offset, length) in &sparse.segments {
        if offset
            .checked_add(*length)
            .is_none_or(|end| end > sparse.size)
        {
            return Err(Fault::Refused("a piece lies beyond the file's end".into()));
        }
        file.seek(SeekFrom::Start(*offset))?;
        copy(&mut data.by_ref().take(*length), file, buffer)?;
    }
    file.set_len(sparse.size)?;
    Ok(())
}

fn copy(data: &mut impl Read, file: &mut File, buffer: &mut [u8]) -> io::Result<()> {
    loop {
        match data.read(buffer)? {
            0 => return Ok(()),
            n => file.write_all(&buffer[..n])?,
        }
    }
}

fn make_node(
    parent: BorrowedFd<'_>,
    name: &CString,
    entry: &Entry,
    kind: FileType,
    device: u64,
) -> Result<(), Fault> {
    fs::mknodat(parent, name, kind, Mode::RUSR | Mode::WUSR, device)?;
    Ok(metadata::set_by_name(parent, name, entry)?)
}

fn is_whiteout(parent: BorrowedFd<'_>, name: &CString) -> io::Result<bool> {
    let stat = fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0)
}

fn same_file(a: BorrowedFd<'_>, a_name: &CString, b: BorrowedFd<'_>, b_name: &CString) -> bool {
    let stat = |parent, name: &CString| {
        fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).map(|stat| (stat.st_dev, stat.st_ino))
    };
    matches!((stat(a, a_name), stat(b, b_name)), (Ok(a), Ok(b)) if a == b)
}

fn c_string(name: &[u8]) -> Result<CString, Fault> {
    CString::new(name).map_err(|_| Fault::Refused("its name holds a zero byte".into()))
}
