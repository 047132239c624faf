//! Log files of the roles, rotated by size, and the supervisor's own voice.

use crate::error::{Doing, Result};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// Bytes after which a log becomes `NAME.1`, and how many old ones are kept.
const SIZE_MAX: u64 = 8 << 20;
const KEPT: u32 = 3;

/// A file that moves aside when it has grown. Writers share it by cloning.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    file: File,
    size: u64,
    size_max: u64,
    last: String,
}

impl Log {
    pub(crate) fn open(directory: &Path, name: &str) -> Result<Log> {
        Log::open_with(directory.join(format!("{name}.log")), SIZE_MAX)
    }

    fn open_with(path: PathBuf, size_max: u64) -> Result<Log> {
        let (file, size) = append(&path).doing(|| format!("open log {}", path.display()))?;
        Ok(Log {
            inner: Arc::new(Mutex::new(Inner {
                path,
                file,
                size,
                size_max,
                last: String::new(),
            })),
        })
    }

    /// Appends one line. A full disk loses lines; it never stops what writes them.
    pub(crate) fn line(&self, line: &str) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = inner.append(line);
        if !line.trim().is_empty() {
            inner.last = line.trim().chars().take(300).collect();
        }
    }

    /// What the role said last, since the previous time somebody asked.
    pub(crate) fn take_last(&self) -> String {
        std::mem::take(
            &mut self
                .inner
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .last,
        )
    }
}

impl Inner {
    fn append(&mut self, line: &str) -> std::io::Result<()> {
        if self.size > 0 && self.size + line.len() as u64 >= self.size_max {
            self.rotate()?;
        }
        self.file.write_all(format!("{line}\n").as_bytes())?;
        self.size += line.len() as u64 + 1;
        Ok(())
    }

    fn rotate(&mut self) -> std::io::Result<()> {
        let aside = |number: u32| PathBuf::from(format!("{}.{number}", self.path.display()));
        for number in (1..KEPT).rev() {
            // Not every older one exists.
            let _ = fs::rename(aside(number), aside(number + 1));
        }
        fs::rename(&self.path, aside(1))?;
        (self.file, self.size) = append(&self.path)?;
        Ok(())
    }
}

fn append(path: &Path) -> std::io::Result<(File, u64)> {
    let file = File::options().create(true).append(true).open(path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}

/// What the supervisor says: to its log, and to the terminal when it has one.
#[derive(Clone, Debug)]
pub(crate) struct Voice {
    log: Log,
    aloud: bool,
}

impl Voice {
    pub(crate) fn new(log_dir: &Path, aloud: bool) -> Result<Voice> {
        Ok(Voice {
            log: Log::open(log_dir, "up")?,
            aloud,
        })
    }

    pub(crate) fn say(&self, text: &str) {
        let seconds = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let clock = format!(
            "{:02}:{:02}:{:02}",
            seconds / 3600 % 24,
            seconds / 60 % 60,
            seconds % 60
        );
        self.log.line(&format!("{clock}Z {text}"));
        if self.aloud {
            // A closed terminal is no reason to stop a cluster.
            let _ = writeln!(std::io::stderr(), "{clock}Z {text}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_moves_aside_by_size_and_the_oldest_goes() {
        let directory = std::env::temp_dir().join(format!("tandem-log-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let log = Log::open_with(directory.join("x.log"), 10).unwrap();
        for line in ["first", "second", "third", "fourth", "fifth"] {
            log.line(line);
        }
        let read = |name: &str| fs::read_to_string(directory.join(name)).ok();
        let found = ["x.log", "x.log.1", "x.log.2", "x.log.3", "x.log.4"].map(read);
        fs::remove_dir_all(&directory).unwrap();
        let expected = [
            Some("fifth\n"),
            Some("fourth\n"),
            Some("third\n"),
            Some("second\n"),
            None,
        ];
        assert_eq!(found, expected.map(|text| text.map(String::from)));
        assert_eq!(
            (log.take_last(), log.take_last()),
            ("fifth".into(), String::new())
        );
    }
}
