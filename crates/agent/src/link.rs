//! The session's connection: made again and again, and relayed to and from the heart. Knows
//! nothing of what is said.

use std::path::Path;
use std::time::Duration;

use model::session::{FromAgent, FromMaster};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use crate::error::words;
use crate::event::{Event, Outgoing};
use crate::{Config, Error, identity};

const HEARTBEAT: Duration = Duration::from_secs(1);
/// A master that says nothing for so long, not even by heartbeats, is gone.
const SILENCE: Duration = Duration::from_secs(10);
const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_LAST: Duration = Duration::from_secs(2);
/// After a session of this length the next one is tried soon.
const WORTH: Duration = Duration::from_secs(5);
const WAITING: usize = 64;

pub(crate) async fn run(config: &Config, dir: &Path, events: mpsc::Sender<Event>) -> Error {
    let mut pause = PAUSE_FIRST;
    let mut said = String::new();
    loop {
        let began = Instant::now();
        let why = match session(config, dir, &events).await {
            Ok(why) => why,
            Err(error) => return error,
        };
        if began.elapsed() > WORTH {
            pause = PAUSE_FIRST;
        }
        // Once is enough: a master may be away for days.
        if why != said {
            tracing::warn!("No session with the master at {}: {why}", config.master);
            said = why;
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_LAST);
    }
}

/// One session, from its making to its end; says why it ended.
async fn session(
    config: &Config,
    dir: &Path,
    events: &mpsc::Sender<Event>,
) -> Result<String, Error> {
    let identity = match identity::ensure(config, dir).await? {
        Ok(identity) => identity,
        Err(why) => return Ok(why),
    };
    let (sender, receiver) = match protocol::connect(config.master, &identity).await {
        Ok(halves) => halves,
        Err(error) => return Ok(words(&error)),
    };
    let (words, own) = mpsc::channel(WAITING);
    let (answers, parts) = mpsc::channel(WAITING);
    if events
        .send(Event::Connected(Outgoing { words, answers }))
        .await
        .is_err()
    {
        return Ok("the agent is ending".to_owned());
    }
    let why = tokio::select! {
        why = hear(receiver, events) => why,
        why = speak(sender, own, parts) => why,
    };
    // A heart that is gone needs no telling.
    let _ = events.send(Event::Lost).await;
    Ok(why)
}

async fn hear(
    mut receiver: protocol::Receiver<FromMaster>,
    events: &mpsc::Sender<Event>,
) -> String {
    loop {
        let message = match timeout(SILENCE, receiver.receive()).await {
            Ok(Ok(Some(message))) => message,
            Ok(Ok(None)) => return "the master closed the session".to_owned(),
            Ok(Err(error)) => return words(&error),
            Err(_) => return format!("the master said nothing for {} s", SILENCE.as_secs()),
        };
        if events.send(Event::Received(message)).await.is_err() {
            return "the agent is ending".to_owned();
        }
    }
}

async fn speak(
    mut sender: protocol::Sender<FromAgent>,
    mut own: mpsc::Receiver<FromAgent>,
    mut parts: mpsc::Receiver<FromAgent>,
) -> String {
    let mut beat = interval(HEARTBEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Nothing may come before the first word.
    let mut greeted = false;
    loop {
        let message = tokio::select! {
            biased;
            word = own.recv() => match word {
                Some(word) => word,
                None => return "left".to_owned(),
            },
            _ = beat.tick(), if greeted => FromAgent::Heartbeat,
            Some(part) = parts.recv(), if greeted => part,
        };
        greeted = true;
        if let Err(error) = sender.send(&message).await {
            return words(&error);
        }
    }
}
