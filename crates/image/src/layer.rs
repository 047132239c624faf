//! One layer from a stream of bytes to a directory, in one pass: hash, inflate,
//! hash, untar. Blocking; runs on a thread of its own. Fetches nothing.

use std::fs;
use std::io::{self, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::below::Below;
use crate::digest::{Digest, Hashing};
use crate::unpack::{self, Beneath, Limits, unpack};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("its bytes have the digest {got}")]
    Corrupt { got: Digest },
    #[error("its bytes ended early")]
    Ended,
    #[error("unpacked it is {got}, but the image's configuration says {wanted}")]
    OtherContent { wanted: Digest, got: Digest },
    #[error(transparent)]
    Unpack(#[from] unpack::Error),
    #[error("the store cannot keep it")]
    Keep(#[source] io::Error),
}

/// In a layer's room: what its hard links into layers beneath need.
pub(crate) const BELOW: &str = "below";

/// What a layer must turn out to be.
pub(crate) struct Wanted<'a> {
    pub blob: &'a Digest,
    pub size: u64,
    pub diff_id: &'a Digest,
    /// The directories of the layers beneath it, top first; `None`: not known.
    pub beneath: Option<&'a [PathBuf]>,
}

/// Unpacks `source` into `room/root`, which this creates, and syncs it. On any
/// error the caller throws `room` away.
pub(crate) fn apply(
    source: impl Read,
    wanted: &Wanted<'_>,
    room: &Path,
    limits: &Limits,
) -> Result<(), Error> {
    let (root, trash) = (room.join("root"), room.join("trash"));
    fs::create_dir_all(&root)
        .and_then(|()| fs::create_dir(&trash))
        .map_err(Error::Keep)?;
    set_readable(&root).map_err(Error::Keep)?;

    let mut compressed = Hashing::new(source);
    let below = match wanted.beneath {
        Some(layers @ [_, ..]) => {
            Some(Below::open(layers, &room.join(BELOW)).map_err(Error::Keep)?)
        }
        _ => None,
    };
    let beneath = match (&below, wanted.beneath) {
        (Some(below), _) => Beneath::View(below),
        (None, Some(_)) => Beneath::Nothing,
        (None, None) => Beneath::Unknown,
    };
    let unpacked = unpack_stream(&mut compressed, &root, &trash, beneath, limits);
    drop(below);
    let settled = match &unpacked {
        Err(
            unpack::Error::TooMuch { .. }
            | unpack::Error::Refused { .. }
            | unpack::Error::LinksBelow { .. },
        ) => true,
        Err(error) => error.is_nodes_fault(),
        Ok(_) => false,
    };
    if !settled {
        // To the end in any case: a broken stream is told by its digest, which
        // says more than what the inflater stumbled upon.
        io::copy(&mut compressed, &mut io::sink())
            .map_err(|e| Error::Unpack(unpack::Error::Archive(e)))?;
        let (got, size) = compressed.finish();
        match size {
            size if size < wanted.size => return Err(Error::Ended),
            _ if got != *wanted.blob => return Err(Error::Corrupt { got }),
            _ => {}
        }
    }
    let got = unpacked?;
    if got != *wanted.diff_id {
        return Err(Error::OtherContent {
            wanted: wanted.diff_id.clone(),
            got,
        });
    }
    sync(&root).map_err(Error::Keep)
}

/// Returns the digest of the uncompressed archive.
fn unpack_stream(
    compressed: &mut Hashing<impl Read>,
    root: &Path,
    trash: &Path,
    beneath: Beneath<'_>,
    limits: &Limits,
) -> Result<Digest, unpack::Error> {
    let counter = compressed.counter();
    let inflated = inflate(compressed).map_err(unpack::Error::Archive)?;
    let mut stream = Hashing::new(Capped {
        inner: inflated,
        out: 0,
        compressed: counter,
        exceeded: Arc::default(),
        limits,
    });
    let exceeded = stream.get_ref().exceeded.clone();
    let done = unpack(&mut stream, root, trash, beneath, limits).and_then(|()| {
        // Padding after the end marker belongs to the layer's identity.
        io::copy(&mut stream, &mut io::sink()).map_err(unpack::Error::Archive)
    });
    match exceeded.load(Ordering::Relaxed) {
        0 => done.map(|_| stream.finish().0),
        limit => Err(unpack::Error::TooMuch {
            what: "bytes when inflated",
            limit,
        }),
    }
}

/// By the bytes' own magic; media types are often wrong.
fn inflate<'a>(compressed: &'a mut (impl Read + 'a)) -> io::Result<Box<dyn Read + 'a>> {
    let mut magic = Vec::new();
    compressed.take(4).read_to_end(&mut magic)?;
    let whole = BufReader::with_capacity(128 << 10, Cursor::new(magic.clone()).chain(compressed));
    Ok(match magic.as_slice() {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(whole)),
        [0x28, 0xb5, 0x2f, 0xfd] => Box::new(zstd::stream::read::Decoder::with_buffer(whole)?),
        _ => Box::new(whole),
    })
}

/// Ends the stream when it grows beyond the caps, so that a bomb costs no more
/// disk than they allow.
struct Capped<'a, R> {
    inner: R,
    out: u64,
    compressed: Arc<AtomicU64>,
    /// The limit in bytes that was passed, or 0.
    exceeded: Arc<AtomicU64>,
    limits: &'a Limits,
}

impl<R: Read> Read for Capped<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.out += n as u64;
        let by_ratio = self
            .compressed
            .load(Ordering::Relaxed)
            .saturating_mul(self.limits.ratio)
            .max(self.limits.ratio_from);
        let limit = by_ratio.min(self.limits.bytes);
        if self.out > limit {
            self.exceeded.store(limit, Ordering::Relaxed);
            return Err(io::Error::other("the layer inflates beyond its limits"));
        }
        Ok(n)
    }
}

fn set_readable(root: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(root, fs::Permissions::from_mode(0o755))
}

/// One call for the whole tree, before it gets the name that means "complete".
fn sync(root: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(fs::File::open(root)?)?)
}
