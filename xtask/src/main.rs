//! Chores of the repository, run as `cargo xtask <chore>`.
//!
//! A chore is a check or a measurement that cargo itself does not know. Building, testing and
//! installing are the Makefile's; what a chore finds is for people who change this repository,
//! never for those who run Tandem.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};

mod bench;
mod images;
mod tidy;

/// Chores of the repository.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Hold the repository against the rules that compilers do not know
    ///
    /// Prints one finding a line, as `file:line: what; what to do`. Exit status: 0 when there is
    /// none, 1 when there are some, 2 when the rules could not be checked.
    Tidy,
    /// Measure what Tandem costs, beside what does the same, and hold it against its goals
    ///
    /// Builds an optimised binary first. Both sides of a comparison take turns; what is printed are
    /// medians. A goal that is missed is said to be missed; exit status: 0 when all was measured, 1
    /// when a program failed. Needs root and the packages of `scripts/packages bench`.
    Bench(bench::Arguments),
    /// Make the base images of the examples and push them as `base/NAME:TAG`
    ///
    /// Bases are made of Debian packages, once for each recipe; the second run only pushes what
    /// the registry lacks.
    Images(images::Arguments),
}

/// What a chore ends with.
#[derive(Clone, Copy)]
enum Ending {
    Good,
    /// The chore ran and found fault.
    Faulty,
    /// The chore could not run; the same number as clap's for a wrong command line.
    Failed,
}

impl From<Ending> for ExitCode {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Good => ExitCode::SUCCESS,
            Ending::Faulty => ExitCode::from(1),
            Ending::Failed => ExitCode::from(2),
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let ending = match arguments.chore {
        Chore::Tidy => run_tidy(),
        Chore::Bench(arguments) => repository().and_then(|root| bench::run(&arguments, &root)),
        Chore::Images(arguments) => images::run(&arguments).map(|()| Ending::Good),
    };
    ending
        .unwrap_or_else(|error| {
            eprintln!("error: {error:#}");
            Ending::Failed
        })
        .into()
}

fn run_tidy() -> anyhow::Result<Ending> {
    let findings = tidy::check(&repository()?)?;
    for finding in &findings {
        println!("{finding}");
    }
    if findings.is_empty() {
        eprintln!("tidy: nothing to say");
        return Ok(Ending::Good);
    }
    eprintln!("tidy: {} to mend", findings.len());
    Ok(Ending::Faulty)
}

/// The root of the repository: where this package's sources were when cargo started it, or when
/// it was compiled.
fn repository() -> anyhow::Result<PathBuf> {
    let package = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    package
        .parent()
        .map(Path::to_path_buf)
        .with_context(|| format!("{} has no parent directory", package.display()))
}
