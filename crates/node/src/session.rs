//! The agent's end of a session: what it believes of what the master says, and what must be on
//! disk before it is acted on.
//!
//! ```text
//!          connected                Welcome of our cluster, no older leadership
//!  down ──────────────▶ greeting ────────────────────────────▶ joined ── whole assignment ─▶ assigned
//!   ▲                      │ Refused, another cluster,            │  ▲                          │
//!   └──────────────────────┴─ older leadership ◀──────────────────┴──┼── lost, newer leadership ┘
//!                                                      asks for whole┘ when a delta does not fit
//! ```
//!
//! *Guarantees.* An order of another leadership than the session's is never obeyed, nor an
//! assignment older than the one kept. Effects are to be carried out in order: what is persisted
//! comes before what it allows. A cluster other than the one remembered is refused by name.
//!
//! *Assumptions.* A session delivers in order or breaks; what arrives for a broken session is
//! not given to [`Session::received`] any more.

use model::ids::{ClusterId, Epoch, Incarnation, InstanceId};
use model::session::{FromAgent, FromMaster, Hello, Kept, Memory, PROTOCOL, Welcome};
use model::{Assignment, AssignmentDelta, Directory, DirectoryDelta, Machine};

use crate::observed::Link;

/// What the agent reads from its disk when it starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remembered {
    pub memory: Memory,
    pub assignment: Kept<Assignment>,
    pub directory: Kept<Directory>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    remembered: Remembered,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Down,
    Greeting,
    Joined {
        epoch: Epoch,
        assignment: Word,
        directory: Word,
    },
}

/// What this session has said so far of the assignment or the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    /// Nothing; the whole comes without being asked for.
    Awaited,
    /// The whole, and deltas that fit.
    Held,
    /// A delta did not fit; the whole was asked for.
    Asked,
}

/// What the agent does next, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Write it, sync it, rename it into place; only then go on.
    PersistMemory,
    PersistAssignment,
    /// Of use after a restart of the agent only, so this need not be synced.
    PersistDirectory,
    /// The session stands. `all`: under a new leadership, so everything is told anew
    /// ([`crate::Outbox::rejoined`]).
    Joined {
        all: bool,
    },
    /// [`Session::assignment`] has changed: converge.
    Assigned,
    /// [`Session::directory`] has changed: program it.
    Directed,
    Acknowledged {
        incarnation: Incarnation,
        sequence: u64,
    },
    Say(FromAgent),
    /// Leave; connect again after a while.
    Leave(Reason),
}

/// Why a session ends from this side.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    #[error("the master refused this node: {0}")]
    Refused(String),
    #[error(
        "this node belongs to cluster {ours}, the master to {theirs}; give the agent an empty state directory to join it"
    )]
    OtherCluster { ours: ClusterId, theirs: ClusterId },
    #[error("the master leads with epoch {theirs}, but this node has obeyed epoch {ours}")]
    OlderLeadership { ours: Epoch, theirs: Epoch },
    #[error("the master spoke of epoch {spoken} in a session of epoch {joined}")]
    NewerLeadership { joined: Epoch, spoken: Epoch },
    #[error("the master spoke before it said welcome, or said it twice")]
    OutOfTurn,
}

impl Session {
    /// The agent starts, on a machine that booted as `boot`. [`Effect::PersistMemory`] comes
    /// before anything else: the incarnation must never be used twice. Instances in
    /// [`Memory::over`] count as ended ([`crate::Observed::count_as_over`]).
    pub fn start(mut remembered: Remembered, boot: &str) -> Self {
        let memory = &mut remembered.memory;
        memory.incarnation = Incarnation(memory.incarnation.0 + 1);
        if memory.boot != boot {
            memory.boot = boot.to_owned();
            memory
                .over
                .extend(remembered.assignment.whole.instances.keys());
        }
        Self {
            remembered,
            phase: Phase::Down,
        }
    }

    pub fn memory(&self) -> &Memory {
        &self.remembered.memory
    }

