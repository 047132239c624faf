//! Who is called what: from a directory to answers. Pure.
//!
//! App `/shop/db/mongo` is `mongo.db.shop.tandem.local`, `mongo-db-shop.marathon.mesos` and
//! whatever its `hostname` parameter says. Bare `mongo`, or `mongo.tandem.local`, which the one
//! search domain makes of it, is the app of that name nearest to the asker's group. An app is known
//! by all its names until it is removed, whatever runs of it: without any instance it hides those
//! farther away, though none as near, and has no records. Only a `hostname` outside our zones is
//! then as if nobody had it: it may be somebody else's.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::Ipv4Addr;

use model::spec::Protocol;
use model::{AppId, Directory, Entry, NetworkKind};

use crate::DOMAIN;
use crate::subnet::Subnet;

/// What is never asked upstream. The last is the domain of the original's names.
const ZONES: [&str; 3] = [DOMAIN, "marathon.mesos", "weave.local"];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question<'a> {
    /// Lower case, without the final dot.
    pub name: &'a str,
    pub kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Address,
    Pointer,
    Service,
    /// A type of which no name of ours has any record.
    Other,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// None of these: the name exists, and has nothing of that kind.
    Records(Vec<Record>),
    NoSuchName,
    /// Not ours to say.
    Elsewhere,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    Address(Ipv4Addr),
    Pointer(String),
    Service {
        port: u16,
        target: String,
        address: Ipv4Addr,
    },
}

/// All names of a cluster, indexed for asking.
#[derive(Clone, Debug, Default)]
pub struct Names {
    apps: BTreeMap<AppId, App>,
    /// Whole names other than `tandem.local`'s single labels.
    whole: HashMap<String, BTreeSet<AppId>>,
    /// Last segments.
    bare: HashMap<String, BTreeSet<AppId>>,
    /// First labels of `hostname` parameters; the hostnames.
    labels: HashMap<String, BTreeSet<String>>,
    askers: HashMap<Ipv4Addr, AppId>,
    overlay: Option<Subnet>,
}

#[derive(Clone, Debug, Default)]
struct App {
    /// Running or not.
    has_instances: bool,
    answers: BTreeSet<Ipv4Addr>,
    services: Vec<Service>,
}

#[derive(Clone, Debug)]
struct Service {
    name: Option<String>,
    protocol: Protocol,
    port: u16,
    address: Ipv4Addr,
}

impl Names {
    /// `overlay` is the subnet whose reverse zone is ours.
    pub fn of(directory: &Directory, overlay: Subnet) -> Self {
        let mut names = Self {
            overlay: Some(overlay),
            ..Self::default()
        };
        // Older masters tell of no apps: theirs are known by what is left of them.
        let mut entries: BTreeMap<&AppId, Vec<&Entry>> =
            directory.apps.keys().map(|id| (id, Vec::new())).collect();
        for entry in directory.instances.values() {
            entries.entry(&entry.app).or_default().push(entry);
            for interface in &entry.interfaces {
                names.askers.insert(interface.address, entry.app.clone());
            }
        }
        for (id, entries) in entries {
            let wanted = directory.apps.get(id);
            let wanted = wanted.and_then(|app| app.hostname.as_ref());
            // Instances of earlier versions may have had another.
            let had = entries.iter().filter_map(|entry| entry.hostname.as_ref());
            names.call(id, wanted.into_iter().chain(had));
            names.apps.insert(id.clone(), app(directory, &entries));
        }
        names
    }

