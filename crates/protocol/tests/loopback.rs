//! Joining, renewing and talking over real TLS on loopback, and who is turned away.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::net::SocketAddr;
use std::sync::Arc;

use model::session::{FromAgent, FromMaster};
use protocol::trust::Authority;
use protocol::{Identity, Listener, Opening};

/// A master that grants every join, and answers each heartbeat of `n1` with one.
async fn master(authority: Arc<Authority>) -> SocketAddr {
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), &authority)
        .await
        .unwrap();
    let address = listener.address().unwrap();
    tokio::spawn(async move {
        while let Ok(handshake) = listener.accept().await {
            let authority = Arc::clone(&authority);
            tokio::spawn(async move {
                match handshake.finish().await {
                    Ok(Opening::Join(join)) if join.node == "evil" => {
                        join.deny("not you".into()).await.unwrap();
                    }
                    Ok(Opening::Join(join)) => join.grant(&authority).await.unwrap(),
                    Ok(Opening::Renew(renew)) if renew.peer.is(&renew.node) => {
                        renew.grant(&authority).await.unwrap();
                    }
                    Ok(Opening::Renew(renew)) => renew.deny("not yours".into()).await.unwrap(),
                    Ok(Opening::Session(mut session)) => {
                        let is_n1 = session.peer.is("n1");
                        while let Ok(Some(FromAgent::Heartbeat)) = session.receiver.receive().await
                        {
                            let answer = match is_n1 {
                                true => FromMaster::Heartbeat,
                                false => FromMaster::Refused("you are not n1".into()),
                            };
                            session.sender.send(&answer).await.unwrap();
                        }
                    }
                    Err(_) => {}
                }
            });
        }
    });
    address
}

async fn beat(
    address: SocketAddr,
    identity: &Identity,
) -> Result<Option<FromMaster>, protocol::Error> {
    let (mut sender, mut receiver) = protocol::connect(address, identity).await?;
    sender.send(&FromAgent::Heartbeat).await?;
    receiver.receive().await
}

#[tokio::test]
async fn a_node_joins_by_token_talks_renews_and_is_only_itself() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Arc::new(Authority::open(dir.path()).unwrap());
    let address = master(Arc::clone(&authority)).await;
    let token = authority.token().unwrap().to_string();

    let n1 = protocol::join(address, &token, "n1").await.unwrap();
    assert_eq!(
        beat(address, &n1).await.unwrap(),
        Some(FromMaster::Heartbeat)
    );
    let n2 = protocol::join(address, &token, "n2").await.unwrap();
    assert!(matches!(
        beat(address, &n2).await.unwrap(),
        Some(FromMaster::Refused(_))
    ));

    n1.save(&dir.path().join("n1")).unwrap();
    let loaded = Identity::load(&dir.path().join("n1")).unwrap().unwrap();
    assert!(!Identity::needs_renewal(&dir.path().join("n1")));
    let renewed = protocol::renew(address, &loaded, "n1").await.unwrap();
    assert_eq!(
        beat(address, &renewed).await.unwrap(),
        Some(FromMaster::Heartbeat)
    );
    let error = protocol::renew(address, &n2, "n1").await.err().unwrap();
    assert_eq!(error.to_string(), "the master refused: not yours");
}

#[tokio::test]
async fn strangers_are_turned_away() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let authority = Arc::new(Authority::open(ours.path()).unwrap());
    let other = Arc::new(Authority::open(theirs.path()).unwrap());
    let (address, elsewhere) = (
        master(Arc::clone(&authority)).await,
        master(Arc::clone(&other)).await,
    );
    let token = authority.token().unwrap().to_string();

    let n1 = protocol::join(address, &token, "n1").await.unwrap();
    assert!(
        protocol::join(elsewhere, &token, "n1").await.is_err(),
        "another cluster's master"
    );
    assert!(
        beat(elsewhere, &n1).await.is_err(),
        "another cluster's node"
    );
    let error = protocol::join(address, &token, "evil").await.err().unwrap();
    assert_eq!(error.to_string(), "the master refused: not you");
    for bad in ["", "tandem-1-2", "x"] {
        assert!(matches!(
            protocol::join(address, bad, "n1").await,
            Err(protocol::Error::Token(_))
        ));
    }
    assert!(matches!(
        protocol::join(address, &token, "a.b").await,
        Err(protocol::Error::Name(_))
    ));
}

#[test]
fn an_authority_opened_again_is_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let first = Authority::open(dir.path())
        .unwrap()
        .certificate()
        .to_owned();
    assert_eq!(Authority::open(dir.path()).unwrap().certificate(), first);
    let token = Authority::open(dir.path()).unwrap().token().unwrap();
    assert_eq!(
        token.to_string().parse::<protocol::trust::Token>().unwrap(),
        token
    );
}
