//! Reads tar streams: ustar, PAX and GNU forms, old-GNU and PAX sparse files. It
//! looks at nothing but bytes, creates no file and trusts no length: what must
//! be held in memory (long names, PAX records, sparse maps) is bounded.
//!
//! Header blocks are decoded by the `tar` crate; its iterator is not used,
//! because it cuts PAX records at newlines, which binary attributes such as
//! `security.capability` may hold, and reads long names without a bound.

use std::io::{self, Read};

use tar::{EntryType, Header};

const BLOCK: u64 = 512;
const RECORDS_BYTES_MAX: u64 = 1 << 20;
const SEGMENTS_MAX: usize = 1 << 16;

#[derive(Debug, PartialEq)]
pub(crate) enum Kind {
    File,
    Directory,
    Symlink(Vec<u8>),
    HardLink(Vec<u8>),
    CharacterDevice { major: u32, minor: u32 },
    BlockDevice { major: u32, minor: u32 },
    Fifo,
}

#[derive(Debug)]
pub(crate) struct Entry {
    /// As written, hostile parts included.
    pub path: Vec<u8>,
    pub kind: Kind,
    /// Permission, setuid, setgid and sticky bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Seconds and nanoseconds since 1970.
    pub modified: (i64, u32),
    pub attributes: Vec<(Vec<u8>, Vec<u8>)>,
    /// Set for a sparse file: where its data goes.
    pub sparse: Option<Sparse>,
}

#[derive(Debug, PartialEq)]
pub(crate) struct Sparse {
    pub size: u64,
    /// Offset and length of each piece, in the order of the data.
    pub segments: Vec<(u64, u64)>,
}

pub(crate) struct Archive<R> {
    input: R,
    /// Bytes of the current member that nobody has read yet.
    left: u64,
    padding: u64,
}

/// What extended headers say of the member that follows them.
#[derive(Default)]
struct Extended {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u32>,
    gid: Option<u32>,
    modified: Option<(i64, u32)>,
    attributes: Vec<(Vec<u8>, Vec<u8>)>,
    sparse: PaxSparse,
}

#[derive(Default)]
struct PaxSparse {
    major: u64,
    real_size: Option<u64>,
    offsets: Vec<u64>,
    lengths: Vec<u64>,
}

impl<R: Read> Archive<R> {
    pub(crate) fn new(input: R) -> Archive<R> {
        Archive {
            input,
            left: 0,
            padding: 0,
        }
    }

    /// The next member, or `None` at the end of the archive.
    pub(crate) fn next(&mut self) -> io::Result<Option<Entry>> {
        let mut extended = Extended::default();
        loop {
            self.skip_rest()?;
            let Some(header) = self.header()? else {
                return Ok(None);
            };
            let size = header.entry_size()?;
            match header.entry_type() {
                EntryType::GNULongName => extended.path = Some(until_nul(self.records(size)?)),
                EntryType::GNULongLink => extended.link = Some(until_nul(self.records(size)?)),
                EntryType::XHeader => extended.read(&self.records(size)?)?,
                EntryType::XGlobalHeader => drop(self.records(size)?),
                _ => return self.member(&header, extended, size).map(Some),
            }
        }
    }

    /// Reads the current member's data.
    pub(crate) fn data(&mut self) -> impl Read {
        Data { archive: self }
    }

