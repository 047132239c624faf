//! Image names: parsed, normalised, and turned into the places where the image
//! may be found. Asks no registry: that is `registry`'s work.
//!
//! `mongo`, `library/mongo` and `docker.io/library/mongo` are one name. A first
//! part with a dot, a colon, or `localhost` is a registry's host; everything
//! else belongs to the default one, which is written `docker.io` although it
//! means "wherever the cluster says".

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

const DEFAULT_HOST: &str = "docker.io";
const DEFAULT_TAG: &str = "latest";

/// A normalised image name; equal names are equal values.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    host: String,
    repository: String,
    version: Version,
}

/// What follows the name. A digest wins over a tag given beside it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    Tag(String),
    Digest(Digest),
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an image name: {reason}")]
pub struct NotAnImage {
    pub text: String,
    pub reason: &'static str,
}

impl Reference {
    pub fn parse(text: &str) -> Result<Reference, NotAnImage> {
        parse(text).map_err(|reason| NotAnImage {
            text: text.to_owned(),
            reason,
        })
    }

    /// The registry's `host[:port]`; `docker.io` when none was given.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The name within the registry, such as `library/mongo`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    pub fn version(&self) -> &Version {
        &self.version
    }

    /// The name as a person would write it: without what the defaults add.
    pub fn short(&self) -> String {
        let name = match (self.host.as_str(), self.repository.strip_prefix("library/")) {
            (DEFAULT_HOST, Some(official)) => official.to_owned(),
            (DEFAULT_HOST, None) => self.repository.clone(),
            (host, _) => format!("{host}/{}", self.repository),
        };
        format!("{name}{}", self.version)
    }
}

fn parse(text: &str) -> Result<Reference, &'static str> {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (
            rest,
            Some(
                Digest::parse(digest)
                    .map_err(|_| "what follows the @ must be sha256:<64 hexadecimal digits>")?,
            ),
        ),
        None => (text, None),
    };
    let name_start = rest.rfind('/').map_or(0, |slash| slash + 1);
    let (name, tag) = match rest[name_start..].split_once(':') {
        Some((last, tag)) => (&rest[..name_start + last.len()], Some(tag)),
        None => (rest, None),
    };
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return Err(
            "a tag has at most 128 letters, digits, `_`, `.` or `-`, and begins with a letter, digit or `_`",
        );
    }
    let (host, repository) = match name.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (first, rest),
        _ => (DEFAULT_HOST, name),
    };
    if !is_host(host) {
        return Err("the registry must be a host name or address, with a port if need be");
    }
    let host = if host == "index.docker.io" {
        DEFAULT_HOST
    } else {
        host
    };
    let repository = match repository.contains('/') || host != DEFAULT_HOST {
        true => repository.to_owned(),
        false => format!("library/{repository}"),
    };
    if repository.len() > 255 || !repository.split('/').all(is_component) {
        return Err(
            "each part of the name is lower-case letters and digits, joined by `.`, `_`, `__` or dashes",
        );
    }
    let version = match digest {
        Some(digest) => Version::Digest(digest),
        None => Version::Tag(tag.unwrap_or(DEFAULT_TAG).to_owned()),
    };
    Ok(Reference {
        host: host.to_owned(),
        repository,
        version,
    })
}

fn is_tag(tag: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    tag.len() <= 128
        && tag.starts_with(word)
        && tag.chars().all(|c| word(c) || c == '.' || c == '-')
}

fn is_host(host: &str) -> bool {
    let (name, port) = host
        .split_once(':')
        .map_or((host, None), |(name, port)| (name, Some(port)));
    let label = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    name.split('.').all(label)
        && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(component: &str) -> bool {
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    let ends_well =
        bytes.first().is_some_and(alphanumeric) && bytes.last().is_some_and(alphanumeric);
    ends_well
        && bytes.split(alphanumeric).all(|joint| {
            matches!(joint, b"" | b"." | b"_" | b"__") || joint.iter().all(|b| *b == b'-')
        })
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Version::Tag(tag) => write!(f, ":{tag}"),
            Version::Digest(digest) => write!(f, "@{digest}"),
        }
    }
}

/// The whole name, defaults included.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}{}", self.host, self.repository, self.version)
    }
}

