//! What the network could not do.

use std::io;
use std::net::Ipv4Addr;

use crate::subnet::Subnet;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("could not {what}")]
    Netlink {
        what: String,
        #[source]
        source: rtnetlink::Error,
    },
    #[error("could not {what}")]
    System {
        what: String,
        #[source]
        source: io::Error,
    },
    #[error("no network device of this node has the address {0}")]
    NoUnderlay(Ipv4Addr),
    #[error("the network device {0} exists and is not ours: it is of another kind")]
    ForeignDevice(String),
    #[error("the overlay {overlay} overlaps {route}, which this machine routes elsewhere")]
    Overlap { overlay: Subnet, route: Subnet },
    #[error("could not start {program} (Debian package {package})")]
    MissingProgram {
        program: &'static str,
        package: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("{program} refused: {said}")]
    Refused { program: &'static str, said: String },
    #[error("no directory has been applied yet, so nothing may be attached")]
    NoDirectory,
}

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// For `map_err`: what was being done when netlink refused.
pub(crate) fn netlink(what: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> Error {
    let what = what.into();
    move |source| Error::Netlink { what, source }
}

/// For `map_err`: what was being done when the system refused.
pub(crate) fn system<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Error {
    let what = what.into();
    move |source| Error::System {
        what,
        source: source.into(),
    }
}
