//! The instance's log: CRI lines in `log`, older ones in `log.1`, `log.2` …, written by the shim
//! alone and read by anybody.
//!
//! ```text
//! 2026-11-21T12:22:06.218537246+00:00 stdout F a whole line
//! 2026-11-21T12:22:06.218537246+00:00 stdout P a piece, whose line goes on in the next entry
//! ```

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;

use crate::{Dir, Error, LogLimits, sys, time};

/// A longer line is written in pieces.
const PIECE_BYTES: usize = 16 << 10;
const CHUNK_BYTES: usize = 64 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    Stdout,
    Stderr,
    /// Remarks of the shim's, when lines had to be dropped.
    Tandem,
}

impl Stream {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Tandem => "tandem",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub time: SystemTime,
    pub stream: Stream,
    /// Without the newline; bytes that are not UTF-8 are replaced.
    pub text: String,
    /// The line goes on in the stream's next entry.
    pub partial: bool,
}

/// Which part of the log to begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    Start,
    /// The last so many entries; `Tail(0)` is what comes from now on.
    Tail(usize),
}

/// Renders what was read from a stream as entries; an unfinished line becomes a piece.
pub(crate) fn render(stream: Stream, bytes: &[u8], at: SystemTime) -> Vec<u8> {
    let head = format!("{} {}", time::stamp(at), stream.name());
    let mut out = Vec::with_capacity(bytes.len() + 64);
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let (text, whole) = match line.split_last() {
            Some((b'\n', text)) => (text, true),
            _ => (line, false),
        };
        let mut rest = text;
        while rest.len() > PIECE_BYTES {
            let (piece, more) = rest.split_at(PIECE_BYTES);
            entry(&mut out, &head, 'P', piece);
            rest = more;
        }
        entry(&mut out, &head, if whole { 'F' } else { 'P' }, rest);
    }
    out
}

fn entry(out: &mut Vec<u8>, head: &str, tag: char, text: &[u8]) {
    out.extend_from_slice(format!("{head} {tag} ").as_bytes());
    out.extend_from_slice(text);
    out.push(b'\n');
}

fn parse(entry: &[u8]) -> Option<Line> {
    let text = String::from_utf8_lossy(entry);
    let mut fields = text.splitn(4, ' ');
    let time = time::parse(fields.next()?)?;
    let stream = match fields.next()? {
        "stdout" => Stream::Stdout,
        "stderr" => Stream::Stderr,
        "tandem" => Stream::Tandem,
        _ => return None,
    };
    let partial = fields.next()? == "P";
    Some(Line {
        time,
        stream,
        text: fields.next()?.to_owned(),
        partial,
    })
}

fn file(dir: &Path, index: u32) -> PathBuf {
    if index == 0 {
        dir.join("log")
    } else {
        dir.join(format!("log.{index}"))
    }
}

/// The shim's end.
pub(crate) struct Writer {
    dir: PathBuf,
    limits: LogLimits,
    file: File,
    size: u64,
    dropped: u64,
}

impl Writer {
    pub fn open(dir: &Dir, limits: LogLimits) -> Result<Self, Error> {
        let path = file(dir.path(), 0);
        let log = open_log(&path).map_err(Error::file("open", &path))?;
        let size = log.metadata().map_err(Error::file("stat", &path))?.len();
        Ok(Self {
            dir: dir.path().to_owned(),
            limits,
            file: log,
            size,
            dropped: 0,
        })
    }

    /// Inode and length of the file being written.
    pub fn position(&self) -> (u64, u64) {
        (self.file.metadata().map_or(0, |data| data.ino()), self.size)
    }

    /// Cuts off what was written after `size`.
    pub fn cut(&mut self, size: u64) {
        // A log that cannot be cut keeps a torn entry, which readers skip.
        let _ = self.file.set_len(size);
        self.size = size;
    }

    /// Puts the file aside if it has grown enough; where that fails it grows on.
    pub fn rotate_if_full(&mut self) {
        if self.size < self.limits.bytes {
            return;
        }
        let last = self.limits.files.max(1) - 1;
        let _ = fs::remove_file(file(&self.dir, last));
        for index in (0..last).rev() {
            let _ = fs::rename(file(&self.dir, index), file(&self.dir, index + 1));
        }
        if let Ok(log) = open_log(&file(&self.dir, 0)) {
            self.size = log.metadata().map_or(0, |data| data.len());
            self.file = log;
        }
    }

