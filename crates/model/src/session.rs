//! What master and agent say to each other on one session.
//!
//! The agent opens with [`Hello`]; the master answers [`Welcome`] or [`FromMaster::Refused`].
//! After that every order carries the leadership's epoch, and an agent refuses orders of an
//! older one. Assignment and directory come whole first, then as deltas; on a mismatch the
//! agent asks for the whole again. Sightings are repeated until they are acknowledged.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::assignment::{Assignment, AssignmentDelta};
use crate::directory::{Directory, DirectoryDelta};
use crate::ids::{ClusterId, Epoch, Incarnation, InstanceId, NodeId, VolumeId};
use crate::machine::Machine;
use crate::sighting::Sighting;
use crate::time::Millis;
use crate::volume::Snapshot;

/// The first word of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    pub protocol: u32,
    /// The cluster that the agent's state directory belongs to, if any.
    pub cluster: Option<ClusterId>,
    /// The newest leadership the agent obeyed.
    pub epoch: Epoch,
    pub incarnation: Incarnation,
    pub machine: Machine,
}

/// The protocol that this build speaks.
pub const PROTOCOL: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    pub cluster: ClusterId,
    pub epoch: Epoch,
    pub node: NodeId,
    /// The overlay's subnet and the node's own address on it.
    pub subnet: (Ipv4Addr, u8),
    pub overlay: Ipv4Addr,
}

/// What an agent remembers of its cluster across its own starts: one small file, written whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// The last welcome: the cluster that this state directory belongs to.
    pub welcome: Option<Welcome>,
    /// The newest leadership obeyed.
    pub epoch: Epoch,
    /// Number of the newest start.
    pub incarnation: Incarnation,
    /// [`Machine::boot`] of the newest start.
    pub boot: String,
    /// Instances that were assigned when the machine booted: whatever they were, they are over.
    pub over: BTreeSet<InstanceId>,
}

/// An assignment or directory as an agent keeps it, with the leadership that gave it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept<T> {
    pub epoch: Epoch,
    pub whole: T,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromAgent {
    Hello(Box<Hello>),
    /// Sent every second when there is nothing else to say.
    Heartbeat,
    Sightings(Vec<Sighting>),
    /// How far the volumes are that come in; never kept, for it is old in a second.
    Arriving(Vec<Arriving>),
    WholeAssignment,
    WholeDirectory,
    /// Part of the answer to a [`FromMaster::Ask`] of that number.
    Answer {
        ask: u64,
        part: Part,
    },
}

/// One snapshot on its way to the node that says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arriving {
    pub volume: VolumeId,
    pub snapshot: Snapshot,
    /// So far.
    pub bytes: u64,
    pub took: Millis,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromMaster {
    Welcome(Box<Welcome>),
    /// The session is over: why, and what the operator should do.
    Refused(String),
    Heartbeat,
    Assignment {
        epoch: Epoch,
        whole: Box<Assignment>,
    },
    AssignmentDelta {
        epoch: Epoch,
        delta: Box<AssignmentDelta>,
    },
    Directory {
        epoch: Epoch,
        whole: Box<Directory>,
    },
    DirectoryDelta {
        epoch: Epoch,
        delta: Box<DirectoryDelta>,
    },
    /// Every sighting up to this sequence of this incarnation is durable.
    Acknowledged {
        incarnation: Incarnation,
        sequence: u64,
    },
    /// A question on behalf of a client; answered by parts until one says that it is the last.
    Ask {
        ask: u64,
        what: Ask,
    },
    /// More input for an ask (the keyboard of an exec).
    Input {
        ask: u64,
        input: Input,
    },
    /// The client has gone.
    Cancel {
        ask: u64,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    Log {
        instance: InstanceId,
        tail: Option<u32>,
        follow: bool,
    },
    Exec {
        instance: InstanceId,
        args: Vec<String>,
        tty: Option<(u16, u16)>,
    },
    /// What the node's part of the network is, beside what it should be.
    Network,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Input {
    Bytes(Vec<u8>),
    /// End of input.
    End,
    Resize {
        rows: u16,
        columns: u16,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Part {
    Log(Vec<LogLine>),
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
    Compared(Vec<Compared>),
    /// The node's nftables tables.
    Tables(String),
    /// The exec's exit code; the last part.
    Exited(i32),
    /// The last part of a log, and of what a network is.
    End,
    /// Why it could not be done; the last part.
    Failed(String),
}

/// One thing of a node's network, in words: what it should be, and what it is. Empty: nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compared {
    /// `device`, `address` or `port`.
    pub kind: String,
    pub name: String,
    pub wanted: String,
    pub found: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// RFC 3339 with nanoseconds, as the shim wrote it.
    pub time: String,
    pub stream: LogStream,
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogStream {
    Stdout,
    Stderr,
}
