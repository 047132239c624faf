//! Pulling: from a name to an image on disk.
//!
//! Flow: places → description → layers in parallel (each downloaded, verified
//! and unpacked in one pass) → remembered. Guarantees: one pull per name however
//! many wait; one download per layer; a pull that nobody waits for any more is
//! given up; a failed pull leaves the whole layers it got, for the next attempt.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use crate::digest::Digest;
use crate::layer::{self, Wanted};
use crate::manifest::{Descriptor, Platform};
use crate::pins::Pins;
use crate::reference::{Place, Reference};
use crate::registry::{self, Description};
use crate::store::{Image, Store, lower_dirs};
use crate::trash;
use crate::unpack::Error as UnpackError;

/// Pieces of a layer between the network and the disk.
const PIECES_IN_FLIGHT: usize = 32;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Compressed bytes that are here.
    pub done: u64,
    /// Compressed bytes of the whole image; 0 until its manifest is known.
    pub total: u64,
}

/// Whether a name that is known here is asked for again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    IfAbsent,
    /// Marathon's `forcePullImage`: the tag may mean another image by now.
    Always,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("pull image {image}: no registry is set where it could be found")]
    Nowhere { image: String },
    #[error("pull image {image}")]
    Registry {
        image: String,
        source: registry::Error,
    },
    #[error("pull image {image}: layer {layer} is refused")]
    Layer {
        image: String,
        layer: Digest,
        source: layer::Error,
    },
    #[error("pull image {image}: layer {layer} is of a kind that may not be distributed ({kind})")]
    Foreign {
        image: String,
        layer: Digest,
        kind: String,
    },
    #[error("pull image {image}: the image store cannot keep it")]
    Keep { image: String, source: io::Error },
    #[error("pull image {image}: the pull was ended from within")]
    Ended { image: String },
}

impl Error {
    /// Whether trying again later may help, without anybody changing the image,
    /// its name or the registry's content.
    pub fn is_transient(&self) -> bool {
        match self {
            Error::Registry { source, .. } => source.is_transient(),
            Error::Layer { source, .. } => match source {
                layer::Error::Ended | layer::Error::Keep(_) => true,
                layer::Error::Unpack(error) => error.is_nodes_fault(),
                layer::Error::Corrupt { .. } | layer::Error::OtherContent { .. } => false,
            },
            Error::Keep { .. } | Error::Ended { .. } => true,
            Error::Nowhere { .. } | Error::Foreign { .. } => false,
        }
    }

    /// Whether the node's disk had no room for the image.
    pub fn is_for_want_of_room(&self) -> bool {
        let source = match self {
            Error::Layer { source, .. } => match source {
                layer::Error::Keep(error) => Some(error),
                layer::Error::Unpack(error) => error.of_the_disk(),
                _ => None,
            },
            Error::Keep { source, .. } => Some(source),
            _ => None,
        };
        let kinds = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        source.is_some_and(|error| kinds.contains(&error.kind()))
    }
}

type Outcome = Result<Image, Arc<Error>>;

/// A pull under way, as its waiters see it.
pub(crate) struct Flight(watch::Sender<(Progress, Option<Outcome>)>);

impl Store {
    /// Returns the image once it is wholly on disk. `on_progress` is called with
    /// growing numbers, also when somebody else's pull is joined. Dropping the
    /// future is safe; the pull ends when the last waiter is gone.
    pub async fn pull(
        self: &Arc<Store>,
        name: &Reference,
        policy: Policy,
        mut on_progress: impl FnMut(Progress),
    ) -> Outcome {
        if policy == Policy::IfAbsent
            && let Some(image) = self.find(name)
        {
            return Ok(image);
        }
        let mut watching = self.join_flight(name);
        loop {
            let (progress, outcome) = watching.borrow_and_update().clone();
            on_progress(progress);
            if let Some(outcome) = outcome {
                return outcome;
            }
            if watching.changed().await.is_err() {
                return Err(Arc::new(Error::Ended {
                    image: name.short(),
                }));
            }
        }
    }

    fn join_flight(
        self: &Arc<Store>,
        name: &Reference,
    ) -> watch::Receiver<(Progress, Option<Outcome>)> {
        let mut known = self.known();
        if let Some(Flight(sender)) = known.flights.get(name) {
            return sender.subscribe();
        }
        let (sender, receiver) = watch::channel((Progress::default(), None));
        known.flights.insert(name.clone(), Flight(sender.clone()));
        tokio::spawn(fly(self.clone(), name.clone(), sender));
        receiver
    }
}

/// Runs the pull until it is done or unwanted, and takes it off the board in
/// either case.
async fn fly(
    store: Arc<Store>,
    name: Reference,
    sender: watch::Sender<(Progress, Option<Outcome>)>,
) {
    let mut landing = Landing {
        store: &store,
        name: &name,
        on_board: true,
    };
    let pull = Pull {
        store: store.clone(),
        name: name.clone(),
        done: AtomicU64::new(0),
        total: AtomicU64::new(0),
        sender: sender.clone(),
    };
    let pull = Arc::new(pull);
    let work = run(pull);
    tokio::pin!(work);
    let outcome = loop {
        tokio::select! {
            outcome = &mut work => break Some(outcome),
            () = sender.closed() => {
                // Somebody may join between the last waiter's leaving and here.
                let mut known = store.known();
                if sender.receiver_count() == 0 {
                    known.flights.remove(&name);
                    landing.on_board = false;
                    break None;
                }
            }
        }
    };
    // Whoever hears the outcome may close the store at once.
    drop(landing);
    drop(store);
    if let Some(outcome) = outcome {
        sender.send_modify(|seen| seen.1 = Some(outcome.map_err(Arc::new)));
    }
}

