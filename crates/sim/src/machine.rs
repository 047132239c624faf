//! A machine on paper: its disk, its kernel and the agent on it. The agent's decisions are the
//! real ones of `node`; only what they act on is pretended.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use model::ids::{InstanceId, VolumeId};
use model::instance::{Exit, ExitStatus, Health};
use model::session::FromMaster;
use model::{Aside, CopyRole, Machine, Time};
use node::observed::unknown_exit;
use node::session::Remembered;
use node::{Action, Local, Observed, Outbox, Session, Stage};

use crate::data::{Data, Held as HeldSnapshot};
use crate::pace::Pace;

/// Anything that one end said to the other.
pub type Held = (u64, Said);

#[derive(Clone, Debug)]
pub enum Said {
    ByAgent(model::session::FromAgent),
    ByMaster(FromMaster),
}

#[derive(Clone, Debug)]
pub struct Paper {
    pub machine: Machine,
    pub powered: bool,
    /// Other machines do not reach it.
    pub cut: bool,
    /// The master does not: what is said waits in `held` until the cable is back.
    pub unheard: bool,
    pub held: VecDeque<Held>,
    pub disk: Disk,
    pub kernel: Kernel,
    pub agent: Option<Agent>,
    /// Number of the newest agent process; events of an earlier one are void.
    pub run: u64,
}

/// Survives everything.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    pub remembered: Remembered,
    pub directories: BTreeMap<InstanceId, Directory>,
    pub volumes: BTreeMap<VolumeId, Data>,
}

/// What the disk says of one instance.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    pub attached: bool,
    /// A process was made for it.
    pub pid: bool,
    pub exit: Option<Exit>,
}

/// Survives the agent, not the machine.
#[derive(Clone, Debug, Default)]
pub struct Kernel {
    pub processes: BTreeMap<InstanceId, Process>,
    pub mounts: BTreeSet<VolumeId>,
    pub last_pid: u32,
}

#[derive(Clone, Copy, Debug)]
pub struct Process {
    pub pid: u32,
    /// `None`: it waits at the door.
    pub since: Option<Time>,
    pub health: Health,
    pub frozen: bool,
    /// SIGKILL waits for it to be thawed.
    pub killed: bool,
}

#[derive(Clone, Debug)]
pub struct Agent {
    pub session: Session,
    pub observed: Observed,
    pub outbox: Outbox,
    pub connection: Option<u64>,
    /// When the master was last heard.
    pub heard: Time,
}

impl Paper {
    pub fn new(machine: Machine) -> Self {
        Self {
            machine,
            powered: false,
            cut: false,
            unheard: false,
            held: VecDeque::new(),
            disk: Disk::default(),
            kernel: Kernel::default(),
            agent: None,
            run: 0,
        }
    }

    /// An agent starts and looks at what there is.
    pub fn start_agent(&mut self) {
        self.run += 1;
        let session = Session::start(self.disk.remembered.clone(), &self.machine.boot);
        self.disk.remembered.memory = session.memory().clone();
        self.disk.volumes.values_mut().for_each(Data::tidy);
        let mut observed = self.disk.observed(&self.kernel);
        observed.count_as_over(&session.memory().over);
        self.agent = Some(Agent {
            outbox: Outbox::new(session.incarnation()),
            session,
            observed,
            connection: None,
            heard: Time(0),
        });
    }

    /// The agent dies. A process at the door is killed by its shim, which hears that nobody will
    /// let it go.
    pub fn kill_agent(&mut self) {
        self.agent = None;
        self.run += 1;
        let waiting: Vec<InstanceId> = self
            .kernel
            .processes
            .iter()
            .filter(|(_, process)| process.since.is_none())
            .map(|(id, _)| *id)
            .collect();
        for id in waiting {
            self.end(id, never_ran("the agent died"));
        }
    }

    /// The power goes, and with it everything that is not on the disk.
    pub fn kill(&mut self, pace: &mut Pace) {
        self.disk
            .volumes
            .values_mut()
            .for_each(|data| data.power_off(pace));
        self.agent = None;
        self.run += 1;
        self.powered = false;
        self.kernel.processes.clear();
        self.kernel.mounts.clear();
        self.held.clear();
        // Mounts and namespaces are gone; what never had a process has left nothing of worth.
        self.disk
            .directories
            .retain(|_, directory| directory.pid || directory.exit.is_some());
    }

    /// A process ends; the exit record is written by its shim.
    pub fn end(&mut self, id: InstanceId, exit: Exit) -> bool {
        if self.kernel.processes.remove(&id).is_none() {
            return false;
        }
        let directory = self.disk.directories.entry(id).or_default();
        let exit = directory.exit.get_or_insert(exit).clone();
        if let Some(agent) = &mut self.agent {
            agent.local(id).stage = Stage::Ended(exit);
        }
        true
    }

