//! What this crate could not do, and what it refuses to begin.
//!
//! A [`Refusal`] comes before anything was changed: it names the cause, and
//! [`Refusal::cure`] says what to do about it. Everything later is an [`Error`].

use crate::check::SYSTEM;
use crate::options::Attribute;
use crate::subnet::Subnet;
use network::Holder;
use std::net::Ipv4Addr;
use std::path::PathBuf;

/// A reason not to begin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("a cluster on this machine needs root")]
    NotRoot,
    #[error("{program} is not installed")]
    ProgramMissing {
        program: &'static str,
        package: &'static str,
    },
    #[error("{program} is in {SYSTEM}, which is not in PATH")]
    NotInPath { program: &'static str },
    #[error("the kernel offers no {feature}")]
    KernelFeature {
        feature: &'static str,
        cure: &'static str,
    },
    #[error("port {port} is taken{}", by(.holder))]
    PortTaken {
        address: Ipv4Addr,
        port: u16,
        holder: Option<Holder>,
    },
    #[error("{subnet} is already routed: {route}")]
    AlreadyRouted { subnet: Subnet, route: String },
    #[error("a cluster of no nodes runs nothing")]
    NoNodes,
    #[error("{nodes} nodes do not fit beside {machine}")]
    TooManyNodes { nodes: u8, machine: Subnet },
    #[error("attribute {attribute} is for none of the {nodes} nodes")]
    NoSuchNode { attribute: Attribute, nodes: u8 },
    #[error("{path} lies below /run, which every node has for itself")]
    BelowRun { path: PathBuf },
    #[error("{path} is not empty and no state directory of Tandem")]
    NotOurs { path: PathBuf },
    #[error("another cluster is being started or stopped in {state_dir}")]
    Busy { state_dir: PathBuf },
    #[error("a cluster with its state in {state_dir} runs on this machine (process {pid})")]
    OtherCluster { state_dir: PathBuf, pid: u32 },
    #[error("the cluster runs already (process {pid}), with {}", differences.join(" and "))]
    Other { pid: u32, differences: Vec<String> },
    #[error("link {link} is there already")]
    LinkTaken { link: &'static str },
}

fn by(holder: &Option<Holder>) -> String {
    holder
        .as_ref()
        .map_or_else(String::new, |holder| format!(" by {holder}"))
}

impl Refusal {
    /// What to do about it, as one sentence for the person at the terminal.
    pub fn cure(&self) -> String {
        match self {
            Refusal::NotRoot => "run it as root, with sudo for instance".into(),
            Refusal::ProgramMissing { package, .. } => {
                format!("apt-get install --no-install-recommends {package}")
            }
            Refusal::NotInPath { .. } => {
                format!("become root with `su -`, or put it there: PATH=$PATH:{SYSTEM}")
            }
            Refusal::KernelFeature { cure, .. } => (*cure).into(),
            Refusal::PortTaken {
                holder: Some(holder),
                port,
                ..
            } => {
                format!(
                    "stop {} (process {}), or choose another port than {port}",
                    holder.command, holder.pid
                )
            }
            Refusal::PortTaken { port, .. } => {
                format!("find its owner with `ss -ltnp sport = :{port}`")
            }
            Refusal::AlreadyRouted { route, .. } => {
                format!("remove that route (`ip route del {route}`), or choose other addresses")
            }
            Refusal::NoNodes => "ask for one or more".into(),
            Refusal::TooManyNodes { machine, .. } if machine.prefix() == 32 => format!(
                "nodes have the addresses above the machine's: give its prefix, such as {}/24",
                machine.address
            ),
            Refusal::TooManyNodes { .. } => "ask for fewer nodes".into(),
            Refusal::NoSuchNode { .. } => {
                "nodes are named n1, n2 and so on; ask for more, or correct the name".into()
            }
            Refusal::BelowRun { .. } => "choose a directory below /var".into(),
            Refusal::NotOurs { .. } => "name the right directory, or an empty one".into(),
            Refusal::Busy { .. } => "wait for it, then try again".into(),
            Refusal::OtherCluster { state_dir, .. } => {
                format!("`tandem down --state-dir {}` stops it", state_dir.display())
            }
            Refusal::Other { .. } => "`tandem down` first, or ask for what runs".into(),
            Refusal::LinkTaken { link } => format!(
                "`tandem down` with the state directory of the cluster that left it, or `ip link delete {link}`"
            ),
        }
    }
}

/// Something that failed on the way.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("{doing}")]
    Io {
        doing: String,
        #[source]
        source: std::io::Error,
    },
    #[error("`{command}` failed: {said}")]
    Command { command: String, said: String },
    #[error("read {what}")]
    Json {
        what: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("node {node} ended while it was being set up: {said}")]
    NodeSetUp { node: String, said: String },
    #[error("the running supervisor (process {pid}) could not do it: {said}")]
    Supervisor { pid: u32, said: String },
    #[error("the supervisor in the background ended: {said}")]
    Detached { said: String },
    #[error("up must be called from the main thread of the process")]
    NotMainThread,
    #[error("the {name} loop ended")]
    LoopEnded { name: String },
    #[error("{left} would not go away")]
    Stuck { left: String },
}

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// Gives an input or output error the sentence it belongs to.
pub(crate) trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<std::io::Error>> Doing<T> for std::result::Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Io {
            doing: what(),
            source: source.into(),
        })
    }
}

/// An error with all its causes in one line, for logs and for other processes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(&format!(": {next}"));
        cause = next.source();
    }
    text
}