/// Takes the flight off the board even if the pull panics, so that the next one
/// begins anew instead of waiting for ever.
struct Landing<'a> {
    store: &'a Store,
    name: &'a Reference,
    on_board: bool,
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        if self.on_board {
            self.store.known().flights.remove(self.name);
        }
    }
}

struct Pull {
    store: Arc<Store>,
    name: Reference,
    done: AtomicU64,
    total: AtomicU64,
    sender: watch::Sender<(Progress, Option<Outcome>)>,
}

impl Pull {
    fn image(&self) -> String {
        self.name.short()
    }

    fn advance(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let total = self.total.load(Ordering::Relaxed);
        self.sender.send_modify(|seen| {
            seen.0 = Progress {
                done: done.max(seen.0.done),
                total,
            }
        });
    }
}

async fn run(pull: Arc<Pull>) -> Result<Image, Error> {
    let (place, description) = find(&pull).await?;
    let Description {
        manifest,
        id,
        configuration,
        layers,
    } = description;
    let diff_ids = configuration.rootfs.diff_ids;
    if let Some(foreign) = layers.iter().find(|layer| {
        layer.media_type.contains("nondistributable") || layer.media_type.contains("foreign")
    }) {
        return Err(Error::Foreign {
            image: pull.image(),
            layer: foreign.digest.clone(),
            kind: foreign.media_type.clone(),
        });
    }
    let size = layers.iter().map(|layer| layer.size).sum();
    pull.total.store(size, Ordering::Relaxed);
    let chain = chain_ids(&diff_ids);
    let counted_on = diff_ids.iter().chain(&chain).cloned().collect();
    let _pins = Pins::new(&pull.store, &mut pull.store.known(), counted_on);
    let layers = layers.into_iter().zip(diff_ids).zip(chain);
    let layers = layers.map(|((blob, diff_id), chain_id)| Layer {
        blob,
        diff_id,
        chain_id,
    });
    let layers = fetch_layers(&pull, &place, layers.collect()).await?;

    let image = Image {
        id,
        manifest,
        config: configuration.config,
        layers,
        size,
        store: pull.store.dir.clone(),
    };
    let (keeper, kept) = (pull.clone(), image.clone());
    let remembered =
        tokio::task::spawn_blocking(move || keeper.store.remember(&keeper.name, &kept)).await;
    match remembered {
        Ok(Ok(())) => Ok(image),
        Ok(Err(source)) => Err(Error::Keep {
            image: pull.image(),
            source,
        }),
        Err(_) => Err(Error::Ended {
            image: pull.image(),
        }),
    }
}

/// Asks the places in order. One that cannot answer ends the search: what a later
/// place holds under the same name may be another image.
async fn find(pull: &Pull) -> Result<(Place, Description), Error> {
    let mut absent = None;
    for place in pull.store.registries.places(&pull.name) {
        match pull
            .store
            .client
            .describe(&place, pull.name.version(), &Platform::here())
            .await
        {
            Ok(description) => return Ok((place, description)),
            Err(error) if error.is_absence() => absent = absent.or(Some(error)),
            Err(source) => {
                return Err(Error::Registry {
                    image: pull.image(),
                    source,
                });
            }
        }
    }
    Err(match absent {
        Some(source) => Error::Registry {
            image: pull.image(),
            source,
        },
        None => Error::Nowhere {
            image: pull.image(),
        },
    })
}

/// One layer of an image.
#[derive(Clone)]
struct Layer {
    blob: Descriptor,
    diff_id: Digest,
    /// Names it together with all beneath it.
    chain_id: Digest,
}

/// The name of each layer together with those beneath it, as OCI has it.
fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Option<Digest> = None;
    let link = |diff_id: &Digest| {
        let next = match &chain {
            None => diff_id.clone(),
            Some(beneath) => Digest::of(format!("{beneath} {diff_id}").as_bytes()),
        };
        chain.insert(next).clone()
    };
    diff_ids.iter().map(link).collect()
}

