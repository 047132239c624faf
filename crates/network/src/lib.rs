//! The network that spans the nodes: overlay, addresses, published ports, DNS.
//!
//! One flat layer-2 overlay joins the containers of all nodes, a second one carries fixed
//! addresses. The leader says who has which address (`model::Directory`); this crate makes the
//! kernel of *one* node agree with it, and tells containers who is called what. It decides
//! nothing: no address is chosen, no name invented here. Everything acts on the network namespace
//! of the calling process, which is the node's.
//!
//! Begin with [`Network`]: `open`, then `apply`, then `attach`. [`Dns`] is independent of it.
//!
//! ```text
//!  eth0 of c1 ── veth ─┐            tnd0 (bridge; gateway 10.32.0.1 and the node's own address)
//!                      ├── bridge ──┤
//!  eth0 of c3 ── veth ─┘            tnd0vx (VXLAN, no learning, no flooding) ── underlay
//! ```

mod address;
mod attach;
mod conntrack;
mod devices;
mod dns;
mod docker;
mod error;
mod files;
mod firewall;
mod forwarding;
mod inspect;
mod kernel;
mod listener;
mod message;
mod names;
mod namespace;
mod network;
mod placement;
mod program;
mod ruleset;
mod subnet;
mod sweep;
mod sysctl;
mod upstream;

pub use address::mac;
pub use attach::Attachment;
pub use dns::Dns;
pub use error::Error;
pub use files::{hosts, resolv_conf};
pub use inspect::Inspection;
pub use listener::{Holder, Listener, listeners};
pub use names::{Answer, Kind, Names, Question, Record};
pub use namespace::{connect_in, in_namespace};
pub use network::{Applied, Network, Settings};
pub use subnet::Subnet;
pub use upstream::Upstreams;

/// The domain that every app's name is in.
pub const DOMAIN: &str = "tandem.local";