    pub fn incarnation(&self) -> Incarnation {
        self.memory().incarnation
    }

    pub fn over(&self) -> impl Iterator<Item = &InstanceId> {
        self.memory().over.iter()
    }

    pub fn kept_assignment(&self) -> &Kept<Assignment> {
        &self.remembered.assignment
    }

    pub fn kept_directory(&self) -> &Kept<Directory> {
        &self.remembered.directory
    }

    /// The newest assignment obeyed, whether in this session or before.
    pub fn assignment(&self) -> &Assignment {
        &self.remembered.assignment.whole
    }

    pub fn directory(&self) -> &Directory {
        &self.remembered.directory.whole
    }

    pub fn link(&self) -> Link {
        match self.phase {
            Phase::Down | Phase::Greeting => Link::Down,
            Phase::Joined {
                epoch, assignment, ..
            } => match assignment {
                Word::Held => Link::Assigned { epoch },
                // What the master wants changed since is unknown until the whole is here.
                Word::Awaited | Word::Asked => Link::Joined { epoch },
            },
        }
    }

    /// A connection stands: the first word on it.
    pub fn connected(&mut self, machine: Machine) -> Hello {
        self.phase = Phase::Greeting;
        let memory = self.memory();
        Hello {
            protocol: PROTOCOL,
            cluster: memory.welcome.as_ref().map(|welcome| welcome.cluster),
            epoch: memory.epoch,
            incarnation: memory.incarnation,
            machine,
        }
    }

    /// The connection is gone.
    pub fn lost(&mut self) {
        self.phase = Phase::Down;
    }

    /// What follows from a message. Asks of clients and heartbeats have no effect here.
    pub fn received(&mut self, message: FromMaster) -> Vec<Effect> {
        let effects = match (message, self.phase) {
            (FromMaster::Refused(why), _) => Err(Reason::Refused(why)),
            (FromMaster::Welcome(welcome), Phase::Greeting) => self.welcomed(*welcome),
            (FromMaster::Welcome(_), _) | (_, Phase::Down | Phase::Greeting) => {
                Err(Reason::OutOfTurn)
            }
            (message, Phase::Joined { epoch, .. }) => self.told(message, epoch),
        };
        effects.unwrap_or_else(|reason| {
            self.phase = Phase::Down;
            vec![Effect::Leave(reason)]
        })
    }

    fn welcomed(&mut self, welcome: Welcome) -> Result<Vec<Effect>, Reason> {
        let memory = &mut self.remembered.memory;
        if let Some(ours) = memory.welcome.as_ref().map(|known| known.cluster)
            && ours != welcome.cluster
        {
            return Err(Reason::OtherCluster {
                ours,
                theirs: welcome.cluster,
            });
        }
        if welcome.epoch < memory.epoch {
            return Err(Reason::OlderLeadership {
                ours: memory.epoch,
                theirs: welcome.epoch,
            });
        }
        let all = welcome.epoch > memory.epoch;
        self.phase = Phase::Joined {
            epoch: welcome.epoch,
            assignment: Word::Awaited,
            directory: Word::Awaited,
        };
        memory.epoch = welcome.epoch;
        let known = memory.welcome.replace(welcome);
        let mut effects = Vec::new();
        if known != memory.welcome {
            effects.push(Effect::PersistMemory);
        }
        effects.push(Effect::Joined { all });
        Ok(effects)
    }

