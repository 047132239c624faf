//! Watching the durable state. A watcher that is slow sees fewer, larger steps; it never makes
//! the writer wait and never misses a subject.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use model::{State, Touched};
use tokio::sync::Notify;

/// One watcher's view: what was touched since it last looked.
pub struct Watch {
    pending: Arc<Pending>,
    publisher: Weak<Publisher>,
}

#[derive(Default)]
struct Pending {
    touched: Mutex<Touched>,
    changed: Notify,
}

/// The writer's end: the newest durable state and everybody who watches it.
pub(crate) struct Publisher {
    current: Mutex<(State, Vec<Weak<Pending>>)>,
}

impl Publisher {
    pub fn new(state: State) -> Arc<Self> {
        Arc::new(Self {
            current: Mutex::new((state, Vec::new())),
        })
    }

    pub fn state(&self) -> State {
        self.current
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .0
            .clone()
    }

    /// The state now, and a watch of everything after it.
    pub fn watch(self: &Arc<Self>) -> (State, Watch) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let pending = Arc::new(Pending::default());
        current.1.push(Arc::downgrade(&pending));
        (
            current.0.clone(),
            Watch {
                pending,
                publisher: Arc::downgrade(self),
            },
        )
    }

    pub fn publish(&self, state: State, touched: &Touched) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.0 = state;
        current.1.retain(|watcher| {
            let Some(pending) = watcher.upgrade() else {
                return false;
            };
            pending
                .touched
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .extend(touched.clone());
            pending.changed.notify_one();
            true
        });
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        let current = self
            .current
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        for watcher in current.1.drain(..).filter_map(|w| w.upgrade()) {
            watcher.changed.notify_one();
        }
    }
}

impl Watch {
    /// Waits until something was touched since the last call; gives the newest durable state.
    /// `None`: the store has ended. Cancel-safe.
    pub async fn next(&mut self) -> Option<(State, Touched)> {
        loop {
            let publisher = self.publisher.upgrade()?;
            if let Some(step) = self.step(&publisher) {
                return Some(step);
            }
            drop(publisher);
            self.pending.changed.notified().await;
        }
    }

    fn step(&self, publisher: &Publisher) -> Option<(State, Touched)> {
        // Held while the touched set is emptied: what differs from the state given before is what
        // was touched, no more and no less, so states may be compared by it.
        let current = publisher
            .current
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let touched = std::mem::take(
            &mut *self
                .pending
                .touched
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        (!touched.is_empty()).then(|| (current.0.clone(), touched))
    }
}