    /// Writes rendered entries, all or none. A full disk drops them and counts: the container
    /// must never wait for us.
    pub fn append(&mut self, entries: &[u8]) {
        let remark = (self.dropped > 0).then(|| {
            let text = format!(
                "{} entries dropped: the log could not be written",
                self.dropped
            );
            render(
                Stream::Tandem,
                format!("{text}\n").as_bytes(),
                SystemTime::now(),
            )
        });
        let whole = [remark.as_deref().unwrap_or_default(), entries].concat();
        match self.file.write_all(&whole) {
            Ok(()) => {
                self.size += whole.len() as u64;
                self.dropped = 0;
            }
            Err(_) => {
                self.cut(self.size);
                self.dropped += entries.iter().filter(|byte| **byte == b'\n').count() as u64;
            }
        }
    }
}

fn open_log(path: &Path) -> io::Result<File> {
    File::options().create(true).append(true).open(path)
}

/// Reads from a chosen point on, through rotations, each entry once.
pub struct Reader {
    dir: PathBuf,
    current: Option<File>,
    /// Bytes of the last, still incomplete entry.
    rest: Vec<u8>,
    watch: AsyncFd<OwnedFd>,
}

impl Reader {
    /// Must be called within a runtime. The log may not exist yet.
    pub fn open(dir: &Dir, from: From) -> Result<Self, Error> {
        let path = dir.path();
        let what = "watch";
        let watch = watch(path).map_err(Error::file(what, path))?;
        let mut reader = Self {
            dir: path.to_owned(),
            current: None,
            rest: Vec::new(),
            watch,
        };
        reader.current = match from {
            From::Start => reader.oldest(),
            From::Tail(entries) => reader.tail(entries).map_err(Error::file("read", path))?,
        };
        Ok(reader)
    }

    /// What has been written since; empty when there is nothing new. Returns some hundred entries
    /// at a time: call it again until it is empty.
    pub fn more(&mut self) -> Result<Vec<Line>, Error> {
        let path = self.dir.clone();
        let lines = loop {
            if self.current.is_none() {
                self.current = self.oldest();
            }
            if !self.fill().map_err(Error::file("read", &path))? {
                // Put aside while we read? Then it has grown for the last time: read it out first.
                let next = self.successor();
                if self.fill().map_err(Error::file("read", &path))? {
                    break self.take();
                }
                match next {
                    Some(next) => {
                        self.current = Some(next);
                        self.rest.clear();
                        continue;
                    }
                    None => break Vec::new(),
                }
            }
            let lines = self.take();
            if !lines.is_empty() {
                break lines;
            }
        };
        Ok(lines)
    }

    /// Returns when the log may have grown.
    pub async fn changed(&self) -> Result<(), Error> {
        let failed = |source| Error::File {
            what: "watch",
            path: self.dir.clone(),
            source,
        };
        let mut ready = self.watch.readable().await.map_err(failed)?;
        let mut events = [0; 4096];
        while rustix::io::read(self.watch.get_ref(), &mut events).is_ok_and(|got| got > 0) {}
        ready.clear_ready();
        Ok(())
    }

    /// Reads a chunk; `false` at the end.
    fn fill(&mut self) -> io::Result<bool> {
        let Some(file) = &mut self.current else {
            return Ok(false);
        };
        let mut chunk = vec![0; CHUNK_BYTES];
        let got = file.read(&mut chunk)?;
        self.rest.extend_from_slice(&chunk[..got]);
        Ok(got > 0)
    }

    fn take(&mut self) -> Vec<Line> {
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else {
            return Vec::new();
        };
        let rest = self.rest.split_off(end + 1);
        let whole = std::mem::replace(&mut self.rest, rest);
        whole
            .split(|byte| *byte == b'\n')
            .filter_map(parse)
            .collect()
    }

    /// The files there are, newest first.
    fn files(&self) -> Vec<File> {
        (0..)
            .map_while(|index| File::open(file(&self.dir, index)).ok())
            .collect()
    }

    fn oldest(&self) -> Option<File> {
        self.files().pop()
    }

    /// The file that follows the current one, if that has been put aside.
    fn successor(&self) -> Option<File> {
        let inode = self.current.as_ref()?.metadata().ok()?.ino();
        let mut files = self.files();
        let here = |file: &File| file.metadata().is_ok_and(|data| data.ino() == inode);
        match files.iter().position(here) {
            Some(0) => None,
            Some(index) => Some(files.swap_remove(index - 1)),
            // Removed altogether: we were too slow, and go on with the oldest there is.
            None => files.pop(),
        }
    }

