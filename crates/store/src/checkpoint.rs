//! Checkpoint files: a state's records in parts of at most 1 MiB (the limit that other stores
//! put on a value), each with its length and checksum, written beside the log and renamed into
//! place when whole.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use model::records::Record;
use model::{Revision, State, fingerprint};

use crate::codec::{self, CodecError};
use crate::log::LogError;

const PART: usize = 1 << 20;
/// So much at most is on its way to the disk at once: what the log syncs meanwhile waits behind it.
const PARTS_UNSYNCED: usize = 4;

/// `checkpoint-<revision, 20 digits>`.
fn path_of(dir: &Path, revision: Revision) -> PathBuf {
    dir.join(format!("checkpoint-{:020}", revision.0))
}

fn fault(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> LogError {
    let path = path.to_owned();
    move |source| LogError::File {
        doing,
        path,
        source,
    }
}

/// Writes the checkpoint of `state` and removes older ones. One at a time: what another writes
/// counts as abandoned.
pub fn write(dir: &Path, state: &State) -> Result<(), LogError> {
    let path = path_of(dir, state.revision);
    let temporary = path.with_extension("tmp");
    remove_unfinished(dir)?;
    let mut file = BufWriter::new(File::create(&temporary).map_err(fault("create", &temporary))?);
    let mut part = Vec::with_capacity(PART);
    let mut unsynced = 0;
    for record in state.records() {
        let line = codec::encode_record(&record);
        if !part.is_empty() && part.len() + line.len() + 1 > PART {
            write_part(&mut file, &part).map_err(fault("write", &temporary))?;
            part.clear();
            unsynced += 1;
        }
        if unsynced == PARTS_UNSYNCED {
            file.flush()
                .and_then(|()| file.get_ref().sync_data())
                .map_err(fault("write", &temporary))?;
            unsynced = 0;
        }
        part.extend_from_slice(&line);
        part.push(b'\n');
    }
    write_part(&mut file, &part)
        .and_then(|()| write_part(&mut file, &[]))
        .and_then(|()| file.flush())
        .and_then(|()| file.get_ref().sync_all())
        .and_then(|()| fs::rename(&temporary, &path))
        .and_then(|()| File::open(dir)?.sync_all())
        .map_err(fault("write", &path))?;
    for (revision, old) in list(dir)? {
        if revision < state.revision {
            fs::remove_file(&old).map_err(fault("remove", &old))?;
        }
    }
    Ok(())
}

/// Removes what killed processes were writing: each file is as large as a whole state.
fn remove_unfinished(dir: &Path) -> Result<(), LogError> {
    for entry in fs::read_dir(dir).map_err(fault("list", dir))? {
        let path = entry.map_err(fault("list", dir))?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if name.is_some_and(|name| name.starts_with("checkpoint-") && name.ends_with(".tmp")) {
            fs::remove_file(&path).map_err(fault("remove", &path))?;
        }
    }
    Ok(())
}

/// A part: length, checksum, bytes. An empty part ends the file.
fn write_part(file: &mut impl Write, part: &[u8]) -> std::io::Result<()> {
    file.write_all(&(part.len() as u64).to_le_bytes())?;
    file.write_all(&fingerprint::of(&part).to_le_bytes())?;
    file.write_all(part)
}

/// The checkpoints in `dir`, oldest first.
fn list(dir: &Path) -> Result<Vec<(Revision, PathBuf)>, LogError> {
    let mut found: Vec<_> = fs::read_dir(dir)
        .map_err(fault("list", dir))?
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let digits = path.file_name()?.to_str()?.strip_prefix("checkpoint-")?;
            Some((Revision(digits.parse().ok()?), path.clone()))
        })
        .collect();
    found.sort();
    Ok(found)
}

/// The newest checkpoint in `dir`.
pub fn read_latest(dir: &Path) -> Result<Option<State>, LogError> {
    let Some((revision, path)) = list(dir)?.pop() else {
        return Ok(None);
    };
    let mut parts = Parts::open(path)?;
    let mut fault = None;
    // Part by part into the state: all records at once would need as much memory again.
    let records = std::iter::from_fn(|| {
        let part = parts.next_part();
        part.unwrap_or_else(|error| {
            fault = Some(error);
            None
        })
    });
    let restored = State::restore(records.flatten(), revision);
    if let Some(error) = fault {
        return Err(error);
    }
    let apart = |source| parts.damaged(CodecError::Apart { source });
    restored.map(Some).map_err(apart)
}

/// The parts of a checkpoint file.
struct Parts {
    path: PathBuf,
    file: BufReader<File>,
    /// Of the file: no part is longer.
    length: u64,
}

impl Parts {
    fn open(path: PathBuf) -> Result<Self, LogError> {
        let file = File::open(&path).map_err(fault("open", &path))?;
        let length = file.metadata().map_err(fault("read", &path))?.len();
        let file = BufReader::new(file);
        Ok(Self { path, file, length })
    }

    /// The records of the next part; `None` after the last.
    fn next_part(&mut self) -> Result<Option<Vec<Record>>, LogError> {
        let (size, checksum) = (self.word()?, self.word()?);
        if size > self.length {
            let missing = size - self.length;
            return Err(self.damaged(CodecError::Short { missing }));
        }
        let mut part = vec![0; size as usize];
        self.read(&mut part)?;
        if fingerprint::of(&part.as_slice()) != checksum {
            return Err(self.damaged(CodecError::Damaged));
        }
        if part.is_empty() {
            return Ok(None);
        }
        let lines = part.split(|b| *b == b'\n').filter(|line| !line.is_empty());
        let records: Result<_, _> = lines.map(codec::decode_record).collect();
        records.map(Some).map_err(|source| self.damaged(source))
    }

    fn word(&mut self) -> Result<u64, LogError> {
        let mut word = [0; 8];
        self.read(&mut word)?;
        Ok(u64::from_le_bytes(word))
    }

    fn read(&mut self, bytes: &mut [u8]) -> Result<(), LogError> {
        let read = self.file.read_exact(bytes);
        read.map_err(fault("read", &self.path))
    }

    fn damaged(&self, source: CodecError) -> LogError {
        let path = self.path.clone();
        LogError::Checkpoint { path, source }
    }
}