    /// Whether an instance that is assigned here has health checks.
    pub fn is_checked(&self, id: InstanceId) -> bool {
        let assigned = self.disk.remembered.assignment.whole.instances.get(&id);
        assigned.is_some_and(|assigned| !assigned.spec.health_checks.is_empty())
    }

    /// Whether a process that is not frozen has the volume.
    fn is_written(&self, volume: &VolumeId) -> bool {
        let awake = self.kernel.processes.iter();
        let mut awake = awake.filter(|(_, process)| !process.frozen);
        let assigned = &self.disk.remembered.assignment.whole.instances;
        awake.any(|(id, _)| {
            let assigned = assigned.get(id);
            assigned.is_some_and(|a| a.spec.volumes().any(|(v, _)| v == volume))
        })
    }

    /// What an action does to disk and kernel; `Err`: why it could not.
    pub fn perform(&mut self, action: &Action, now: Time) -> Result<(), String> {
        let Self { disk, kernel, .. } = self;
        match action {
            Action::PullImage { .. }
            | Action::Stop { .. }
            | Action::RunHook { .. }
            | Action::SyncVolume { .. } => {}
            Action::PrepareRoot { instance } => {
                disk.directories.entry(*instance).or_default();
            }
            Action::AttachNetwork { instance } => {
                disk.directories.entry(*instance).or_default().attached = true;
            }
            Action::Create { instance } => {
                kernel.last_pid += 1;
                disk.directories.entry(*instance).or_default().pid = true;
                kernel.processes.insert(
                    *instance,
                    Process {
                        pid: kernel.last_pid,
                        since: None,
                        health: Health::Unknown,
                        frozen: false,
                        killed: false,
                    },
                );
            }
            Action::Start { instance } => match kernel.processes.get_mut(instance) {
                Some(process) => process.since = Some(now),
                None => return Err("its process is gone".into()),
            },
            Action::Kill { instance } => {
                self.end(*instance, signalled(9));
            }
            Action::Remove { instance } => {
                disk.directories.remove(instance);
            }
            Action::Freeze { instance } => match kernel.processes.get_mut(instance) {
                Some(process) => process.frozen = true,
                None => return Err("its process is gone".into()),
            },
            Action::KillAll { instance } => {
                if let Some(process) = kernel.processes.get_mut(instance) {
                    process.killed = true;
                }
            }
            Action::Thaw { instance } | Action::Release { instance } => {
                if let Some(process) = kernel.processes.get_mut(instance) {
                    process.frozen = false;
                    if process.killed {
                        self.end(*instance, signalled(9));
                    }
                }
            }
            // Its own check, apart from what the decider believes.
            Action::CheckStill { volume, .. } => {
                if self.is_written(volume) {
                    return Err("it is still being written".into());
                }
            }
            Action::MakeVolume { volume, role, .. } => {
                let data = disk.volumes.entry(volume.clone()).or_default();
                data.file = Some(*role);
                data.live = Some(0);
            }
            Action::PersistRole { volume, role } => {
                let data = disk.volumes.entry(volume.clone()).or_default();
                data.file = Some(*role);
                if role.role == CopyRole::Kept {
                    // Its last snapshot was committed before the hand-over.
                    let snapshots = data.snapshots.values_mut();
                    snapshots.for_each(|held| held.synced |= !held.received);
                }
            }
            Action::Snapshot { volume, snapshot } => {
                let data = disk.volumes.entry(volume.clone()).or_default();
                kernel.last_pid += 1;
                let held = HeldSnapshot {
                    // No other machine's, nor another's of this one.
                    identity: u64::from(u32::from(self.machine.address)) << 32
                        | u64::from(kernel.last_pid),
                    content: data.live.ok_or("there is nothing to take one of")?,
                    synced: false,
                    received: false,
                };
                data.snapshots.entry(*snapshot).or_insert(held);
            }
            Action::Receive { .. } => return Err("nobody sends".into()),
            Action::SyncReceived { volume, .. } => {
                let data = disk.volumes.entry(volume.clone()).or_default();
                data.snapshots
                    .values_mut()
                    .for_each(|held| held.synced = true);
            }
            Action::Promote {
                volume, snapshot, ..
            } => {
                let data = disk.volumes.entry(volume.clone()).or_default();
                let held = data.snapshots.get(snapshot).ok_or("it is not there")?;
                data.live = Some(held.content);
                data.promoted = Some(*snapshot);
            }
            Action::DropSnapshot { volume, snapshot } => {
                let data = disk.volumes.entry(volume.clone()).or_default();
                data.snapshots.remove(snapshot);
            }
            Action::OpenVolume { volume, .. } => {
                kernel.mounts.insert(volume.clone());
            }
            Action::CloseVolume { volume } => {
                kernel.mounts.remove(volume);
            }
            Action::SetAside {
                volume,
                generation,
                last,
            } => {
                let data = disk.volumes.entry(volume.clone()).or_default();
                let last = last.and_then(|last| data.snapshots.get(&last));
                let content = data.live.or(last.map(|last| last.content));
                let aside = Aside {
                    name: format!("{volume}.g{generation}"),
                    made: now,
                };
                data.aside = Some((aside, content.ok_or("there is nothing to set aside")?));
                data.live = None;
            }
            Action::DestroyVolume { volume, .. } => {
                disk.volumes.remove(volume);
            }
        }
        Ok(())
    }

