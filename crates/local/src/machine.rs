//! What a cluster changes in the machine's own network namespace, and how that
//! is taken back.
//!
//! Every change is on disk, with the value it replaces, before it is made; the
//! supervisor may be killed at any instant and the next `up` or `down` finds
//! what to undo. Undoing is idempotent: what is already gone is as good as undone.

use crate::command::{ip_batch, run, run_with_input};
use crate::error::{Doing, Error, Result};
use crate::options::Options;
use crate::registry::write_private;
use crate::subnet::Subnet;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// The machine's end of its cable into the switch.
pub(crate) const LINK: &str = "tandem0";
const TABLE: &str = "tandem_machine";
/// Marks our route, as it does in the nodes.
const ROUTE_PROTOCOL: &str = "84";
const FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";

/// One thing that was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Change {
    Link {
        name: String,
    },
    Route {
        to: Subnet,
    },
    Sysctl {
        path: String,
        former: String,
        ours: String,
        /// Docker was there already, and did with the former value.
        #[serde(default)]
        beside_docker: bool,
    },
    Table {
        name: String,
    },
    /// A rule in another program's chain; both kinds of iptables keep their own.
    Rule {
        program: String,
        rule: Vec<String>,
    },
}

/// The record of all changes, `machine.json` in the state directory.
#[derive(Debug)]
pub(crate) struct Machine {
    file: PathBuf,
    record: Record,
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    /// After a boot nothing of it exists any more, former values included.
    boot: String,
    changes: Vec<Change>,
}

impl Machine {
    /// Reads what an earlier cluster recorded, if it did.
    pub(crate) fn open(state_dir: &Path) -> Result<Machine> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .doing(|| "read the boot id".into())?;
        let file = state_dir.join("machine.json");
        let none = Record {
            boot: boot.trim().into(),
            changes: Vec::new(),
        };
        let record = match fs::read_to_string(&file) {
            Ok(text) => {
                let found: Record = serde_json::from_str(&text).map_err(|source| Error::Json {
                    what: file.display().to_string(),
                    source,
                })?;
                if found.boot == none.boot { found } else { none }
            }
            Err(error) if error.kind() == ErrorKind::NotFound => none,
            Err(error) => return Err(error).doing(|| format!("read {}", file.display())),
        };
        Ok(Machine { file, record })
    }

    /// Joins the machine to the switch and, where it has a way out, lets the nodes
    /// use it. `peer` names the switch's namespace, as `ip` takes it.
    pub(crate) fn join(&mut self, options: &Options, peer: &str) -> Result<()> {
        self.record(Change::Link { name: LINK.into() })?;
        ip_batch(&[
            format!("link add {LINK} type veth peer name machine netns {peer}"),
            format!("address add {} dev {LINK}", options.machine),
            format!("link set {LINK} up"),
        ])?;
        self.record(Change::Route {
            to: options.overlay,
        })?;
        if !run("ip", &["-4", "route", "show", "default"])?
            .trim()
            .is_empty()
        {
            self.share_way_out(options.machine.network())?;
        }
        Ok(())
    }

    fn share_way_out(&mut self, nodes: Subnet) -> Result<()> {
        self.sysctl(FORWARD, "1")?;
        self.record(Change::Table { name: TABLE.into() })?;
        run_with_input("nft", &["-f", "-"], &table(nodes))?;
        for program in iptables_with_docker() {
            for direction in ["-i", "-o"] {
                let rule = ["DOCKER-USER", direction, LINK, "-j", "ACCEPT"]
                    .map(String::from)
                    .to_vec();
                self.record(Change::Rule {
                    program: program.into(),
                    rule: rule.clone(),
                })?;
                run(program, &with("-I", &rule))?;
            }
        }
        Ok(())
    }

    fn sysctl(&mut self, path: &str, ours: &str) -> Result<()> {
        let former = fs::read_to_string(path)
            .doing(|| format!("read {path}"))?
            .trim()
            .to_string();
        if former != ours {
            self.record(Change::Sysctl {
                path: path.into(),
                former,
                ours: ours.into(),
                beside_docker: !iptables_with_docker().is_empty(),
            })?;
            fs::write(path, ours).doing(|| format!("write {path}"))?;
        }
        Ok(())
    }

    fn record(&mut self, change: Change) -> Result<()> {
        self.record.changes.push(change);
        self.write()
    }

    fn write(&self) -> Result<()> {
        let text = serde_json::to_string_pretty(&self.record).map_err(|source| Error::Json {
            what: self.file.display().to_string(),
            source,
        })?;
        write_private(&self.file, &text)
    }

    /// Takes everything back, the latest first. What fails stays on record, and
    /// the rest is undone all the same; the first failure is returned.
    pub(crate) fn undo(&mut self) -> Result<()> {
        let mut failed = None;
        let changes = std::mem::take(&mut self.record.changes);
        for change in changes.into_iter().rev() {
            if let Err(error) = change.undo() {
                self.record.changes.insert(0, change);
                failed.get_or_insert(error);
            }
        }
        match failed {
            Some(error) => self.write().and(Err(error)),
            None => match fs::remove_file(&self.file) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    Err(error).doing(|| format!("remove {}", self.file.display()))
                }
                _ => Ok(()),
            },
        }
    }
}

