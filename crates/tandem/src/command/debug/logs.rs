//! `tandem debug logs`: the log files of the cluster on this machine, which `tandem up` keeps.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::fault::{Doing, Exit, Fault, Result};
use crate::near;
use crate::out;

/// How often files are looked at while following.
const LOOK: Duration = Duration::from_millis(200);

#[derive(Debug, clap::Args)]
pub struct LogsArgs {
    /// Whose: master, registry, up, or a node's name; all when none is named
    name: Option<String>,
    /// Go on with what is written from now on
    #[arg(short, long)]
    follow: bool,
    /// Only so many lines of each log
    #[arg(long, value_name = "LINES")]
    tail: Option<usize>,
    /// Directory of the logs
    #[arg(
        long,
        env = "TANDEM_LOCAL_LOG_DIR",
        hide_env_values = true,
        default_value = "/var/log/tandem",
        value_name = "DIR"
    )]
    log_dir: PathBuf,
}

pub fn run(args: LogsArgs) -> Result<()> {
    let mut logs = chosen(&args.log_dir, args.name.as_deref())?;
    let several = logs.len() > 1;
    for log in &mut logs {
        let lines = log.more()?;
        let skipped = args.tail.map_or(0, |tail| lines.len().saturating_sub(tail));
        out::data(&shown(&log.name, &lines[skipped..], several))?;
    }
    if !args.follow {
        return Ok(());
    }
    loop {
        std::thread::sleep(LOOK);
        for log in &mut logs {
            let lines = log.more()?;
            out::data(&shown(&log.name, &lines, several))?;
        }
    }
}

/// The log that is named, or all of them by name.
fn chosen(directory: &Path, name: Option<&str>) -> Result<Vec<Log>> {
    let names = names(directory);
    if names.is_empty() {
        let said = format!("no logs of a local cluster are in {}", directory.display());
        return Err(Fault::new(Exit::Absent, said).hint(
            "`tandem up` writes them there (--log-dir)\na master or agent of its own logs to the journal: `journalctl -u tandem-master`, `-u tandem-agent`",
        ));
    }
    let open = |name: &String| Log::open(directory, name);
    match name {
        None => names.iter().map(open).collect(),
        Some(name) if names.iter().any(|known| known == name) => {
            Ok(vec![Log::open(directory, name)?])
        }
        Some(name) => {
            let said = format!("no log of {name} is in {}", directory.display());
            let fault = Fault::new(Exit::Absent, said);
            Err(
                match near::nearest(name, names.iter().map(String::as_str)) {
                    Some(near) => fault.hint(format!("did you mean `{near}`?")),
                    None => fault.hint(format!("there are {}", names.join(", "))),
                },
            )
        }
    }
}

/// What `NAME.log` files there are, sorted.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            name.strip_suffix(".log").map(str::to_owned)
        })
        .collect();
    names.sort();
    names
}

fn shown(name: &str, lines: &[String], several: bool) -> String {
    let line = |line: &String| match several {
        true => format!("{name} | {line}\n"),
        false => format!("{line}\n"),
    };
    lines.iter().map(line).collect()
}

/// A file that grows, and now and then moves aside for a new one.
struct Log {
    name: String,
    path: PathBuf,
    file: BufReader<File>,
    /// The line under way.
    begun: Vec<u8>,
}

impl Log {
    fn open(directory: &Path, name: &str) -> Result<Self> {
        let path = directory.join(format!("{name}.log"));
        let file = File::open(&path).doing(|| format!("read {}", path.display()))?;
        Ok(Self {
            name: name.to_owned(),
            path,
            file: BufReader::new(file),
            begun: Vec::new(),
        })
    }

    /// The whole lines that were written since the last time.
    fn more(&mut self) -> Result<Vec<String>> {
        let path = self.path.clone();
        self.read().doing(|| format!("read {}", path.display()))
    }

    fn read(&mut self) -> io::Result<Vec<String>> {
        let mut lines = Vec::new();
        loop {
            // Looked at first: what the old file got before it moved aside is then read for
            // certain.
            let moved = self.moved()?;
            while self.file.read_until(b'\n', &mut self.begun)? > 0 {
                if self.begun.last() == Some(&b'\n') {
                    let line = String::from_utf8_lossy(self.begun.trim_ascii_end()).into_owned();
                    lines.push(line);
                    self.begun.clear();
                }
            }
            match moved {
                Some(file) => self.file = BufReader::new(file),
                None => return Ok(lines),
            }
        }
    }

    /// The file that has its name now, if that is another one.
    fn moved(&self) -> io::Result<Option<File>> {
        let file = match File::open(&self.path) {
            // Between one and the next there is none for a moment.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let same = file.metadata()?.ino() == self.file.get_ref().metadata()?.ino();
        Ok((!same).then_some(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_log_is_followed_across_its_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("n1.log");
        let mut file = File::create(&path).unwrap();
        write!(file, "one\ntw").unwrap();
        let mut log = Log::open(dir.path(), "n1").unwrap();
        assert_eq!(log.more().unwrap(), ["one"]);
        writeln!(file, "o").unwrap();
        fs::rename(&path, dir.path().join("n1.log.1")).unwrap();
        fs::write(&path, "three\n").unwrap();
        assert_eq!(log.more().unwrap(), ["two", "three"]);
        assert_eq!(log.more().unwrap(), [""; 0]);
    }

    #[test]
    fn logs_are_chosen_by_name_and_told_where_they_would_be() {
        let dir = tempfile::tempdir().unwrap();
        let none = chosen(dir.path(), None).err().unwrap();
        assert_eq!(none.exit, Exit::Absent);
        assert!(none.text().contains("journalctl"), "{}", none.text());
        for name in ["n1.log", "master.log", "master.log.1"] {
            fs::write(dir.path().join(name), "x\n").unwrap();
        }
        let all = chosen(dir.path(), None).unwrap();
        let names: Vec<&str> = all.iter().map(|log| log.name.as_str()).collect();
        assert_eq!(names, ["master", "n1"]);
        let wrong = chosen(dir.path(), Some("mastre")).err().unwrap();
        assert!(wrong.text().contains("`master`"), "{}", wrong.text());
        assert_eq!(shown("n1", &["a".to_owned()], true), "n1 | a\n");
    }
}