/// Returns the names by which the store has the layers. All at once, each by itself; then those
/// that turned out to link into layers beneath, from the bottom.
async fn fetch_layers(
    pull: &Arc<Pull>,
    place: &Place,
    layers: Vec<Layer>,
) -> Result<Vec<Digest>, Error> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let permits = Arc::new(Semaphore::new(cores));
    let mut tasks = JoinSet::new();
    for (n, layer) in layers.iter().cloned().enumerate() {
        let (pull, place, permits) = (pull.clone(), place.clone(), permits.clone());
        let beneath = (n == 0).then(Vec::new);
        tasks.spawn(async move {
            let _permit = permits.acquire().await;
            let name = fetch_layer(&pull, &place, layer, beneath).await?;
            Ok((n, name))
        });
    }
    let mut names = vec![None; layers.len()];
    // The first failure drops the set, and with it the other downloads.
    while let Some(done) = tasks.join_next().await {
        let (n, name) = done.map_err(|_| Error::Ended {
            image: pull.image(),
        })??;
        names[n] = name;
    }
    let mut whole = Vec::new();
    for (layer, name) in layers.into_iter().zip(names) {
        let name = match name {
            Some(name) => Some(name),
            None => {
                let beneath = lower_dirs(&pull.store.dir, &whole);
                fetch_layer(pull, place, layer, Some(beneath)).await?
            }
        };
        whole.push(name.ok_or_else(|| Error::Ended {
            image: pull.image(),
        })?);
    }
    Ok(whole)
}

/// Returns the name by which the store has the layer. `beneath`: the directories of those beneath
/// it, top first; `None`: they are not known, and if they matter the answer is `None`.
async fn fetch_layer(
    pull: &Arc<Pull>,
    place: &Place,
    layer: Layer,
    beneath: Option<Vec<PathBuf>>,
) -> Result<Option<Digest>, Error> {
    let bottom = beneath.as_ref().is_some_and(Vec::is_empty);
    let name = match beneath {
        Some(_) if !bottom => layer.chain_id.clone(),
        _ => layer.diff_id.clone(),
    };
    let lock = {
        let mut locks = pull
            .store
            .layer_locks
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        locks.retain(|_, lock| Arc::strong_count(lock) > 1);
        locks.entry(name.clone()).or_default().clone()
    };
    let _alone = lock.lock().await;
    for name in [&name, &layer.chain_id] {
        if pull.store.layer_path(name).is_dir() {
            pull.advance(layer.blob.size);
            return Ok(Some(name.clone()));
        }
    }
    let (sender, receiver) = mpsc::channel(PIECES_IN_FLIGHT);
    let (unpacker, wanted, kept) = (pull.clone(), layer.clone(), name.clone());
    let unpacking = tokio::task::spawn_blocking(move || {
        let mut source = Pieces {
            receiver,
            piece: Vec::new(),
            read: 0,
            passed: 0,
            pull: &unpacker,
        };
        let wanted = Wanted {
            blob: &wanted.blob.digest,
            size: wanted.blob.size,
            diff_id: &wanted.diff_id,
            beneath: beneath.as_deref(),
        };
        let done = keep(&unpacker.store, &mut source, &wanted, &kept);
        if done.is_err() {
            // Whoever tries again counts from the start.
            unpacker.done.fetch_sub(source.passed, Ordering::Relaxed);
        }
        done
    });
    let fed = pull.store.client.blob(place, &layer.blob, sender).await;
    let unpacked = unpacking.await.map_err(|_| Error::Ended {
        image: pull.image(),
    })?;
    // A broken download explains why the layer ended early, so it goes first.
    fed.map_err(|source| Error::Registry {
        image: pull.image(),
        source,
    })?;
    match unpacked {
        Ok(()) => Ok(Some(name)),
        Err(layer::Error::Unpack(UnpackError::LinksBelow { .. })) => Ok(None),
        Err(source) => Err(Error::Layer {
            image: pull.image(),
            layer: layer.blob.digest,
            source,
        }),
    }
}

/// Unpacks into a room of its own; only what is whole, verified and synced gets
/// the layer's name.
fn keep(
    store: &Store,
    source: impl Read,
    wanted: &Wanted<'_>,
    name: &Digest,
) -> Result<(), layer::Error> {
    let room = store.room();
    let applied = layer::apply(source, wanted, &room, &store.limits);
    let named = applied.and_then(|()| {
        give_name(&room.join("root"), &store.layer_path(name)).map_err(layer::Error::Keep)
    });
    if let Err(error) = trash::remove(&room) {
        tracing::warn!("Left {}, which cannot be removed: {error}", room.display());
    }
    named
}

fn give_name(root: &Path, layer: &Path) -> io::Result<()> {
    match std::fs::rename(root, layer) {
        // A download that was given up may still have finished.
        Err(_) if layer.is_dir() => return Ok(()),
        other => other?,
    }
    std::fs::File::open(layer.parent().unwrap_or(layer))?.sync_all()
}

/// The download as a reader; ends when the feeding side is gone.
struct Pieces<'a> {
    receiver: mpsc::Receiver<Vec<u8>>,
    piece: Vec<u8>,
    read: usize,
    /// Bytes that came, all in all.
    passed: u64,
    pull: &'a Pull,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.read == self.piece.len() {
            let Some(piece) = self.receiver.blocking_recv() else {
                return Ok(0);
            };
            self.pull.advance(piece.len() as u64);
            self.passed += piece.len() as u64;
            (self.piece, self.read) = (piece, 0);
        }
        let n = buffer.len().min(self.piece.len() - self.read);
        buffer[..n].copy_from_slice(&self.piece[self.read..self.read + n]);
        self.read += n;
        Ok(n)
    }
}
