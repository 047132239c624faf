//! Has the image of an instance on this node. Given up when nobody wants it any more.

use image::{Policy, Reference};
use node::Stage;

use super::{Done, Error, Tools, Work};

pub(super) async fn pull(tools: &Tools, work: &Work) -> Result<Done, Error> {
    let Some(image) = work.assigned()?.spec.image() else {
        return Ok(Done::Reached(Stage::Pulled));
    };
    let name = Reference::parse(&image.image)?;
    let policy = match image.force_pull {
        true => Policy::Always,
        false => Policy::IfAbsent,
    };
    tokio::select! {
        pulled = tools.images.pull(&name, policy, |_| {}) => {
            pulled?;
            Ok(Done::Reached(Stage::Pulled))
        }
        () = work.cancelled.cancelled() => Ok(Done::Cancelled),
    }
}
