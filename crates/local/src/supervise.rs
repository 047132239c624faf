//! The supervisor: it builds the switch, joins the machine to it, keeps master,
//! registry and nodes running, and takes everything away again at the end.
//!
//! **Flow.** One thread, one runtime. Every role has a loop of its own in one
//! [`JoinSet`]; the loops tell the supervisor what happened, and it alone decides
//! about the route to the overlay, about more nodes, and about the end.
//!
//! **Guarantees.** Whatever ends is started again. When the supervisor itself is
//! killed, everything it started ends with it: roles by their parent-death signal,
//! nodes by their pipe, the switch with its last holder. What stays in the
//! machine's namespace is on record (see [`crate::machine`]).
//!
//! **Assumptions.** It runs on the process' main thread, as the parent-death
//! signal is about threads.

use crate::control::{self, Member, Reply, Request, Running};
use crate::error::{Doing, Error, Result, chain};
use crate::keep::{Role, keep};
use crate::keep_node::keep_node;
use crate::log::{Log, Voice};
use crate::machine::{Machine, route};
use crate::node_init::Plan;
use crate::options::{Attribute, Node, Options, memory_share};
use crate::ready;
use crate::registry;
use crate::state::Lock;
use crate::subnet::Subnet;
use crate::sweep::sweep;
use crate::switch::Switch;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};

/// For the nodes to stop what runs in them.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// What the loops tell the supervisor.
enum Event {
    Node {
        number: u8,
        up: bool,
    },
    Answering,
    Asked {
        request: Request,
        answer: oneshot::Sender<Reply>,
    },
}

struct Supervisor {
    options: Options,
    voice: Voice,
    switch: Arc<Switch>,
    loops: JoinSet<String>,
    events: mpsc::UnboundedSender<Event>,
    nodes: BTreeMap<u8, (Node, bool)>,
    routed: Option<u8>,
    answering: bool,
    /// Told once, when all is up.
    ready: Option<Box<dyn FnOnce()>>,
    /// Told once, when the nodes are to stop what runs in them, and end.
    down: watch::Sender<bool>,
    master: Option<AbortHandle>,
    /// Those who wait for nodes that they asked for.
    waiting: Vec<(Vec<u8>, oneshot::Sender<Reply>)>,
}

/// Runs the cluster until it is told to stop, and cleans up after it. `lock` is
/// held all the while; `ready` is called once, when everything answers.
pub(crate) fn run(
    options: Options,
    lock: Lock,
    voice: Voice,
    ready: impl FnOnce() + 'static,
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .doing(|| "start a runtime".into())?;
    let ended = runtime.block_on(Supervisor::live(
        options.clone(),
        voice.clone(),
        Box::new(ready),
    ));
    drop(runtime);
    let swept = sweep(&options);
    reap();
    if swept.is_ok() {
        voice.say("everything is stopped; the state is kept");
    }
    drop(lock);
    ended.and(swept)
}

