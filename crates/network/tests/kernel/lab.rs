//! A small data centre: a switch, three nodes and a machine beside them, each a thread in a
//! network and mount namespace of its own. Nothing has a name or outlives the process: namespaces
//! go with their threads and sockets.

use std::future::Future;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Command;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use model::spec::Protocol;
use model::{
    AppId, Directory, DirectoryPort, Entry, InstanceId, Interface, NetworkKind, NodeEntry, NodeId,
};
use network::{Attachment, Network, Settings, Subnet, in_namespace};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;
use tokio::sync::mpsc as jobs;

pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 32, 0, 1);
pub const LIMIT: Duration = Duration::from_secs(30);
/// Of connecting and of being answered: the kernel repeats what was lost after 1, 3 and 7 seconds.
const STREAM_LIMIT: Duration = Duration::from_secs(10);

/// Says so and gives `false` where namespaces cannot be made.
pub fn privileged() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        println!("skipped: only root can make network namespaces");
    }
    root
}

type Job = Box<dyn FnOnce(Rc<Context>) -> Pin<Box<dyn Future<Output = ()>>> + Send>;

/// What a node's code works with.
pub struct Context {
    pub network: std::cell::RefCell<Option<Rc<Network>>>,
    pub settings: Settings,
}

impl Context {
    pub fn network(&self) -> Rc<Network> {
        self.network.borrow().clone().expect("the network is open")
    }
}

/// A machine: a thread with a runtime in its own namespaces.
pub struct Place {
    jobs: Option<jobs::UnboundedSender<Job>>,
    thread: Option<JoinHandle<()>>,
    namespace: PathBuf,
}

impl Place {
    fn new(settings: Settings) -> Self {
        let (sender, mut receiver) = jobs::unbounded_channel::<Job>();
        let (ready, namespace) = mpsc::channel();
        let thread = thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("unshare");
            let none: Option<&str> = None;
            mount(none, "/", none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none)
                .expect("private mounts");
            let (pid, tid) = (std::process::id(), nix::unistd::gettid());
            ready
                .send(PathBuf::from(format!("/proc/{pid}/task/{tid}/ns/net")))
                .expect("the maker waits");
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            let context = Rc::new(Context {
                network: std::cell::RefCell::default(),
                settings,
            });
            tokio::task::LocalSet::new().block_on(&runtime, async move {
                while let Some(job) = receiver.recv().await {
                    tokio::task::spawn_local(job(Rc::clone(&context)));
                }
            });
        });
        Self {
            jobs: Some(sender),
            thread: Some(thread),
            namespace: namespace.recv().expect("the thread starts"),
        }
    }

    /// Runs `work` on this machine and waits for it.
    pub fn run<T, F, W>(&self, work: W) -> T
    where
        T: Send + 'static,
        F: Future<Output = T> + 'static,
        W: FnOnce(Rc<Context>) -> F + Send + 'static,
    {
        let (done, outcome) = mpsc::channel();
        let job: Job =
            Box::new(move |context| Box::pin(async move { drop(done.send(work(context).await)) }));
        let jobs = self.jobs.as_ref().expect("alive");
        assert!(jobs.send(job).is_ok(), "the machine runs");
        outcome.recv().expect("the work ends without a panic")
    }

    /// Runs a shell line on this machine; gives its output.
    pub fn shell(&self, line: &str) -> String {
        let line = line.to_owned();
        self.run(move |_| async move { shell(&line) })
    }

    /// Runs blocking `work` inside the namespace of an instance here.
    pub fn inside<T: Send + 'static>(
        &self,
        namespace: &Path,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let namespace = namespace.to_owned();
        self.run(move |_| async move { in_namespace(&namespace, work).await.expect("inside") })
    }

    /// Runs blocking `work` on the machine itself.
    pub fn here<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        self.run(move |_| async move {
            let (done, outcome) = tokio::sync::oneshot::channel();
            // A thread is born into its maker's namespace.
            thread::spawn(move || drop(done.send(work())));
            outcome.await.expect("the work ends without a panic")
        })
    }

    /// Starts the network on this node, or starts it again as a new agent would.
    pub fn open(&self) {
        self.run(|context| async move {
            let network = Network::open(context.settings.clone()).await.expect("open");
            *context.network.borrow_mut() = Some(Rc::new(network));
        });
    }

    pub fn apply(&self, directory: &Directory) -> network::Applied {
        let directory = directory.clone();
        self.run(
            move |context| async move { context.network().apply(&directory).await.expect("apply") },
        )
    }

    pub fn attach(&self, attachment: &Attachment) {
        let attachment = attachment.clone();
        self.run(move |context| async move {
            context.network().attach(&attachment).await.expect("attach");
        });
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

pub fn shell(line: &str) -> String {
    let output = Command::new("sh")
        .args(["-ec", line])
        .output()
        .expect("sh runs");
    assert!(
        output.status.success(),
        "{line}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub struct Lab {
    /// n1, n2, n3 at 10.0.15.11 to .13.
    pub nodes: Vec<Place>,
    /// 10.0.15.10, no node.
    pub machine: Place,
    pub switch: Place,
    pub directory: Directory,
    scratch: TempDir,
}

pub fn underlay(node: u32) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 15, 10 + node as u8)
}

