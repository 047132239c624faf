//! What the master says, and what follows at once: the disk first, then the rest, in the order
//! that `node::Session` gives.

use std::sync::Arc;

use model::InstanceId;
use model::session::{Ask, FromAgent, FromMaster, Input, Part};
use node::Stage;
use node::session::Effect;
use tokio::sync::mpsc;

use super::{Asked, Heart};
use crate::Error;
use crate::asks::{self, About, Answer, INPUTS_WAITING, Question};
use crate::event::{Event, NetworkState, Outgoing};
use crate::overlay::Wanted;

impl Heart {
    pub(super) fn connected(&mut self, outgoing: Outgoing) {
        self.lost();
        let hello = self.session.connected(self.tools.config.machine.clone());
        // The lane is new and empty.
        if outgoing
            .words
            .try_send(FromAgent::Hello(Box::new(hello)))
            .is_ok()
        {
            self.outgoing = Some(outgoing);
        }
    }

    /// Dropping the lanes ends the connection, if it still stands.
    pub(super) fn lost(&mut self) {
        self.outgoing = None;
        self.session.lost();
        for (_, asked) in std::mem::take(&mut self.asks) {
            asked.task.abort();
        }
    }

    pub(super) async fn received(&mut self, message: FromMaster) -> Result<(), Error> {
        match message {
            FromMaster::Ask { ask, what } => self.asked(ask, what),
            FromMaster::Input { ask, input } => self.input(ask, input),
            FromMaster::Cancel { ask } => {
                if let Some(asked) = self.asks.remove(&ask) {
                    asked.task.abort();
                }
            }
            FromMaster::Heartbeat => {}
            message => {
                for effect in self.session.received(message) {
                    self.effect(effect).await?;
                }
            }
        }
        Ok(())
    }

    async fn effect(&mut self, effect: Effect) -> Result<(), Error> {
        let disk = &self.tools.disk;
        match effect {
            Effect::PersistMemory => disk.keep_memory(self.session.memory())?,
            Effect::PersistAssignment => disk.keep_assignment(self.session.kept_assignment())?,
            Effect::PersistDirectory => self.directory_unkept = true,
            Effect::Joined { all } => {
                let epoch = self.session.memory().epoch;
                tracing::info!("Joined the master's session (epoch {epoch})");
                self.outbox.rejoined(all);
            }
            Effect::Assigned => {
                self.words.assignment = true;
                self.sweep_groups().await?;
                self.direct();
                self.sweep_network().await;
            }
            Effect::Directed => {
                self.words.directory = true;
                self.direct();
            }
            Effect::Acknowledged {
                incarnation,
                sequence,
            } => self.outbox.acknowledged(incarnation, sequence),
            Effect::Say(word) => self.say(word),
            Effect::Leave(reason) => {
                tracing::warn!("Left the master's session: {reason}");
                self.outgoing = None;
            }
        }
        Ok(())
    }

    /// A lane that is full belongs to a session that does not move; the next begins anew.
    pub(super) fn say(&mut self, word: FromAgent) {
        if let Some(outgoing) = &self.outgoing
            && outgoing.words.try_send(word).is_err()
        {
            self.outgoing = None;
        }
    }

    /// Lets the network follow the directory, once assignment and directory are of this boot:
    /// before that, this node's addresses may live elsewhere.
    pub(super) fn direct(&mut self) {
        let welcome = self.session.memory().welcome.clone();
        let (Some(welcome), true) = (welcome, self.words.assignment && self.words.directory) else {
            return;
        };
        let directory = self.session.directory();
        let known = |wanted: &Option<Wanted>| {
            wanted
                .as_ref()
                .is_some_and(|wanted| wanted.welcome == welcome && *wanted.directory == *directory)
        };
        let is_known = known(&self.wanted.borrow());
        if !is_known {
            let directory = Arc::new(directory.clone());
            self.wanted
                .send_replace(Some(Wanted { welcome, directory }));
        }
    }

