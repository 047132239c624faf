//! Living beside dockerd, whose FORWARD chain drops what it does not know.
//!
//! An accept in a table of ours cannot undo the drop of another one. Docker leaves the chain
//! DOCKER-USER to others for that; rules in it are ours only where it exists. iptables has two
//! separate rule sets, and either may be the one that dockerd uses.

use std::io::ErrorKind;

use crate::error::{Error, Result};
use crate::program::Program;

const FLAVOURS: [Program; 2] = [
    Program {
        name: "iptables-nft",
        package: "iptables",
    },
    Program {
        name: "iptables-legacy",
        package: "iptables",
    },
];

/// Lets the overlay's traffic pass where dockerd guards forwarding. Without iptables there is no
/// such chain.
pub(crate) async fn let_pass() -> Result<()> {
    for iptables in FLAVOURS {
        match let_pass_in(iptables).await {
            Err(Error::MissingProgram { source, .. }) if source.kind() == ErrorKind::NotFound => {}
            outcome => outcome?,
        }
    }
    Ok(())
}

async fn let_pass_in(iptables: Program) -> Result<()> {
    let holds = async |arguments: &[&str]| -> Result<bool> {
        Ok(iptables.run(arguments, "").await?.status.success())
    };
    if !holds(&["-w", "-S", "DOCKER-USER"]).await? {
        return Ok(());
    }
    for direction in ["-i", "-o"] {
        let rule = ["DOCKER-USER", direction, "tnd+", "-j", "ACCEPT"];
        if !holds(&[&["-w", "-C"], rule.as_slice()].concat()).await? {
            iptables
                .output(&[&["-w", "-I"], rule.as_slice()].concat(), "")
                .await?;
        }
    }
    Ok(())
}
