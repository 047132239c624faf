//! The last steps inside the container, between the runtime's work and the user's command:
//! find the command, enter the version 2 cgroup, load the filter, execute.
//!
//! What went wrong goes to the shim through a pipe that closes on `execve`: an empty pipe means
//! that the command runs. The runtime's own errors are sentences; this one carries the code.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};
use oci_spec::runtime::Spec as OciSpec;
use rustix::fs::{Access, AtFlags, CWD, accessat};
use serde::{Deserialize, Serialize};

use crate::sys;

/// Why the command does not run.
#[derive(Debug, Serialize, Deserialize)]
pub struct Verdict {
    pub message: String,
    pub code: Option<i32>,
}

impl Verdict {
    /// From the shim's end of the pipe, after its last writer is gone; `None`: it runs.
    pub fn read(pipe: OwnedFd) -> io::Result<Option<Self>> {
        let text = io::read_to_string(File::from(pipe))?;
        // Both steps may fail one after the other: the first line tells the cause.
        text.lines()
            .next()
            .map(|line| Ok(serde_json::from_str(line)?))
            .transpose()
    }
}

/// Cloned into the container's process by the runtime; descriptors keep their numbers there.
#[derive(Clone)]
pub struct Command {
    /// Compiled filter; `None` where the runtime has loaded one already.
    pub filter: Option<Arc<Vec<u8>>>,
    pub verdict: Arc<File>,
    /// `cgroup.procs` of the version 2 group.
    pub entrance: Option<Arc<File>>,
}

impl Command {
    fn refuse(&self, message: String, code: Option<i32>) -> String {
        let line = serde_json::to_string(&Verdict {
            message: message.clone(),
            code,
        });
        let line = line.expect("a Verdict is plain values") + "\n";
        // Without a listener there is nobody left to tell.
        let _ = (&*self.verdict).write_all(line.as_bytes());
        message
    }

    fn execute(&self, spec: &OciSpec) -> Result<(), (String, Option<i32>)> {
        let plain = |error: &dyn std::error::Error| (error.to_string(), None);
        let args = arguments(spec);
        let path = find(spec)?;
        let words: Result<Vec<CString>, _> = args
            .iter()
            .map(|arg| CString::new(arg.as_bytes()))
            .collect();
        let words = words.map_err(|error| plain(&error))?;
        let file = CString::new(path.as_os_str().as_encoded_bytes()).map_err(|e| plain(&e))?;
        sys::default_signals();
        nix::sys::signal::SigSet::empty()
            .thread_set_mask()
            .map_err(|error| plain(&error))?;
        if let Some(filter) = &self.filter {
            sys::load_seccomp(filter)
                .map_err(|error| (format!("load the seccomp filter: {error}"), None))?;
        }
        let Err(error) = nix::unistd::execv(&file, &words);
        let code = if error == nix::errno::Errno::ENOENT {
            127
        } else {
            126
        };
        Err((
            format!("execute {}: {}", path.display(), error.desc()),
            Some(code),
        ))
    }
}

impl Executor for Command {
    /// Before the runtime reports the container as created.
    fn validate(&self, spec: &OciSpec) -> Result<(), ExecutorValidationError> {
        let refused = |message| ExecutorValidationError::ArgValidationError(message);
        find(spec).map_err(|(message, code)| refused(self.refuse(message, code)))?;
        if let Some(entrance) = &self.entrance {
            (&**entrance).write_all(b"0").map_err(|error| {
                refused(self.refuse(format!("enter the cgroup: {error}"), None))
            })?;
        }
        Ok(())
    }

    fn exec(&self, spec: &OciSpec) -> Result<(), ExecutorError> {
        self.execute(spec)
            .map_err(|(message, code)| ExecutorError::Other(self.refuse(message, code)))
    }
}

fn arguments(spec: &OciSpec) -> &[String] {
    let args = spec
        .process()
        .as_ref()
        .and_then(|process| process.args().as_deref());
    args.unwrap_or_default()
}

/// The file to execute, as a shell would find it; else the message and the shell's code.
fn find(spec: &OciSpec) -> Result<PathBuf, (String, Option<i32>)> {
    let Some(name) = arguments(spec).first().filter(|name| !name.is_empty()) else {
        return Err(("no command".to_owned(), None));
    };
    let candidates: Vec<PathBuf> = if name.contains('/') {
        vec![PathBuf::from(name)]
    } else {
        std::env::split_paths(search_path(spec))
            .map(|dir| dir.join(name))
            .collect()
    };
    if let Some(found) = candidates.iter().find(|path| executable(path)) {
        return Ok(found.clone());
    }
    if candidates.iter().any(|path| path.exists()) {
        return Err((
            format!("{name}: cannot be executed (permission denied)"),
            Some(126),
        ));
    }
    Err((format!("{name}: command not found"), Some(127)))
}

/// Of the container: our own environment is empty, and set only after the first look.
fn search_path(spec: &OciSpec) -> &str {
    let env = spec
        .process()
        .as_ref()
        .and_then(|process| process.env().as_deref());
    let mut paths = env
        .unwrap_or_default()
        .iter()
        .filter_map(|pair| pair.strip_prefix("PATH="));
    paths.next_back().unwrap_or_default()
}

fn executable(path: &Path) -> bool {
    // By the effective ids: the process has its final user already.
    path.is_file() && accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS).is_ok()
}