    /// The file, at the place, where the last `entries` begin.
    fn tail(&self, entries: usize) -> io::Result<Option<File>> {
        let mut missing = entries;
        let mut last = None;
        for mut file in self.files() {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            match start_of_tail(&bytes, missing) {
                Ok(start) => {
                    file.seek(SeekFrom::Start(start as u64))?;
                    return Ok(Some(file));
                }
                Err(found) => missing -= found,
            }
            file.rewind()?;
            last = Some(file);
        }
        Ok(last)
    }
}

/// Offset of the last `wanted` whole entries, or how many fewer there are.
fn start_of_tail(bytes: &[u8], wanted: usize) -> Result<usize, usize> {
    let mut ends: VecDeque<usize> = VecDeque::new();
    let mut count = 0;
    for (index, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
        count += 1;
        ends.push_back(index + 1);
        if ends.len() > wanted + 1 {
            ends.pop_front();
        }
    }
    match ends.front() {
        Some(start) if count > wanted => Ok(*start),
        _ if wanted == 0 => Ok(bytes.len()),
        _ if count == wanted => Ok(0),
        _ => Err(count),
    }
}

fn watch(dir: &Path) -> io::Result<AsyncFd<OwnedFd>> {
    let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    let events = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO;
    inotify::add_watch(&watch, dir, events)?;
    sys::watched(watch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_becomes_pieces_and_an_unfinished_one_a_piece() {
        let at = SystemTime::UNIX_EPOCH;
        let long = "x".repeat(PIECE_BYTES + 1);
        let out = render(Stream::Stdout, format!("a\n\n{long}\nend").as_bytes(), at);
        let lines: Vec<Line> = out.split(|b| *b == b'\n').filter_map(parse).collect();
        let shape: Vec<(usize, bool)> = lines.iter().map(|l| (l.text.len(), l.partial)).collect();
        assert_eq!(
            shape,
            [
                (1, false),
                (0, false),
                (PIECE_BYTES, true),
                (1, false),
                (3, true)
            ]
        );
    }

    #[test]
    fn a_tail_starts_at_a_whole_entry() {
        assert_eq!(start_of_tail(b"a\nb\nc\n", 2), Ok(2));
        assert_eq!(start_of_tail(b"a\nb\nc\n", 3), Ok(0));
        assert_eq!(start_of_tail(b"a\nb\nc\n", 4), Err(3));
        assert_eq!(start_of_tail(b"a\nb\nto", 0), Ok(4));
        assert_eq!(start_of_tail(b"", 1), Err(0));
    }

    #[tokio::test]
    async fn a_reader_follows_through_rotations_without_loss_or_double() {
        let home = tempfile::tempdir().expect("a temporary directory");
        let dir = Dir::new(home.path());
        let limits = LogLimits {
            bytes: 2000,
            files: 4,
        };
        let mut writer = Writer::open(&dir, limits).expect("open");
        let mut reader = Reader::open(&dir, From::Start).expect("open");
        let mut seen = Vec::new();
        for number in 0..500 {
            writer.rotate_if_full();
            let line = format!("line {number}\n");
            writer.append(&render(Stream::Stdout, line.as_bytes(), SystemTime::now()));
            if number % 30 == 0 {
                loop {
                    let more = reader.more().expect("read");
                    if more.is_empty() {
                        break;
                    }
                    seen.extend(more);
                }
            }
        }
        loop {
            let more = reader.more().expect("read");
            if more.is_empty() {
                break;
            }
            seen.extend(more);
        }
        let texts: Vec<String> = seen.into_iter().map(|line| line.text).collect();
        let wanted: Vec<String> = (0..500).map(|number| format!("line {number}")).collect();
        assert_eq!(texts, wanted);
        let names = fs::read_dir(home.path()).expect("list").count();
        assert_eq!(names, 4);
    }

    #[tokio::test]
    async fn a_tail_reaches_back_into_older_files() {
        let home = tempfile::tempdir().expect("a temporary directory");
        let dir = Dir::new(home.path());
        let mut writer = Writer::open(
            &dir,
            LogLimits {
                bytes: 600,
                files: 3,
            },
        )
        .expect("open");
        for number in 0..40 {
            writer.rotate_if_full();
            writer.append(&render(
                Stream::Stderr,
                format!("{number}\n").as_bytes(),
                SystemTime::now(),
            ));
        }
        for wanted in [0, 1, 7, 15] {
            let mut reader = Reader::open(&dir, From::Tail(wanted)).expect("open");
            let mut texts = Vec::new();
            loop {
                let more = reader.more().expect("read");
                if more.is_empty() {
                    break;
                }
                texts.extend(more.into_iter().map(|line| line.text));
            }
            let last: Vec<String> = (40 - wanted..40).map(|n| n.to_string()).collect();
            assert_eq!(texts, last);
        }
    }
}