/// Takes note of the children that the sweep killed: until then they, and their
/// namespaces, are still to be seen.
fn reap() {
    let patience = Instant::now() + Duration::from_secs(5);
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            if Instant::now() > patience {
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Supervisor {
    async fn live(options: Options, voice: Voice, ready: Box<dyn FnOnce()>) -> Result<()> {
        let handler = |kind| signal(kind).doing(|| "listen for signals".into());
        let (mut interrupt, mut terminate, mut hangup) = (
            handler(SignalKind::interrupt())?,
            handler(SignalKind::terminate())?,
            handler(SignalKind::hangup())?,
        );
        let (events, mut happened) = mpsc::unbounded_channel();
        let switch = Arc::new(Switch::build()?);
        let mut supervisor = Supervisor {
            loops: JoinSet::new(),
            nodes: BTreeMap::new(),
            waiting: Vec::new(),
            routed: None,
            answering: false,
            ready: Some(ready),
            down: watch::Sender::new(false),
            master: None,
            options,
            voice,
            switch,
            events,
        };
        supervisor.begin()?;
        loop {
            let event = tokio::select! {
                event = happened.recv() => event,
                _ = interrupt.recv() => None,
                _ = terminate.recv() => None,
                _ = hangup.recv() => None,
                Some(ended) = supervisor.loops.join_next() => {
                    let name = ended.unwrap_or_else(|error| error.to_string());
                    return Err(Error::LoopEnded { name });
                }
            };
            match event {
                Some(Event::Asked {
                    request: Request::Down,
                    answer,
                }) => {
                    let _ = answer.send(Reply::Running(supervisor.running(Vec::new())));
                    // The answer leaves before the runtime does.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    break;
                }
                Some(event) => supervisor.on(event)?,
                None => break,
            }
        }
        supervisor.voice.say("stopping");
        tokio::select! {
            () = supervisor.stop_nodes() => {}
            // Somebody has no patience for that.
            _ = interrupt.recv() => {}
        }
        Ok(())
    }

    /// As a machine is shut down: what runs is asked to end, and has some time for it. The master
    /// goes first, or it would replace on one node what ends on another.
    async fn stop_nodes(&mut self) {
        if let Some(master) = self.master.take() {
            master.abort();
        }
        self.down.send_replace(true);
        let mut left: BTreeSet<&str> = self.nodes.values().map(|(node, _)| &*node.name).collect();
        let ended = async {
            while !left.is_empty()
                && let Some(ended) = self.loops.join_next().await
            {
                // The master's loop was aborted, and has no name to tell.
                left.remove(ended.unwrap_or_default().as_str());
            }
        };
        let _ = tokio::time::timeout(STOP_PATIENCE, ended).await;
    }

    fn begin(&mut self) -> Result<()> {
        Machine::open(&self.options.state_dir)?.join(&self.options, &self.switch.path())?;
        self.switch.connect("machine")?;
        self.listen()?;
        let master_dir = self.options.master_dir();
        fs::create_dir_all(&master_dir).doing(|| format!("create {}", master_dir.display()))?;
        self.master = Some(self.keep("master", self.options.master(), "master")?);
        let registries = registry::both(&self.options);
        for registry in registries {
            self.keep(
                registry.name,
                registry::prepare(&self.options, registry)?,
                "registry",
            )?;
        }
        for number in 1..=self.options.nodes {
            self.add(number)?;
        }
        let (events, ready) = (self.events.clone(), self.options.ready.clone());
        tokio::spawn(async move {
            ready::wait(ready, registries.map(|registry| registry.listen).to_vec()).await;
            let _ = events.send(Event::Answering);
        });
        Ok(())
    }

    fn keep(
        &mut self,
        name: &str,
        program: crate::options::Program,
        group: &str,
    ) -> Result<AbortHandle> {
        let log = Log::open(&self.options.log_dir, name)?;
        let role = Role {
            name: name.into(),
            program,
            group: Path::new(&self.options.cgroup).join(group),
        };
        let (name, voice) = (name.to_string(), self.voice.clone());
        Ok(self.loops.spawn(async move {
            keep(role, log, voice).await;
            name
        }))
    }

    fn add(&mut self, number: u8) -> Result<()> {
        let node = self.options.node(number)?;
        fs::create_dir_all(&node.state_dir)
            .doing(|| format!("create {}", node.state_dir.display()))?;
        let plan = Plan {
            name: node.name.clone(),
            address: Subnet::new(node.address, self.options.machine.prefix()),
            gateway: self.options.machine.address,
            group: Path::new(&self.options.cgroup).join(&node.name),
            agent: self.options.agent(&node, memory_share(self.options.nodes)?),
        };
        let log = Log::open(&self.options.log_dir, &node.name)?;
        let (switch, voice, events) =
            (self.switch.clone(), self.voice.clone(), self.events.clone());
        let (name, down) = (node.name.clone(), self.down.subscribe());
        self.loops.spawn(async move {
            let tell = move |up| {
                let _ = events.send(Event::Node { number, up });
            };
            keep_node(plan, &switch, log, voice, down, tell).await;
            name
        });
        self.nodes.insert(number, (node, false));
        Ok(())
    }

    fn on(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Node { number, up } => {
                if let Some((node, is_up)) = self.nodes.get_mut(&number) {
                    *is_up = up;
                    if up {
                        self.voice
                            .say(&format!("{} is up at {}", node.name, node.address));
                    }
                }
                self.route();
            }
            Event::Answering => self.answering = true,
            Event::Asked {
                request: Request::Up(wanted),
                answer,
            } => match self.options.differences(&wanted).as_slice() {
                [] => self.grow(wanted.nodes, wanted.attributes, answer),
                differences => {
                    let _ = answer.send(Reply::Other(differences.to_vec()));
                }
            },
            // Handled where the supervisor ends.
            Event::Asked {
                request: Request::Down,
                ..
            } => {}
        }
        self.announce();
        self.answer_waiting();
        Ok(())
    }

    /// The overlay is reached by the first node that lives.
    fn route(&mut self) {
        let first = self
            .nodes
            .iter()
            .find(|(_, (_, up))| *up)
            .map(|(number, (node, _))| (*number, node.address));
        if self.routed == first.map(|(number, _)| number) {
            return;
        }
        match route(self.options.overlay, first.map(|(_, address)| address)) {
            Ok(()) => self.routed = first.map(|(number, _)| number),
            Err(error) => self.voice.say(&chain(&error)),
        }
    }

    fn announce(&mut self) {
        let all_up = self.answering && self.nodes.values().all(|(_, up)| *up);
        if let Some(ready) = self.ready.take_if(|_| all_up) {
            let (address, port) = (self.options.machine.address, self.options.ports.api);
            self.voice.say(&format!(
                "the cluster is up: {} nodes, http://{address}:{port}",
                self.nodes.len()
            ));
            ready();
        }
    }

    fn grow(&mut self, count: u8, attributes: Vec<Attribute>, answer: oneshot::Sender<Reply>) {
        let missing: Vec<u8> = (1..=count)
            .filter(|number| !self.nodes.contains_key(number))
            .collect();
        // Those that cannot be are refused before any is added.
        let refused = missing
            .iter()
            .find_map(|number| self.options.node(*number).err());
        let added = match refused {
            Some(refusal) => Err(refusal.into()),
            None => {
                if !missing.is_empty() {
                    self.options.attributes.extend(attributes);
                    self.options.nodes = count;
                }
                missing.iter().try_for_each(|number| self.add(*number))
            }
        };
        match added {
            Ok(()) => self.waiting.push((missing, answer)),
            Err(error) => {
                let _ = answer.send(Reply::Failed(chain(&error)));
            }
        }
    }

    fn answer_waiting(&mut self) {
        let is_up = |number: &u8| self.nodes.get(number).is_some_and(|(_, up)| *up);
        let (done, waiting) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|(asked, _)| asked.iter().all(is_up));
        self.waiting = waiting;
        for (added, answer) in done {
            // Who asked may have gone.
            let _ = answer.send(Reply::Running(self.running(added)));
        }
    }

    fn running(&self, added: Vec<u8>) -> Running {
        let member = |(node, up): &(Node, bool)| Member {
            name: node.name.clone(),
            address: node.address,
            up: *up,
        };
        Running {
            pid: std::process::id(),
            nodes: self.nodes.values().map(member).collect(),
            added: added
                .iter()
                .filter_map(|number| Some(self.nodes.get(number)?.0.name.clone()))
                .collect(),
        }
    }

    /// Opens the socket that a second `up` and `down` look for.
    fn listen(&mut self) -> Result<()> {
        let path = control::path(&self.options.state_dir);
        let open = || {
            let listener = UnixListener::bind(&path)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
            Ok::<_, std::io::Error>(listener)
        };
        let listener = open().doing(|| format!("listen on {}", path.display()))?;
        let events = self.events.clone();
        self.loops.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, events.clone()));
            }
            "control".into()
        });
        Ok(())
    }
}

const REQUEST_MAX: u64 = 64 << 10;

/// One question and its answer; whoever speaks nonsense is hung up on.
async fn answer(stream: UnixStream, events: mpsc::UnboundedSender<Event>) {
    let (reader, mut writer) = stream.into_split();
    let mut line = String::new();
    let mut reader = BufReader::new(reader.take(REQUEST_MAX));
    if !matches!(tokio::time::timeout(Duration::from_secs(5), reader.read_line(&mut line)).await, Ok(Ok(count)) if count > 0)
    {
        return;
    }
    let reply = match serde_json::from_str(&line) {
        Err(error) => Reply::Failed(format!("not understood: {error}")),
        Ok(request) => {
            let (answer, answered) = oneshot::channel();
            let _ = events.send(Event::Asked { request, answer });
            answered
                .await
                .unwrap_or_else(|_| Reply::Failed("it is stopping".into()))
        }
    };
    if let Ok(text) = serde_json::to_string(&reply) {
        let _ = writer.write_all(format!("{text}\n").as_bytes()).await;
    }
}
