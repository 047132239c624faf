//! `cargo xtask bench`: what Tandem costs, beside what does the same, held against the goals.
//!
//! The measuring is done by programs that live where what they measure lives; they print samples
//! ([`samples`]). Here they are built and run in turns, and their medians become a table. Rows,
//! figures and goals stand in [`rows`].

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use clap::Args;
use serde_json::Value;

use crate::Ending;

mod rows;
mod samples;
mod table;

use rows::{ROWS, Row, Run};
use samples::Samples;

/// What `cargo xtask bench` is told.
#[derive(Args)]
#[command(after_help = rows::help())]
pub struct Arguments {
    /// Only these rows
    #[arg(value_name = "ROW", value_parser = clap::builder::PossibleValuesParser::new(ROWS.iter().map(|row| row.name)))]
    rows: Vec<String>,
    /// The program that measures Docker Swarm; without it that comparison is left out
    #[arg(long, env = "TANDEM_SWARM", value_name = "PATH")]
    swarm: Option<PathBuf>,
    /// Write the table to this file too, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// How often programs of which each start gives only one sample are run
    #[arg(long, default_value_t = 3, value_name = "TIMES")]
    rounds: u32,
}

/// Measures and prints. Faulty when a program failed; goals that are missed are no fault.
pub fn run(arguments: &Arguments, repository: &Path) -> anyhow::Result<Ending> {
    let is_chosen = |row: &&Row| {
        arguments.rows.is_empty() || arguments.rows.iter().any(|name| name == row.name)
    };
    let chosen: Vec<&Row> = ROWS.iter().filter(is_chosen).collect();
    let swarm = arguments.swarm.as_deref();
    // Whoever appears in several rows runs once for all of them.
    let runs: BTreeSet<Run> = chosen.iter().flat_map(|row| row.runs).copied().collect();
    let left_out = runs.contains(&Run::Swarm) && swarm.is_none();
    if left_out {
        eprintln!(
            "bench: Docker Swarm is left out; --swarm or TANDEM_SWARM names what measures it"
        );
    }
    let bench = Bench { repository, swarm };
    bench.build(&runs)?;

    let mut samples = Samples::default();
    let mut failed = Vec::new();
    for round in 0..arguments.rounds.max(1) {
        for run in runs.iter().filter(|run| round == 0 || run.repeats()) {
            if let Err(error) = bench.perform(*run, &mut samples) {
                eprintln!("bench: {error:#}");
                failed.push(run.to_string());
            }
        }
    }
    let lines = table::lines(&chosen, &samples);
    print!("{}", table::text(&lines));
    if let Some(file) = &arguments.json {
        let text = serde_json::to_string_pretty(&lines)? + "\n";
        std::fs::write(file, text).with_context(|| format!("write {}", file.display()))?;
    }
    if !failed.is_empty() {
        eprintln!("bench: could not be measured: {}", failed.join(", "));
        return Ok(Ending::Faulty);
    }
    Ok(Ending::Good)
}

struct Bench<'a> {
    repository: &'a Path,
    swarm: Option<&'a Path>,
}

impl Bench<'_> {
    /// Builds what the runs need, optimised, before the first of them: a compiler disturbs. Always
    /// the whole workspace, so that all builds agree on the features of outside crates.
    fn build(&self, runs: &BTreeSet<Run>) -> anyhow::Result<()> {
        if runs.iter().any(|run| matches!(run, Run::Case(_))) {
            self.cargo(&["build", "--release", "--workspace", "--bin", "tandem"])?;
            self.cargo(&["bench", "--no-run", "--workspace", "--bench", "rows"])?;
        }
        for run in runs {
            if let Run::Program(name) = run {
                self.cargo(&["bench", "--no-run", "--workspace", "--bench", name])?;
            }
        }
        Ok(())
    }

    fn perform(&self, run: Run, samples: &mut Samples) -> anyhow::Result<()> {
        eprintln!("bench: {run}");
        match run {
            Run::Program(name) => samples.read(&said(self.bench(name))?),
            Run::Case(case) => {
                let mut command = self.bench("rows");
                command.args(["--", case]);
                if let Some(swarm) = self.swarm {
                    command.env("TANDEM_SWARM", swarm);
                }
                samples.read(&said(command)?)
            }
            Run::Swarm => match self.swarm {
                Some(swarm) => {
                    let text = said(Command::new(swarm))?;
                    let value: Value = serde_json::from_str(&text).context("read its answer")?;
                    samples.swarm(&value);
                    Ok(())
                }
                None => Ok(()),
            },
        }
    }

    fn bench(&self, program: &str) -> Command {
        self.cargo_command(&["bench", "--quiet", "--workspace", "--bench", program])
    }

    fn cargo(&self, words: &[&str]) -> anyhow::Result<()> {
        let status = self.cargo_command(words).stdout(Stdio::null()).status();
        let status = status.with_context(|| format!("cargo {}", words.join(" ")))?;
        ensure!(status.success(), "cargo {}: {status}", words.join(" "));
        Ok(())
    }

    fn cargo_command(&self, words: &[&str]) -> Command {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.current_dir(self.repository).args(words);
        command
    }
}

/// What a program printed; what it complains of is seen at once.
fn said(mut command: Command) -> anyhow::Result<String> {
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("{command:?}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        eprint!("{text}");
    }
    ensure!(output.status.success(), "{command:?}: {}", output.status);
    Ok(text)
}
