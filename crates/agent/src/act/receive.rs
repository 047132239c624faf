//! Receives a snapshot from the node that has it. What arrived is held, without a name, until it
//! is to be on disk; an agent that dies meanwhile leaves nothing of it. The wait for a source that
//! is not ready is given up when no order asks for the snapshot any more.

use model::volume::Source;
use model::{Millis, VolumeId};
use protocol::{Identity, peer};
use volume::transfer::{Sent, Transfer};

use super::{Done, Error, Tools, Work};

pub(super) async fn receive(
    tools: &Tools,
    work: &Work,
    from: Source,
    wanted: peer::Request,
) -> Result<Done, Error> {
    let name = work.source.as_deref();
    let name = name.ok_or(Error::UnknownNode(from.node))?;
    let identity = Identity::load(&tools.disk.identity())?.ok_or(Error::NoIdentity)?;
    let pool = tools.volumes.pool().await?;
    make_way(pool, &wanted.volume).await?;
    // The source may have to make the snapshot first, or never make it.
    let mut stream = tokio::select! {
        asked = peer::ask(from.address.into(), name, &identity, &wanted) => asked?,
        () = work.cancelled.cancelled() => return Ok(Done::Cancelled),
    };
    let (volume, snapshot) = (&wanted.volume, wanted.snapshot);
    let transfer = Transfer::default();
    let progress = transfer.progress.subscribe();
    tools.volumes.comes(volume, snapshot, progress);
    let landing = pool
        .receive(volume, &snapshot.into(), &mut stream, transfer)
        .await;
    let came = tools.volumes.came(volume);
    let landing = landing?;
    let sent: Sent = stream.sent().await?;
    let bytes = sent.bytes;
    tools.volumes.hold(volume, landing, sent);
    let took = came.as_ref().map_or(Millis(0), |came| came.took);
    tracing::info!(
        volume.id = %volume,
        "Received {snapshot} of volume {volume} from {name}: {bytes} bytes in {} ms", took.0
    );
    Ok(Done::Received(came))
}

/// The live copy of an earlier life here is older than what lands, and in its way later, when the
/// app waits.
async fn make_way(pool: &volume::Volumes, volume: &VolumeId) -> Result<(), Error> {
    match pool.path(volume).await {
        Ok(_) => Ok(pool.retire(volume).await?),
        Err(volume::Error::NoVolume { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
