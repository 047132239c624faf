//! The instance's directory: where everything about it lies.
//!
//! ```text
//! spec.json config.json seccomp   what it shall be (ours; OCI's; the compiled filter)
//! rootfs/                         mount point of a host root; otherwise the caller's business
//! stdout stderr                   FIFOs
//! log log.1 …  mark               CRI lines; the piece being copied (shim/pump.rs)
//! pid shim started                identities of init and shim; present once the command runs
//! lock                            flock held by the living shim
//! oci/                            libcontainer's state
//! exit                            one line of JSON: it has ended
//! shim.log                        what shims had to complain about
//! ```

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use crate::{Error, Spec};

/// An instance's directory; its last component is the instance's id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dir {
    path: PathBuf,
    id: String,
}

impl Dir {
    /// `path` need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let id = path
            .file_name()
            .unwrap_or(OsStr::new(""))
            .to_string_lossy()
            .into_owned();
        Self { path, id }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    /// The spec with which the instance was created.
    pub fn spec(&self) -> Result<Spec, Error> {
        let path = self.path.join("spec.json");
        let bytes = fs::read(&path).map_err(Error::file("read", &path))?;
        serde_json::from_slice(&bytes).map_err(|source| Error::Record { path, source })
    }

    pub(crate) fn exit(&self) -> PathBuf {
        self.path.join("exit")
    }
    /// Where the record is made; its room is reserved from the beginning.
    pub(crate) fn unfinished_exit(&self) -> PathBuf {
        self.path.join("exit.tmp")
    }
    pub(crate) fn config(&self) -> PathBuf {
        self.path.join("config.json")
    }
    pub(crate) fn seccomp(&self) -> PathBuf {
        self.path.join("seccomp")
    }
    pub(crate) fn rootfs(&self) -> PathBuf {
        self.path.join("rootfs")
    }
    pub(crate) fn fifos(&self) -> [PathBuf; 2] {
        [self.path.join("stdout"), self.path.join("stderr")]
    }
    pub(crate) fn init(&self) -> PathBuf {
        self.path.join("pid")
    }
    pub(crate) fn shim(&self) -> PathBuf {
        self.path.join("shim")
    }
    pub(crate) fn shim_log(&self) -> PathBuf {
        self.path.join("shim.log")
    }
    pub(crate) fn started(&self) -> PathBuf {
        self.path.join("started")
    }
    pub(crate) fn lock(&self) -> PathBuf {
        self.path.join("lock")
    }
    pub(crate) fn oci(&self) -> PathBuf {
        self.path.join("oci")
    }
}
