//! Opens a volume's live copy for containers, limited to its size. The pool's mount is all there
//! is to it, so that opening again changes nothing.

use model::{Mebibytes, VolumeId};

use super::{Done, Error, Tools};

pub(super) async fn open(tools: &Tools, volume: &VolumeId, size: Mebibytes) -> Result<Done, Error> {
    let pool = tools.volumes.pool().await?;
    pool.check().await?;
    let directory = pool.path(volume).await?;
    pool.set_limit(volume, size.mebibytes_as_bytes()).await?;
    Ok(Done::Opened(directory))
}
