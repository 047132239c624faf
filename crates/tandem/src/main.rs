//! One binary, every role: `tandem master`, `tandem agent`, `tandem up` and the client commands.
//!
//! It reads arguments and settings, composes the roles from their crates, and prints for people
//! what the API answers. It decides nothing about the cluster. Read next: `cli.rs`, then `role`
//! for what runs for long and `command` for what asks and ends.

mod age;
mod ask;
mod cli;
mod client;
mod command;
mod definition;
mod fault;
mod near;
mod out;
mod role;
mod settings;
mod table;
mod template;

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use fault::Exit;

fn main() -> ExitCode {
    // Shims, node inits and supervisors are this binary entered again; they must find a process
    // without threads.
    if let Some(code) = container::reexec().or_else(local::reexec) {
        return code;
    }
    find_system_programs();
    match cli::run(cli::Cli::parse()) {
        Ok(()) => Exit::Done.into(),
        Err(fault) => {
            let text = fault.text();
            if !text.is_empty() {
                talk!("{text}");
            }
            fault.exit.into()
        }
    }
}

/// Debian's plain `su` keeps a user's PATH, without the directories of nft, ip and mkfs.
fn find_system_programs() {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut dirs: Vec<PathBuf> = env::split_paths(&path).collect();
    for dir in ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from) {
        if !dirs.contains(&dir) {
            dirs.push(dir);
        }
    }
    if let Ok(path) = env::join_paths(dirs) {
        // SAFETY: this process has no other thread yet that could read the environment.
        #[allow(unsafe_code)]
        unsafe {
            env::set_var("PATH", path);
        }
    }
}
