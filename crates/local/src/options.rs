//! What `tandem up` was asked for. Everything in it is plain data, so that the
//! supervisor in the background and a second `up` can be handed the same.

use crate::error::{Doing, Refusal, Result};
use crate::subnet::Subnet;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The cluster that `up` starts and `down` stops.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Options {
    /// Everything that survives `down`.
    pub state_dir: PathBuf,
    /// One log per role.
    pub log_dir: PathBuf,
    /// How many nodes, named `n1`, `n2`, …
    pub nodes: u8,
    pub attributes: Vec<Attribute>,
    /// The machine's own address among its nodes; node `n` has the n-th above.
    pub machine: Subnet,
    /// What containers have their addresses from.
    pub overlay: Subnet,
    pub ports: Ports,
    pub roles: Roles,
    /// When the cluster counts as up, besides its nodes; `None`: at once.
    pub ready: Option<Ready>,
    /// The cgroup, in every hierarchy, below which all of it runs.
    pub cgroup: String,
}

/// TCP ports on the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    pub api: u16,
    pub registry: u16,
    pub agents: u16,
}

/// How master and agents are started.
///
/// In arguments and environment of the agent `{name}`, `{address}`,
/// `{attributes}` (joined by `;`), `{memory}` (MiB: the node's share of 80 % of
/// the machine's) and `{state}` (a directory of its own) are replaced; in the
/// master's, `{address}` and `{state}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Roles {
    pub master: Program,
    pub agent: Program,
}

/// A program and its arguments. `/proc/self/exe` is this binary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    pub argv: Vec<String>,
    /// Added to the supervisor's own environment.
    pub environment: BTreeMap<String, String>,
}

/// A URL that answers 200 once the cluster is up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    pub address: SocketAddr,
    pub path: String,
}

/// `disk:ssd` for every node, or `n1=disk:ssd` for one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attribute {
    pub node: Option<String>,
    pub attribute: String,
}

/// One node, with what is its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    pub number: u8,
    pub name: String,
    pub address: Ipv4Addr,
    pub state_dir: PathBuf,
    pub attributes: Vec<String>,
}

impl Options {
    /// The design's addresses, ports and directories.
    pub fn new(roles: Roles) -> Self {
        Options {
            state_dir: "/var/lib/tandem".into(),
            log_dir: "/var/log/tandem".into(),
            nodes: 3,
            attributes: Vec::new(),
            machine: Subnet::new(Ipv4Addr::new(10, 0, 15, 10), 24),
            overlay: Subnet::new(Ipv4Addr::new(10, 32, 0, 0), 12),
            ports: Ports {
                api: 8080,
                registry: 5000,
                agents: 4433,
            },
            roles,
            ready: None,
            cgroup: "tandem".into(),
        }
    }

    /// Node `number`, counted from 1; refused where the subnet has no room for it.
    pub fn node(&self, number: u8) -> Result<Node, Refusal> {
        let refusal = Refusal::TooManyNodes {
            nodes: number,
            machine: self.machine,
        };
        let name = format!("n{number}");
        Ok(Node {
            number,
            address: self.machine.above(number).ok_or(refusal)?,
            state_dir: self.state_dir.join("nodes").join(&name),
            attributes: self
                .attributes
                .iter()
                .filter(|a| a.is_for(&name))
                .map(|a| a.attribute.clone())
                .collect(),
            name,
        })
    }

