//! From the FIFOs to the log, losing nothing to a kill at any moment.
//!
//! A piece is *copied* out of the FIFO with `tee(2)`, written to the log, and only then consumed.
//! Before that, `mark` records which piece is going where, and is cleared after. The next shim
//! compares: a piece still in the FIFO and already in the log is consumed, a torn one is cut off
//! and written again, and one that was consumed is left alone. Should the process die between
//! consuming and clearing, and the next piece of the same length read exactly alike, that piece
//! would be taken for the former: the one case this cannot tell apart.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant, SystemTime};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, tee};

use crate::log::{Stream, Writer, render};
use crate::{Dir, Error, Spec};

/// A pipe's default capacity, and so the most that `tee` copies at once.
const PIECE_BYTES: usize = 64 << 10;
/// Processes outside the container's pid namespace may hold the FIFOs for ever.
const DRAIN: Duration = Duration::from_millis(200);

pub struct Pump {
    taps: Vec<Tap>,
    log: Writer,
    mark: Mark,
}

struct Tap {
    stream: Stream,
    fifo: OwnedFd,
    /// A pipe of our own, to see what is in the FIFO without taking it.
    copy: (OwnedFd, OwnedFd),
}

enum Step {
    Copied,
    Empty,
    /// Nobody holds the FIFO for writing any more.
    Closed,
}

impl Pump {
    /// Opens FIFOs and log, and finishes what a predecessor left half done.
    pub fn open(dir: &Dir, spec: &Spec) -> Result<Self, Error> {
        let mut taps = Vec::new();
        for (stream, path) in [Stream::Stdout, Stream::Stderr]
            .into_iter()
            .zip(dir.fifos())
        {
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let open = || -> io::Result<Tap> {
                let fifo = rustix::fs::openat(CWD, &path, flags, Mode::empty())?;
                Ok(Tap {
                    stream,
                    fifo,
                    copy: pipe_with(PipeFlags::CLOEXEC)?,
                })
            };
            taps.push(open().map_err(Error::file("open", &path))?);
        }
        let path = dir.path().join("mark");
        let mark = Mark::open(&path).map_err(Error::file("open", &path))?;
        let log = Writer::open(dir, spec.log)?;
        let mut pump = Self { taps, log, mark };
        pump.recover().map_err(Error::file("recover from", &path))?;
        Ok(pump)
    }

    /// Copies until `init` ends, then what is left.
    pub fn run(mut self, init: &impl AsFd) -> io::Result<()> {
        while self.wait(init)? {
            self.copy_all()?;
        }
        self.drain()
    }