/// Sends the overlay's packets by one of the living nodes, or nowhere.
pub(crate) fn route(overlay: Subnet, node: Option<Ipv4Addr>) -> Result<()> {
    let overlay = overlay.network().to_string();
    match node {
        Some(node) => {
            let via = node.to_string();
            run(
                "ip",
                &[
                    "route",
                    "replace",
                    &overlay,
                    "via",
                    &via,
                    "dev",
                    LINK,
                    "proto",
                    ROUTE_PROTOCOL,
                ],
            )
            .map(|_| ())
        }
        None => absent(
            &[
                "route",
                "del",
                &overlay,
                "dev",
                LINK,
                "proto",
                ROUTE_PROTOCOL,
            ],
            &["No such process", "Cannot find device"],
        ),
    }
}

impl Change {
    fn undo(&self) -> Result<()> {
        match self {
            // Deleting one end is synchronous and takes the other, and the routes, with it.
            Change::Link { name } => {
                absent(&["link", "delete", "dev", name], &["Cannot find device"])
            }
            Change::Route { to } => route(*to, None),
            Change::Sysctl {
                path,
                former,
                ours,
                beside_docker,
            } => {
                // A value that somebody else has set since is not ours to replace.
                let now = fs::read_to_string(path).doing(|| format!("read {path}"))?;
                // Docker switches forwarding on where it is off: one that has come since needs it.
                let needed =
                    path == FORWARD && !beside_docker && !iptables_with_docker().is_empty();
                if now.trim() == ours && !needed {
                    fs::write(path, former).doing(|| format!("write {path}"))?;
                }
                Ok(())
            }
            // `destroy` is unknown to older versions; declaring first makes `delete` succeed.
            Change::Table { name } => run_with_input(
                "nft",
                &["-f", "-"],
                &format!("table inet {name}\ndelete table inet {name}\n"),
            )
            .map(|_| ()),
            Change::Rule { program, rule } => {
                while run(program, &with("-C", rule)).is_ok() {
                    run(program, &with("-D", rule))?;
                }
                Ok(())
            }
        }
    }
}

/// Runs an `ip` command that removes something, content if it was not there.
fn absent(arguments: &[&str], missing: &[&str]) -> Result<()> {
    match run("ip", arguments) {
        Err(Error::Command { said, .. }) if missing.iter().any(|words| said.contains(words)) => {
            Ok(())
        }
        other => other.map(|_| ()),
    }
}

fn with<'a>(verb: &'a str, rule: &'a [String]) -> Vec<&'a str> {
    std::iter::once(verb)
        .chain(rule.iter().map(String::as_str))
        .collect()
}

/// The iptables in whose rules Docker has its chain. The legacy one is asked only
/// where it is in use already: asking would load its modules.
pub(crate) fn iptables_with_docker() -> Vec<&'static str> {
    let legacy =
        fs::read_to_string("/proc/net/ip_tables_names").is_ok_and(|names| !names.trim().is_empty());
    let modern = run("nft", &["list", "tables"])
        .is_ok_and(|tables| tables.lines().any(|line| line == "table ip filter"));
    let mut programs = Vec::new();
    for (in_use, program) in [(modern, "iptables-nft"), (legacy, "iptables-legacy")] {
        if in_use && run(program, &["-S", "DOCKER-USER"]).is_ok() {
            programs.push(program);
        }
    }
    programs
}

/// Our table: nodes leave under the machine's address, and no larger than the way
/// out allows, as uplinks below 1500 bytes exist.
fn table(nodes: Subnet) -> String {
    format!(
        "table inet {TABLE}
delete table inet {TABLE}
table inet {TABLE} {{
  chain postrouting {{
    type nat hook postrouting priority 100
    ip saddr {nodes} oifname != {{ \"{LINK}\", \"lo\" }} masquerade
  }}
  chain clamp {{
    type filter hook forward priority 0
    iifname \"{LINK}\" tcp flags syn / syn,rst tcp option maxseg size set rt mtu
    oifname \"{LINK}\" tcp flags syn / syn,rst tcp option maxseg size set rt mtu
  }}
}}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_reads_as_it_was_written() {
        let changes = vec![
            Change::Link { name: LINK.into() },
            Change::Sysctl {
                path: FORWARD.into(),
                former: "0".into(),
                ours: "1".into(),
                beside_docker: false,
            },
            Change::Rule {
                program: "iptables-nft".into(),
                rule: vec!["DOCKER-USER".into()],
            },
        ];
        let text = serde_json::to_string(&Record {
            boot: "b".into(),
            changes: changes.clone(),
        })
        .unwrap();
        assert_eq!(
            serde_json::from_str::<Record>(&text).unwrap().changes,
            changes
        );
        assert!(text.contains(r#"{"kind":"sysctl","path":"/proc/sys/net/ipv4/ip_forward","former":"0","ours":"1","beside_docker":false}"#), "{text}");
    }
}