    /// All that can be known before the machine is looked at: every node has an
    /// address, and every attribute a node.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        if self.nodes == 0 {
            return Err(Refusal::NoNodes);
        }
        let names: Vec<String> = (1..=self.nodes)
            .map(|number| self.node(number).map(|node| node.name))
            .collect::<Result<_, _>>()?;
        match self
            .attributes
            .iter()
            .find(|attribute| !names.iter().any(|name| attribute.is_for(name)))
        {
            Some(attribute) => Err(Refusal::NoSuchNode {
                attribute: attribute.clone(),
                nodes: self.nodes,
            }),
            None => Ok(()),
        }
    }

    /// What the running cluster has otherwise than `wanted`, and cannot change while it runs:
    /// `API port 8080, not 8081`. Nodes may come, and bring attributes.
    pub(crate) fn differences(&self, wanted: &Options) -> Vec<String> {
        fn other<T: PartialEq + fmt::Display>(what: &str, have: T, wanted: T) -> Option<String> {
            (have != wanted).then(|| format!("{what} {have}, not {wanted}"))
        }
        let (have, ports) = (self.ports, wanted.ports);
        let logs = [&self.log_dir, &wanted.log_dir].map(|dir| dir.display().to_string());
        let [log_dir, wanted_log_dir] = logs;
        let lacking = (1..=self.nodes).flat_map(|number| {
            let name = format!("n{number}");
            let given = wanted.attributes.iter().filter(move |a| {
                let has = |own: &&Attribute| own.is_for(&name) && own.attribute == a.attribute;
                a.is_for(&name) && !self.attributes.iter().any(|own| has(&own))
            });
            given.map(move |a| format!("n{number} without {}", a.attribute))
        });
        let mut differences: Vec<String> = [
            other("machine", self.machine, wanted.machine),
            other("network", self.overlay, wanted.overlay),
            other("API port", have.api, ports.api),
            other("registry port", have.registry, ports.registry),
            other("agents' port", have.agents, ports.agents),
            other("logs in", log_dir, wanted_log_dir),
            other("control group", &self.cgroup, &wanted.cgroup),
        ]
        .into_iter()
        .flatten()
        .chain(lacking)
        .collect();
        if differences.is_empty() && self.roles != wanted.roles {
            differences.push("other settings of its roles".to_owned());
        }
        differences
    }

    /// The master as it is to be started.
    pub(crate) fn master(&self) -> Program {
        self.roles.master.filled(&[
            ("{address}", self.machine.address.to_string()),
            ("{state}", self.master_dir().display().to_string()),
        ])
    }

    pub(crate) fn master_dir(&self) -> PathBuf {
        self.state_dir.join("master")
    }

    /// The agent of `node` as it is to be started.
    pub(crate) fn agent(&self, node: &Node, memory_mib: u64) -> Program {
        self.roles.agent.filled(&[
            ("{name}", node.name.clone()),
            ("{address}", node.address.to_string()),
            ("{attributes}", node.attributes.join(";")),
            ("{memory}", memory_mib.to_string()),
            ("{state}", node.state_dir.display().to_string()),
        ])
    }
}

impl Program {
    pub fn new(argv: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Program {
            argv: argv.into_iter().map(Into::into).collect(),
            environment: BTreeMap::new(),
        }
    }

    fn filled(&self, values: &[(&str, String)]) -> Program {
        let fill = |text: &String| {
            values.iter().fold(text.clone(), |text, (name, value)| {
                text.replace(name, value)
            })
        };
        Program {
            argv: self.argv.iter().map(fill).collect(),
            environment: self
                .environment
                .iter()
                .map(|(key, value)| (key.clone(), fill(value)))
                .collect(),
        }
    }
}

impl Attribute {
    fn is_for(&self, node: &str) -> bool {
        self.node.as_deref().is_none_or(|name| name == node)
    }
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is no attribute such as disk:ssd or n1=disk:ssd")]
pub struct NotAnAttribute(String);

impl FromStr for Attribute {
    type Err = NotAnAttribute;