    fn told(&mut self, message: FromMaster, joined: Epoch) -> Result<Vec<Effect>, Reason> {
        let epoch = match &message {
            FromMaster::Assignment { epoch, .. }
            | FromMaster::AssignmentDelta { epoch, .. }
            | FromMaster::Directory { epoch, .. }
            | FromMaster::DirectoryDelta { epoch, .. } => *epoch,
            _ => joined,
        };
        if epoch < joined {
            return Ok(Vec::new());
        }
        if epoch > joined {
            return Err(Reason::NewerLeadership {
                joined,
                spoken: epoch,
            });
        }
        Ok(match message {
            FromMaster::Assignment { epoch, whole } => self.assigned(epoch, *whole),
            FromMaster::AssignmentDelta { epoch, delta } => self.assigned_delta(epoch, &delta),
            FromMaster::Directory { epoch, whole } => self.directed(epoch, *whole),
            FromMaster::DirectoryDelta { epoch, delta } => self.directed_delta(epoch, &delta),
            FromMaster::Acknowledged {
                incarnation,
                sequence,
            } => vec![Effect::Acknowledged {
                incarnation,
                sequence,
            }],
            FromMaster::Welcome(_)
            | FromMaster::Refused(_)
            | FromMaster::Heartbeat
            | FromMaster::Ask { .. }
            | FromMaster::Input { .. }
            | FromMaster::Cancel { .. } => Vec::new(),
        })
    }

    fn assigned(&mut self, epoch: Epoch, whole: Assignment) -> Vec<Effect> {
        let kept = &self.remembered.assignment;
        if (epoch, whole.revision) < (kept.epoch, kept.whole.revision) {
            return Vec::new();
        }
        self.set_words(Some(Word::Held), None);
        let next = Kept { epoch, whole };
        let mut effects = Vec::new();
        if self.remembered.assignment != next {
            self.remembered.assignment = next;
            effects.push(Effect::PersistAssignment);
        }
        self.trim_over(&mut effects);
        effects.push(Effect::Assigned);
        effects
    }

    fn assigned_delta(&mut self, epoch: Epoch, delta: &AssignmentDelta) -> Vec<Effect> {
        let Phase::Joined { assignment, .. } = self.phase else {
            return Vec::new();
        };
        let next = (assignment == Word::Held)
            .then(|| self.assignment().after(delta))
            .flatten();
        match next {
            Some(whole) => self.assigned(epoch, whole),
            None if assignment == Word::Asked => Vec::new(),
            // Sent twice: what it brings is here.
            None if assignment == Word::Held && delta.revision <= self.assignment().revision => {
                Vec::new()
            }
            None => {
                self.set_words(Some(Word::Asked), None);
                vec![Effect::Say(FromAgent::WholeAssignment)]
            }
        }
    }

    fn directed(&mut self, epoch: Epoch, whole: Directory) -> Vec<Effect> {
        let kept = &self.remembered.directory;
        if (epoch, whole.revision) < (kept.epoch, kept.whole.revision) {
            return Vec::new();
        }
        self.set_words(None, Some(Word::Held));
        self.remembered.directory = Kept { epoch, whole };
        vec![Effect::PersistDirectory, Effect::Directed]
    }

    fn directed_delta(&mut self, epoch: Epoch, delta: &DirectoryDelta) -> Vec<Effect> {
        let Phase::Joined { directory, .. } = self.phase else {
            return Vec::new();
        };
        let next = (directory == Word::Held)
            .then(|| self.directory().after(delta))
            .flatten();
        match next {
            Some(whole) => self.directed(epoch, whole),
            None if directory == Word::Asked => Vec::new(),
            None if directory == Word::Held && delta.revision <= self.directory().revision => {
                Vec::new()
            }
            None => {
                self.set_words(None, Some(Word::Asked));
                vec![Effect::Say(FromAgent::WholeDirectory)]
            }
        }
    }

    fn set_words(&mut self, for_assignment: Option<Word>, for_directory: Option<Word>) {
        if let Phase::Joined {
            assignment,
            directory,
            ..
        } = &mut self.phase
        {
            *assignment = for_assignment.unwrap_or(*assignment);
            *directory = for_directory.unwrap_or(*directory);
        }
    }

    /// An instance that is no longer assigned need not be remembered as over.
    fn trim_over(&mut self, effects: &mut Vec<Effect>) {
        let Remembered {
            memory, assignment, ..
        } = &mut self.remembered;
        let before = memory.over.len();
        memory
            .over
            .retain(|id| assignment.whole.instances.contains_key(id));
        if memory.over.len() < before {
            effects.push(Effect::PersistMemory);
        }
    }
}

#[cfg(test)]
mod tests;
