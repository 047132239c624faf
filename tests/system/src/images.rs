//! Small images under the very names that the wild app definitions use, and the database of the
//! examples, built by `image` on bases of this machine's own programs (`roots`): a few seconds and
//! no package to fetch. What they do is in their directories below `tests/system/images` and
//! `examples`; nothing here runs them.

use std::fs;
use std::path::Path;

use anyhow::Context;
use image::{Build, Builder};

use crate::roots;

/// A directory below `tests/system/images`, and the name that its image is pushed under.
pub const IMAGES: [(&str, &str); 7] = [
    ("mongo", "mongo"),
    ("todo", "binocarlos/powerstrip-mesosphere-demo:latest"),
    ("interfaces", "binocarlos/powerstrip-weave-example:latest"),
    // Asked for as `192.168.58.201:5000/myapp:latest`, which a mirror setting maps to this.
    ("myapp", "myapp:latest"),
    ("mongo", "application/db/mongo:1"),
    ("todo", "application/app/nodeapp:1"),
    ("nginx", "application/web/nginx:1"),
];

/// Which images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Set {
    /// [`IMAGES`], and their base `base/tiny:1`.
    Wild,
    /// `base/tiny:1`, which has Redis, and PostgreSQL as `shop/db:1`.
    Databases,
}

/// Builds the images in `room`, a directory of the caller's, and pushes them to the registry at
/// `HOST:PORT`. Afterwards the builder holds nothing in `room` that is still mounted.
///
/// # Errors
/// When a program that they are made of is not installed, or buildah fails.
pub async fn push(set: Set, room: &Path, registry: &str) -> anyhow::Result<()> {
    let builder = Builder::new(&room.join("builder"), registry)?;
    let pushed = push_with(set, &builder, room).await;
    builder.clear().await?;
    pushed
}

async fn push_with(set: Set, builder: &Builder, room: &Path) -> anyhow::Result<()> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    base(builder, room, "base/tiny:1", roots::tiny).await?;
    match set {
        Set::Wild => {
            for (directory, name) in IMAGES {
                build(builder, &own.join("images").join(directory), name).await?;
            }
            Ok(())
        }
        Set::Databases => {
            base(builder, room, "base/postgresql:1", roots::postgresql).await?;
            build(builder, &own.join("../../examples/shop/db"), "shop/db:1").await
        }
    }
}

async fn base(
    builder: &Builder,
    room: &Path,
    tag: &str,
    make: fn(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let context = room.join(tag.replace(['/', ':'], "-"));
    make(&context.join("root"))?;
    fs::write(context.join("Dockerfile"), "FROM scratch\nCOPY root /\n")?;
    build(builder, &context, tag).await
}

async fn build(builder: &Builder, context: &Path, tag: &str) -> anyhow::Result<()> {
    let build = Build {
        context,
        tag,
        push: true,
    };
    let built = builder.build(&build, |_| ()).await;
    built
        .map(drop)
        .with_context(|| format!("make the image {tag}"))
}