    fn call<'a>(&mut self, id: &AppId, hostnames: impl Iterator<Item = &'a String>) {
        let mut call = |name: String| {
            self.whole.entry(name).or_default().insert(id.clone());
        };
        call(domain_name(id));
        let segments: Vec<&str> = id.segments().rev().collect();
        call(format!("{}.marathon.mesos", segments.join("-")));
        for hostname in hostnames {
            let hostname = hostname.trim_end_matches('.').to_ascii_lowercase();
            let label = hostname.split('.').next().unwrap_or_default().to_owned();
            call(hostname.clone());
            self.labels.entry(label).or_default().insert(hostname);
        }
        self.bare
            .entry(id.name().to_owned())
            .or_default()
            .insert(id.clone());
    }

    /// Answers as the server of `asker`. `seed` orders several records.
    pub fn answer(&self, asker: Ipv4Addr, question: &Question<'_>, seed: u64) -> Answer {
        if let Some(answer) = self.reverse(question) {
            return answer;
        }
        let records = match question.name.starts_with('_') {
            true => self.service(asker, question),
            false => self
                .instance(question)
                .or_else(|| Some(self.records(self.apps(asker, question.name)?, question.kind))),
        };
        match records {
            Some(mut records) => {
                shuffle(&mut records, seed);
                Answer::Records(records)
            }
            None => outside(question),
        }
    }

    /// The apps that a name means.
    fn apps(&self, asker: Ipv4Addr, name: &str) -> Option<Vec<&AppId>> {
        let whole = |name: &str| Some(self.whole.get(name)?.iter().collect());
        match name
            .strip_suffix(DOMAIN)
            .and_then(|rest| rest.strip_suffix('.'))
        {
            Some(rest) if rest.contains('.') => whole(name).or_else(|| self.nearest(asker, rest)),
            Some(label) => self.nearest(asker, label),
            None if name.contains('.') => {
                let has = |id: &&AppId| self.apps.get(*id).is_some_and(|app| app.has_instances);
                whole(name).filter(|apps| is_in_our_zones(name) || apps.iter().any(has))
            }
            None => self.nearest(asker, name),
        }
    }

    fn nearest(&self, asker: Ipv4Addr, name: &str) -> Option<Vec<&AppId>> {
        if let Some(apps) = self.bare.get(name) {
            let home = self
                .askers
                .get(&asker)
                .map(AppId::group)
                .unwrap_or_default();
            // Of equals the smallest id, and the set is in order.
            let best = apps
                .iter()
                .rev()
                .max_by_key(|id| (shared_segments(home, id.group()), self.has_answers(id)))?;
            return Some(vec![best]);
        }
        let hostnames = self.labels.get(name)?.iter();
        let mut apps = hostnames.filter_map(|hostname| self.whole.get(hostname));
        let first = apps.clone().next()?;
        let answers = |apps: &&BTreeSet<AppId>| apps.iter().any(|id| self.has_answers(id));
        Some(apps.find(answers).unwrap_or(first).iter().collect())
    }

    fn has_answers(&self, id: &AppId) -> bool {
        self.apps.get(id).is_some_and(|app| !app.answers.is_empty())
    }

    fn records(&self, apps: Vec<&AppId>, kind: Kind) -> Vec<Record> {
        let found = apps.iter().filter_map(|&id| Some((id, self.apps.get(id)?)));
        match kind {
            Kind::Address => {
                let addresses: BTreeSet<Ipv4Addr> = found
                    .flat_map(|(_, app)| app.answers.iter().copied())
                    .collect();
                addresses.into_iter().map(Record::Address).collect()
            }
            Kind::Service => found
                .flat_map(|(id, app)| app.services.iter().map(move |service| service.record(id)))
                .collect(),
            Kind::Pointer | Kind::Other => Vec::new(),
        }
    }

    /// `_http._tcp.web.shop.tandem.local`, or all ports of an app as `_web-shop._tcp.marathon.mesos`.
    fn service(&self, asker: Ipv4Addr, question: &Question<'_>) -> Option<Vec<Record>> {
        let (first, rest) = question.name.strip_prefix('_')?.split_once("._")?;
        let (protocol, owner) = rest.split_once('.')?;
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => return None,
        };
        let (apps, port) = match owner == "marathon.mesos" {
            true => (self.apps(asker, &format!("{first}.{owner}"))?, None),
            false => (self.apps(asker, owner)?, Some(first)),
        };
        let fits = |service: &&Service| {
            service.protocol == protocol && (port.is_none() || service.name.as_deref() == port)
        };
        let found = apps
            .into_iter()
            .filter_map(|id| Some((id, self.apps.get(id)?)));
        let records: Vec<Record> = found
            .flat_map(|(id, app)| {
                app.services
                    .iter()
                    .filter(fits)
                    .map(|service| service.record(id))
            })
            .collect();
        Some(match question.kind {
            Kind::Service => records,
            _ => Vec::new(),
        })
    }

    /// The target of a service record: `10-32-0-7.mongo.db.shop.tandem.local`.
    fn instance(&self, question: &Question<'_>) -> Option<Vec<Record>> {
        let (label, owner) = question.name.split_once('.')?;
        let address: Ipv4Addr = label.replace('-', ".").parse().ok()?;
        let holds = |id: &AppId| {
            let answers = self.apps.get(id).map(|app| &app.answers);
            domain_name(id) == owner && answers.is_some_and(|answers| answers.contains(&address))
        };
        self.whole
            .get(owner)?
            .iter()
            .any(holds)
            .then(|| match question.kind {
                Kind::Address => vec![Record::Address(address)],
                _ => Vec::new(),
            })
    }

    fn reverse(&self, question: &Question<'_>) -> Option<Answer> {
        let digits = question.name.strip_suffix(".in-addr.arpa")?;
        let forward: Vec<&str> = digits.rsplit('.').collect();
        let Ok(address) = forward.join(".").parse::<Ipv4Addr>() else {
            return Some(Answer::Elsewhere);
        };
        let ours = self
            .overlay
            .is_some_and(|overlay| overlay.contains(address));
        Some(match (self.askers.get(&address), question.kind) {
            (Some(app), Kind::Pointer) => Answer::Records(vec![Record::Pointer(domain_name(app))]),
            (Some(_), _) => Answer::Records(Vec::new()),
            (None, _) if ours => Answer::NoSuchName,
            (None, _) => Answer::Elsewhere,
        })
    }
}

