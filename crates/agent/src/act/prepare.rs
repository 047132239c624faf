//! Makes an instance's directory and its sandbox, and mounts its root filesystem. A command task
//! has its node's root.

use std::fs;

use image::Reference;
use node::Stage;

use super::{Done, Error, Tools, Work, blocking};

pub(super) async fn prepare(tools: &Tools, work: &Work) -> Result<Done, Error> {
    let assigned = work.assigned()?;
    let dir = tools.disk.instance(work.id);
    let image = match assigned.spec.image() {
        None => None,
        Some(wanted) => {
            let name = Reference::parse(&wanted.image)?;
            let found = tools.images.store.hold(&name);
            Some(found.ok_or_else(|| Error::NoImage(name.short()))?)
        }
    };
    blocking(move || {
        let sandbox = dir.join("sandbox");
        fs::create_dir_all(&sandbox).map_err(Error::file("create", &sandbox))?;
        if let Some(image) = image {
            image::mount_root(&image, &dir)?;
        }
        Ok(Done::Reached(Stage::Rooted))
    })
    .await
}
