//! Checks before start. Each refuses with its cause, and nothing was changed yet.

use crate::cgroup;
use crate::command::{inside, ip_batch, run};
use crate::error::{Doing, Error, Refusal, Result};
use crate::machine::LINK;
use crate::options::Options;
use crate::port;
use crate::subnet::Subnet;
use crate::switch::{link_exists, new_namespace};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::Path;

/// Programs that a cluster runs, here or in its nodes, and their Debian packages.
const PROGRAMS: [(&str, &str); 5] = [
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("docker-registry", "docker-registry"),
    ("conntrack", "conntrack"),
    ("mkfs.btrfs", "btrfs-progs"),
];

/// Debian's plain `su` leaves it out of PATH.
pub(crate) const SYSTEM: &str = "/usr/sbin";

pub(crate) fn root() -> Result<(), Refusal> {
    if nix::unistd::geteuid().is_root() {
        Ok(())
    } else {
        Err(Refusal::NotRoot)
    }
}

/// Everything else; what an earlier cluster left must be undone beforehand.
pub(crate) fn all(options: &Options) -> Result<()> {
    options.check()?;
    paths(options)?;
    programs()?;
    kernel()?;
    link()?;
    routes(options)?;
    ports(options)
}

fn paths(options: &Options) -> Result<(), Refusal> {
    let below_run =
        |path: &&std::path::PathBuf| path.starts_with("/run") || path.starts_with("/var/run");
    match [&options.state_dir, &options.log_dir]
        .into_iter()
        .find(below_run)
    {
        Some(path) => Err(Refusal::BelowRun { path: path.clone() }),
        None => Ok(()),
    }
}

fn programs() -> Result<(), Refusal> {
    let search = std::env::var_os("PATH").unwrap_or_default();
    let missing = PROGRAMS.iter().find(|(program, _)| {
        !std::env::split_paths(&search).any(|dir| dir.join(program).is_file())
    });
    let Some((program, package)) = missing else {
        return Ok(());
    };
    match Path::new(SYSTEM).join(program).is_file() {
        true => Err(Refusal::NotInPath { program }),
        false => Err(Refusal::ProgramMissing { program, package }),
    }
}

/// Tried rather than looked up: a feature may be built in, a module, or absent.
fn kernel() -> Result<()> {
    for kind in ["mnt", "pid", "net", "uts", "ipc"] {
        if !Path::new("/proc/self/ns").join(kind).exists() {
            return lacking(
                "namespaces of every kind",
                "run a kernel with CONFIG_NAMESPACES, as Debian's are",
            );
        }
    }
    if !cgroup::exist()? {
        return lacking(
            "cgroup hierarchy that is mounted",
            "mount -t cgroup2 cgroup2 /sys/fs/cgroup",
        );
    }
    let trial = new_namespace()?;
    inside(trial.as_fd(), || {
        let devices = [
            ("bridges", "modprobe bridge", "link add t0 type bridge"),
            (
                "veth cables",
                "modprobe veth",
                "link add t1 type veth peer name t2",
            ),
            (
                "VXLAN",
                "modprobe vxlan",
                "link add t3 type vxlan id 1 local 127.0.0.1 dstport 4789",
            ),
        ];
        for (feature, cure, device) in devices {
            if ip_batch(&[device.into()]).is_err() {
                return lacking(feature, cure);
            }
        }
        match run(
            "nft",
            &["add table inet t; add chain inet t c { type nat hook postrouting priority 100; }"],
        ) {
            Ok(_) => Ok(()),
            Err(_) => lacking(
                "nftables with address translation",
                "modprobe nft_chain_nat",
            ),
        }
    })?;
    let known =
        std::fs::read_to_string("/proc/filesystems").doing(|| "read /proc/filesystems".into())?;
    let overlay = known.lines().any(|line| line.ends_with("\toverlay"));
    if !overlay && run("modprobe", &["overlay"]).is_err() {
        return lacking("overlay file system", "modprobe overlay");
    }
    Ok(())
}

fn lacking(feature: &'static str, cure: &'static str) -> Result<()> {
    Err(Refusal::KernelFeature { feature, cure }.into())
}

/// Ours would be undone by now: this is another cluster's, or nobody's.
fn link() -> Result<()> {
    if link_exists(LINK)? {
        return Err(Refusal::LinkTaken { link: LINK }.into());
    }
    Ok(())
}

fn routes(options: &Options) -> Result<()> {
    let shown = run("ip", &["-4", "-o", "route", "show", "table", "all"])?;
    for subnet in [options.machine.network(), options.overlay.network()] {
        if let Some(route) = overlapping(&shown, subnet) {
            return Err(Refusal::AlreadyRouted { subnet, route }.into());
        }
    }
    Ok(())
}

/// The first route for a part, or for more, of `subnet`. Default routes are no
/// claim, nor are the two halves of everything that VPNs use as one.
fn overlapping(routes: &str, subnet: Subnet) -> Option<String> {
    const NOT_A_CLAIM: [&str; 6] = [
        "local",
        "broadcast",
        "multicast",
        "anycast",
        "unreachable",
        "prohibit",
    ];
    let claims = |line: &&str| {
        let mut words = line
            .split_whitespace()
            .skip_while(|word| *word == "unicast");
        let Some(first) = words.next().filter(|word| !NOT_A_CLAIM.contains(word)) else {
            return false;
        };
        first
            .parse::<Subnet>()
            .is_ok_and(|route| route.prefix() > 1 && route.overlaps(subnet))
    };
    routes
        .lines()
        .find(claims)
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn ports(options: &Options) -> Result<(), Error> {
    let (machine, loopback) = (options.machine.address, Ipv4Addr::LOCALHOST);
    port::check_free(&[machine, loopback], options.ports.api)?;
    port::check_free(&[machine, loopback], options.ports.registry)?;
    port::check_free(&[machine], options.ports.agents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_over_our_subnet_is_named_and_defaults_are_not() {
        let shown = "\
default via 192.0.2.1 dev eth0
0.0.0.0/1 via 10.8.0.1 dev tun0
local 10.0.15.10 dev x table local proto kernel scope host src 10.0.15.10
10.0.16.0/24 dev eth1 proto kernel scope link src 10.0.16.2
10.0.0.0/16 via 192.0.2.7 dev eth0 proto static
";
        let ours = "10.0.15.0/24".parse().unwrap();
        assert_eq!(
            overlapping(shown, ours),
            Some("10.0.0.0/16 via 192.0.2.7 dev eth0 proto static".into())
        );
        assert_eq!(overlapping(shown, "10.32.0.0/12".parse().unwrap()), None);
        assert_eq!(
            overlapping(
                "10.32.5.5 dev wg0 scope link \n",
                "10.32.0.0/12".parse().unwrap()
            ),
            Some("10.32.5.5 dev wg0 scope link".into())
        );
    }
}
