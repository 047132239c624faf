//! What a stream passes through at both ends: counted, digested, and held to a rate.

use std::fmt::Write;
use std::io;
use std::num::NonZeroU64;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};

use crate::driver::Identity;

/// How a transfer is to go, and where to look how far it is.
#[derive(Debug)]
pub struct Transfer {
    /// Bytes so far.
    pub progress: watch::Sender<u64>,
    pub bytes_per_second: Option<NonZeroU64>,
}

impl Default for Transfer {
    fn default() -> Self {
        Self {
            progress: watch::Sender::new(0),
            bytes_per_second: None,
        }
    }
}

/// What was sent, for the receiver to hold against what it got. Follows the stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    pub bytes: u64,
    /// Of the stream, in hexadecimal digits.
    pub sha256: String,
    pub identity: Identity,
}

/// A reader that counts, digests and slows what is read through it.
pub struct Metered<R> {
    inner: R,
    digest: Sha256,
    bytes: u64,
    transfer: Transfer,
    begun: Option<Instant>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl<R> Metered<R> {
    pub fn new(inner: R, transfer: Transfer) -> Self {
        Self {
            inner,
            digest: Sha256::new(),
            bytes: 0,
            transfer,
            begun: None,
            pause: None,
        }
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes and digest of what was read.
    pub fn sum(self) -> (u64, String) {
        let mut text = String::with_capacity(64);
        for byte in self.digest.finalize() {
            let _ = write!(text, "{byte:02x}");
        }
        (self.bytes, text)
    }

    fn note(&mut self, read: &[u8]) {
        self.digest.update(read);
        self.bytes += read.len() as u64;
        self.transfer.progress.send_replace(self.bytes);
        let Some(rate) = self.transfer.bytes_per_second else {
            return;
        };
        let begun = *self.begun.get_or_insert_with(Instant::now);
        let due = begun + Duration::from_secs_f64(self.bytes as f64 / rate.get() as f64);
        if due > Instant::now() {
            self.pause = Some(Box::pin(tokio::time::sleep_until(due)));
        }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Metered<R> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(pause) = &mut this.pause {
            ready!(pause.as_mut().poll(context));
            this.pause = None;
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.inner).poll_read(context, buffer))?;
        let read = &buffer.filled()[before..];
        if !read.is_empty() {
            this.note(read);
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn what_passes_is_counted_and_digested() {
        let transfer = Transfer::default();
        let progress = transfer.progress.subscribe();
        let mut metered = Metered::new(&b"abc"[..], transfer);
        let mut text = String::new();
        metered.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "abc");
        assert_eq!(*progress.borrow(), 3);
        assert_eq!(
            metered.sum(),
            (
                3,
                "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad".to_owned()
            )
        );
    }

    #[tokio::test]
    async fn a_rate_is_not_exceeded() {
        let transfer = Transfer {
            bytes_per_second: NonZeroU64::new(1_000_000),
            ..Transfer::default()
        };
        let content = vec![7; 200_000];
        let begun = Instant::now();
        let mut metered = Metered::new(&content[..], transfer);
        let mut chunk = vec![0; 10_000];
        while metered.read(&mut chunk).await.unwrap() > 0 {}
        assert!(begun.elapsed() >= Duration::from_millis(190));
    }
}
