//! How a command fails: what it could not do, with all causes, what to try next, and the exit
//! code. Everything that goes wrong in this binary becomes a [`Fault`] and is printed once.

use std::error::Error;
use std::io;
use std::process::ExitCode;

/// What the shell is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Done,
    Failed,
    /// The command line or the settings make no sense.
    Usage,
    /// The master cannot be reached.
    Unreachable,
    /// The master understood and refused.
    Refused,
    /// What was named is not there.
    Absent,
    /// The exit code of a command that was run in an instance.
    Passed(u8),
}

impl Exit {
    pub fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Unreachable => 3,
            Exit::Refused => 4,
            Exit::Absent => 5,
            Exit::Passed(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

/// Not an [`Error`] itself, so that every error converts into it by `?`.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault {
    /// The outermost first; empty: nothing worth saying.
    chain: Vec<String>,
    hint: Option<String>,
    pub exit: Exit,
}

pub type Result<T, E = Fault> = std::result::Result<T, E>;

impl Fault {
    pub fn new(exit: Exit, said: impl Into<String>) -> Self {
        Fault {
            chain: vec![said.into()],
            hint: None,
            exit,
        }
    }

    /// Ends the program without a word.
    pub fn silent(exit: Exit) -> Self {
        Fault {
            chain: Vec::new(),
            hint: None,
            exit,
        }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub fn exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// The lines for the terminal, without the last line's end; empty for a silent one.
    pub fn text(&self) -> String {
        if self.chain.is_empty() {
            return String::new();
        }
        let mut text = format!("error: {}", self.chain.join(": "));
        for line in self.hint.iter().flat_map(|hint| hint.lines()) {
            text.push_str(&format!("\nhint: {line}"));
        }
        text
    }
}

impl<E: Error + 'static> From<E> for Fault {
    fn from(error: E) -> Self {
        let whole: &(dyn Error + 'static) = &error;
        let closed_pipe = whole
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe);
        if closed_pipe {
            // Whoever read our output has seen enough: `tandem ps | head -1`.
            return Fault::silent(Exit::Done);
        }
        Fault {
            chain: chain(whole),
            hint: None,
            exit: Exit::Failed,
        }
    }
}

/// Every cause once: some errors repeat their source in their own words.
fn chain(error: &dyn Error) -> Vec<String> {
    let mut said = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(inner) = cause {
        let words = inner.to_string();
        if !said.iter().any(|outer| outer.contains(&words)) {
            said.push(words);
        }
        cause = inner.source();
    }
    said
}

/// Gives a failure the sentence it belongs to, and the next thing to try.
pub trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T>;
    fn hint(self, hint: impl FnOnce() -> String) -> Result<T>;
    fn exit(self, exit: Exit) -> Result<T>;
}

impl<T, E: Into<Fault>> Doing<T> for std::result::Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| {
            let mut fault = error.into();
            if !fault.chain.is_empty() {
                fault.chain.insert(0, what());
            }
            fault
        })
    }

    fn hint(self, hint: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| error.into().hint(hint()))
    }

    fn exit(self, exit: Exit) -> Result<T> {
        self.map_err(|error| error.into().exit(exit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Layer(&'static str, Option<Box<Layer>>);

    impl std::fmt::Display for Layer {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Layer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|inner| inner as _)
        }
    }

    fn pull() -> Result<(), Layer> {
        let cause = Layer("registry answered 401", None);
        Err(Layer("pull image shop:3", Some(Box::new(cause))))
    }

    #[test]
    fn a_fault_prints_its_whole_chain_and_a_hint() {
        let fault = pull()
            .doing(|| "start /web/shop".into())
            .hint(|| "give credentials".into())
            .unwrap_err();
        let expected = "error: start /web/shop: pull image shop:3: registry answered 401\n\
                        hint: give credentials";
        assert_eq!(fault.text(), expected);
        assert_eq!(fault.exit, Exit::Failed);
    }

    #[test]
    fn a_cause_that_is_repeated_is_said_once() {
        let layer = Layer("open x: denied", Some(Box::new(Layer("denied", None))));
        assert_eq!(Fault::from(layer).text(), "error: open x: denied");
    }

    #[test]
    fn a_reader_that_went_away_is_no_failure() {
        let fault = Err::<(), _>(io::Error::from(io::ErrorKind::BrokenPipe))
            .doing(|| "print".into())
            .unwrap_err();
        assert_eq!((fault.text().as_str(), fault.exit), ("", Exit::Done));
    }

    #[test]
    fn exit_codes_do_not_change() {
        let exits = [
            Exit::Done,
            Exit::Failed,
            Exit::Usage,
            Exit::Unreachable,
            Exit::Refused,
            Exit::Absent,
            Exit::Passed(42),
        ];
        assert_eq!(exits.map(Exit::code), [0, 1, 2, 3, 4, 5, 42]);
    }
}