    fn from_str(text: &str) -> Result<Self, NotAnAttribute> {
        let is_node = |name: &str| {
            name.strip_prefix('n')
                .is_some_and(|digits| digits.parse::<u8>().is_ok())
        };
        let (node, attribute) = match text.split_once('=') {
            Some((node, attribute)) if is_node(node) => (Some(node.to_string()), attribute),
            _ => (None, text),
        };
        match attribute.split_once(':') {
            Some((key, value))
                if !key.is_empty() && !value.is_empty() && !attribute.contains(';') =>
            {
                Ok(Attribute {
                    node,
                    attribute: attribute.into(),
                })
            }
            _ => Err(NotAnAttribute(text.into())),
        }
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match &self.node {
            Some(node) => write!(f, "{node}={}", self.attribute),
            None => f.write_str(&self.attribute),
        }
    }
}

/// MiB that one of `nodes` nodes may hand out: its share of 80 % of the machine's.
pub(crate) fn memory_share(nodes: u8) -> Result<u64> {
    let path = Path::new("/proc/meminfo");
    let text = std::fs::read_to_string(path).doing(|| format!("read {}", path.display()))?;
    let total_kib = text.lines().find_map(|line| {
        line.strip_prefix("MemTotal:")?
            .split_whitespace()
            .next()?
            .parse::<u64>()
            .ok()
    });
    Ok(total_kib.unwrap_or(0) / 1024 * 8 / 10 / u64::from(nodes.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        let agent = Program::new([
            "agent",
            "--name={name}",
            "--ip",
            "{address}",
            "{attributes}",
            "{state}",
            "{memory}",
        ]);
        Options::new(Roles {
            master: Program::new(["master", "{address}", "{state}"]),
            agent,
        })
    }

    #[test]
    fn attributes_go_to_every_node_or_to_the_named_one() {
        let attributes = ["disk:ssd", "n2=zone:west"]
            .map(|text| text.parse().unwrap())
            .to_vec();
        let options = Options {
            attributes,
            ..options()
        };
        assert_eq!(options.node(1).unwrap().attributes, ["disk:ssd"]);
        assert_eq!(
            options.node(2).unwrap().attributes,
            ["disk:ssd", "zone:west"]
        );
    }

    #[test]
    fn an_attribute_needs_key_and_value() {
        for text in ["disk", ":ssd", "disk:", "n1=disk", "a:b;c:d"] {
            assert!(text.parse::<Attribute>().is_err(), "{text}");
        }
        assert_eq!(
            "n12=a:b=c".parse::<Attribute>().unwrap().to_string(),
            "n12=a:b=c"
        );
    }

    #[test]
    fn what_is_a_nodes_own_is_filled_in() {
        let options = Options {
            attributes: vec!["a:b".parse().unwrap(), "c:d".parse().unwrap()],
            ..options()
        };
        let node = options.node(3).unwrap();
        let expected = [
            "agent",
            "--name=n3",
            "--ip",
            "10.0.15.13",
            "a:b;c:d",
            "/var/lib/tandem/nodes/n3",
            "512",
        ];
        assert_eq!(options.agent(&node, 512).argv, expected);
        assert_eq!(
            options.master().argv,
            ["master", "10.0.15.10", "/var/lib/tandem/master"]
        );
    }

    #[test]
    fn a_running_cluster_says_what_it_cannot_change() {
        let attributes = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let running = Options {
            attributes: attributes(&["n1=disk:ssd"]),
            ..options()
        };
        let more = Options {
            nodes: 4,
            attributes: attributes(&["n1=disk:ssd", "n4=disk:ssd"]),
            ..running.clone()
        };
        let fewer = Options {
            nodes: 1,
            attributes: Vec::new(),
            ..running.clone()
        };
        for same in [running.clone(), more, fewer] {
            assert_eq!(running.differences(&same), <[&str; 0]>::default());
        }
        let mut other = running.clone();
        other.ports.api = 8081;
        other.attributes = attributes(&["disk:ssd", "n1=zone:west"]);
        other.nodes = 2;
        let expected = [
            "API port 8080, not 8081",
            "n1 without zone:west",
            "n2 without disk:ssd",
            "n3 without disk:ssd",
        ];
        assert_eq!(running.differences(&other), expected);
        let mut other = running.clone();
        other.roles.agent.argv.push("--config=x".into());
        assert_eq!(running.differences(&other), ["other settings of its roles"]);
    }

    #[test]
    fn a_node_beyond_the_subnet_is_refused() {
        assert!(options().node(244).is_ok());
        assert!(matches!(
            options().node(245),
            Err(Refusal::TooManyNodes { nodes: 245, .. })
        ));
    }
}
