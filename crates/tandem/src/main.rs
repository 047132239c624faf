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

use std::process::ExitCode;

use clap::Parser;

use fault::Exit;

fn main() -> ExitCode {
    // Shims, node inits and supervisors are this binary entered again; they must find a process
    // without threads.
    if let Some(code) = container::reexec().or_else(local::reexec) {
        return code;
    }
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