    fn member(&mut self, header: &Header, extended: Extended, size: u64) -> io::Result<Entry> {
        // Only files have data, whatever the size field of a link says.
        let has_data = matches!(
            header.entry_type(),
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse
        );
        self.begin(if has_data {
            extended.size.unwrap_or(size)
        } else {
            0
        });
        let path = extended
            .path
            .unwrap_or_else(|| header.path_bytes().into_owned());
        let link = || {
            extended
                .link
                .clone()
                .or_else(|| header.link_name_bytes().map(|l| l.into_owned()))
                .unwrap_or_default()
        };
        // Some writers leave unused number fields blank.
        let number = |field: io::Result<Option<u32>>| field.ok().flatten().unwrap_or(0);
        let device = || (number(header.device_major()), number(header.device_minor()));
        let mut sparse = None;
        let kind = match header.entry_type() {
            // Before ustar a directory was a file whose name ends in a slash.
            EntryType::Regular if path.ends_with(b"/") => Kind::Directory,
            EntryType::Regular | EntryType::Continuous => {
                sparse = self.pax_sparse(extended.sparse)?;
                Kind::File
            }
            EntryType::GNUSparse => {
                sparse = Some(self.gnu_sparse(header)?);
                Kind::File
            }
            EntryType::Directory => Kind::Directory,
            EntryType::Symlink => Kind::Symlink(link()),
            EntryType::Link => Kind::HardLink(link()),
            EntryType::Fifo => Kind::Fifo,
            EntryType::Char => {
                let (major, minor) = device();
                Kind::CharacterDevice { major, minor }
            }
            EntryType::Block => {
                let (major, minor) = device();
                Kind::BlockDevice { major, minor }
            }
            other => {
                return Err(malformed(format!(
                    "unknown kind of entry {:#04x}",
                    other.as_byte()
                )));
            }
        };
        Ok(Entry {
            path,
            kind,
            mode: header.mode()? & 0o7777,
            uid: extended.uid.map_or_else(|| id(header.uid()?), Ok)?,
            gid: extended.gid.map_or_else(|| id(header.gid()?), Ok)?,
            modified: extended
                .modified
                .unwrap_or((i64::try_from(header.mtime()?).unwrap_or(0), 0)),
            attributes: extended.attributes,
            sparse,
        })
    }

    fn header(&mut self) -> io::Result<Option<Header>> {
        let mut header = Header::new_old();
        let block = header.as_mut_bytes();
        // A stream that ends between members, without an end marker, is accepted
        // as all readers do; the digest tells whether something is missing.
        let first = read_some(&mut self.input, block)?;
        if first == 0 || (first == block.len() && block.iter().all(|b| *b == 0)) {
            return Ok(None);
        }
        if first < block.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let checksum: u32 = block
            .iter()
            .enumerate()
            .map(|(i, b)| {
                if (148..156).contains(&i) {
                    32
                } else {
                    u32::from(*b)
                }
            })
            .sum();
        if header.cksum()? != checksum {
            return Err(malformed("a header's checksum is wrong".into()));
        }
        Ok(Some(header))
    }

    fn begin(&mut self, size: u64) {
        self.left = size;
        self.padding = (BLOCK - size % BLOCK) % BLOCK;
    }

    fn records(&mut self, size: u64) -> io::Result<Vec<u8>> {
        if size > RECORDS_BYTES_MAX {
            return Err(malformed(format!("an extended header of {size} bytes")));
        }
        self.begin(size);
        let mut records = vec![0; size as usize];
        self.input.read_exact(&mut records)?;
        self.left = 0;
        Ok(records)
    }

    fn skip_rest(&mut self) -> io::Result<()> {
        let wanted = self
            .left
            .checked_add(self.padding)
            .ok_or_else(|| malformed("a length beyond measure".into()))?;
        let skipped = io::copy(&mut (&mut self.input).take(wanted), &mut io::sink())?;
        if skipped < self.left {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        (self.left, self.padding) = (0, 0);
        Ok(())
    }

    fn gnu_sparse(&mut self, header: &Header) -> io::Result<Sparse> {
        let gnu = header
            .as_gnu()
            .ok_or_else(|| malformed("a sparse file outside a GNU archive".into()))?;
        let mut segments = Vec::new();
        let mut add = |pieces: &[tar::GnuSparseHeader]| -> io::Result<()> {
            for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
                segments.push((piece.offset()?, piece.length()?));
            }
            if segments.len() > SEGMENTS_MAX {
                Err(malformed("too many pieces of a sparse file".into()))
            } else {
                Ok(())
            }
        };
        add(&gnu.sparse)?;
        let mut more = gnu.is_extended();
        while more {
            let mut block = tar::GnuExtSparseHeader::new();
            self.input.read_exact(block.as_mut_bytes())?;
            add(block.sparse())?;
            more = block.is_extended();
        }
        Ok(Sparse {
            size: gnu.real_size()?,
            segments,
        })
    }

