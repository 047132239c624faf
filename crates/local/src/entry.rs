//! The doors by which this same binary is entered again as a helper process.

use crate::error::{Doing, Error, Result, chain};
use crate::{cgroup, detach, node_init};
use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

pub(crate) const THIS_BINARY: &str = "/proc/self/exe";
pub(crate) const NODE_INIT: &str = "node-init";
pub(crate) const SUPERVISOR: &str = "up-supervisor";
const ROLE: &str = "up-role";

/// Does what a helper process was started for and says how it ended, or returns
/// `None` where this is no helper. Call it first in `main`, before any thread,
/// runtime or argument parser.
pub fn reexec() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    let door = arguments.next()?;
    let ended = match door.to_str()? {
        NODE_INIT => node_init::main(),
        SUPERVISOR => detach::main(),
        ROLE => become_role(arguments.collect()),
        _ => return None,
    };
    Some(match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Whoever listened may be gone, which is then the reason for the error.
            let _ = writeln!(std::io::stderr(), "{}: {}", door.display(), chain(&error));
            ExitCode::FAILURE
        }
    })
}

/// A command that runs `argv` in a cgroup of its own, no longer than its parent.
pub(crate) fn role(group: &Path, argv: &[String]) -> Command {
    let mut command = Command::new(THIS_BINARY);
    command
        .arg(ROLE)
        .arg(group)
        .arg(std::process::id().to_string())
        .args(argv);
    command
}

/// `up-role GROUP PARENT PROGRAM…`: the process itself becomes PROGRAM.
fn become_role(arguments: Vec<OsString>) -> Result<()> {
    let [group, parent, program, rest @ ..] = arguments.as_slice() else {
        return Err(std::io::Error::from(std::io::ErrorKind::InvalidInput))
            .doing(|| "read a role's arguments".into());
    };
    // The parent starts roles from its main thread, so its death is the process' death.
    set_parent_process_death_signal(Some(Signal::KILL))
        .doing(|| "tie a role to its parent".into())?;
    let born_of = getppid().map(|pid| pid.as_raw_nonzero().to_string());
    if born_of.is_none_or(|pid| parent != pid.as_str()) {
        return Ok(());
    }
    cgroup::join(Path::new(group))?;
    let program = if program == THIS_BINARY {
        this_binary()
    } else {
        program.into()
    };
    let source = Command::new(&program).args(rest).exec();
    Err(Error::Io {
        doing: format!("start {}", program.display()),
        source,
    })
}

/// The path this binary was started by, for names that people can read in `ps`,
/// unless another file (a newer version, say) has taken its place.
fn this_binary() -> PathBuf {
    let same = |path: &PathBuf| match (path.metadata(), Path::new(THIS_BINARY).metadata()) {
        (Ok(named), Ok(running)) => (named.dev(), named.ino()) == (running.dev(), running.ino()),
        _ => false,
    };
    std::fs::read_link(THIS_BINARY)
        .ok()
        .filter(same)
        .unwrap_or_else(|| THIS_BINARY.into())
}
