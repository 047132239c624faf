//! The node's images on disk: unpacked layers by the digest of their content,
//! images by the digest of their configuration, and which name meant which image.
//!
//! ```text
//! <dir>/lock              held by the process that opened the store
//!       layers/<diff id>/  complete, synced, never changed
//!       layers/<chain id>/ of a layer that links into layers beneath it
//!       images/<id>.json   written after all its layers; its time is the last use
//!       names/<hash>.json  name → image, as last resolved
//!       empty/             lower directory of an image without layers
//!       gone/              layers that lost their names, on their way out
//!       tmp/               whatever is there at `open` belongs to a killed pull
//! ```
//!
//! Guarantee: what has its name here is whole, at every instant and after a power
//! cut. Assumption: only this process writes below `dir` (the lock).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::layer;
use crate::manifest::ImageConfig;
use crate::mount;
use crate::pull::Flight;
use crate::reference::{Reference, Registries};
use crate::registry::{self, Client};
use crate::trash::{self, Space};
use crate::unpack::Limits;

/// An image that is wholly on this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Digest of the configuration; two names for one image share it.
    pub id: Digest,
    /// Digest of the manifest, as `name@sha256:…` takes it.
    pub manifest: Digest,
    pub config: ImageConfig,
    /// Bottom first, by uncompressed digest; one that links into layers beneath, by the digest of
    /// the chain up to it.
    pub layers: Vec<Digest>,
    /// Compressed bytes of all layers.
    pub size: u64,
    #[serde(skip)]
    pub(crate) store: PathBuf,
}

/// An image and the names by which it was pulled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub image: Image,
    pub names: Vec<Reference>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("image store {dir} is in use by another process")]
    InUse { dir: PathBuf },
    #[error("image store {path} cannot be used")]
    Disk { path: PathBuf, source: io::Error },
    #[error("the registry client cannot be made")]
    Client(#[source] registry::Error),
    #[error("it cannot be found out which images are in use")]
    Unknown(#[source] io::Error),
}

impl Error {
    /// For `map_err`.
    pub(crate) fn disk(path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Disk { path, source }
    }
}

impl Known {
    pub(crate) fn find(&self, name: &Reference) -> Option<&Image> {
        self.images.get(self.names.get(name)?)
    }

    pub(crate) fn names_of(&self, id: &Digest) -> Vec<Reference> {
        let of_it = self.names.iter().filter(|(_, image)| *image == id);
        of_it.map(|(name, _)| name.clone()).collect()
    }
}

pub struct Store {
    pub(crate) dir: PathBuf,
    pub(crate) client: Client,
    pub(crate) registries: Registries,
    pub(crate) limits: Limits,
    pub(crate) known: Mutex<Known>,
    /// One download of a layer at a time, whichever images want it.
    pub(crate) layer_locks: Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
    /// Held by whoever removes something.
    pub(crate) removing: Mutex<()>,
    numbers: AtomicU64,
    _lock: File,
}

#[derive(Default)]
pub(crate) struct Known {
    pub images: BTreeMap<Digest, Image>,
    pub names: BTreeMap<Reference, Digest>,
    pub flights: HashMap<Reference, Flight>,
    /// Layers that a pull counts on, though no image names them yet; images that are
    /// being mounted. How often, each.
    pub pinned: BTreeMap<Digest, usize>,
}

/// How full a file system is, as `df` counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    pub used: Space,
    /// To root's reserve nobody is entitled.
    pub available: Space,
}

#[derive(Serialize, Deserialize)]
struct Name {
    name: Reference,
    image: Digest,
}

impl Store {
    /// Opens or creates the store and clears what killed pulls left. Blocking.
    pub fn open(dir: &Path, registries: Registries) -> Result<Arc<Store>, Error> {
        Store::open_limited(dir, registries, Limits::default())
    }

