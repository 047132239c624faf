//! Building: drives buildah, in a store of its own, without a daemon. What a
//! Dockerfile's steps do is buildah's; which registry they may take from and push
//! to in plain http is said here.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use tokio::process::Command;

use crate::child::{self, Tool};
use crate::layout;
use crate::lock;
use crate::manifest::ImageConfig;
use crate::reference::{NotAnImage, Reference};
use crate::trash;

const BUILDAH: Tool = Tool {
    name: "buildah",
    package: "buildah",
};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("build {context}: {reason}")]
    Context {
        context: PathBuf,
        reason: &'static str,
    },
    #[error("build {context}: step {step} failed: {words}")]
    Step {
        context: PathBuf,
        step: String,
        words: String,
    },
    #[error("build {context}")]
    Build {
        context: PathBuf,
        source: child::Error,
    },
    #[error("push {image}")]
    Push { image: String, source: child::Error },
    #[error("import {name} into the local images")]
    Import { name: String, source: child::Error },
    #[error("the builder's images in {dir} cannot be removed")]
    Clear { dir: PathBuf, source: child::Error },
    #[error(transparent)]
    Name(#[from] NotAnImage),
    #[error("the builder's directory {dir} cannot be used")]
    Disk { dir: PathBuf, source: io::Error },
}

/// What to build.
pub struct Build<'a> {
    /// Directory with a `Dockerfile` or `Containerfile`.
    pub context: &'a Path,
    /// The image's name; without a host it is the cluster registry's.
    pub tag: &'a str,
    pub push: bool,
}

/// buildah with a store below `dir`, beside any other that the machine has.
pub struct Builder {
    dir: PathBuf,
    registry: String,
    /// Shared by everybody who builds here; alone only while the store is put to rest.
    users: fs::File,
}

impl Builder {
    /// `registry` is the cluster's, `host:port`, spoken to in plain http.
    pub fn new(dir: &Path, registry: &str) -> Result<Builder, Error> {
        let disk = |source| Error::Disk {
            dir: dir.to_owned(),
            source,
        };
        fs::create_dir_all(dir).map_err(disk)?;
        let users = fs::File::create(dir.join("users.lock")).map_err(disk)?;
        users.lock_shared().map_err(disk)?;
        let builder = Builder {
            dir: fs::canonicalize(dir).map_err(disk)?,
            registry: registry.to_owned(),
            users,
        };
        fs::write(builder.registries_conf(), registries(registry)).map_err(disk)?;
        Ok(builder)
    }

    /// Builds, tags and if wanted pushes; every line that buildah says goes to
    /// `on_line`. Returns the image's whole name. Dropping the future ends buildah.
    pub async fn build(
        &self,
        build: &Build<'_>,
        mut on_line: impl FnMut(&str),
    ) -> Result<String, Error> {
        let context = build.context.to_owned();
        if !["Dockerfile", "Containerfile"]
            .iter()
            .any(|file| context.join(file).is_file())
        {
            return Err(Error::Context {
                context,
                reason: "there is no Dockerfile",
            });
        }
        let image = self.full_name(build.tag)?;
        let mut step = None;
        let mut command = self.buildah();
        command
            .args([
                "build",
                "--isolation",
                "chroot",
                "--network",
                "host",
                "--format",
                "oci",
                "--tag",
                &image,
            ])
            .arg(&context);
        let built = child::run(BUILDAH, &mut command, |line| {
            if let Some(begun) = line.strip_prefix("STEP ") {
                step = Some(begun.to_owned());
            }
            on_line(line);
        });
        let built = built.await;
        built.map_err(|source| match (source, step) {
            (child::Error::Failed { said, .. }, Some(step)) => Error::Step {
                context,
                step,
                words: last_words(&said),
            },
            (source, _) => Error::Build { context, source },
        })?;
        if build.push {
            self.push(&image, on_line).await?;
        }
        Ok(image)
    }

    /// Pushes an image of the local store to where its name says.
    pub async fn push(&self, image: &str, on_line: impl FnMut(&str)) -> Result<(), Error> {
        let mut command = self.buildah();
        command.arg("push");
        if image.split('/').next() == Some(&self.registry) {
            command.arg("--tls-verify=false");
        }
        command.arg(image).arg(format!("docker://{image}"));
        child::run(BUILDAH, &mut command, on_line)
            .await
            .map(drop)
            .map_err(|source| Error::Push {
                image: image.to_owned(),
                source,
            })
    }

