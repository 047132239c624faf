//! Asking before something is destroyed.

use std::io::{BufRead, IsTerminal, Write};

use crate::fault::{Exit, Fault, Result};

/// Returns only if it may be done. Where nobody can be asked, it takes `--yes`.
pub fn consent(yes: bool, what: &str) -> Result<()> {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        let said = format!("nobody can be asked whether to {what}");
        return Err(Fault::new(Exit::Usage, said).hint("say so with --yes"));
    }
    let mut terminal = std::io::stderr();
    write!(terminal, "Really {what}? [y/N] ")?;
    terminal.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Fault::new(Exit::Failed, "nothing was done")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consent_given_beforehand_is_enough() {
        assert_eq!(consent(true, "remove /web"), Ok(()));
    }
}
