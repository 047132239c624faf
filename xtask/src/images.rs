//! `cargo xtask images`: the base images that the examples' Dockerfiles begin from, made of Debian
//! packages and pushed to the cluster's registry. The images themselves are built upon them by
//! `tandem build`, not here.
//!
//! Everything is kept by the hash of its recipe below the cache directory, so that a second run
//! finds it, and a run that was killed is gone on with.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use clap::Args;
use image::base::{self, Recipe};
use image::{Build, Builder};

#[derive(Args)]
pub struct Arguments {
    /// Registry to push to, spoken to in plain http
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:5000")]
    registry: String,
    /// Where made bases are kept
    #[arg(
        long,
        value_name = "DIR",
        env = "TANDEM_CACHE",
        default_value = "/var/cache/tandem"
    )]
    cache: PathBuf,
    /// Remove what is kept there instead
    #[arg(long, conflicts_with = "registry")]
    clear: bool,
}

/// A base image, `base/NAME:TAG`.
struct Base {
    name: &'static str,
    /// Raised with the recipe: who has pulled a tag does not ask for it again.
    tag: u32,
    recipe: Recipe,
}

/// What there is to begin from.
fn bases() -> [Base; 3] {
    let mut postgresql = Recipe::bookworm(["postgresql-15"]);
    // The just-in-time compiler is over half of the server's size, and the server runs without.
    let compiler = [
        "/usr/lib/*/libLLVM*",
        "/usr/lib/postgresql/15/lib/llvmjit*",
        "/usr/lib/postgresql/15/lib/bitcode/*",
    ];
    postgresql.exclude.extend(compiler.map(str::to_owned));
    [
        Base {
            name: "web",
            tag: 1,
            recipe: Recipe::bookworm(["nginx-light"]),
        },
        Base {
            name: "node",
            tag: 1,
            recipe: Recipe::bookworm(["nodejs", "node-pg"]),
        },
        Base {
            name: "postgresql",
            tag: 1,
            recipe: postgresql,
        },
    ]
}

/// Makes, keeps and pushes every base, side by side.
///
/// # Errors
/// When one of them cannot be made or pushed; the others may be there.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("start the runtime")?;
    let (made, builder) = (
        arguments.cache.join("bases"),
        arguments.cache.join("builder"),
    );
    let builder = Builder::new(&builder, &arguments.registry)?;
    if arguments.clear {
        runtime.block_on(builder.clear())?;
        return std::fs::remove_dir_all(&arguments.cache)
            .with_context(|| format!("remove {}", arguments.cache.display()));
    }
    let bases = bases();
    let provided = bases.iter().map(|base| base.provide(&made, &builder));
    let provided = runtime.block_on(futures::future::try_join_all(provided));
    runtime.block_on(builder.rest())?;
    provided.map(drop)
}

impl Base {
    /// The name in the registry.
    fn image(&self) -> String {
        format!("base/{}:{}", self.name, self.tag)
    }

    async fn provide(&self, made: &Path, builder: &Builder) -> anyhow::Result<()> {
        let start = Instant::now();
        let local = format!("tandem-{}-{}", self.name, self.recipe.hash());
        if !builder.has_base(&local).await? {
            eprintln!("{}: making it of {}", self.image(), self.packages());
            let tar = base::make(&self.recipe, made, |_| ()).await?;
            builder.import_base(&local, &tar).await?;
        }
        // A Dockerfile of one line gives the base its name in the registry.
        let context = made.join(format!("{local}.context"));
        std::fs::create_dir_all(&context)
            .and_then(|()| {
                std::fs::write(
                    context.join("Dockerfile"),
                    format!("FROM localhost/{local}\n"),
                )
            })
            .with_context(|| format!("write {}", context.display()))?;
        let build = Build {
            context: &context,
            tag: &self.image(),
            push: true,
        };
        let image = builder.build(&build, |_| ()).await?;
        eprintln!("{image}: there after {} s", start.elapsed().as_secs());
        Ok(())
    }

    fn packages(&self) -> String {
        self.recipe.packages.join(" and ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_recipe_has_a_new_tag() {
        let known = bases().map(|base| (base.image(), base.recipe.hash()));
        let expected = [
            ("base/web:1", "0375979fd2f6cfff6f0bc8ea1242364c"),
            ("base/node:1", "296230294435fc9329c37ee8425c0800"),
            ("base/postgresql:1", "c3ad7c86ba655e0693c6be86e8ec4418"),
        ];
        assert_eq!(
            known,
            expected.map(|(image, hash)| (image.to_owned(), hash.to_owned()))
        );
    }
}