    /// Writes down in the agent's memory what an action that succeeded has changed.
    pub fn note(&mut self, action: &Action, now: Time) {
        let Some(agent) = &mut self.agent else { return };
        let process = |id| self.kernel.processes.get(id);
        match action {
            Action::PullImage { instance } => agent.local(*instance).stage = Stage::Pulled,
            Action::PrepareRoot { instance } => agent.local(*instance).stage = Stage::Rooted,
            Action::AttachNetwork { instance } => agent.local(*instance).stage = Stage::Attached,
            Action::Create { instance }
            | Action::Start { instance }
            | Action::Freeze { instance }
            | Action::KillAll { instance }
            | Action::Thaw { instance }
            | Action::Release { instance } => {
                if let Some(process) = process(instance) {
                    let local = agent.local(*instance);
                    local.stage = process.stage();
                    local.frozen = process.frozen;
                    local.killed = process.killed;
                }
            }
            Action::Stop { instance, .. } => agent.local(*instance).stopping = Some(now),
            // The end of its process is seen, not assumed.
            Action::Kill { .. } => {}
            Action::Remove { instance } => {
                let local = agent.local(*instance);
                let exit = match std::mem::take(&mut local.stage) {
                    Stage::Ended(exit) => Some(exit),
                    _ => None,
                };
                local.stage = Stage::Removed(exit);
            }
            Action::RunHook {
                volume, snapshot, ..
            } => agent.volume(volume).hooked = Some(*snapshot),
            Action::SyncVolume { volume, snapshot } => {
                agent.volume(volume).flushed = Some(*snapshot);
            }
            Action::CheckStill { volume, snapshot } => {
                agent.volume(volume).still = Some(*snapshot);
            }
            Action::Receive {
                volume, snapshot, ..
            } => agent.volume(volume).received = Some(*snapshot),
            Action::MakeVolume { volume, .. }
            | Action::PersistRole { volume, .. }
            | Action::OpenVolume { volume, .. }
            | Action::CloseVolume { volume }
            | Action::Snapshot { volume, .. }
            | Action::SyncReceived { volume, .. }
            | Action::Promote { volume, .. }
            | Action::DropSnapshot { volume, .. }
            | Action::SetAside { volume, .. }
            | Action::DestroyVolume { volume, .. } => {
                let known = agent.observed.volumes.remove(volume);
                if let Some(data) = self.disk.volumes.get(volume) {
                    let mut seen = data.observed(volume, &self.kernel, known.as_ref());
                    if matches!(action, Action::SyncReceived { .. }) {
                        seen.received = None;
                    }
                    agent.observed.volumes.insert(volume.clone(), seen);
                }
            }
        }
    }
}

impl Agent {
    pub fn local(&mut self, id: InstanceId) -> &mut Local {
        self.observed.instances.entry(id).or_default()
    }

    pub fn volume(&mut self, id: &VolumeId) -> &mut node::LocalVolume {
        self.observed.volumes.entry(id.clone()).or_default()
    }
}

impl Process {
    fn stage(&self) -> Stage {
        match self.since {
            Some(since) => Stage::Running {
                pid: self.pid,
                since,
            },
            None => Stage::Created { pid: self.pid },
        }
    }
}

impl Disk {
    fn observed(&self, kernel: &Kernel) -> Observed {
        let mut observed = Observed::default();
        for (id, directory) in &self.directories {
            let local = observed.instances.entry(*id).or_default();
            let process = kernel.processes.get(id);
            local.health = process.map_or(Health::Unknown, |process| process.health);
            local.frozen = process.is_some_and(|process| process.frozen);
            local.stage = match (&directory.exit, process) {
                (Some(exit), _) => Stage::Ended(exit.clone()),
                (None, Some(process)) => process.stage(),
                (None, None) if directory.pid => Stage::Ended(unknown_exit()),
                (None, None) if directory.attached => Stage::Attached,
                (None, None) => Stage::Rooted,
            };
        }
        for (id, data) in &self.volumes {
            let seen = data.observed(id, kernel, None);
            observed.volumes.insert(id.clone(), seen);
        }
        observed
    }
}

pub fn never_ran(why: &str) -> Exit {
    Exit {
        status: ExitStatus::NeverRan(why.into()),
        out_of_memory: false,
        last_line: None,
    }
}

pub fn signalled(signal: i32) -> Exit {
    Exit {
        status: ExitStatus::Signal(signal),
        out_of_memory: false,
        last_line: None,
    }
}
