//! Streams between two agents over real TLS on loopback: what is given arrives whole or not at
//! all, and only what was asked for by whom it says.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use model::{Generation, MoveId, Snapshot, VolumeId};
use protocol::peer::{self, Asked, Incoming, Listener, Request};
use protocol::trust::Authority;
use protocol::{Error, Identity, Opening};
use tokio::io::{self, AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// More than one chunk, and no whole number of them.
const LENGTH: usize = (1 << 20) + 7;

fn content() -> Vec<u8> {
    (0..LENGTH).map(|n| (n * 31 % 251) as u8).collect()
}

fn request(round: u32) -> Request {
    let snapshot = |round| Snapshot {
        movement: MoveId(7),
        round,
    };
    Request {
        volume: VolumeId::parse("orders").unwrap(),
        generation: Generation(3),
        snapshot: snapshot(round),
        base: round.checked_sub(1).map(snapshot),
    }
}

/// The certificates of a cluster's nodes, by the way that nodes get them.
async fn nodes<const N: usize>(names: [&str; N]) -> [Identity; N] {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::open(dir.path()).unwrap();
    let token = authority.token().unwrap().to_string();
    let address = "127.0.0.1:0".parse().unwrap();
    let listener = protocol::Listener::bind(address, &authority).await.unwrap();
    let address = listener.address().unwrap();
    let master = tokio::spawn(async move {
        while let Ok(handshake) = listener.accept().await {
            if let Ok(Opening::Join(join)) = handshake.finish().await {
                join.grant(&authority).await.unwrap();
            }
        }
    });
    let joins = names.map(|name| protocol::join(address, &token, name));
    let identities = futures::future::try_join_all(joins).await.unwrap();
    master.abort();
    let identities: Result<[Identity; N], _> = identities.try_into();
    identities.unwrap_or_else(|_| panic!("every node has joined"))
}

/// Answers one ask, as the node of this certificate.
async fn giver<T, F>(
    identity: Identity,
    answer: impl FnOnce(Asked) -> F + Send + 'static,
) -> (SocketAddr, JoinHandle<Result<T, Error>>)
where
    T: Send + 'static,
    F: Future<Output = Result<T, Error>> + Send,
{
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap())
        .await
        .unwrap();
    let address = listener.address().unwrap();
    let task = tokio::spawn(async move {
        let handshake = listener.accept().await.unwrap();
        answer(handshake.finish(&identity).await?).await
    });
    (address, task)
}

async fn give_all(asked: Asked) -> Result<(), Error> {
    let mut outgoing = asked.grant().await?;
    outgoing.copy(&mut content().as_slice()).await?;
    outgoing.finish(&LENGTH).await
}

async fn read(incoming: &mut Incoming) -> io::Result<Vec<u8>> {
    let mut read = Vec::new();
    incoming.read_to_end(&mut read).await?;
    Ok(read)
}

/// Forwards one connection, and lets `spoil` see each piece that the giver sends with how many
/// bytes came before; false cuts the connection.
async fn relay(
    to: SocketAddr,
    mut spoil: impl FnMut(&mut [u8], usize) -> bool + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut asker_reads, mut asker_writes) = listener.accept().await?.0.into_split();
        let (mut giver_reads, mut giver_writes) = TcpStream::connect(to).await?.into_split();
        let asks = tokio::spawn(async move { io::copy(&mut asker_reads, &mut giver_writes).await });
        let (mut piece, mut before) = ([0; 4096], 0);
        loop {
            let length = giver_reads.read(&mut piece).await?;
            if length == 0 || !spoil(&mut piece[..length], before) {
                asks.abort();
                return io::Result::Ok(());
            }
            asker_writes.write_all(&piece[..length]).await?;
            before += length;
        }
    });
    address
}

#[tokio::test]
async fn what_is_given_arrives_whole_and_names_who_asked_for_what() {
    let [n1, n2] = nodes(["n1", "n2"]).await;
    let (address, giver) = giver(n1, async |asked: Asked| {
        let who = (asked.peer.is("n2"), asked.peer.is("n1"));
        let what = asked.request.clone();
        give_all(asked).await?;
        Ok((who, what))
    })
    .await;
    let mut incoming = peer::ask(address, "n1", &n2, &request(2)).await.unwrap();
    assert!(read(&mut incoming).await.unwrap() == content());
    assert_eq!(incoming.sent::<usize>().await.unwrap(), LENGTH);
    let (who, what) = giver.await.unwrap().unwrap();
    assert_eq!(who, (true, false));
    assert_eq!(what, request(2));
}

