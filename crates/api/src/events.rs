//! Who listens to events, and the loop that tells them.
//!
//! One loop compares each durable state with the one before, once for all listeners, and puts
//! the events into each listener's queue. A listener who does not read is cut off rather than
//! waited for or buffered without limit; he knows that he missed something because his stream
//! ends.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use marathon::events::{Event, between};
use model::State;
use store::Watch;
use tokio::sync::mpsc;

use crate::tandem;

/// A listener with more events than these unread is cut off when more come. One step's events
/// are always taken by one who keeps up, however many they are.
const BEHIND_MAX: usize = 4096;

/// Of the master's whole cluster, in the order in which they are sent.
type Batch = Arc<[Told]>;

/// An event, written down once for all listeners.
pub struct Told {
    pub kind: &'static str,
    /// Known to Marathon's clients.
    pub marathon: bool,
    /// One line of JSON.
    pub text: String,
}

#[derive(Clone, Default)]
pub struct Hub {
    queues: Arc<Mutex<Vec<Queue>>>,
}

/// The loop's end of a listener.
struct Queue {
    to: mpsc::UnboundedSender<Batch>,
    behind: Arc<AtomicUsize>,
}

/// One who listens; he is forgotten when this is dropped.
pub struct Listener {
    from: mpsc::UnboundedReceiver<Batch>,
    behind: Arc<AtomicUsize>,
}

impl Hub {
    /// Tells what is watched, from that state on, until the store ends.
    pub async fn run(self, (mut before, mut watch): (State, Watch)) {
        while let Some((state, touched)) = watch.next().await {
            // Without listeners nothing is written down.
            if self.listens() {
                let known = between(&before, &state, &touched);
                let own = tandem::events::between(&before, &state, &touched);
                let told = |marathon| move |event| Told::of(event, marathon);
                let batch = known.into_iter().map(told(true));
                self.tell(batch.chain(own.into_iter().map(told(false))).collect());
            }
            before = state;
        }
    }

    /// Everything that becomes durable from now on.
    pub fn listen(&self) -> Listener {
        let (to, from) = mpsc::unbounded_channel();
        let behind = Arc::default();
        let queue = Queue {
            to,
            behind: Arc::clone(&behind),
        };
        self.queues().push(queue);
        Listener { from, behind }
    }

    fn listens(&self) -> bool {
        let mut queues = self.queues();
        queues.retain(|queue| !queue.to.is_closed());
        !queues.is_empty()
    }

    fn tell(&self, batch: Batch) {
        if !batch.is_empty() {
            self.queues().retain(|queue| queue.take(&batch));
        }
    }

    fn queues(&self) -> std::sync::MutexGuard<'_, Vec<Queue>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// Whether the listener is kept.
    fn take(&self, batch: &Batch) -> bool {
        let behind = self.behind.fetch_add(batch.len(), Ordering::Relaxed);
        if behind > BEHIND_MAX {
            tracing::info!(behind, "Cut off a listener who does not read his events");
            return false;
        }
        self.to.send(Arc::clone(batch)).is_ok()
    }
}

impl Listener {
    /// The events of the next step; `None`: cut off, or the store has ended. Cancel-safe.
    pub async fn next(&mut self) -> Option<Batch> {
        let batch = self.from.recv().await?;
        self.behind.fetch_sub(batch.len(), Ordering::Relaxed);
        Some(batch)
    }
}

impl Told {
    fn of(event: Event, marathon: bool) -> Self {
        Self {
            kind: event.kind,
            marathon,
            text: event.body.to_string(),
        }
    }

    /// What a listener is told first.
    pub fn attached(state: &State, remote: &str) -> Self {
        Self::of(Event::attached(state, remote), true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(events: usize) -> Batch {
        let told = |_| Told {
            kind: "x",
            marathon: true,
            text: "{}".to_owned(),
        };
        (0..events).map(told).collect()
    }

    #[tokio::test]
    async fn one_who_does_not_read_is_cut_off_and_the_others_are_not() {
        let hub = Hub::default();
        let (mut reader, mut sleeper) = (hub.listen(), hub.listen());
        // However many one step's events are, one who kept up gets them.
        for _ in 0..2 {
            hub.tell(batch(BEHIND_MAX + 1));
            assert_eq!(
                reader.next().await.map(|batch| batch.len()),
                Some(BEHIND_MAX + 1)
            );
        }
        assert!(hub.listens());
        assert!(sleeper.next().await.is_some(), "what was queued is read");
        assert!(sleeper.next().await.is_none(), "then his stream ends");
        hub.tell(batch(1));
        assert!(reader.next().await.is_some());
        drop(reader);
        assert!(!hub.listens());
    }
}
