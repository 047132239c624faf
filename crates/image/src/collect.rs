//! Removing what nobody needs, least recently used first: one image at a time, or one
//! layer that a failed pull has left. How much has to go is the caller's to know.
//!
//! ```text
//! lock ─ ask what is in use ─ choose ─ take the names away ─ unlock ─ sync ─ remove files
//! ```
//!
//! *Guarantees.* What is in use, mounted or counted on by a pull while the names are
//! taken away stays: nobody can begin to use anything meanwhile, because finding an image
//! needs the same lock. A layer loses its name by one rename into `gone`, which is on
//! disk before any file of the layer is touched; so a kill or a power cut at any moment
//! leaves layers that are whole, and what lies in `gone`, which is removed the next time.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::{Duration, SystemTime};

use crate::digest::Digest;
use crate::reference::Reference;
use crate::store::{Error, Image, Known, Store, remove_file};
use crate::trash::{self, Space};

/// What must stay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InUse {
    pub names: BTreeSet<Reference>,
    /// By id, whatever their names mean by now: those that are mounted.
    pub images: BTreeSet<Digest>,
    /// Those too whose last use is less long ago.
    pub lately: Duration,
}

/// What went, and what it took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    /// `None`: a layer of no image.
    pub image: Option<Image>,
    /// Those by which it was pulled.
    pub names: Vec<Reference>,
    pub freed: Space,
}

/// What has no name any more: an image, unless it was a layer of none, and the names it had.
type Detached = (Option<Image>, Vec<Reference>);

/// A candidate.
enum Spare {
    Image(Digest),
    /// By the name of its directory.
    Layer(PathBuf),
}

/// Seconds and nanoseconds since the epoch.
type Moment = (i64, i64);

impl Store {
    /// Removes the image or layer whose last use is longest ago among those that nobody
    /// uses; `None` when there is none. `in_use` is asked at the moment that counts, and
    /// answers `None` while it cannot know: then nothing goes. Nor does anything while an
    /// image is mounted that the store does not know. What an earlier call could not end is
    /// ended first, and is all that goes then. Blocking.
    ///
    /// # Errors
    /// What `in_use` or the disk answers.
    pub fn remove_oldest(
        &self,
        in_use: impl FnOnce() -> io::Result<Option<InUse>>,
    ) -> Result<Option<Removed>, Error> {
        let _alone = self.removing.lock().unwrap_or_else(PoisonError::into_inner);
        let (image, names) = match self.is_gone_empty()? {
            false => (None, Vec::new()),
            true => match self.detach_oldest(in_use)? {
                Some(detached) => detached,
                None => return Ok(None),
            },
        };
        let freed = self.empty_gone()?;
        Ok(Some(Removed {
            image,
            names,
            freed,
        }))
    }

    /// Marks an image as used now. Only its turn to be removed depends on it, so that a
    /// failure harms nothing.
    pub fn used(&self, id: &Digest) {
        let touch = || {
            let file = File::options().append(true).open(self.image_path(id))?;
            file.set_modified(SystemTime::now())
        };
        if let Err(error) = touch() {
            tracing::debug!("Could not note the use of image {id}: {error}");
        }
    }

    fn detach_oldest(
        &self,
        in_use: impl FnOnce() -> io::Result<Option<InUse>>,
    ) -> Result<Option<Detached>, Error> {
        let mut known = self.known();
        let Some(in_use) = in_use().map_err(Error::Unknown)? else {
            return Ok(None);
        };
        // Its description is lost: any layer may be one of its own.
        let is_lost = |id: &Digest| !known.images.contains_key(id);
        if in_use.images.iter().any(is_lost) {
            return Ok(None);
        }
        match self.oldest(&known, &in_use)? {
            None => Ok(None),
            Some(Spare::Layer(layer)) => {
                self.detach(&layer)?;
                Ok(Some((None, Vec::new())))
            }
            Some(Spare::Image(id)) => self.detach_image(&mut known, &id),
        }
    }