    /// Whether `localhost/NAME:latest` is among the local images.
    pub async fn has_base(&self, name: &str) -> Result<bool, Error> {
        let mut images = self.buildah();
        images.args(["images", "--format", "{{.Name}}:{{.Tag}}"]);
        let wanted = format!("localhost/{name}:latest");
        let mut found = false;
        let listed = child::run(BUILDAH, &mut images, |line| found |= line == wanted).await;
        listed.map_err(|source| Error::Import {
            name: name.to_owned(),
            source,
        })?;
        Ok(found)
    }

    /// Makes a tar of a root filesystem the local image `localhost/NAME:latest`, for
    /// Dockerfiles to begin from. Of an import that was killed the next one with that
    /// name leaves nothing.
    pub async fn import_base(&self, name: &str, tar: &Path) -> Result<(), Error> {
        if Reference::parse(&format!("localhost/{name}"))?.repository() != name {
            let reason = "a base has no tag";
            return Err(Error::Name(NotAnImage {
                text: name.to_owned(),
                reason,
            }));
        }
        let disk = |source| Error::Disk {
            dir: self.dir.clone(),
            source,
        };
        let room = self.dir.join(format!("import-{}", name.replace('/', "-")));
        let _alone = lock::alone(room.with_extension("lock"))
            .await
            .map_err(disk)?;
        trash::remove(&room).map_err(disk)?;
        let (layout, tar) = (room.join(name), tar.to_owned());
        let write = move || layout::write(&layout, "base", &tar, &ImageConfig::default());
        let written = tokio::task::spawn_blocking(write)
            .await
            .map_err(io::Error::other);
        let imported = match written.and_then(|written| written) {
            Ok(_) => self.pull_layout(name, &room).await,
            Err(source) => Err(disk(source)),
        };
        trash::remove(&room).map_err(disk)?;
        imported
    }

    /// buildah names the image after the layout's path, as written: hence the
    /// working directory.
    async fn pull_layout(&self, name: &str, room: &Path) -> Result<(), Error> {
        let mut pull = self.buildah();
        pull.args(["pull", "--quiet", &format!("oci:{name}:base")])
            .current_dir(room);
        let pulled = child::run(BUILDAH, &mut pull, |_| ()).await;
        pulled.map(drop).map_err(|source| Error::Import {
            name: name.to_owned(),
            source,
        })
    }

    /// Removes what builds leave behind, their working containers and mounts; images stay, so
    /// that the next build is quick. Does nothing while somebody else builds here, who will.
    pub async fn rest(self) -> Result<(), Error> {
        match rustix::fs::flock(&self.users, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => self.tidy(&[&["rm", "--all"]]).await,
            Err(_) => Ok(()),
        }
    }

    /// Removes this builder's images and its mounts, so that `dir` can be deleted.
    pub async fn clear(&self) -> Result<(), Error> {
        self.tidy(&[&["rm", "--all"], &["rmi", "--all", "--force"]])
            .await
    }

    async fn tidy(&self, commands: &[&[&str]]) -> Result<(), Error> {
        for words in commands {
            child::run(BUILDAH, self.buildah().args(*words), |_| ())
                .await
                .map_err(|source| Error::Clear {
                    dir: self.dir.clone(),
                    source,
                })?;
        }
        // buildah leaves its store mounted on itself.
        let overlay = self.dir.join("storage/overlay");
        while rustix::mount::unmount(&overlay, rustix::mount::UnmountFlags::DETACH).is_ok() {}
        Ok(())
    }

    fn full_name(&self, tag: &str) -> Result<String, Error> {
        let name = Reference::parse(tag)?;
        Ok(match name.host() {
            "docker.io" => format!("{}/{}", self.registry, name.short()),
            _ => name.to_string(),
        })
    }

    fn buildah(&self) -> Command {
        let mut command = Command::new(BUILDAH.name);
        command
            .env("CONTAINERS_REGISTRIES_CONF", self.registries_conf())
            .arg("--root")
            .arg(self.dir.join("storage"))
            .arg("--runroot")
            .arg(self.dir.join("run"))
            .args(["--storage-driver", "overlay"]);
        command
    }

    fn registries_conf(&self) -> PathBuf {
        self.dir.join("registries.conf")
    }
}

/// Plain http for the cluster's registry and no other; short names are its own.
fn registries(cluster: &str) -> String {
    format!(
        "unqualified-search-registries = [\"{cluster}\"]\nshort-name-mode = \"disabled\"\n\n\
         [[registry]]\nlocation = \"{cluster}\"\ninsecure = true\n"
    )
}

fn last_words(said: &[String]) -> String {
    let error = said
        .iter()
        .rev()
        .find(|line| line.to_lowercase().starts_with("error"));
    let words = error
        .or(said.last())
        .map_or("it said nothing", String::as_str);
    words
        .trim_start_matches("Error: ")
        .trim_start_matches("error: ")
        .to_owned()
}