/// A name that nobody has: ours to deny, or somebody else's.
fn outside(question: &Question<'_>) -> Answer {
    let name = question.name;
    if ZONES.contains(&name) {
        return Answer::Records(Vec::new());
    }
    // A single label is a name of ours or a mistake; questions about top-level domains
    // themselves are of other types.
    let single = !name.contains('.') && !name.is_empty() && question.kind == Kind::Address;
    match single || is_in_our_zones(name) {
        true => Answer::NoSuchName,
        false => Answer::Elsewhere,
    }
}

fn is_in_our_zones(name: &str) -> bool {
    let holds = |zone: &&str| {
        name.strip_suffix(*zone)
            .is_some_and(|rest| rest.ends_with('.'))
    };
    ZONES.iter().any(holds)
}

fn app(directory: &Directory, entries: &[&Entry]) -> App {
    let running: Vec<&&Entry> = entries.iter().filter(|entry| entry.running).collect();
    let any_healthy = running.iter().any(|entry| entry.healthy);
    let mut app = App {
        has_instances: !entries.is_empty(),
        ..App::default()
    };
    for entry in running
        .into_iter()
        .filter(|entry| entry.healthy || !any_healthy)
    {
        let Some(address) = address(directory, entry) else {
            continue;
        };
        app.answers.insert(address);
        app.services.extend(entry.ports.iter().map(|port| Service {
            name: port.name.as_ref().map(|name| name.to_ascii_lowercase()),
            protocol: port.protocol,
            // On its node's own network an instance listens on the host port itself.
            port: match entry.interfaces.is_empty() {
                true => port.host.unwrap_or(port.container),
                false => port.container,
            },
            address,
        }));
    }
    app
}

/// Where an instance answers: on the overlay, which everybody reaches; else on what it has; else
/// on its node.
fn address(directory: &Directory, entry: &Entry) -> Option<Ipv4Addr> {
    let overlay = |interface: &&model::Interface| interface.network == NetworkKind::Overlay;
    let interfaces = &entry.interfaces;
    match interfaces
        .iter()
        .find(overlay)
        .or_else(|| interfaces.first())
    {
        Some(interface) => Some(interface.address),
        None => Some(directory.nodes.get(&entry.node)?.underlay),
    }
}

impl Service {
    fn record(&self, id: &AppId) -> Record {
        let label = self.address.to_string().replace('.', "-");
        Record::Service {
            port: self.port,
            target: format!("{label}.{}", domain_name(id)),
            address: self.address,
        }
    }
}

fn domain_name(id: &AppId) -> String {
    let segments: Vec<&str> = id.segments().rev().collect();
    format!("{}.{DOMAIN}", segments.join("."))
}

fn shared_segments(one: &str, other: &str) -> usize {
    let segments = |group| str::split(group, '/').filter(|segment: &&str| !segment.is_empty());
    segments(one)
        .zip(segments(other))
        .take_while(|(one, other)| one == other)
        .count()
}

/// Fisher-Yates over splitmix64.
fn shuffle<T>(items: &mut [T], mut seed: u64) {
    for last in (1..items.len()).rev() {
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        items.swap(last, (mixed % (last as u64 + 1)) as usize);
    }
}

#[cfg(test)]
#[path = "names_tests.rs"]
mod tests;
