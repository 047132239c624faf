//! Actions, one verb a file. Each does one step, may be cut off anywhere by a crash, and is then
//! done again from the start. Which and when is `node::converge`'s word.

mod attach;
mod check_still;
mod close_volume;
mod create;
mod destroy_volume;
mod drop_snapshot;
mod freeze;
mod kill;
mod kill_all;
mod make_volume;
mod open_volume;
mod persist_role;
mod prepare;
mod promote;
mod pull;
mod receive;
mod remove;
mod room;
mod run_hook;
mod set_aside;
mod snapshot;
mod spec;
mod start;
mod stop;
mod sync_received;
mod sync_volume;
mod thaw;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use container::{Created, How, Instance};
use image::Store;
use model::instance::ExitStatus;
use model::session::{Arriving, Welcome};
use model::volume::RoleFile;
use model::{Aside, Assigned, Exit, InstanceId, NodeId, Time, VolumeId};
use node::{Action, Stage};
use protocol::peer::Request;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::disk::{Disk, Note};
use crate::error::words;
use crate::event::NetworkState;
use crate::images::Images;
use crate::volumes::Volumes;
use crate::{Config, Error as Fatal};

/// Climbs that may be under way at once: each costs a core for some milliseconds.
const CLIMBS: usize = 8;
/// Images that may be on their way at once; each has its own parallel layers.
const PULLS: usize = 4;

/// What all actions work with.
pub(crate) struct Tools {
    pub config: Arc<Config>,
    pub disk: Disk,
    pub images: Images,
    pub volumes: Volumes,
    pub clock: Clock,
    climbs: Semaphore,
    pulls: Semaphore,
}

/// What one action on an instance works on; taken by the heart when it begins.
pub(crate) struct Work {
    pub id: InstanceId,
    /// `None`: nobody asks for the instance any more.
    pub assigned: Option<Assigned>,
    /// Waits at the door.
    pub created: Option<Created>,
    pub running: Option<Instance>,
    /// Of an action on a volume: the instances that run and have it.
    pub users: Vec<Instance>,
    /// The name of the node that a stream comes from.
    pub source: Option<String>,
    pub network: NetworkState,
    /// Directories of open volumes.
    pub volumes: BTreeMap<VolumeId, PathBuf>,
    /// The last welcome: the overlay's shape.
    pub welcome: Option<Welcome>,
    /// The image is not wanted any more.
    pub cancelled: CancellationToken,
}

/// What an action has brought about.
#[derive(Debug)]
pub(crate) enum Done {
    /// Pulled, rooted, attached.
    Reached(Stage),
    Created(Created),
    Running(Instance, Time),
    Stopping(Time),
    Ended(Exit),
    Removed,
    Cancelled,
    Frozen,
    Thawed,
    /// Every process has SIGKILL coming.
    Killed,
    /// What the action says, and nothing else.
    AsOrdered,
    /// And how much it was, in how long.
    Received(Option<Arriving>),
    /// Of a volume: what its role file says now; `None`: there is no copy any more.
    Role(Option<RoleFile>),
    /// Of a volume: what is set aside now.
    Aside(Aside),
    /// The volume's directory, to be bound into containers.
    Opened(PathBuf),
    Closed,
}