impl FromStr for Reference {
    type Err = NotAnImage;
    fn from_str(text: &str) -> Result<Reference, NotAnImage> {
        Reference::parse(text)
    }
}

impl TryFrom<String> for Reference {
    type Error = NotAnImage;
    fn try_from(text: String) -> Result<Reference, NotAnImage> {
        Reference::parse(&text)
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> String {
        reference.to_string()
    }
}

/// Where the cluster looks for images.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registries {
    /// `host:port` of the cluster's own registry, spoken to in plain http.
    pub cluster: Option<String>,
    /// Host in an image's name → registry that answers for it:
    /// `[http://|https://]host[:port]`. Without a scheme it is http for the
    /// cluster's registry and loopback, https for any other.
    #[serde(default)]
    pub mirrors: BTreeMap<String, String>,
}

/// One place to ask: a registry and the name the image has there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// `http://` or `https://`, host and port, without a slash at the end.
    pub base: String,
    pub repository: String,
}

impl Place {
    /// The registry's host and port, for people.
    pub fn registry(&self) -> &str {
        self.base
            .split_once("://")
            .map_or(&self.base, |(_, host)| host)
    }
}

impl Registries {
    /// The places to ask for `reference`, in order. Empty when its host is the
    /// default one and neither a cluster registry nor a mirror is set.
    ///
    /// A host that is named, and mapped by no mirror, is asked itself; save that
    /// loopback, at the port of the cluster's registry, is that registry: who pushed
    /// from its machine calls it so.
    pub fn places(&self, reference: &Reference) -> Vec<Place> {
        let mut places = Vec::new();
        if reference.host == DEFAULT_HOST {
            places.extend(
                self.cluster
                    .iter()
                    .flat_map(|cluster| self.at(cluster, reference)),
            );
        }
        match self.mirrors.get(&reference.host) {
            Some(mirror) => places.extend(self.at(mirror, reference)),
            None if self.means_cluster(&reference.host) => places.extend(
                self.cluster
                    .iter()
                    .flat_map(|cluster| self.at(cluster, reference)),
            ),
            None if reference.host != DEFAULT_HOST => {
                places.extend(self.at(&reference.host, reference))
            }
            None => {}
        }
        let mut seen: Vec<Place> = Vec::new();
        places.retain(|place| {
            !seen.contains(place) && {
                seen.push(place.clone());
                true
            }
        });
        places
    }

    /// The short name comes first in the cluster's registry, because that is
    /// how people push there.
    fn at(&self, registry: &str, reference: &Reference) -> Vec<Place> {
        let base = self.base(registry);
        let place = |repository: &str| Place {
            base: base.clone(),
            repository: repository.to_owned(),
        };
        let short = reference
            .repository
            .strip_prefix("library/")
            .filter(|_| reference.host == DEFAULT_HOST && self.is_cluster(registry));
        short
            .into_iter()
            .chain([reference.repository.as_str()])
            .map(place)
            .collect()
    }

    fn base(&self, registry: &str) -> String {
        let registry = registry.trim_end_matches('/');
        if registry.contains("://") {
            return registry.to_owned();
        }
        let scheme = if is_loopback(registry) || self.is_cluster(registry) {
            "http"
        } else {
            "https"
        };
        format!("{scheme}://{registry}")
    }

    fn is_cluster(&self, registry: &str) -> bool {
        let host = registry.trim_start_matches("http://").trim_end_matches('/');
        self.cluster.as_deref() == Some(host)
    }

    fn means_cluster(&self, host: &str) -> bool {
        let port = |registry: &str| registry.rsplit_once(':').map(|(_, port)| port.to_owned());
        let cluster = self.cluster.as_deref().and_then(port);
        is_loopback(host) && cluster.is_some() && port(host) == cluster
    }
}