    fn oldest(&self, known: &Known, in_use: &InUse) -> Result<Option<Spare>, Error> {
        let mut spare: Vec<(Moment, Spare)> = Vec::new();
        let now = SystemTime::now();
        for id in known.images.keys() {
            let named =
                |(name, image): (&Reference, &Digest)| image == id && in_use.names.contains(name);
            let needed = in_use.images.contains(id)
                || known.pinned.contains_key(id)
                || known.names.iter().any(named);
            if !needed {
                let path = self.image_path(id);
                let metadata = fs::metadata(&path).map_err(Error::disk(&path))?;
                let used = metadata.modified().map_err(Error::disk(&path))?;
                let lately = now
                    .duration_since(used)
                    .is_ok_and(|ago| ago < in_use.lately);
                if !lately {
                    let used = (metadata.mtime(), metadata.mtime_nsec());
                    spare.push((used, Spare::Image(id.clone())));
                }
            }
        }
        let needed = known.needed_layers();
        for layer in self.layers()? {
            if layer
                .file_name()
                .is_none_or(|name| !needed.contains(name.as_bytes()))
            {
                // When it got its name: its own time is what the archive said.
                let metadata = fs::metadata(&layer).map_err(Error::disk(&layer))?;
                let named = (metadata.ctime(), metadata.ctime_nsec());
                spare.push((named, Spare::Layer(layer)));
            }
        }
        let oldest = spare.into_iter().min_by_key(|(moment, _)| *moment);
        Ok(oldest.map(|(_, spare)| spare))
    }

    /// Its description goes first: without it, layers that are still there belong to
    /// nobody.
    fn detach_image(&self, known: &mut Known, id: &Digest) -> Result<Option<Detached>, Error> {
        remove_file(&self.image_path(id))?;
        let Some(image) = known.images.remove(id) else {
            return Ok(None);
        };
        let names = known.names_of(id);
        for name in &names {
            known.names.remove(name);
            remove_file(&self.name_path(name))?;
        }
        let needed = known.needed_layers();
        let own: BTreeSet<&Digest> = image.layers.iter().collect();
        for layer in own {
            let path = self.layer_path(layer);
            if !needed.contains(layer.hex().as_bytes()) && path.exists() {
                self.detach(&path)?;
            }
        }
        Ok(Some((Some(image), names)))
    }

    fn detach(&self, layer: &Path) -> Result<(), Error> {
        let gone = self.dir.join("gone").join(self.number().to_string());
        fs::rename(layer, gone).map_err(Error::disk(layer))
    }

    fn is_gone_empty(&self) -> Result<bool, Error> {
        let gone = self.dir.join("gone");
        let mut entries = fs::read_dir(&gone).map_err(Error::disk(&gone))?;
        Ok(entries.next().is_none())
    }

    /// Only what has no name on disk any more may be touched.
    fn empty_gone(&self) -> Result<Space, Error> {
        for part in ["images", "names", "layers", "gone"] {
            let part = self.dir.join(part);
            let sync = || File::open(&part)?.sync_all();
            sync().map_err(Error::disk(&part))?;
        }
        let gone = self.dir.join("gone");
        let freed = trash::empty(&gone).map_err(Error::disk(&gone))?;
        // Some file systems count what was removed as free only then.
        let settle = || Ok(rustix::fs::syncfs(File::open(&gone)?)?);
        settle().map_err(Error::disk(&gone))?;
        Ok(freed)
    }

    fn layers(&self) -> Result<Vec<PathBuf>, Error> {
        let layers = self.dir.join("layers");
        let list = || {
            let entries = fs::read_dir(&layers)?;
            let paths = entries.map(|entry| Ok(entry?.path()));
            paths.collect::<io::Result<Vec<PathBuf>>>()
        };
        list().map_err(Error::disk(&layers))
    }
}

impl Known {
    /// The names of the directories of all layers that an image has or a pull counts on.
    fn needed_layers(&self) -> BTreeSet<&[u8]> {
        let of_images = self.images.values().flat_map(|image| &image.layers);
        let needed = of_images.chain(self.pinned.keys());
        needed.map(|layer| layer.hex().as_bytes()).collect()
    }
}
