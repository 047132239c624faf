//! The one task that owns the tip.
//!
//! Closures run one after another, each on a draft of the newest state. Those that queue up
//! while the log is being synced share the next sync. A closure's answer leaves only when what
//! it changed *and what it read* is durable; that holds for refusals too.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;

use model::{Draft, Revision, State, Time, Tip, Transaction};
use tokio::sync::oneshot;

use crate::clock::Clock;
use crate::log::{Log, LogError};
use crate::watch::{Publisher, Watch};

/// At most so many closures share one sync, so that none waits for an endless queue.
const BATCH: usize = 256;
/// A checkpoint is written after so many transactions.
const CHECKPOINT_EVERY: u64 = 10_000;
/// What a checkpoint stands for is forgotten in portions of so many transactions, for each is a
/// write of its own, which others wait for.
const FORGET_AT_ONCE: u64 = 256;

#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    #[error("what was asked could not be made durable")]
    Append { source: Arc<LogError> },
    #[error("the store has ended; another master may lead now")]
    Ended,
}

/// Runs on the tip, then gives its answer once told whether that became durable.
type Job = Box<dyn FnOnce(&mut Tip, Time) -> Pending + Send>;

struct Pending {
    transaction: Option<Transaction>,
    answer: Box<dyn FnOnce(Result<(), Error>) + Send>,
}

/// A handle to the writer; clones share it. The writer ends when the last one is dropped.
#[derive(Clone)]
pub struct Store {
    jobs: Sender<Job>,
    publisher: Arc<Publisher>,
    clock: Clock,
}

impl Store {
    /// Builds the state from the log's checkpoint and transactions, and starts the writer.
    pub fn open(log: impl Log) -> Result<(Self, JoinHandle<Result<(), LogError>>), LogError> {
        let mut state = log.latest_checkpoint()?.unwrap_or_default();
        let checkpointed = state.revision;
        for transaction in log.read(state.revision)? {
            replay(&mut state, &transaction);
        }
        let clock = Clock::start(state.now);
        let publisher = Publisher::new(state.clone());
        let (jobs, queue) = channel();
        let writer = Writer {
            log: Arc::new(log),
            checkpointed,
            forgotten: checkpointed,
            checkpoint: None,
            tip: Tip::new(state),
            publisher: Arc::clone(&publisher),
            clock,
        };
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || writer.run(&queue))
            .expect("a process that starts can start a thread");
        Ok((
            Self {
                jobs,
                publisher,
                clock,
            },
            thread,
        ))
    }

    /// Runs `decide` on a draft of the newest state. `Ok` becomes a transaction, `Err` changes
    /// nothing; either is answered when everything it was based on is durable.
    pub async fn write<R, E>(
        &self,
        decide: impl FnOnce(&mut Draft) -> Result<R, E> + Send + 'static,
    ) -> Result<Result<R, E>, Error>
    where
        R: Send + 'static,
        E: Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let job: Job = Box::new(move |tip, now| {
            let mut draft = tip.draft(now);
            let decided = decide(&mut draft);
            let transaction = decided.is_ok().then(|| tip.accept(draft)).flatten();
            let answer = Box::new(move |durable: Result<(), Error>| {
                // A caller that went away needs no answer.
                let _ = sender.send(durable.map(|()| decided));
            });
            Pending {
                transaction,
                answer,
            }
        });
        self.jobs.send(job).map_err(|_| Error::Ended)?;
        receiver.await.map_err(|_| Error::Ended)?
    }

    /// The newest durable state.
    pub fn state(&self) -> State {
        self.publisher.state()
    }

    /// The newest durable state and a watch of everything after it.
    pub fn watch(&self) -> (State, Watch) {
        self.publisher.watch()
    }

    /// The master's time.
    pub fn now(&self) -> Time {
        self.clock.now()
    }
}

fn replay(state: &mut State, transaction: &Transaction) {
    let mut next = std::mem::take(state).at(transaction.at);
    for change in &transaction.changes {
        next.apply(change);
    }
    *state = next.numbered(transaction.revision);
}

struct Writer<L> {
    log: Arc<L>,
    tip: Tip,
    publisher: Arc<Publisher>,
    clock: Clock,
    /// Revision of the newest whole checkpoint.
    checkpointed: Revision,
    /// What it stands for and the log need not hold any more, as far as that was told the log.
    forgotten: Revision,
    checkpoint: Option<JoinHandle<Result<Revision, LogError>>>,
}

impl<L: Log> Writer<L> {
    /// Ends with `Ok` when nobody can send work any more, with the error when another master
    /// writes the log.
    fn run(mut self, queue: &Receiver<Job>) -> Result<(), LogError> {
        while let Ok(first) = queue.recv() {
            let mut pending = vec![first(&mut self.tip, self.clock.now())];
            while pending.len() < BATCH {
                match queue.try_recv() {
                    Ok(job) => pending.push(job(&mut self.tip, self.clock.now())),
                    Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
                }
            }
            self.commit(pending)?;
            self.consider_checkpoint();
        }
        if let Some(running) = self.checkpoint.take() {
            let _ = running.join();
        }
        Ok(())
    }

    fn commit(&mut self, mut pending: Vec<Pending>) -> Result<(), LogError> {
        let batch: Vec<Transaction> = pending
            .iter_mut()
            .filter_map(|p| p.transaction.take())
            .collect();
        let appended = match batch.is_empty() {
            true => Ok(()),
            false => self.log.append(self.tip.durable().revision, &batch),
        };
        match appended {
            Ok(()) => {
                let touched = self.tip.settle(self.tip.newest().revision);
                if !touched.is_empty() || !batch.is_empty() {
                    self.publisher.publish(self.tip.durable().clone(), &touched);
                }
                pending.into_iter().for_each(|p| (p.answer)(Ok(())));
                Ok(())
            }
            Err(error) => {
                self.tip.discard();
                let source = Arc::new(error);
                tracing::error!(error = %source, "Could not append to the log");
                for p in pending {
                    (p.answer)(Err(Error::Append {
                        source: Arc::clone(&source),
                    }));
                }
                match Arc::into_inner(source) {
                    Some(stale @ LogError::Stale { .. }) => Err(stale),
                    Some(_) | None => Ok(()),
                }
            }
        }
    }

    /// Starts a checkpoint when enough was written since the last one; once it is whole, forgets
    /// what it stands for, a portion each time.
    fn consider_checkpoint(&mut self) {
        if let Some(running) = self.checkpoint.take_if(|running| running.is_finished()) {
            match running.join() {
                Ok(Ok(revision)) => self.checkpointed = revision,
                Ok(Err(error)) => tracing::warn!(%error, "Could not write a checkpoint"),
                Err(_) => tracing::error!("The checkpoint's thread panicked"),
            }
        }
        if self.forgotten < self.checkpointed {
            let through = self.checkpointed.0.min(self.forgotten.0 + FORGET_AT_ONCE);
            self.forgotten = Revision(through);
            if let Err(error) = self.log.truncate(self.forgotten) {
                tracing::warn!(%error, "Could not truncate the log; it stays longer than needed");
            }
        }
        let durable = self.tip.durable();
        if self.checkpoint.is_none() && durable.revision.0 >= self.checkpointed.0 + CHECKPOINT_EVERY
        {
            let (log, state) = (Arc::clone(&self.log), durable.clone());
            self.checkpoint = std::thread::Builder::new()
                .name("checkpoint".into())
                .spawn(move || log.checkpoint(&state).map(|()| state.revision))
                .ok();
        }
    }
}