/// What one action could not do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{doing} {path}")]
    File {
        doing: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("volume {0} is not open on this node")]
    NotOpen(VolumeId),
    #[error("an instance can have one fixed address, and {0} were asked for")]
    FixedAddresses(usize),
    #[error("port {port} of this node is taken{}", by(.holder.as_ref()))]
    PortTaken {
        port: u16,
        holder: Option<network::Holder>,
    },
    #[error("could not read who listens on this node")]
    Listeners(#[source] io::Error),
    #[error("the overlay network is down: {0}")]
    NoNetwork(String),
    #[error("image {0} is not on this node any more")]
    NoImage(String),
    #[error("instance {0} has no process to be started")]
    NotCreated(InstanceId),
    #[error("instance {0} does not run any more")]
    NotRunning(InstanceId),
    #[error("an instance that has volume {0} is not frozen")]
    Awake(VolumeId),
    #[error("nothing of volume {0} has arrived")]
    NothingArrived(VolumeId),
    #[error("the directory does not name {0} yet")]
    UnknownNode(NodeId),
    #[error("this node has no certificate yet")]
    NoIdentity,
    #[error("instance {0} is not assigned to this node any more")]
    NotAssigned(InstanceId),
    #[error(transparent)]
    Name(#[from] image::NotAnImage),
    #[error("this node allows no privileged containers: [agent] allow lacks \"privileged\"")]
    Privileged,
    #[error(transparent)]
    Pull(#[from] Arc<image::PullError>),
    #[error(transparent)]
    Images(#[from] image::StoreError),
    #[error(transparent)]
    Mount(#[from] image::MountError),
    #[error(transparent)]
    Process(#[from] image::ProcessError),
    #[error(transparent)]
    Anonymous(#[from] image::VolumeError),
    #[error(transparent)]
    Container(#[from] container::Error),
    #[error(transparent)]
    Network(#[from] network::Error),
    #[error(transparent)]
    Volume(#[from] volume::Error),
    #[error(transparent)]
    Peer(#[from] protocol::Error),
    #[error(transparent)]
    Note(#[from] Fatal),
    #[error("a thread of the agent's panicked")]
    Panicked(#[from] tokio::task::JoinError),
}

fn by(holder: Option<&network::Holder>) -> String {
    holder.map_or_else(String::new, |holder| format!(" by {holder}"))
}

impl Error {
    /// For `map_err`: which file, and what was tried with it.
    fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File {
            doing,
            path,
            source,
        }
    }
}

impl Tools {
    pub fn open(disk: Disk, config: Arc<Config>) -> Result<Self, Fatal> {
        let store = Store::open(&disk.images(), config.registries.clone())
            .map_err(|source| Fatal::Images { source })?;
        let images = Images::new(store, disk.clone(), config.image_marks);
        let volumes = Volumes::new(disk.volumes(), config.pool_size);
        Ok(Self {
            config,
            disk,
            images,
            volumes,
            clock: Clock::start(),
            climbs: Semaphore::new(CLIMBS),
            pulls: Semaphore::new(PULLS),
        })
    }

    pub fn cgroup(&self, id: InstanceId) -> String {
        format!("{}/{id}", self.config.cgroup_base)
    }

    /// Changes what the next agent will know of an instance. It could do without, so that a full
    /// disk keeps nothing from ending.
    pub fn note(&self, id: InstanceId, change: impl FnOnce(&mut Note)) {
        let mut note = self.disk.note(id);
        change(&mut note);
        if let Err(error) = self.disk.keep_note(id, &note) {
            tracing::warn!(instance.id = %id, "Could not keep a note: {}", words(&error));
        }
    }

    pub fn shim_cgroup(&self) -> String {
        format!("{}/shims", self.config.cgroup_base)
    }
}

impl Work {
    fn assigned(&self) -> Result<&Assigned, Error> {
        self.assigned.as_ref().ok_or(Error::NotAssigned(self.id))
    }
}

/// Performs one action. Climbs of instances wait for their turn; what goes down never does.
pub(crate) async fn perform(tools: &Tools, action: &Action, work: Work) -> Result<Done, Error> {
    let turns = match action {
        Action::PullImage { .. } => Some(&tools.pulls),
        Action::PrepareRoot { .. }
        | Action::AttachNetwork { .. }
        | Action::Create { .. }
        | Action::Start { .. } => Some(&tools.climbs),
        _ => None,
    };
    // Neither semaphore is ever closed, so that an error only means an unlimited turn.
    let _turn = match turns {
        Some(turns) => turns.acquire().await.ok(),
        None => None,
    };
    match action {
        Action::PullImage { .. } => pull::pull(tools, &work).await,
        Action::PrepareRoot { .. } => prepare::prepare(tools, &work).await,
        Action::AttachNetwork { .. } => attach::attach(tools, &work).await,
        Action::Create { .. } => create::create(tools, work).await,
        Action::Start { .. } => start::start(tools, work).await,
        Action::Stop { .. } => stop::stop(tools, work).await,
        // A kill lets go what it finds frozen.
        Action::Kill { .. } | Action::Release { .. } => kill::kill(tools, work).await,
        Action::Remove { .. } => remove::remove(tools, work).await,
        Action::MakeVolume { volume, role, size } => {
            make_volume::make(tools, volume, *role, *size).await
        }
        Action::Freeze { .. } => freeze::freeze(work).await,
        Action::Thaw { .. } => thaw::thaw(work).await,
        Action::KillAll { .. } => kill_all::kill_all(work).await,
        Action::RunHook { .. } => run_hook::run(work).await,
        Action::PersistRole { volume, role } => persist_role::persist(tools, volume, *role).await,
        Action::SyncVolume { volume, .. } => sync_volume::sync(tools, volume).await,
        Action::CheckStill { volume, .. } => check_still::check(tools, &work, volume).await,
        Action::Snapshot { volume, snapshot } => snapshot::take(tools, volume, *snapshot).await,
        Action::Receive {
            volume,
            generation,
            from,
            snapshot,
            base,
            needed,
        } => {
            room::check(tools, volume, *needed).await?;
            let wanted = Request {
                volume: volume.clone(),
                generation: *generation,
                snapshot: *snapshot,
                base: *base,
            };
            receive::receive(tools, &work, *from, wanted).await
        }
        Action::SyncReceived { volume, .. } => sync_received::sync(tools, volume).await,
        Action::Promote {
            volume,
            snapshot,
            size,
        } => promote::promote(tools, volume, *snapshot, *size).await,
        Action::DropSnapshot { volume, snapshot } => {
            drop_snapshot::delete(tools, volume, *snapshot).await
        }
        Action::SetAside {
            volume,
            generation,
            last,
        } => set_aside::set_aside(tools, volume, *generation, *last).await,
        Action::OpenVolume { volume, size, .. } => open_volume::open(tools, volume, *size).await,
        Action::CloseVolume { volume } => close_volume::close(tools, volume).await,
        Action::DestroyVolume { volume, .. } => destroy_volume::destroy(tools, volume).await,
    }
}

/// A container's end as the master is told it, with the last line of its log.
pub(crate) fn exit(dir: &container::Dir, exit: container::Exit) -> Exit {
    let status = match exit.how {
        How::Code(code) => ExitStatus::Code(code),
        How::Signal(signal) => ExitStatus::Signal(signal),
        How::Unknown => ExitStatus::Unknown,
        How::CreateFailed { message, .. } => ExitStatus::NeverRan(message),
    };
    Exit {
        status,
        out_of_memory: exit.oom,
        last_line: last_line(dir),
    }
}

/// Must be called within a runtime.
fn last_line(dir: &container::Dir) -> Option<String> {
    let mut reader = container::log::Reader::open(dir, container::log::From::Tail(1)).ok()?;
    let mut last = None;
    while let Ok(lines) = reader.more()
        && let Some(line) = lines.into_iter().next_back()
    {
        last = Some(line.text);
    }
    last
}

/// As `node` counts pids.
pub(crate) fn pid(instance: &Instance) -> u32 {
    instance.pid().unsigned_abs()
}

/// Blocking work, off the runtime's threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await?
}
