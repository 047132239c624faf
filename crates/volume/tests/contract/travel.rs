//! Volumes that travel between pools.

use std::fs;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use model::VolumeId;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use volume::transfer::{Sent, Transfer};
use volume::{Error, Result, SnapshotName, Volumes};

use crate::bench::{Bench, EDQUOT, MIB, fill, name, noise, until, volume};

/// Sends a snapshot from one node to another and says how much that took.
async fn ship(
    from: &Volumes,
    to: &Volumes,
    volume: &VolumeId,
    base: Option<&SnapshotName>,
    snapshot: &SnapshotName,
) -> Result<u64> {
    let mut sending = from
        .send(volume, base, snapshot, Transfer::default())
        .await?;
    let landing = to
        .receive(volume, snapshot, &mut sending, Transfer::default())
        .await?;
    let sent = sending.finish().await?;
    landing.keep(&sent).await?;
    Ok(sent.bytes)
}

/// A whole stream in memory.
pub async fn stream(from: &Volumes, volume: &VolumeId, snapshot: &SnapshotName) -> (Vec<u8>, Sent) {
    let transfer = Transfer::default();
    let progress = transfer.progress.subscribe();
    let mut sending = from.send(volume, None, snapshot, transfer).await.unwrap();
    let mut bytes = Vec::new();
    sending.read_to_end(&mut bytes).await.unwrap();
    let sent = sending.finish().await.unwrap();
    assert_eq!(sent.bytes, bytes.len() as u64);
    assert_eq!(*progress.borrow(), sent.bytes);
    (bytes, sent)
}

async fn write(volumes: &Volumes, volume: &VolumeId, file: &str, content: &[u8]) {
    let path = volumes.path(volume).await.unwrap();
    fs::write(path.join(file), content).unwrap();
}

