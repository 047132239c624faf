//! Room for images: looks at the disk now and then, and removes images that nothing names when
//! they take up too much of it. How much has to go is `node::disk`'s word, what stays is
//! `node::jobs`', and what goes first `image::Store`'s.
//!
//! *Guarantee.* No image goes that an instance of the newest assignment names or has mounted, and
//! none at all unless that assignment is the current session's: the heart says what is named
//! before it begins anything that an assignment asks for, and the store asks at the moment when an
//! image loses its name.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use image::{InUse, Reference, Store};
use node::disk::{Excess, Fill, Marks};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::act::{self, Tools};
use crate::disk::Disk;
use crate::error::words;

const LOOK_EVERY: Duration = Duration::from_secs(10);
/// An image that was used since may be wanted again: by the successor of an instance that failed,
/// or by the next step of a deployment.
const LATELY: Duration = Duration::from_secs(120);

/// The store, and what keeps images in it.
#[derive(Clone)]
pub(crate) struct Images {
    pub store: Arc<Store>,
    disk: Disk,
    marks: Marks,
    /// What the assignment names; `None`: that is not known.
    named: watch::Sender<Option<BTreeSet<String>>>,
}

impl Images {
    pub fn new(store: Arc<Store>, disk: Disk, marks: Marks) -> Self {
        Self {
            store,
            disk,
            marks,
            named: watch::Sender::new(None),
        }
    }

    /// Says what stays from now on, as `node::jobs::images` has it.
    pub fn keep(&self, names: Option<BTreeSet<&str>>) {
        self.named.send_if_modified(|known| {
            let same = match (&names, &*known) {
                (Some(names), Some(known)) => names.iter().copied().eq(known.iter()),
                (names, known) => names.is_none() && known.is_none(),
            };
            if !same {
                *known = names.map(|names| names.into_iter().map(str::to_owned).collect());
            }
            !same
        });
    }

    /// Removes what nothing names, for a pull that found no room. Whether anything went.
    pub async fn make_room(&self) -> bool {
        let images = self.clone();
        let why = "an image found no room";
        let gone = act::blocking(move || images.remove(Excess::ALL, Duration::ZERO, why)).await;
        gone.unwrap_or_else(|error| {
            tracing::warn!("Could not make room for an image: {}", words(&error));
            false
        })
    }

    /// Removes what the marks ask for. Whether that was nothing, or anything went.
    fn look(&self) -> Result<bool, act::Error> {
        let disk = self.store.disk()?;
        let fill = |used, available| Fill { used, available };
        let bytes = fill(disk.used.bytes, disk.available.bytes);
        let files = fill(disk.used.files, disk.available.files);
        let excess = self.marks.excess(bytes, files);
        if excess.is_none() || self.named.borrow().is_none() {
            return Ok(true);
        }
        let (bytes, files) = (bytes.percent(), files.percent());
        let why = format!("{bytes} % of the disk and {files} % of its files were in use");
        self.remove(excess, LATELY, &why)
    }

    /// Removes until so much is free or all that is left is in use or was `lately`. Whether
    /// anything went.
    fn remove(&self, excess: Excess, lately: Duration, why: &str) -> Result<bool, act::Error> {
        let (mut left, mut gone) = (excess, Gone::default());
        let mut failure = None;
        while !left.is_none() && failure.is_none() {
            match self.store.remove_oldest(|| self.in_use(lately)) {
                Ok(Some(removed)) => {
                    left = left.less(removed.freed.bytes, removed.freed.files);
                    gone.add(&removed);
                }
                Ok(None) => break,
                Err(error) => failure = Some(error),
            }
        }
        if !gone.what.is_empty() {
            let (what, bytes) = (gone.what.join(", "), gone.bytes);
            tracing::info!(bytes, "Removed {what} ({bytes} bytes): {why}");
        }
        match failure {
            Some(error) => Err(error.into()),
            None => Ok(!gone.what.is_empty()),
        }
    }

    /// Runs while nobody can begin to use another image.
    fn in_use(&self, lately: Duration) -> io::Result<Option<InUse>> {
        // What is no name was never pulled.
        let parse = |name: &String| Reference::parse(name).ok();
        let names = |named: &BTreeSet<String>| named.iter().filter_map(parse).collect();
        let Some(names) = self.named.borrow().as_ref().map(names) else {
            return Ok(None);
        };
        let images = self.disk.mounted_images()?;
        Ok(Some(InUse {
            names,
            images,
            lately,
        }))
    }
}

/// What went, for the log.
#[derive(Default)]
struct Gone {
    what: Vec<String>,
    bytes: u64,
}

impl Gone {
    fn add(&mut self, removed: &image::Removed) {
        let names: Vec<String> = removed.names.iter().map(Reference::short).collect();
        self.what.push(match &removed.image {
            None => "a layer of no image".to_owned(),
            Some(image) if names.is_empty() => format!("image {}", image.id),
            Some(_) => format!("image {}", names.join(" alias ")),
        });
        self.bytes += removed.freed.bytes;
    }
}

/// Looks for ever.
pub(crate) async fn run(tools: Arc<Tools>) -> Infallible {
    let mut told = false;
    loop {
        sleep(LOOK_EVERY).await;
        let images = tools.images.clone();
        match act::blocking(move || images.look()).await {
            Ok(true) => told = false,
            // Said once, until it is better.
            Ok(false) if told => {}
            Ok(false) => {
                tracing::warn!(
                    "The disk of the images is too full, and every image is in use or was lately"
                );
                told = true;
            }
            Err(error) => tracing::warn!("Could not make room on the disk: {}", words(&error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_a_full_disk_nothing_goes_before_the_master_has_said_what_is_needed() {
        let home = tempfile::tempdir().expect("a temporary directory");
        let disk = Disk::open(home.path()).expect("open");
        let store = Store::open(&disk.images(), image::Registries::default()).expect("a store");
        let layer = disk.images().join("layers").join("0".repeat(64));
        std::fs::create_dir(&layer).expect("create");
        let always = Marks {
            high: 0,
            low: 0,
            free: u64::MAX,
        };
        let images = Images::new(store, disk, always);
        assert!(images.look().expect("look"));
        images.keep(Some(BTreeSet::from(["web:1"])));
        images.keep(None);
        assert!(images.look().expect("look"));
        assert!(!images.remove(Excess::ALL, LATELY, "").expect("remove"));
        assert!(layer.exists());

        images.keep(Some(BTreeSet::new()));
        assert!(images.look().expect("look"));
        assert!(!layer.exists());
        assert!(!images.look().expect("look"), "full, and nothing can go");
    }
}
