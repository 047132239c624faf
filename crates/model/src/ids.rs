//! What things are called: numbers that only rise, and names that users give.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::time::Time;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty), $prefix:literal) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    };
}

number!(
    /// A node, by its slot in the state. Names, hostnames and addresses are in its record.
    NodeId(u32), "node-");
number!(
    /// Number of a leadership.
    Epoch(u64), "");
number!(
    /// Number of an agent's start; kept on the agent's disk.
    Incarnation(u64), "");
number!(
    /// Number of a transaction in the log.
    Revision(u64), "");
number!(
    /// Number of the right to write a volume.
    Generation(u64), "");
number!(
    /// A move, cluster-wide.
    MoveId(u64), "move-");
number!(
    /// The cluster itself, drawn once when it is founded.
    ClusterId(u64), "");
number!(
    /// A deployment. Clients see it as a UUID ([`DeploymentId::uuid`]).
    DeploymentId(u64), "deployment-");

/// An app's version is the time of the change that made it; versions of one app only rise.
pub type Version = Time;

/// A running copy of an app. `birth` is unique in the cluster for ever; `slot` is where the
/// state keeps it. The text form, `1f.3`, is what directories and cgroups are named by.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct InstanceId {
    pub birth: u64,
    pub slot: u32,
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}.{:x}", self.birth, self.slot)
    }
}

impl From<InstanceId> for String {
    fn from(id: InstanceId) -> String {
        id.to_string()
    }
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("'{0}' is not an instance id")]
pub struct ParseInstanceId(String);

impl TryFrom<String> for InstanceId {
    type Error = ParseInstanceId;
    fn try_from(text: String) -> Result<Self, ParseInstanceId> {
        text.parse()
    }
}

impl FromStr for InstanceId {
    type Err = ParseInstanceId;
    fn from_str(text: &str) -> Result<Self, ParseInstanceId> {
        let fault = || ParseInstanceId(text.to_owned());
        let (birth, slot) = text.split_once('.').ok_or_else(fault)?;
        let id = Self {
            birth: u64::from_str_radix(birth, 16).map_err(|_| fault())?,
            slot: u32::from_str_radix(slot, 16).map_err(|_| fault())?,
        };
        // One spelling each: the text names directories.
        (id.to_string() == text).then_some(id).ok_or_else(fault)
    }
}

/// Scatters the bits of a number, reversibly.
const fn scatter(n: u64) -> u64 {
    let n = (n ^ (n >> 31)).wrapping_mul(0x7fb5_d329_728e_a185);
    let n = (n ^ (n >> 27)).wrapping_mul(0x81da_def4_bc2d_d44d);
    n ^ (n >> 33)
}

/// A version-4 UUID whose 122 free bits are derived from two numbers.
fn uuid(high: u64, low: u64) -> String {
    let (a, b) = (scatter(high), scatter(low ^ scatter(high)));
    let (a, b) = ((a & !0xf000) | 0x4000, (b & !(0b11 << 62)) | (0b10 << 62));
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        a >> 32,
        (a >> 16) & 0xffff,
        a & 0xffff,
        b >> 48,
        b & 0xffff_ffff_ffff
    )
}

impl DeploymentId {
    /// The UUID that clients of `cluster` know this deployment by.
    pub fn uuid(self, cluster: ClusterId) -> String {
        uuid(cluster.0, self.0)
    }
}

impl InstanceId {
    /// Marathon's task id, `shop_web.instance-<uuid>._app.1`. The UUID is the id itself (birth
    /// and slot in hexadecimal), so that [`InstanceId::from_task_id`] needs no index.
    pub fn task_id(self, app: &AppId) -> String {
        let b = self.birth;
        format!(
            "{}.instance-{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}._app.1",
            app.joined('_'),
            b >> 32,
            (b >> 16) & 0xffff,
            (b >> 4) & 0xfff,
            (b & 0xf) << 8,
            self.slot
        )
    }

    /// The id inside a task id or instance id of ours; `None` for anything else.
    pub fn from_task_id(task: &str) -> Option<Self> {
        let (_, rest) = task.split_once(".instance-")?;
        let hex: String = rest.split('.').next()?.split('-').collect();
        if hex.len() != 32 || !hex.is_ascii() {
            return None;
        }
        let part = |range: std::ops::Range<usize>| u64::from_str_radix(&hex[range], 16).ok();
        let birth =
            (part(0..8)? << 32) | (part(8..12)? << 16) | (part(13..16)? << 4) | part(17..18)?;
        Some(Self {
            birth,
            slot: u32::try_from(part(20..32)?).ok()?,
        })
    }
}

/// An app's place in the tree of groups, `/shop/db/mongo`. Always absolute.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AppId(Arc<str>);

#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum ParseAppId {
    #[error("an app id must not be empty or the root")]
    Empty,
    #[error(
        "segment '{0}' must hold only lowercase letters, digits, dots and dashes, and neither begin nor end with a dash or dot"
    )]
    Segment(String),
    #[error("the last segment must not be '{0}', which is a part of the API")]
    Reserved(String),
    #[error("the id is longer than 255 characters")]
    TooLong,
}

