//! The switch that joins the machine and its nodes: a bridge in a network
//! namespace of its own, where neither the machine's firewall nor Docker's
//! bridge rules see the frames. It lives as long as the supervisor holds it.

use crate::command::{inside, ip_batch};
use crate::error::{Doing, Result};
use nix::sched::{CloneFlags, unshare};
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd};

const BRIDGE: &str = "sw0";

#[derive(Debug)]
pub(crate) struct Switch {
    namespace: File,
}

impl Switch {
    pub(crate) fn build() -> Result<Switch> {
        let namespace = new_namespace()?;
        inside(namespace.as_fd(), || {
            ip_batch(&[
                format!("link add {BRIDGE} type bridge mcast_snooping 0"),
                "link set lo up".into(),
                format!("link set {BRIDGE} up"),
            ])?;
            // On (where br_netfilter is loaded) in every new namespace.
            for family in ["ip", "ip6", "arp"] {
                let path = format!("/proc/sys/net/bridge/bridge-nf-call-{family}tables");
                if fs::exists(&path).unwrap_or(false) {
                    fs::write(&path, "0").doing(|| format!("write {path}"))?;
                }
            }
            Ok(())
        })?;
        Ok(Switch { namespace })
    }

    /// The namespace as `ip … netns` takes it from any process.
    pub(crate) fn path(&self) -> String {
        format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            self.namespace.as_raw_fd()
        )
    }

    /// Puts a cable that ends here under its port's name into the bridge.
    pub(crate) fn connect(&self, port: &str) -> Result<()> {
        inside(self.namespace.as_fd(), || {
            ip_batch(&[format!("link set {port} master {BRIDGE} up")]).map(|_| ())
        })
    }

    /// A new cable from `port` to `eth0`, for `address`, in the namespace of process `pid`.
    pub(crate) fn plug(&self, port: &str, address: Ipv4Addr, pid: u32) -> Result<()> {
        inside(self.namespace.as_fd(), || {
            // The port of a node that has just died goes with its namespace, but only after a while.
            if link_exists(port)? {
                ip_batch(&[format!("link delete dev {port}")])?;
            }
            ip_batch(&[
                format!(
                    "link add {port} type veth peer name eth0 address {} netns {pid}",
                    mac(address)
                ),
                format!("link set {port} master {BRIDGE} up"),
            ])?;
            Ok(())
        })
    }
}

/// Derived from the address: a node that comes back answers at once, where a new
/// one would be unreachable until every neighbour had forgotten the old.
fn mac(address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    format!("02:54:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

/// `/sys` shows the namespace of whoever mounted it; `/proc/net` that of the reader.
pub(crate) fn link_exists(name: &str) -> Result<bool> {
    let path = "/proc/thread-self/net/dev";
    let text = fs::read_to_string(path).doing(|| format!("read {path}"))?;
    Ok(text
        .lines()
        .any(|line| line.trim_start().starts_with(&format!("{name}:"))))
}

/// A network namespace that lives as long as the file returned is open.
pub(crate) fn new_namespace() -> Result<File> {
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).doing(|| "create a network namespace".into())?;
        File::open("/proc/thread-self/ns/net").doing(|| "open a network namespace".into())
    });
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