/// Whether a registry, as `host:port`, is on the machine that asks.
fn is_loopback(registry: &str) -> bool {
    let name = registry.split(':').next().unwrap_or(registry);
    let address = name.parse::<std::net::Ipv4Addr>();
    name == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(text: &str) -> String {
        Reference::parse(text).unwrap().to_string()
    }

    #[test]
    fn the_three_ways_to_write_mongo_are_one_name() {
        for text in [
            "mongo",
            "library/mongo",
            "docker.io/library/mongo",
            "docker.io/mongo",
            "index.docker.io/mongo:latest",
        ] {
            assert_eq!(full(text), "docker.io/library/mongo:latest", "{text}");
        }
        assert_eq!(Reference::parse("mongo").unwrap().short(), "mongo:latest");
    }

    #[test]
    fn hosts_ports_tags_and_digests_are_told_apart() {
        let digest = Digest::of(b"x");
        for (text, want) in [
            ("shop/web:3", "docker.io/shop/web:3".to_owned()),
            (
                "10.0.15.11:5000/shop/web",
                "10.0.15.11:5000/shop/web:latest".to_owned(),
            ),
            (
                "192.168.58.201:5000/myapp:1.0",
                "192.168.58.201:5000/myapp:1.0".to_owned(),
            ),
            ("localhost/base", "localhost/base:latest".to_owned()),
            (
                "quay.io/a/b/c__d.e--f:V_1",
                "quay.io/a/b/c__d.e--f:V_1".to_owned(),
            ),
            (
                &format!("mongo:3@{digest}"),
                format!("docker.io/library/mongo@{digest}"),
            ),
        ] {
            assert_eq!(full(text), want);
            assert_eq!(full(&want), want, "a whole name reads back");
        }
        assert_eq!(
            Reference::parse("10.0.15.10:5000/web")
                .unwrap()
                .repository(),
            "web"
        );
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in [
            "",
            "Mongo",
            "mongo:",
            "mongo:a b",
            "a//b",
            "/a",
            "a/",
            "a..b",
            "a___b",
            "-a",
            "a@sha256:12",
            "host:0/a",
            "host:x/a",
            "a.b/",
            "../etc",
            "a/../b",
            "a b",
        ] {
            assert!(Reference::parse(text).is_err(), "{text}");
        }
        assert!(Reference::parse(&"a".repeat(300)).is_err());
    }

    fn places(registries: &Registries, text: &str) -> Vec<String> {
        let reference = Reference::parse(text).unwrap();
        registries
            .places(&reference)
            .into_iter()
            .map(|p| format!("{} {}", p.base, p.repository))
            .collect()
    }

    #[test]
    fn the_cluster_is_asked_first_and_then_where_mirrors_say() {
        let mut registries = Registries {
            cluster: Some("10.0.15.10:5000".into()),
            mirrors: BTreeMap::new(),
        };
        assert_eq!(
            places(&registries, "mongo"),
            [
                "http://10.0.15.10:5000 mongo",
                "http://10.0.15.10:5000 library/mongo"
            ]
        );
        assert_eq!(
            places(&registries, "10.0.15.10:5000/web"),
            ["http://10.0.15.10:5000 web"]
        );
        for ours in ["127.0.0.1:5000/web", "localhost:5000/web"] {
            assert_eq!(places(&registries, ours), ["http://10.0.15.10:5000 web"]);
        }
        assert_eq!(
            places(&registries, "localhost:5001/web"),
            ["http://localhost:5001 web"]
        );
        assert_eq!(places(&registries, "quay.io/a/b"), ["https://quay.io a/b"]);
        assert_eq!(
            places(&Registries::default(), "mongo"),
            Vec::<String>::new()
        );

        for (host, mirror) in [
            ("docker.io", "hub.example"),
            ("192.168.58.201:5000", "10.0.15.10:5000"),
            ("old.example", "http://10.9.9.9/"),
        ] {
            registries.mirrors.insert(host.into(), mirror.into());
        }
        assert_eq!(
            places(&registries, "mongo"),
            [
                "http://10.0.15.10:5000 mongo",
                "http://10.0.15.10:5000 library/mongo",
                "https://hub.example library/mongo"
            ]
        );
        assert_eq!(
            places(&registries, "shop/web"),
            [
                "http://10.0.15.10:5000 shop/web",
                "https://hub.example shop/web"
            ]
        );
        assert_eq!(
            places(&registries, "192.168.58.201:5000/myapp"),
            ["http://10.0.15.10:5000 myapp"]
        );
        assert_eq!(places(&registries, "old.example/x"), ["http://10.9.9.9 x"]);
    }
}
