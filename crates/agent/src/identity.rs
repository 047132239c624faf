//! Who this node is to the master: joins once by token, renews its certificate in time.

use std::convert::Infallible;
use std::path::Path;
use std::time::Duration;

use protocol::Identity;

use crate::error::words;
use crate::{Config, Error};

const LOOK_EVERY: Duration = Duration::from_secs(600);

/// The identity on disk, or a new one from the master; `None` while the master does not give one.
pub(crate) async fn ensure(config: &Config, dir: &Path) -> Result<Result<Identity, String>, Error> {
    let keep = |source| Error::Identity { source };
    if let Some(identity) = Identity::load(dir).map_err(keep)? {
        return Ok(Ok(identity));
    }
    let token = config.token.as_deref().ok_or_else(|| Error::NoToken {
        dir: dir.to_owned(),
        master: config.master,
    })?;
    match protocol::join(config.master, token, &config.machine.name).await {
        Ok(identity) => {
            identity.save(dir).map_err(keep)?;
            tracing::info!("Joined the cluster at {}", config.master);
            Ok(Ok(identity))
        }
        // No master will ever take these.
        Err(source @ (protocol::Error::Token(_) | protocol::Error::Name(_))) => {
            Err(Error::Join { source })
        }
        Err(error) => Ok(Err(words(&error))),
    }
}

/// Renews the certificate when half of its life is over. Never ends: a failure is tried again, for
/// there is the other half.
pub(crate) async fn keep_fresh(config: &Config, dir: &Path) -> Infallible {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if !Identity::needs_renewal(dir) {
            continue;
        }
        let renewed = async {
            let Some(old) = Identity::load(dir)? else {
                return Ok(());
            };
            protocol::renew(config.master, &old, &config.machine.name)
                .await?
                .save(dir)
        };
        match renewed.await {
            Ok(()) => tracing::info!("Renewed this node's certificate"),
            Err(error) => {
                tracing::warn!("Could not renew this node's certificate: {}", words(&error));
            }
        }
    }
}