    /// PAX versions 0.0 and 0.1 carry the map in records, 1.0 before the data.
    fn pax_sparse(&mut self, pax: PaxSparse) -> io::Result<Option<Sparse>> {
        let Some(size) = pax.real_size else {
            return Ok(None);
        };
        if pax.major == 0 {
            let segments = pax.offsets.into_iter().zip(pax.lengths).collect();
            return Ok(Some(Sparse { size, segments }));
        }
        let before = self.left;
        let count = self.line_number()?;
        if count > SEGMENTS_MAX as u64 {
            return Err(malformed("too many pieces of a sparse file".into()));
        }
        let mut segments = Vec::new();
        for _ in 0..count {
            segments.push((self.line_number()?, self.line_number()?));
        }
        let rest = (BLOCK - (before - self.left) % BLOCK) % BLOCK;
        io::copy(&mut self.data().take(rest), &mut io::sink())?;
        Ok(Some(Sparse { size, segments }))
    }

    fn line_number(&mut self) -> io::Result<u64> {
        let mut digits = Vec::new();
        loop {
            let mut byte = [0];
            self.data().read_exact(&mut byte)?;
            match byte[0] {
                b'\n' => return number(&digits),
                digit if digits.len() < 20 => digits.push(digit),
                _ => return Err(malformed("a sparse map that is none".into())),
            }
        }
    }
}

struct Data<'a, R> {
    archive: &'a mut Archive<R>,
}

impl<R: Read> Read for Data<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer
            .len()
            .min(usize::try_from(self.archive.left).unwrap_or(usize::MAX));
        let n = self.archive.input.read(&mut buffer[..wanted])?;
        if n == 0 && wanted > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.archive.left -= n as u64;
        Ok(n)
    }
}

impl Extended {
    /// Records are `LENGTH KEY=VALUE\n`, where the value may hold any byte.
    fn read(&mut self, mut records: &[u8]) -> io::Result<()> {
        let bad = || malformed("a PAX record that is none".into());
        while !records.is_empty() && records[0] != 0 {
            let space = records
                .iter()
                .take(21)
                .position(|b| *b == b' ')
                .ok_or_else(bad)?;
            let length = usize::try_from(number(&records[..space])?).map_err(|_| bad())?;
            let record = records.get(space + 1..length).ok_or_else(bad)?;
            let record = record.strip_suffix(b"\n").ok_or_else(bad)?;
            let equals = record.iter().position(|b| *b == b'=').ok_or_else(bad)?;
            self.set(&record[..equals], &record[equals + 1..])?;
            records = &records[length..];
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"GNU.sparse.name" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => self.size = Some(number(value)?),
            b"uid" => self.uid = Some(id(number(value)?)?),
            b"gid" => self.gid = Some(id(number(value)?)?),
            b"mtime" => self.modified = Some(time(value)?),
            b"GNU.sparse.major" => self.sparse.major = number(value)?,
            b"GNU.sparse.realsize" | b"GNU.sparse.size" => {
                self.sparse.real_size = Some(number(value)?)
            }
            b"GNU.sparse.offset" => self.sparse.offsets.push(number(value)?),
            b"GNU.sparse.numbytes" => self.sparse.lengths.push(number(value)?),
            b"GNU.sparse.map" => {
                let numbers = value
                    .split(|b| *b == b',')
                    .map(number)
                    .collect::<io::Result<Vec<u64>>>()?;
                self.sparse.offsets = numbers.iter().step_by(2).copied().collect();
                self.sparse.lengths = numbers.iter().skip(1).step_by(2).copied().collect();
            }
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.attributes.push((name.to_vec(), value.to_vec()));
                }
            }
        }
        Ok(())
    }
}

fn read_some(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..])? {
            0 => break,
            n => filled += n,
        }
    }
    Ok(filled)
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    bytes
}

fn number(digits: &[u8]) -> io::Result<u64> {
    let text = std::str::from_utf8(digits)
        .ok()
        .filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    text.and_then(|text| text.parse().ok())
        .ok_or_else(|| malformed("a number that is none".into()))
}

fn id(number: u64) -> io::Result<u32> {
    u32::try_from(number)
        .ok()
        .filter(|id| *id != u32::MAX)
        .ok_or_else(|| malformed(format!("owner {number}")))
}

/// Decimal seconds with a fraction, possibly negative.
fn time(value: &[u8]) -> io::Result<(i64, u32)> {
    let (negative, digits) = match value.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, value),
    };
    let (whole, fraction) = match digits.iter().position(|b| *b == b'.') {
        Some(dot) => (&digits[..dot], &digits[dot + 1..]),
        None => (digits, &b""[..]),
    };
    let seconds =
        i64::try_from(number(whole)?).map_err(|_| malformed("a time beyond measure".into()))?;
    let nanoseconds =
        match number(&[&fraction[..fraction.len().min(9)], b"000000000"].concat()[..9])? {
            n if n < 1_000_000_000 => n as u32,
            _ => 0,
        };
    Ok(match (negative, nanoseconds) {
        (false, _) => (seconds, nanoseconds),
        (true, 0) => (-seconds, 0),
        (true, n) => (-seconds - 1, 1_000_000_000 - n),
    })
}