#[tokio::test]
async fn nothing_is_a_stream_too() {
    let [n1, n2] = nodes(["n1", "n2"]).await;
    let (address, _giver) = giver(n1, async |asked: Asked| {
        asked.grant().await?.finish(&0).await
    })
    .await;
    let mut incoming = peer::ask(address, "n1", &n2, &request(0)).await.unwrap();
    assert!(read(&mut incoming).await.unwrap().is_empty());
    assert_eq!(incoming.sent::<usize>().await.unwrap(), 0);
}

#[tokio::test]
async fn who_is_told_to_wait_gets_it_all_the_same() {
    let [n1, n2] = nodes(["n1", "n2"]).await;
    let (address, _giver) = giver(n1, async |mut asked: Asked| {
        asked.wait().await?;
        asked.wait().await?;
        give_all(asked).await
    })
    .await;
    let mut incoming = peer::ask(address, "n1", &n2, &request(0)).await.unwrap();
    assert!(read(&mut incoming).await.unwrap() == content());
}

#[tokio::test]
async fn what_was_not_offered_is_denied_with_the_reason() {
    let [n1, n2] = nodes(["n1", "n2"]).await;
    let (address, _giver) = giver(n1, async |asked: Asked| {
        asked.deny("it was not ordered to".into()).await
    })
    .await;
    let denied = peer::ask(address, "n1", &n2, &request(0)).await.err();
    assert_eq!(
        denied.unwrap().to_string(),
        "the other node denied: it was not ordered to"
    );
}

#[tokio::test]
async fn another_node_and_another_cluster_s_are_refused() {
    let [n1, n2] = nodes(["n1", "n2"]).await;
    let [foreign_n1, foreign_n2] = nodes(["n1", "n2"]).await;
    for (listens, expected, asks) in [
        // Where n1 should be, n2 answers; then a stranger by the right name; then one asks.
        (n2.clone(), "n1", &n1),
        (foreign_n1, "n1", &n2),
        (n1.clone(), "n1", &foreign_n2),
    ] {
        let (address, giver) = giver(listens, give_all).await;
        let refused = peer::ask(address, expected, asks, &request(0)).await;
        assert!(refused.is_err());
        assert!(matches!(
            giver.await.unwrap(),
            Err(Error::Handshake { .. } | Error::Broken { .. } | Error::Closed)
        ));
    }
}

#[tokio::test]
async fn a_stream_that_the_giver_gives_up_is_an_error() {
    let [n1, n2] = nodes(["n1", "n2"]).await;
    let (address, _giver) = giver(n1.clone(), async |asked: Asked| {
        asked.grant().await?.copy(&mut content().as_slice()).await
    })
    .await;
    let mut incoming = peer::ask(address, "n1", &n2, &request(0)).await.unwrap();
    assert!(read(&mut incoming).await.is_err());

    let (address, giver) = giver(n1, async |asked: Asked| {
        asked.grant().await?.copy(&mut BrokenDisk).await
    })
    .await;
    let mut incoming = peer::ask(address, "n1", &n2, &request(0)).await.unwrap();
    assert!(read(&mut incoming).await.is_err());
    assert!(matches!(giver.await.unwrap(), Err(Error::Broken { .. })));
}

#[tokio::test]
async fn a_connection_cut_anywhere_is_an_error() {
    let [n1, n2] = nodes(["n1", "n2"]).await;
    // The stream's end and what was sent are in the last pieces: cut before, at and after them.
    for limit in [LENGTH / 2, LENGTH - 10, LENGTH + 100] {
        let (address, _giver) = giver(n1.clone(), give_all).await;
        let address = relay(address, move |piece, before| before + piece.len() < limit).await;
        let mut incoming = peer::ask(address, "n1", &n2, &request(0)).await.unwrap();
        let whole = match read(&mut incoming).await {
            Ok(_) => incoming.sent::<usize>().await.is_ok(),
            Err(_) => false,
        };
        assert!(!whole, "cut before byte {limit}");
    }
}

#[tokio::test]
async fn a_bit_that_flips_on_the_way_is_an_error() {
    let [n1, n2] = nodes(["n1", "n2"]).await;
    let (address, _giver) = giver(n1, give_all).await;
    let address = relay(address, |piece, before| {
        if (before..before + piece.len()).contains(&(LENGTH / 2)) {
            piece[LENGTH / 2 - before] ^= 1;
        }
        true
    })
    .await;
    let mut incoming = peer::ask(address, "n1", &n2, &request(0)).await.unwrap();
    assert!(read(&mut incoming).await.is_err());
}

/// A source that cannot be read.
struct BrokenDisk;

impl AsyncRead for BrokenDisk {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::Error::other("no such sector")))
    }
}