    /// As `open`, with other caps on what a layer may hold.
    pub fn open_limited(
        dir: &Path,
        registries: Registries,
        limits: Limits,
    ) -> Result<Arc<Store>, Error> {
        let disk = |source| Error::Disk {
            path: dir.to_owned(),
            source,
        };
        for part in ["layers", "images", "names", "empty", "gone", "tmp"] {
            fs::create_dir_all(dir.join(part)).map_err(disk)?;
        }
        // Layers hold setuid programs: nobody but root may reach them by path.
        fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .map_err(disk)?;
        let lock = File::create(dir.join("lock")).map_err(disk)?;
        if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(Error::InUse {
                dir: dir.to_owned(),
            });
        }
        // An older kernel may have been joining layers at the moment of a kill.
        for room in fs::read_dir(dir.join("tmp")).map_err(disk)? {
            let below = room.map_err(disk)?.path().join(layer::BELOW);
            mount::unmount_root(&below).ok();
        }
        trash::empty(&dir.join("tmp")).map_err(disk)?;
        // In nobody's way: the next removal begins with it.
        if let Err(error) = trash::empty(&dir.join("gone")) {
            let dir = dir.display();
            tracing::warn!("Could not remove all that lies in {dir}/gone: {error}");
        }
        let known = load(dir).map_err(disk)?;
        let client = Client::new().map_err(Error::Client)?;
        Ok(Arc::new(Store {
            dir: dir.to_owned(),
            client,
            registries,
            limits,
            known: Mutex::new(known),
            layer_locks: Mutex::default(),
            removing: Mutex::default(),
            numbers: AtomicU64::new(0),
            _lock: lock,
        }))
    }

    /// The image that `name` meant when it was last resolved, if it is here.
    pub fn find(&self, name: &Reference) -> Option<Image> {
        self.known().find(name).cloned()
    }

    pub fn images(&self) -> Vec<Listed> {
        let known = self.known();
        known
            .images
            .values()
            .map(|image| Listed {
                image: image.clone(),
                names: known.names_of(&image.id),
            })
            .collect()
    }

    /// What the file system that holds the store has.
    pub fn disk(&self) -> Result<Disk, Error> {
        let stat =
            rustix::fs::statvfs(&self.dir).map_err(|error| Error::disk(&self.dir)(error.into()))?;
        let block = stat.f_frsize;
        Ok(Disk {
            used: Space {
                bytes: stat
                    .f_blocks
                    .saturating_sub(stat.f_bfree)
                    .saturating_mul(block),
                files: stat.f_files.saturating_sub(stat.f_ffree),
            },
            available: Space {
                bytes: stat.f_bavail.saturating_mul(block),
                files: stat.f_favail,
            },
        })
    }

    /// A fresh path under `tmp`.
    pub(crate) fn room(&self) -> PathBuf {
        self.dir.join("tmp").join(self.number().to_string())
    }

    /// One that this store has given to nothing else.
    pub(crate) fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn layer_path(&self, diff_id: &Digest) -> PathBuf {
        self.dir.join("layers").join(diff_id.hex())
    }

    pub(crate) fn image_path(&self, id: &Digest) -> PathBuf {
        self.dir.join("images").join(format!("{}.json", id.hex()))
    }

    pub(crate) fn name_path(&self, name: &Reference) -> PathBuf {
        self.dir.join("names").join(format!(
            "{}.json",
            Digest::of(name.to_string().as_bytes()).hex()
        ))
    }

    pub(crate) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a whole image under a name. Its layers have their names already.
    pub(crate) fn remember(&self, name: &Reference, image: &Image) -> io::Result<()> {
        let mut known = self.known();
        self.write(&self.image_path(&image.id), image)?;
        self.write(
            &self.name_path(name),
            &Name {
                name: name.clone(),
                image: image.id.clone(),
            },
        )?;
        known.images.insert(image.id.clone(), image.clone());
        known.names.insert(name.clone(), image.id.clone());
        Ok(())
    }

    fn write(&self, path: &Path, value: &impl Serialize) -> io::Result<()> {
        let room = self.room();
        let file = File::create(&room)?;
        serde_json::to_writer(&file, value)?;
        file.sync_all()?;
        fs::rename(&room, path)?;
        File::open(path.parent().unwrap_or(&self.dir))?.sync_all()
    }
}

impl Image {
    /// Lower directories for overlayfs, top first. A layer that occurs twice
    /// counts at its higher place: overlayfs refuses repetition, and the upper
    /// one hides the lower wholly.
    pub fn lower_dirs(&self) -> Vec<PathBuf> {
        let mut lower = lower_dirs(&self.store, &self.layers);
        if lower.is_empty() {
            lower.push(self.store.join("empty"));
        }
        lower
    }
}

/// The directories of `layers`, which are bottom first, as `Image::lower_dirs` has them.
pub(crate) fn lower_dirs(store: &Path, layers: &[Digest]) -> Vec<PathBuf> {
    let mut seen = BTreeSet::new();
    let unique = layers.iter().rev().filter(|layer| seen.insert(*layer));
    unique
        .map(|layer| store.join("layers").join(layer.hex()))
        .collect()
}

/// Reads what is remembered; an image whose layers are not all there, and a name
/// without an image, are forgotten.
fn load(dir: &Path) -> io::Result<Known> {
    let mut known = Known::default();
    for mut image in read_all::<Image>(&dir.join("images"))? {
        if image
            .layers
            .iter()
            .all(|layer| dir.join("layers").join(layer.hex()).is_dir())
        {
            image.store = dir.to_owned();
            known.images.insert(image.id.clone(), image);
        }
    }
    for Name { name, image } in read_all(&dir.join("names"))? {
        if known.images.contains_key(&image) {
            known.names.insert(name, image);
        }
    }
    Ok(known)
}

fn read_all<T: for<'de> Deserialize<'de>>(dir: &Path) -> io::Result<Vec<T>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        match serde_json::from_slice(&fs::read(&path)?) {
            Ok(value) => all.push(value),
            Err(error) => {
                tracing::warn!("Forgot {}, which cannot be read: {error}", path.display());
                fs::remove_file(&path)?;
            }
        }
    }
    Ok(all)
}

pub(crate) fn remove_file(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::Disk {
            path: path.to_owned(),
            source: error,
        }),
        _ => Ok(()),
    }
}