fn malformed(what: String) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("malformed tar archive: {what}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str, value: &[u8]) -> Vec<u8> {
        let body = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
        let length = (1..)
            .find(|digits| (digits + body.len()).to_string().len() == *digits)
            .unwrap()
            + body.len();
        [length.to_string().as_bytes(), &body].concat()
    }

    fn member(kind: EntryType, path: &str, data: &[u8]) -> Vec<u8> {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_path(path).unwrap();
        header.set_mode(0o644);
        header.set_uid(1);
        header.set_gid(2);
        header.set_mtime(3);
        header.set_size(data.len() as u64);
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend_from_slice(data);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }

    #[test]
    fn pax_values_may_hold_newlines_and_override_the_header() {
        let capability = b"\x01\0\0\x02\n\n=\0\0";
        let records = [
            record("path", b"a/long\nname"),
            record("SCHILY.xattr.security.capability", capability),
            record("mtime", b"-1.25"),
            record("uid", b"4000000000"),
            record("size", b"3"),
        ]
        .concat();
        let stream = [
            member(EntryType::XHeader, "x", &records),
            member(EntryType::Regular, "short", b"abc"),
            member(EntryType::Directory, "d/", b""),
        ]
        .concat();
        let mut archive = Archive::new(&stream[..]);
        let entry = archive.next().unwrap().unwrap();
        assert_eq!(
            (entry.path.as_slice(), entry.uid, entry.gid, entry.modified),
            (&b"a/long\nname"[..], 4_000_000_000, 2, (-2, 750_000_000))
        );
        assert_eq!(
            entry.attributes,
            [(b"security.capability".to_vec(), capability.to_vec())]
        );
        let mut data = Vec::new();
        archive.data().read_to_end(&mut data).unwrap();
        assert_eq!(data, b"abc");
        assert_eq!(archive.next().unwrap().unwrap().kind, Kind::Directory);
        assert!(archive.next().unwrap().is_none());
    }

    #[test]
    fn sparse_maps_of_pax_1_0_are_read_from_the_data() {
        let records = [
            record("GNU.sparse.major", b"1"),
            record("GNU.sparse.minor", b"0"),
            record("GNU.sparse.name", b"s"),
            record("GNU.sparse.realsize", b"9000"),
        ]
        .concat();
        let mut data = b"2\n0\n3\n8192\n2\n".to_vec();
        data.resize(512, 0);
        data.extend_from_slice(b"abcde");
        let stream = [
            member(EntryType::XHeader, "x", &records),
            member(EntryType::Regular, "GNUSparseFile.0/s", &data),
        ]
        .concat();
        let mut archive = Archive::new(&stream[..]);
        let entry = archive.next().unwrap().unwrap();
        assert_eq!(entry.path, b"s");
        assert_eq!(
            entry.sparse,
            Some(Sparse {
                size: 9000,
                segments: vec![(0, 3), (8192, 2)]
            })
        );
        let mut rest = Vec::new();
        archive.data().read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"abcde");
    }

    #[test]
    fn garbage_is_refused_and_never_panics() {
        let good = [
            member(EntryType::XHeader, "x", &record("path", b"abc")),
            member(EntryType::Regular, "f", &[7; 700]),
        ]
        .concat();
        for i in 0..good.len().min(1100) {
            for flip in [0x80, 0xff, 0x01] {
                let mut bytes = good.clone();
                bytes[i] ^= flip;
                let mut archive = Archive::new(&bytes[..]);
                while let Ok(Some(_)) = archive.next() {}
            }
            let mut cut = Archive::new(&good[..i]);
            while let Ok(Some(_)) = cut.next() {}
        }
        let huge = member(EntryType::GNULongName, "x", b"");
        let mut header = Header::from_byte_slice(&huge).clone();
        header.set_size(1 << 40);
        header.set_cksum();
        assert!(
            Archive::new(&header.as_bytes()[..])
                .next()
                .unwrap_err()
                .to_string()
                .contains("extended header")
        );
    }
}
