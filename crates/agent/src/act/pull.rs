//! Has the image of an instance on this node. Given up when nobody wants it any more. Where the
//! disk has no room for it, images that nothing names make some.

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
    let images = &tools.images;
    let pulling = async {
        match images.store.pull(&name, policy, |_| {}).await {
            Err(error) if error.is_for_want_of_room() && images.make_room().await => {
                images.store.pull(&name, policy, |_| {}).await
            }
            pulled => pulled,
        }
    };
    tokio::select! {
        pulled = pulling => {
            pulled?;
            Ok(Done::Reached(Stage::Pulled))
        }
        () = work.cancelled.cancelled() => Ok(Done::Cancelled),
    }
}
