//! The leader's loop: steps until nothing is left to do, then sleeps until something is touched
//! or a deadline passes.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model::Time;
use planner::leader::{self, Agenda, Budget, More};
use store::{Error, Store};

/// After a failed append, before the next try.
const REST: Duration = Duration::from_secs(1);

/// Runs until the store ends.
pub async fn run(store: Store) {
    let (state, mut watch) = store.watch();
    let agenda = Arc::new(Mutex::new(Agenda::rebuild(&state)));
    loop {
        match step(&store, &agenda).await {
            Ok(More::Again) => continue,
            Ok(More::Quiet) => {}
            Err(Error::Ended) => return,
            Err(error @ Error::Append { .. }) => {
                tracing::error!(%error, "What the leader decided was lost; it decides again");
                tokio::time::sleep(REST).await;
                *lock(&agenda) = Agenda::rebuild(&store.state());
                continue;
            }
        }
        let deadline = lock(&agenda).next_deadline();
        tokio::select! {
            touched = watch.next() => match touched {
                Some((_, touched)) => lock(&agenda).touch(&touched),
                None => return,
            },
            () = until(&store, deadline) => {}
        }
    }
}

async fn step(store: &Store, agenda: &Arc<Mutex<Agenda>>) -> Result<More, Error> {
    let agenda = Arc::clone(agenda);
    let stepped = store
        .write(move |draft| {
            Ok::<_, Infallible>(leader::step(&mut lock(&agenda), draft, Budget::default()))
        })
        .await?;
    let Ok(more) = stepped;
    Ok(more)
}

fn lock(agenda: &Mutex<Agenda>) -> std::sync::MutexGuard<'_, Agenda> {
    agenda.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn until(store: &Store, deadline: Option<Time>) {
    match deadline {
        // One millisecond more: time is read in whole ones.
        Some(time) => {
            tokio::time::sleep(Duration::from_millis((time - store.now()).0 + 1)).await;
        }
        None => std::future::pending().await,
    }
}
