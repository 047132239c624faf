//! The supervisor's own small socket, `up.sock` in the state directory: one line
//! of JSON each way. A second `up` and `down` speak it; nobody else needs to.

use crate::error::{Doing, Error, Refusal, Result};
use crate::options::Options;
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub(crate) enum Request {
    /// At least so many nodes; the attributes are for those that are new. All else must be as it
    /// is.
    Up(Box<Options>),
    Down,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reply {
    Running(Running),
    /// What was asked for differently, as [`Options::differences`] says it.
    Other(Vec<String>),
    Failed(String),
}

/// The cluster that runs already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// The supervisor's process.
    pub pid: u32,
    pub nodes: Vec<Member>,
    /// Names of the nodes that this request added.
    pub added: Vec<String>,
}

/// One of its nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub name: String,
    pub address: Ipv4Addr,
    /// Its init runs and its cable is plugged.
    pub up: bool,
}

/// Longer than it takes to add many nodes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("up.sock")
}

/// Asks the running supervisor; `None` where none listens.
pub(crate) fn ask(state_dir: &Path, request: &Request) -> Result<Option<Running>> {
    let Ok(mut stream) = UnixStream::connect(path(state_dir)) else {
        return Ok(None);
    };
    let pid = crate::state::holder(state_dir).unwrap_or(0);
    let json = |source| Error::Json {
        what: "a message between supervisors".into(),
        source,
    };
    let line = serde_json::to_string(request).map_err(json)? + "\n";
    let mut answer = String::new();
    let mut exchange = || {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(line.as_bytes())?;
        BufReader::new(&stream).read_line(&mut answer)
    };
    exchange().doing(|| format!("talk to the running supervisor (process {pid})"))?;
    if answer.is_empty() {
        return Ok(None);
    }
    match serde_json::from_str(&answer).map_err(json)? {
        Reply::Running(running) => Ok(Some(running)),
        Reply::Other(differences) => Err(Refusal::Other { pid, differences }.into()),
        Reply::Failed(said) => Err(Error::Supervisor { pid, said }),
    }
}
