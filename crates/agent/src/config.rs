//! What an agent is told when it starts. Where these values come from is the caller's business.

use std::net::SocketAddr;
use std::path::PathBuf;

use model::{Machine, Mebibytes};
use node::disk::Marks;

#[derive(Clone, Debug)]
pub struct Config {
    /// Everything the agent remembers; made when absent. See `disk.rs` for the layout.
    pub state_dir: PathBuf,
    /// Where the master listens for agents.
    pub master: SocketAddr,
    /// Needed once, while the state directory holds no identity.
    pub token: Option<String>,
    /// What the node is and offers; [`Machine::boot`] is found out by the agent. Its address is
    /// also the underlay's.
    pub machine: Machine,
    /// Below each cgroup hierarchy's mount, without a leading slash: `tandem/n1`.
    pub cgroup_base: String,
    pub registries: image::Registries,
    /// The network namespace is this node's alone, not a whole machine's.
    pub own_namespace: bool,
    /// Resolvers for names that are not the cluster's; `None`: the machine's.
    pub upstreams: Option<Vec<SocketAddr>>,
    /// Paths that command tasks must not see, besides the state directory.
    pub hidden: Vec<PathBuf>,
    pub log: container::LogLimits,
    /// Of the file that holds this node's volumes; reserved when the first one is made.
    pub pool_size: Mebibytes,
    /// How full the disk of the images may get before those go that nothing names.
    pub image_marks: Marks,
}