impl AppId {
    /// Reads a path; a missing first slash is added, repeated and trailing slashes collapse,
    /// as Marathon does.
    pub fn parse(text: &str) -> Result<Self, ParseAppId> {
        let segments: Vec<&str> = text.split('/').filter(|s| !s.is_empty()).collect();
        let last = segments.last().ok_or(ParseAppId::Empty)?;
        if let Some(bad) = segments.iter().find(|s| !segment_is_valid(s)) {
            return Err(ParseAppId::Segment((*bad).to_owned()));
        }
        if matches!(*last, "restart" | "tasks" | "versions") {
            return Err(ParseAppId::Reserved((*last).to_owned()));
        }
        let path = format!("/{}", segments.join("/"));
        (path.len() <= 255)
            .then(|| Self(path.into()))
            .ok_or(ParseAppId::TooLong)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The segments from the root: `shop`, `db`, `mongo`.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0[1..].split('/')
    }

    /// The last segment: `mongo`.
    pub fn name(&self) -> &str {
        self.segments().next_back().unwrap_or_default()
    }

    /// The group's path: `/shop/db`, or `/`.
    pub fn group(&self) -> &str {
        match self.0.rfind('/') {
            Some(0) | None => "/",
            Some(end) => &self.0[..end],
        }
    }

    /// The segments joined by `separator`, without a leading one.
    pub fn joined(&self, separator: char) -> String {
        self.0[1..].replace('/', &separator.to_string())
    }
}

fn segment_is_valid(segment: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = segment.as_bytes();
    edge(bytes.first())
        && edge(bytes.last())
        && bytes
            .iter()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.'))
}

impl fmt::Display for AppId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for AppId {
    type Err = ParseAppId;
    fn from_str(text: &str) -> Result<Self, ParseAppId> {
        Self::parse(text)
    }
}

impl TryFrom<String> for AppId {
    type Error = ParseAppId;
    fn try_from(text: String) -> Result<Self, ParseAppId> {
        Self::parse(&text)
    }
}

impl From<AppId> for String {
    fn from(id: AppId) -> String {
        id.0.as_ref().to_owned()
    }
}

/// A volume's name, `mongodata`: one path segment, safe as a directory name and a label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VolumeId(Arc<str>);

#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error(
    "'{0}' is no volume name: 1 to 63 letters, digits, dots, dashes and underscores, beginning with a letter or digit"
)]
pub struct ParseVolumeId(String);

impl VolumeId {
    pub fn parse(name: &str) -> Result<Self, ParseVolumeId> {
        let valid = (1..=63).contains(&name.len())
            && name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
        valid
            .then(|| Self(name.into()))
            .ok_or_else(|| ParseVolumeId(name.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for VolumeId {
    type Error = ParseVolumeId;
    fn try_from(name: String) -> Result<Self, ParseVolumeId> {
        Self::parse(&name)
    }
}

impl From<VolumeId> for String {
    fn from(id: VolumeId) -> String {
        id.0.as_ref().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_id_gives_its_instance_back() {
        let app = AppId::parse("shop/web").unwrap();
        let id = InstanceId {
            birth: 0x1234_5678_9abc_def1,
            slot: 77,
        };
        let task = id.task_id(&app);
        assert_eq!(
            task,
            "shop_web.instance-12345678-9abc-4def-8100-00000000004d._app.1"
        );
        assert_eq!(InstanceId::from_task_id(&task), Some(id));
        assert_eq!(InstanceId::from_task_id("shop_web.instance-x"), None);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("1F.3".parse::<InstanceId>().is_err());
    }

    #[test]
    fn app_ids_collapse_slashes_and_refuse_what_marathon_refuses() {
        assert_eq!(AppId::parse("//shop//web/").unwrap().as_str(), "/shop/web");
        assert_eq!(AppId::parse("/"), Err(ParseAppId::Empty));
        assert_eq!(
            AppId::parse("/a/tasks"),
            Err(ParseAppId::Reserved("tasks".into()))
        );
        for bad in ["/A", "/-a", "/a-", "/a b", "/a/../b", "/ä"] {
            assert!(AppId::parse(bad).is_err(), "{bad}");
        }
        let mongo = AppId::parse("/shop/db/mongo").unwrap();
        assert_eq!((mongo.name(), mongo.group()), ("mongo", "/shop/db"));
        assert_eq!(AppId::parse("/x").unwrap().group(), "/");
    }

    #[test]
    fn volume_names_are_safe_directory_names() {
        for bad in ["", ".", "..", "a/b", "-a", "a b", &"x".repeat(64)] {
            assert!(VolumeId::parse(bad).is_err(), "{bad}");
        }
        assert!(VolumeId::parse("mongo_data.1").is_ok());
    }

    #[test]
    fn a_deployment_is_known_by_a_well_formed_uuid() {
        let uuid = DeploymentId(7).uuid(ClusterId(42));
        assert_eq!(uuid.len(), 36);
        assert_eq!(&uuid[14..15], "4");
        assert_ne!(uuid, DeploymentId(8).uuid(ClusterId(42)));
    }
}
