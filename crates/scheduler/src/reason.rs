//! Reasons why an instance is not somewhere, or nowhere.

use std::fmt;
use std::net::Ipv4Addr;

use model::ids::{AppId, InstanceId, VolumeId};
use model::quantity::{Mebibytes, Quantity};
use model::spec::Protocol;
use model::time::Time;

/// Why one node cannot take an instance.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    Lost {
        since: Time,
    },
    Draining,
    Constraint {
        field: String,
        /// `None`: the node lacks the field.
        found: Option<String>,
        wanted: String,
    },
    VolumeElsewhere {
        volume: VolumeId,
        /// The name of its home.
        home: String,
    },
    NotAllowed {
        permission: String,
    },
    Cpus {
        free: Quantity,
        wanted: Quantity,
    },
    Memory {
        free: Mebibytes,
        wanted: Mebibytes,
    },
    Disk {
        free: Mebibytes,
        wanted: Mebibytes,
    },
    Gpus {
        wanted: u32,
    },
    Port {
        protocol: Protocol,
        port: u16,
        holder: Option<AppId>,
    },
    NoDynamicPort,
}

/// The sort of a [`Reason`], for counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Away,
    Constraint,
    Volume,
    NotAllowed,
    Cpus,
    Memory,
    Disk,
    Gpus,
    Ports,
}

impl Reason {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Lost { .. } | Self::Draining => Kind::Away,
            Self::Constraint { .. } => Kind::Constraint,
            Self::VolumeElsewhere { .. } => Kind::Volume,
            Self::NotAllowed { .. } => Kind::NotAllowed,
            Self::Cpus { .. } => Kind::Cpus,
            Self::Memory { .. } => Kind::Memory,
            Self::Disk { .. } => Kind::Disk,
            Self::Gpus { .. } => Kind::Gpus,
            Self::Port { .. } | Self::NoDynamicPort => Kind::Ports,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost { since } => write!(f, "silent since {since}"),
            Self::Draining => write!(f, "being drained"),
            Self::Constraint {
                field,
                found,
                wanted,
            } => {
                let kind = match field.as_str() {
                    "hostname" | "@hostname" => "",
                    _ => "attribute ",
                };
                let found = found.as_deref().unwrap_or("missing");
                write!(f, "{kind}{field} is {found}, wanted {wanted}")
            }
            Self::VolumeElsewhere { volume, home } => write!(f, "volume {volume} is on {home}"),
            Self::NotAllowed { permission } => write!(f, "[agent] allow lacks {permission}"),
            Self::Cpus { free, wanted } => write!(f, "{free} cpus free, {wanted} wanted"),
            Self::Memory { free, wanted } => {
                write!(f, "{free} MB of memory free, {wanted} wanted")
            }
            Self::Disk { free, wanted } => write!(f, "{free} MB of disk free, {wanted} wanted"),
            Self::Gpus { wanted } => write!(f, "no gpus, {wanted} wanted"),
            Self::Port {
                protocol,
                port,
                holder,
            } => {
                let protocol = match protocol {
                    Protocol::Tcp => "tcp",
                    Protocol::Udp => "udp",
                };
                write!(f, "host port {port}/{protocol} is taken")?;
                match holder {
                    Some(app) => write!(f, " by {app}"),
                    None => Ok(()),
                }
            }
            Self::NoDynamicPort => write!(f, "no dynamic host port left"),
        }
    }
}

/// What keeps an app from every node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hindrance {
    VolumeMissing {
        volume: VolumeId,
    },
    /// It is being removed.
    VolumeGoing {
        volume: VolumeId,
    },
    /// Another app has it, until that is removed.
    VolumeTaken {
        volume: VolumeId,
        tenant: AppId,
    },
    /// An instance still writes it.
    VolumeHeld {
        volume: VolumeId,
        holder: InstanceId,
        app: Option<AppId>,
    },
    /// Two volumes of the app are on different nodes.
    VolumesApart {
        volumes: (VolumeId, VolumeId),
    },
    AddressHeld {
        address: Ipv4Addr,
        holder: InstanceId,
        app: Option<AppId>,
    },
    /// The app was removed and put again; an instance of before has not ended.
    Leaving {
        instance: InstanceId,
    },
    /// Its last starts failed.
    Backoff {
        until: Time,
    },
    /// The app's constraints cannot be read.
    Constraint {
        fault: String,
    },
    NoNodes,
    NoAddress,
}

impl fmt::Display for Hindrance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |app: &Option<AppId>| match app {
            Some(app) => format!(" of {app}"),
            None => String::new(),
        };
        match self {
            Self::VolumeMissing { volume } => write!(f, "volume {volume} does not exist"),
            Self::VolumeGoing { volume } => write!(f, "volume {volume} is being removed"),
            Self::VolumeTaken { volume, tenant } => {
                write!(f, "volume {volume} belongs to {tenant}")
            }
            Self::VolumeHeld {
                volume,
                holder,
                app,
            } => write!(f, "volume {volume} is held by instance {holder}{}", of(app)),
            Self::VolumesApart { volumes: (a, b) } => {
                write!(f, "volumes {a} and {b} are on different nodes")
            }
            Self::AddressHeld {
                address,
                holder,
                app,
            } => write!(
                f,
                "address {address} is held by instance {holder}{}",
                of(app)
            ),
            Self::Leaving { instance } => {
                write!(
                    f,
                    "instance {instance} of the removed app has not ended yet"
                )
            }
            Self::Backoff { until } => write!(f, "waits until {until} after failed starts"),
            Self::Constraint { fault } => write!(f, "{fault}"),
            Self::NoNodes => write!(f, "there is no node"),
            Self::NoAddress => write!(f, "the overlay has no free address"),
        }
    }
}
