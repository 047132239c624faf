//! Data goes to standard output, talk to standard error.

use std::io::Write;

use crate::fault::Result;

/// Writes data; a reader that went away ends the program quietly.
pub fn data(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// A line for the person at the terminal. That nobody hears it changes nothing.
#[macro_export]
macro_rules! talk {
    ($($part:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($part)*);
    }};
}
