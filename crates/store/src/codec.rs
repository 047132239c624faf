//! How transactions and checkpoint records are written down: JSON with named fields under a
//! format number. An older format is converted when it is read; a newer one, or a kind of change
//! that this build does not know, stops the start with a sentence.

use model::Transaction;
use model::records::{Record, Unspecified};
use serde::{Deserialize, Serialize};

/// The format that this build writes.
///
/// 1: an instance carries its whole spec. 2: it may leave that to its app; either is read alike.
pub const FORMAT: u32 = 2;

#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    #[error(
        "was written in format {found} by a newer tandem; this one reads formats up to {FORMAT}: start the newer one"
    )]
    Newer { found: u32 },
    #[error("holds what this tandem does not know; start the version that wrote it")]
    Unknown { source: serde_json::Error },
    #[error("ends too early: {missing} bytes are missing")]
    Short { missing: u64 },
    #[error("does not match its checksum")]
    Damaged,
    #[error("does not fit together")]
    Apart { source: Unspecified },
}

#[derive(Serialize)]
struct Framed<'a, T> {
    format: u32,
    body: &'a T,
}

/// Of what cannot be read otherwise: perhaps a newer format.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

#[derive(Deserialize)]
struct Whole<T> {
    format: u32,
    body: T,
}

fn encode<T: Serialize>(body: &T) -> Vec<u8> {
    serde_json::to_vec(&Framed {
        format: FORMAT,
        body,
    })
    .expect("the model has string keys and no fallible serialisation")
}

fn decode<T: for<'a> Deserialize<'a>>(bytes: &[u8]) -> Result<T, CodecError> {
    let unknown = |source| CodecError::Unknown { source };
    let (format, body) = match serde_json::from_slice(bytes) {
        Ok(Whole { format, body }) => (format, Ok(body)),
        Err(error) => {
            let Format { format } = serde_json::from_slice(bytes).map_err(unknown)?;
            (format, Err(unknown(error)))
        }
    };
    match format > FORMAT {
        true => Err(CodecError::Newer { found: format }),
        false => body,
    }
}

pub fn encode_transaction(transaction: &Transaction) -> Vec<u8> {
    encode(transaction)
}

pub fn decode_transaction(bytes: &[u8]) -> Result<Transaction, CodecError> {
    decode(bytes)
}

pub fn encode_record(record: &Record) -> Vec<u8> {
    encode(record)
}

pub fn decode_record(bytes: &[u8]) -> Result<Record, CodecError> {
    decode(bytes)
}
