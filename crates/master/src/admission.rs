//! Who is let in: nodes with a token, nodes that renew, nodes that open a session.

use std::sync::Arc;
use std::time::Duration;

use planner::request;
use protocol::{Error, Handshake, JoinRequest, Listener, Opening, RenewRequest};
use tokio::task::JoinSet;

use crate::{Master, session};

/// Runs for ever; what fails is one connection.
pub async fn run(master: Master, listener: Listener) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(handshake) => drop(connections.spawn(admit(master.clone(), handshake))),
                // Out of descriptors, most likely: others must end first.
                Err(error) => {
                    tracing::warn!(%error, "Could not accept an agent's connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn admit(master: Master, handshake: Handshake) {
    let peer = handshake.peer();
    let ended = match handshake.finish().await {
        Ok(Opening::Join(join)) => admit_join(&master, join).await,
        Ok(Opening::Renew(renew)) => admit_renew(&master, renew).await,
        Ok(Opening::Session(opened)) => session::run(master, *opened).await,
        Err(error) => Err(error),
    };
    if let Err(error) = ended {
        let cause = std::error::Error::source(&error)
            .map(ToString::to_string)
            .unwrap_or_default();
        tracing::info!(%peer, cause, "Connection of {peer} ended: {error}");
    }
}

async fn admit_join(master: &Master, join: JoinRequest) -> Result<(), Error> {
    let (token, node) = (join.token.clone(), join.node.clone());
    let used = master
        .store
        .write(move |draft| request::use_token(draft, &token, &node))
        .await;
    match used {
        Ok(Ok(())) => {
            tracing::info!(node.name = join.node, "Node {} may join", join.node);
            let authority = Arc::clone(&master.authority);
            join.grant(&authority).await
        }
        Ok(Err(refusal)) => {
            tracing::warn!(
                node.name = join.node,
                "Node {} may not join: {refusal}",
                join.node
            );
            join.deny(refusal.to_string()).await
        }
        Err(error) => join.deny(error.to_string()).await,
    }
}

async fn admit_renew(master: &Master, renew: RenewRequest) -> Result<(), Error> {
    match renew.peer.is(&renew.node) {
        true => {
            let authority = Arc::clone(&master.authority);
            renew.grant(&authority).await
        }
        false => {
            let why = format!("the certificate is not that of node {}", renew.node);
            renew.deny(why).await
        }
    }
}