fn settings(node: u32, own_namespace: bool) -> Settings {
    Settings {
        node: NodeId(node),
        underlay: underlay(node),
        overlay: Ipv4Addr::new(10, 32, 0, 10 + node as u8),
        subnet: Subnet::new(Ipv4Addr::new(10, 32, 0, 0), 12),
        gateway: GATEWAY,
        own_namespace,
    }
}

impl Lab {
    /// Nodes as `tandem up` makes them.
    pub fn new() -> Self {
        Self::build(true)
    }

    /// Nodes as whole machines, where bridged frames pass iptables too.
    pub fn of_machines() -> Self {
        Self::build(false)
    }

    fn build(own_namespace: bool) -> Self {
        let settings = |node| settings(node, own_namespace);
        let switch = Place::new(settings(0));
        let machine = Place::new(settings(0));
        let nodes: Vec<Place> = (1..=3).map(|node| Place::new(settings(node))).collect();
        switch.shell(
            "echo 0 > /proc/sys/net/bridge/bridge-nf-call-iptables; \
             ip link add sw0 type bridge; ip link set sw0 up",
        );
        let mut directory = Directory::default();
        for (number, place) in std::iter::once(&machine).chain(&nodes).enumerate() {
            let (number, path) = (number as u32, place.namespace.display());
            switch.shell(&format!(
                "ip link add p{number} type veth peer name eth0 netns {path}; \
                 ip link set p{number} master sw0 up"
            ));
            place.shell(&format!(
                "ip link set lo up; ip addr add {}/24 dev eth0; ip link set eth0 up",
                underlay(number)
            ));
            if number > 0 {
                place.shell("ip route add default via 10.0.15.10");
                let entry = NodeEntry {
                    name: format!("n{number}"),
                    hostname: underlay(number).to_string(),
                    underlay: underlay(number),
                    overlay: settings(number).overlay,
                };
                directory.nodes.insert(NodeId(number), entry);
                place.open();
            }
        }
        let lab = Self {
            nodes,
            machine,
            switch,
            directory,
            scratch: TempDir::new().expect("a directory"),
        };
        lab.apply();
        lab
    }

    pub fn node(&self, number: u32) -> &Place {
        &self.nodes[number as usize - 1]
    }

    pub fn apply(&self) {
        for node in &self.nodes {
            node.apply(&self.directory);
        }
    }

    /// An instance whose overlay address ends in `last` and that has not been attached.
    pub fn attachment(&self, birth: u64, interfaces: &[Interface]) -> Attachment {
        Attachment {
            id: InstanceId { birth, slot: 0 },
            interfaces: interfaces.to_vec(),
            namespace: self.scratch.path().join(birth.to_string()),
        }
    }

    /// Starts an instance on a node: attaches it, tells everybody.
    pub fn start(&mut self, node: u32, birth: u64, entry: Entry) -> Attachment {
        let attachment = self.attachment(birth, &entry.interfaces);
        self.node(node).attach(&attachment);
        self.directory.instances.insert(attachment.id, entry);
        self.apply();
        attachment
    }