async fn read(volumes: &Volumes, volume: &VolumeId, file: &str) -> Vec<u8> {
    let path = volumes.path(volume).await.unwrap();
    fs::read(path.join(file)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_travels_there_and_back_by_increments() {
    let Some(bench) = Bench::new() else { return };
    let (a, b, c) = (
        bench.node("a").await,
        bench.node("b").await,
        bench.node("c").await,
    );
    let pg = volume("pg");
    let [s1, s2, s3, s4] = ["m1.1", "m1.2", "m2.1", "m3.1"].map(name);
    let big = noise(1, 8 * MIB);
    a.create(&pg, 20 * MIB).await.unwrap();
    write(&a, &pg, "big", &big).await;
    a.snapshot(&pg, &s1).await.unwrap();
    assert!(ship(&a, &b, &pg, None, &s1).await.unwrap() > 8 * MIB);
    write(&a, &pg, "small", b"a").await;
    a.snapshot(&pg, &s2).await.unwrap();
    assert!(ship(&a, &b, &pg, Some(&s1), &s2).await.unwrap() < MIB);
    b.promote(&pg, &s2, 20 * MIB).await.unwrap();
    assert!(read(&b, &pg, "big").await == big);
    assert_eq!(read(&b, &pg, "small").await, b"a");

    // What came with it counts against its limit at the new place too.
    let (pieces, error) = fill(&b.path(&pg).await.unwrap());
    assert_eq!(error, Some(EDQUOT));
    assert!((9..=12).contains(&pieces), "{pieces} MiB went in");
    let live = b.path(&pg).await.unwrap();
    fs::remove_file(live.join("filler")).unwrap();

    // The quota gives back what was removed only when the filesystem commits.
    b.flush(&pg).await.unwrap();
    until("there is room again", || {
        match fs::write(live.join("small"), b"b") {
            Ok(()) => true,
            Err(error) if error.raw_os_error() == Some(EDQUOT) => false,
            Err(error) => panic!("{error}"),
        }
    })
    .await;
    b.snapshot(&pg, &s3).await.unwrap();
    assert!(ship(&b, &a, &pg, Some(&s2), &s3).await.unwrap() < MIB);
    a.retire(&pg).await.unwrap();
    a.promote(&pg, &s3, 20 * MIB).await.unwrap();
    assert!(read(&a, &pg, "big").await == big);
    assert_eq!(read(&a, &pg, "small").await, b"b");

    write(&a, &pg, "small", b"c").await;
    a.snapshot(&pg, &s4).await.unwrap();
    assert!(ship(&a, &b, &pg, Some(&s3), &s4).await.unwrap() < MIB);
    b.retire(&pg).await.unwrap();
    b.promote(&pg, &s4, 20 * MIB).await.unwrap();
    assert_eq!(read(&b, &pg, "small").await, b"c");

    // A snapshot that was received goes on to a third node, whole and by increment.
    ship(&b, &c, &pg, None, &s3).await.unwrap();
    assert!(ship(&b, &c, &pg, Some(&s3), &s4).await.unwrap() < MIB);
    c.promote(&pg, &s4, 20 * MIB).await.unwrap();
    assert!(read(&c, &pg, "big").await == big);
    assert_eq!(read(&c, &pg, "small").await, b"c");

    b.delete_snapshot(&pg, &s1).await.unwrap();
    b.delete_snapshot(&pg, &s1).await.unwrap();
    let found = b.list().await.unwrap()[&pg].found.clone().unwrap();
    assert_eq!(found.snapshots, [s2, s3, s4]);
    for node in ["a", "b", "c"] {
        bench.close(node).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_is_nearly_full_travels_there_and_back_though_all_of_it_has_changed() {
    let Some(bench) = Bench::new() else { return };
    let (a, b) = (bench.node("a").await, bench.node("b").await);
    let pg = volume("pg");
    let [s1, s2] = ["m1.1", "m2.1"].map(name);
    a.create(&pg, 20 * MIB).await.unwrap();
    write(&a, &pg, "old", &noise(1, 18 * MIB)).await;
    a.snapshot(&pg, &s1).await.unwrap();
    ship(&a, &b, &pg, None, &s1).await.unwrap();
    b.promote(&pg, &s1, 40 * MIB).await.unwrap();
    assert_eq!(b.usage(&pg).await.unwrap().limit, Some(40 * MIB));
    // On its way back the new is there for a moment together with the old.
    let new = noise(2, 18 * MIB);
    write(&b, &pg, "new", &new).await;
    fs::remove_file(b.path(&pg).await.unwrap().join("old")).unwrap();
    b.snapshot(&pg, &s2).await.unwrap();
    ship(&b, &a, &pg, Some(&s1), &s2).await.unwrap();
    a.retire(&pg).await.unwrap();
    a.promote(&pg, &s2, 20 * MIB).await.unwrap();
    assert!(read(&a, &pg, "new").await == new);
    assert_eq!(a.usage(&pg).await.unwrap().limit, Some(20 * MIB));
    bench.close("a").await;
    bench.close("b").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_repeated_keeps_what_was_written_since() {
    let Some(bench) = Bench::new() else { return };
    let (a, b) = (bench.node("a").await, bench.node("b").await);
    let pg = volume("pg");
    let [s1, s2] = ["s1", "s2"].map(name);
    a.create(&pg, 20 * MIB).await.unwrap();
    for snapshot in [&s1, &s2] {
        a.snapshot(&pg, snapshot).await.unwrap();
        ship(&a, &b, &pg, None, snapshot).await.unwrap();
        // Its answer got lost, say.
        ship(&a, &b, &pg, None, snapshot).await.unwrap();
    }
    b.promote(&pg, &s1, 20 * MIB).await.unwrap();
    write(&b, &pg, "row", b"1").await;
    b.promote(&pg, &s1, 30 * MIB).await.unwrap();
    assert_eq!(read(&b, &pg, "row").await, b"1");
    assert_eq!(b.usage(&pg).await.unwrap().limit, Some(30 * MIB));
    assert!(matches!(
        b.promote(&pg, &s2, MIB).await,
        Err(Error::Occupied { .. })
    ));
    assert!(matches!(
        b.promote(&pg, &name("s3"), MIB).await,
        Err(Error::NoSnapshot { .. })
    ));
    assert_eq!(read(&b, &pg, "row").await, b"1");
    bench.close("a").await;
    bench.close("b").await;
}

/// Fails once what it has is read.
struct Cut<'a>(&'a [u8]);

impl AsyncRead for Cut<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.0.is_empty() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

/// Neither ends nor brings anything.
pub struct Silence;

impl AsyncRead for Silence {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_stream_leaves_nothing_and_a_retry_works() {
    let Some(bench) = Bench::new() else { return };
    let (a, b) = (bench.node("a").await, bench.node("b").await);
    let (pg, s1) = (volume("pg"), name("s1"));
    let rows = noise(2, 4 * MIB);
    a.create(&pg, 20 * MIB).await.unwrap();
    write(&a, &pg, "rows", &rows).await;
    a.snapshot(&pg, &s1).await.unwrap();
    let (bytes, sent) = stream(&a, &pg, &s1).await;

    let half = &bytes[..bytes.len() / 2];
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 1;
    for damaged in [half, &flipped, &[], &bytes[..bytes.len() - 1]] {
        let result = b.receive(&pg, &s1, damaged, Transfer::default()).await;
        assert!(
            matches!(result, Err(Error::Tool { .. })),
            "{:?} of {} bytes",
            result.err(),
            damaged.len()
        );
    }
    let result = b.receive(&pg, &s1, Cut(half), Transfer::default()).await;
    assert!(matches!(result, Err(Error::Stream { bytes, .. }) if bytes == half.len() as u64));

    // What came whole but is not what was sent does not stay either.
    let others = [
        Sent {
            bytes: 1,
            ..sent.clone()
        },
        Sent {
            sha256: "0".repeat(64),
            ..sent.clone()
        },
        Sent {
            identity: volume::driver::Identity("x:1".to_owned()),
            ..sent.clone()
        },
    ];
    for other in others {
        let landing = b.receive(&pg, &s1, &bytes[..], Transfer::default()).await;
        let result = landing.unwrap().keep(&other).await;
        assert!(matches!(result, Err(Error::Differs { .. })));
    }
    // Nor what nobody waits for any more.
    let given_up = tokio::time::timeout(
        std::time::Duration::from_millis(300),
        b.receive(&pg, &s1, half.chain(Silence), Transfer::default()),
    );
    assert!(given_up.await.is_err());

    let landing = bench.dir("b").join("pool/volumes/pg/landing");
    until("all attempts are deleted", || {
        fs::read_dir(&landing).unwrap().count() == 0
    })
    .await;
    let found = b.list().await.unwrap()[&pg].found.clone().unwrap();
    assert!(found.snapshots.is_empty() && !found.live);

    let landing = b.receive(&pg, &s1, &bytes[..], Transfer::default()).await;
    landing.unwrap().keep(&sent).await.unwrap();
    b.promote(&pg, &s1, 20 * MIB).await.unwrap();
    assert!(read(&b, &pg, "rows").await == rows);
    bench.close("a").await;
    bench.close("b").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sending_that_is_not_read_to_its_end_is_an_error() {
    let Some(bench) = Bench::new() else { return };
    let a = bench.node("a").await;
    let (pg, s1) = (volume("pg"), name("s1"));
    a.create(&pg, 20 * MIB).await.unwrap();
    write(&a, &pg, "rows", &noise(3, 4 * MIB)).await;
    a.snapshot(&pg, &s1).await.unwrap();
    let mut sending = a.send(&pg, None, &s1, Transfer::default()).await.unwrap();
    sending.read_exact(&mut [0; 1000]).await.unwrap();
    assert!(matches!(sending.finish().await, Err(Error::Tool { .. })));
    bench.close("a").await;
}
