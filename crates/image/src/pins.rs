//! Pins: what somebody counts on though nothing on disk says so yet, and what
//! `collect` therefore leaves alone.

use std::ops::Deref;
use std::sync::Arc;

use crate::digest::Digest;
use crate::reference::Reference;
use crate::store::{Image, Known, Store};

/// Keeps images and layers, by their digests, until it is dropped.
pub(crate) struct Pins {
    store: Arc<Store>,
    pinned: Vec<Digest>,
}

/// An image that stays at least until this is dropped.
pub struct Held {
    image: Image,
    _pins: Pins,
}

impl Store {
    /// The image that `name` meant when it was last resolved, if it is here. It counts
    /// as used now, and stays until what is returned is dropped; whoever mounts it holds
    /// it until its directory says so ([`crate::mounted_image`]).
    pub fn hold(self: &Arc<Store>, name: &Reference) -> Option<Held> {
        let mut known = self.known();
        let image = known.find(name)?.clone();
        let pins = Pins::new(self, &mut known, vec![image.id.clone()]);
        drop(known);
        self.used(&image.id);
        Some(Held { image, _pins: pins })
    }
}

impl Deref for Held {
    type Target = Image;

    fn deref(&self) -> &Image {
        &self.image
    }
}

impl Pins {
    /// `known` is the store's.
    pub(crate) fn new(store: &Arc<Store>, known: &mut Known, pinned: Vec<Digest>) -> Pins {
        for digest in &pinned {
            *known.pinned.entry(digest.clone()).or_default() += 1;
        }
        Pins {
            store: store.clone(),
            pinned,
        }
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        let mut known = self.store.known();
        for digest in &self.pinned {
            if let Some(count) = known.pinned.get_mut(digest) {
                *count -= 1;
                if *count == 0 {
                    known.pinned.remove(digest);
                }
            }
        }
    }
}