    /// Copies what is there, until nobody writes any more or patience ends.
    pub fn drain(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + DRAIN;
        loop {
            self.copy_all()?;
            if self.taps.is_empty() || Instant::now() > deadline {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits for output; `false` once `init` has ended.
    fn wait(&self, init: &impl AsFd) -> io::Result<bool> {
        let mut polled = vec![PollFd::new(init, PollFlags::IN)];
        polled.extend(
            self.taps
                .iter()
                .map(|tap| PollFd::new(&tap.fifo, PollFlags::IN)),
        );
        match poll(&mut polled, None) {
            Ok(_) => Ok(polled[0].revents().is_empty()),
            Err(Errno::INTR) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    fn copy_all(&mut self) -> io::Result<()> {
        let (log, mark) = (&mut self.log, &self.mark);
        let mut failed = None;
        // One piece of each in turn: a stream that never pauses must not starve the other.
        self.taps.retain(|tap| match tap.copy(log, mark) {
            Ok(Step::Closed) => false,
            Ok(Step::Copied | Step::Empty) => true,
            Err(error) => {
                failed = Some(error);
                true
            }
        });
        failed.map_or(Ok(()), Err)
    }

    fn recover(&mut self) -> io::Result<()> {
        let Some(pending) = self.mark.read()? else {
            // Written at once: on a full disk a new file has no room.
            return self.mark.clear();
        };
        if let Some(tap) = self
            .taps
            .iter()
            .find(|tap| tap.stream.name() == pending.stream)
        {
            let piece = tap.peek(pending.length)?.unwrap_or_default();
            if piece.len() == pending.length && hash(&piece) == pending.hash {
                let (inode, size) = self.log.position();
                if inode == pending.inode && size >= pending.offset + pending.rendered {
                    tap.consume(pending.length)?;
                } else if inode == pending.inode && size > pending.offset {
                    self.log.cut(pending.offset);
                }
            }
        }
        self.mark.clear()
    }
}

impl Tap {
    fn copy(&self, log: &mut Writer, mark: &Mark) -> io::Result<Step> {
        let Some(piece) = self.peek(PIECE_BYTES)? else {
            return Ok(Step::Empty);
        };
        if piece.is_empty() {
            return Ok(Step::Closed);
        }
        log.rotate_if_full();
        let entries = render(self.stream, &piece, SystemTime::now());
        let (inode, offset) = log.position();
        let pending = Pending {
            stream: self.stream.name().to_owned(),
            inode,
            offset,
            rendered: entries.len() as u64,
            length: piece.len(),
            hash: hash(&piece),
        };
        // On a full disk the mark may fail like the log: then a kill now could double a piece.
        let _ = mark.set(&pending);
        log.append(&entries);
        self.consume(piece.len())?;
        let _ = mark.clear();
        Ok(Step::Copied)
    }

    /// The next at most `most` bytes, left where they are. `None`: nothing now; empty: nothing
    /// ever again.
    fn peek(&self, most: usize) -> io::Result<Option<Vec<u8>>> {
        match tee(&self.fifo, &self.copy.1, most, SpliceFlags::NONBLOCK) {
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(error) => Err(error.into()),
            Ok(length) => {
                let mut piece = vec![0; length];
                take(&self.copy.0, &mut piece)?;
                Ok(Some(piece))
            }
        }
    }

    fn consume(&self, length: usize) -> io::Result<()> {
        take(&self.fifo, &mut vec![0; length])
    }
}

/// Reads exactly what is known to be there.
fn take(from: &OwnedFd, into: &mut [u8]) -> io::Result<()> {
    let mut done = 0;
    while done < into.len() {
        match rustix::io::read(from, &mut into[done..]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(got) => done += got,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// FNV-1a: tells pieces apart, and nobody here is an adversary of his own log.
fn hash(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// The piece on its way: `<stream> <inode> <offset> <rendered> <length> <hash>` in one block of
/// fixed size, or blanks.
struct Mark(File);

const MARK_BYTES: usize = 128;

struct Pending {
    stream: String,
    inode: u64,
    offset: u64,
    rendered: u64,
    length: usize,
    hash: u64,
}

impl Mark {
    fn open(path: &std::path::Path) -> io::Result<Self> {
        File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map(Self)
    }

    fn set(&self, p: &Pending) -> io::Result<()> {
        let text = format!(
            "{} {} {} {} {} {}",
            p.stream, p.inode, p.offset, p.rendered, p.length, p.hash
        );
        self.0
            .write_all_at(format!("{text:MARK_BYTES$}").as_bytes(), 0)
    }

    fn clear(&self) -> io::Result<()> {
        self.0.write_all_at(&[b' '; MARK_BYTES], 0)
    }

    fn read(&self) -> io::Result<Option<Pending>> {
        let mut bytes = [0; MARK_BYTES];
        let got = self.0.read_at(&mut bytes, 0)?;
        let text = String::from_utf8_lossy(&bytes[..got]);
        Ok(Pending::parse(&text))
    }
}

impl Pending {
    fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split_whitespace();
        Some(Self {
            stream: fields.next()?.to_owned(),
            inode: fields.next()?.parse().ok()?,
            offset: fields.next()?.parse().ok()?,
            rendered: fields.next()?.parse().ok()?,
            length: fields.next()?.parse().ok()?,
            hash: fields.next()?.parse().ok()?,
        })
    }
}