    /// Once in this life, on the first assignment: what runs here and nobody claims is ended.
    async fn sweep_groups(&mut self) -> Result<(), Error> {
        if self.swept.groups {
            return Ok(());
        }
        let known = self.claimed().keys().map(ToString::to_string).collect();
        let gone = container::sweep(&self.tools.config.cgroup_base, known)
            .await
            .map_err(|source| Error::Sweep { source })?;
        if !gone.is_empty() {
            tracing::warn!("Ended what nobody claims: {}", gone.join(", "));
        }
        self.swept.groups = true;
        Ok(())
    }

    /// Once in this life, when assignment and network are there.
    pub(super) async fn sweep_network(&mut self) {
        let NetworkState::Up(network) = &self.network else {
            return;
        };
        if !self.swept.groups || self.swept.network {
            return;
        }
        let namespaces = self.tools.disk.namespaces();
        match network.sweep(&self.claimed(), &namespaces).await {
            Ok(0) => self.swept.network = true,
            Ok(gone) => {
                tracing::warn!("Removed {gone} network devices and namespaces that nobody claims");
                self.swept.network = true;
            }
            Err(error) => tracing::warn!("Could not sweep the network: {error}"),
        }
    }

    fn asked(&mut self, ask: u64, what: Ask) {
        let Some(outgoing) = &self.outgoing else {
            return;
        };
        let answer = Answer {
            ask,
            to: outgoing.answers.clone(),
        };
        let (input, inputs) = mpsc::channel(INPUTS_WAITING);
        let question = match what {
            Ask::Log {
                instance,
                tail,
                follow,
            } => {
                let about = self.about(instance);
                about.map(|about| Question::Log {
                    about,
                    tail,
                    follow,
                })
            }
            Ask::Exec { instance, .. } if self.is_sealed(instance) => Err(format!(
                "instance {instance} is being moved to another node"
            )),
            Ask::Exec {
                instance,
                args,
                tty,
            } => {
                let about = self.about(instance);
                about.map(|about| Question::Exec {
                    about,
                    args,
                    tty,
                    input: inputs,
                })
            }
            Ask::Network => Ok(Question::Network(self.network.clone())),
        };
        let task = self.tasks.spawn(async move {
            match question {
                Ok(question) => asks::answer(question, answer).await,
                Err(why) => answer.last(Part::Failed(why)).await,
            }
            Some(Event::Answered(ask))
        });
        self.asks.insert(ask, Asked { input, task });
    }

    /// What there is of an instance here, or why nothing.
    fn about(&mut self, id: InstanceId) -> Result<About, String> {
        let stage = self.observed.instances.get(&id).map(|local| &local.stage);
        match stage {
            Some(Stage::Removed(_)) => return Err(format!("instance {id} was removed")),
            Some(_) if self.tools.disk.instance(id).is_dir() => {}
            _ if self.session.assignment().instances.contains_key(&id) => {
                return Err(format!("instance {id} has not started yet"));
            }
            _ => return Err(format!("instance {id} is not on this node")),
        }
        let over = self.over.entry(id).or_default().clone();
        if matches!(stage, Some(Stage::Ended(_))) {
            over.cancel();
        }
        Ok(About {
            dir: self.tools.disk.container(id),
            instance: self.running.get(&id).cloned(),
            over,
        })
    }

    /// The heart does not wait: a command that does not read loses its client.
    fn input(&mut self, ask: u64, input: Input) {
        let Some(asked) = self.asks.get(&ask) else {
            return;
        };
        let Err(mpsc::error::TrySendError::Full(_)) = asked.input.try_send(input) else {
            return;
        };
        asked.task.abort();
        self.asks.remove(&ask);
        if let Some(outgoing) = &self.outgoing {
            let answer = Answer {
                ask,
                to: outgoing.answers.clone(),
            };
            let why = "more input came than the command reads".to_owned();
            self.tasks.spawn(async move {
                answer.last(Part::Failed(why)).await;
                None
            });
        }
    }
}
