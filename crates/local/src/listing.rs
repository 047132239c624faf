//! What of a cluster is in the kernel, as text that can be compared.

use crate::error::{Doing, Result};
use crate::machine::iptables_with_docker;
use crate::options::Options;
use crate::{cgroup, command, sweep};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Sorted lines: namespaces, mounts, links, routes, nftables tables, Docker's
/// forwarding rules, `ip_forward`, listeners, and (below the cluster's cgroup or
/// state directory) cgroups, processes and loop devices.
///
/// Equal before `up` and after `down`, if nobody else changed the machine.
pub fn listing(options: &Options) -> Result<String> {
    let mut lines = BTreeSet::new();
    let mut add = |kind: &str, texts: Vec<String>| {
        lines.extend(texts.into_iter().map(|text| format!("{kind} {text}")))
    };
    let shown = |program: &str, arguments: &[&str]| -> Result<Vec<String>> {
        Ok(command::run(program, arguments)?
            .lines()
            .map(|line| line.trim().to_string())
            .collect())
    };
    add("namespace", namespaces()?);
    add("mount", mounts()?);
    add("link", shown("ip", &["-br", "link", "show"])?);
    add("address", shown("ip", &["-br", "-4", "address", "show"])?);
    add(
        "route",
        shown("ip", &["-4", "route", "show", "table", "all"])?,
    );
    add("nft", shown("nft", &["list", "tables"])?);
    for program in iptables_with_docker() {
        add(program, shown(program, &["-S", "DOCKER-USER"])?);
    }
    let forward =
        fs::read_to_string("/proc/sys/net/ipv4/ip_forward").doing(|| "read ip_forward".into())?;
    add(
        "sysctl",
        vec![format!("net.ipv4.ip_forward = {}", forward.trim())],
    );
    let group = Path::new(&options.cgroup);
    add(
        "cgroup",
        cgroup::directories(group)?
            .iter()
            .map(|directory| directory.display().to_string())
            .collect(),
    );
    add(
        "process",
        cgroup::members(group)?.into_iter().map(process).collect(),
    );
    let loops = sweep::loops(&options.state_dir);
    add(
        "loop",
        loops
            .iter()
            .map(|(device, file)| format!("{} {}", device.display(), file.display()))
            .collect(),
    );
    Ok(lines.into_iter().collect::<Vec<_>>().join("\n") + "\n")
}

fn process(pid: i32) -> String {
    let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    format!("{pid} {}", command.replace('\0', " ").trim())
}

/// Those that some process lives in.
fn namespaces() -> Result<Vec<String>> {
    let mut found = BTreeSet::new();
    for process in fs::read_dir("/proc")
        .doing(|| "read /proc".into())?
        .flatten()
    {
        // A zombie lives in none any more, though it is still listed with some.
        if fs::read_link(process.path().join("ns/mnt")).is_err() {
            continue;
        }
        for kind in fs::read_dir(process.path().join("ns"))
            .into_iter()
            .flatten()
            .flatten()
        {
            found.extend(fs::read_link(kind.path()).map(|target| target.display().to_string()));
        }
    }
    Ok(found.into_iter().collect())
}

fn mounts() -> Result<Vec<String>> {
    let text =
        fs::read_to_string("/proc/self/mountinfo").doing(|| "read /proc/self/mountinfo".into())?;
    let shorten = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        Some(format!("{} {right}", left.split(' ').nth(4)?))
    };
    Ok(text.lines().filter_map(shorten).collect())
}