    pub fn scratch(&self) -> PathBuf {
        self.scratch.path().to_owned()
    }
}

pub fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 32, 1, last)
}

pub fn overlay(last: u8) -> Interface {
    Interface {
        network: NetworkKind::Overlay,
        address: address(last),
        prefix: 12,
    }
}

pub fn entry(node: u32, last: u8) -> Entry {
    Entry {
        app: AppId::parse(&format!("/app{last}")).expect("a valid id"),
        node: NodeId(node),
        interfaces: vec![overlay(last)],
        hostname: None,
        running: true,
        healthy: true,
        ports: Vec::new(),
    }
}

pub fn port(protocol: Protocol, container: u16, host: u16) -> DirectoryPort {
    DirectoryPort {
        name: None,
        protocol,
        container,
        host: Some(host),
    }
}

/// Tells everyone who asks, by TCP or UDP, its name and the address it sees.
pub struct Greeter {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Greeter {
    pub fn start(node: &Place, namespace: &Path, name: &'static str, port: u16) -> Self {
        let (tcp, udp) = node.inside(namespace, move || {
            let any = (Ipv4Addr::UNSPECIFIED, port);
            (
                TcpListener::bind(any).expect("listen"),
                UdpSocket::bind(any).expect("bind"),
            )
        });
        tcp.set_nonblocking(true).expect("non-blocking");
        udp.set_read_timeout(Some(Duration::from_millis(20)))
            .expect("a timeout");
        let stop = Arc::new(AtomicBool::new(false));
        let (ends, ends_too) = (Arc::clone(&stop), Arc::clone(&stop));
        let greet = move |peer: SocketAddr| format!("{name} {}", peer.ip());
        let streams = thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                match tcp.accept() {
                    Ok((mut stream, peer)) => drop(stream.write_all(greet(peer).as_bytes())),
                    Err(_) => thread::sleep(Duration::from_millis(5)),
                }
            }
        });
        let datagrams = thread::spawn(move || {
            let mut buffer = [0; 2000];
            while !ends_too.load(Ordering::Relaxed) {
                if let Ok((_, peer)) = udp.recv_from(&mut buffer) {
                    drop(udp.send_to(greet(peer).as_bytes(), peer));
                }
            }
        });
        Self {
            stop,
            threads: vec![streams, datagrams],
        }
    }
}

impl Drop for Greeter {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

/// What a greeter says by TCP; `-` when nobody does.
pub fn greeting(address: Ipv4Addr, port: u16) -> String {
    let ask = || {
        let mut stream = TcpStream::connect_timeout(&(address, port).into(), STREAM_LIMIT)?;
        stream.set_read_timeout(Some(STREAM_LIMIT))?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        std::io::Result::Ok(text)
    };
    ask().unwrap_or_else(|_| "-".to_owned())
}

/// What a greeter says by UDP over `socket`; `-` when nobody does.
pub fn greeting_over(socket: &UdpSocket, address: Ipv4Addr, port: u16) -> String {
    let ask = || {
        socket.set_read_timeout(Some(Duration::from_millis(300)))?;
        socket.send_to(b"who?", (address, port))?;
        let mut buffer = [0; 2000];
        let (length, _) = socket.recv_from(&mut buffer)?;
        std::io::Result::Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
    };
    ask().unwrap_or_else(|_| "-".to_owned())
}

/// The first answer that `probe` gets: a datagram may be lost or late where others work as well.
pub fn answer(mut probe: impl FnMut() -> String) -> String {
    let mut said = String::new();
    until(false, || {
        said = probe();
        said == "-"
    });
    said
}

/// Waits until `probe` gives `wanted`.
pub fn until<T: PartialEq + std::fmt::Debug>(wanted: T, mut probe: impl FnMut() -> T) {
    let started = Instant::now();
    loop {
        let now = probe();
        if now == wanted {
            return;
        }
        assert!(
            started.elapsed() < LIMIT,
            "{now:?} is not {wanted:?}, even after {LIMIT:?}"
        );
        thread::sleep(Duration::from_millis(20));
    }
}
