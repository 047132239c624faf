//! Hard links, whose target another entry of the archive has brought, or a layer beneath.
//!
//! The latter comes from builders that write only what has changed: a new name for an old file.
//! The file then belongs to this layer too, as after an overlayfs copy-up: all its names here are
//! one file, and what lies beneath is hidden by it. So such a layer's content depends on what
//! lies beneath it. It is unpacked with that in view, and kept under the name of the whole chain
//! (the OCI chain id, as `pull` has it), where all others are kept by their own digest, unpacked
//! side by side and shared whatever lies beneath. The entry is carried out where it stands in the
//! archive, so that entries after it replace or hide the link or its target as any other file.

use std::collections::VecDeque;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, Stat};

use super::{Beneath, Fault, OPAQUE, Tree, c_string, is_whiteout, normalise, split};
use crate::below::{Below, look, open};
use crate::metadata;

/// As many as the kernel follows.
const LINKS_FOLLOWED: usize = 40;

/// What an image of this layer and those beneath would have at a path.
enum Seen {
    Own(OwnedFd),
    Below(OwnedFd),
    Nothing,
}

impl Tree<'_> {
    /// The directory that holds the target in this layer, where it is brought if need be, and its
    /// name there.
    pub(super) fn open_link_target(&mut self, target: &[u8]) -> Result<(OwnedFd, CString), Fault> {
        let clean = normalise(target, self.limits)
            .map_err(|reason| Fault::Refused(format!("its link target is refused: {reason}")))?;
        let (directory, name) = split(&clean);
        let name = c_string(name)?;
        // Almost always it is here, just unpacked.
        if let Ok(parent) = self.open_within(directory)
            && fs::statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
            && !is_whiteout(parent.as_fd(), &name)?
        {
            return Ok((parent, name));
        }
        match self.resolve(&clean)? {
            Some(path) => self.open_resolved(&path),
            None => Err(Fault::Refused(format!(
                "it links to {}, which neither this layer nor one beneath it holds",
                String::from_utf8_lossy(target)
            ))),
        }
    }

    /// The path without links on the way to what `target` means; `None`: to nothing.
    fn resolve(&self, target: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        let mut left: VecDeque<Vec<u8>> = components(target).collect();
        let (mut real, mut followed) = (Vec::new(), 0);
        while let Some(component) = left.pop_front() {
            if component == b".." {
                real.truncate(split(&real).0.len());
                continue;
            }
            let path = match real.is_empty() {
                true => component,
                false => [&real[..], b"/", &component].concat(),
            };
            let (Seen::Own(found) | Seen::Below(found)) = self.see(&path)? else {
                return Ok(None);
            };
            match kind(&fs::fstat(&found)?) {
                _ if left.is_empty() => return Ok(Some(path)),
                FileType::Directory => real = path,
                FileType::Symlink if followed < LINKS_FOLLOWED => {
                    followed += 1;
                    let link = fs::readlinkat(&found, "", Vec::new())?.into_bytes();
                    if link.starts_with(b"/") {
                        real.clear();
                    }
                    for component in components(&link).rev() {
                        left.push_front(component);
                    }
                }
                _ => return Ok(None),
            }
        }
        Ok(None)
    }

    /// `path` leads through directories only.
    fn see(&self, path: &[u8]) -> Result<Seen, Fault> {
        if let Some(own) = look(self.root.as_fd(), path)? {
            let stat = fs::fstat(&own)?;
            let whiteout = kind(&stat) == FileType::CharacterDevice && stat.st_rdev == 0;
            return Ok(if whiteout {
                Seen::Nothing
            } else {
                Seen::Own(own)
            });
        }
        if self.hides_all_beneath(split(path).0)? {
            return Ok(Seen::Nothing);
        }
        match self.beneath {
            Beneath::Unknown => Err(Fault::LinksBelow),
            Beneath::Nothing => Ok(Seen::Nothing),
            Beneath::View(below) => Ok(match below.look(path)? {
                Some(found) => Seen::Below(found),
                None => Seen::Nothing,
            }),
        }
    }

    /// Whether this layer's own directory, or one that it lies in, shows nothing of the layers
    /// beneath.
    fn hides_all_beneath(&self, directory: &[u8]) -> Result<bool, Fault> {
        let mut path = directory;
        loop {
            if let Some(own) = look(self.root.as_fd(), path)? {
                let own = metadata::by_descriptor(own.as_fd(), b"");
                if fs::getxattr(&own, OPAQUE, &mut [0; 1][..]).is_ok() {
                    return Ok(true);
                }
            }
            if path.is_empty() {
                return Ok(false);
            }
            path = split(path).0;
        }
    }

    /// `path` is what `resolve` gave.
    fn open_resolved(&mut self, path: &[u8]) -> Result<(OwnedFd, CString), Fault> {
        let (directory, name) = split(path);
        let name = c_string(name)?;
        let Beneath::View(below) = self.beneath else {
            return Ok((self.open_within(directory)?, name));
        };
        let parent = self.copy_directories(directory, below)?;
        if let Seen::Below(found) = self.see(path)? {
            let stat = fs::fstat(&found)?;
            if kind(&stat) == FileType::Directory {
                return Err(Fault::Refused("it links to a directory".into()));
            }
            self.copied_bytes += u64::try_from(stat.st_size).unwrap_or(0);
            if self.copied_bytes > self.limits.bytes {
                return Err(Fault::TooMuch("bytes of layers beneath", self.limits.bytes));
            }
            below.copy((directory, &name), parent.as_fd(), &name)?;
        }
        Ok((parent, name))
    }

    /// Those that this layer lacks are made as they are beneath.
    fn copy_directories(&mut self, directory: &[u8], below: &Below) -> Result<OwnedFd, Fault> {
        let ends = directory.iter().enumerate().filter(|(_, b)| **b == b'/');
        let ends: Vec<usize> = ends.map(|(i, _)| i).chain([directory.len()]).collect();
        for end in ends {
            let path = &directory[..end];
            if path.is_empty() || look(self.root.as_fd(), path)?.is_some() {
                continue;
            }
            let (parent, name) = split(path);
            let parent = self.open_within(parent)?;
            fs::mkdirat(&parent, &c_string(name)?, Mode::RWXU)?;
            let from = below.open_directory(path)?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let own = open(self.root.as_fd(), path, flags)?;
            metadata::copy(from.as_fd(), own.as_fd())?;
            let stat = fs::fstat(&from)?;
            let nanoseconds = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
            self.remember_times(path, (stat.st_mtime, nanoseconds))?;
        }
        Ok(self.open_within(directory)?)
    }
}

fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = Vec<u8>> + '_ {
    let components = path.split(|b| *b == b'/');
    let real = components.filter(|component| !matches!(*component, b"" | b"."));
    real.map(<[u8]>::to_vec)
}

fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}
