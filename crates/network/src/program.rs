//! Running the few programs that we drive, and saying which package brings a missing one.

use std::io::{self, ErrorKind};
use std::process::{Output, Stdio};

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::error::{Error, Result, system};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Program {
    pub name: &'static str,
    pub package: &'static str,
}

pub(crate) const NFT: Program = Program {
    name: "nft",
    package: "nftables",
};
pub(crate) const CONNTRACK: Program = Program {
    name: "conntrack",
    package: "conntrack",
};

impl Program {
    /// Runs it to its end with `input` on its standard input. How it ended is the caller's to
    /// judge.
    pub async fn run(self, arguments: &[&str], input: &str) -> Result<Output> {
        let mut child = Command::new(self.name)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| self.missing(source))?;
        let pipe = child.stdin.take();
        let feed = async {
            match pipe {
                // It may have refused before it read everything; it says why itself.
                Some(mut pipe) => match pipe.write_all(input.as_bytes()).await {
                    Err(fault) if fault.kind() != ErrorKind::BrokenPipe => Err(fault),
                    _ => Ok(()),
                },
                None => Ok(()),
            }
        };
        let (fed, output) = tokio::join!(feed, child.wait_with_output());
        fed.map_err(system(format!("feed {}", self.name)))?;
        output.map_err(system(format!("wait for {}", self.name)))
    }

    /// Runs it and takes what it prints.
    ///
    /// # Errors
    /// [`Error::Refused`] with its own words when it fails.
    pub async fn output(self, arguments: &[&str], input: &str) -> Result<String> {
        let output = self.run(arguments, input).await?;
        if !output.status.success() {
            return Err(Error::Refused {
                program: self.name,
                said: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            });
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn missing(self, source: io::Error) -> Error {
        Error::MissingProgram {
            program: self.name,
            package: self.package,
            source,
        }
    }
}
