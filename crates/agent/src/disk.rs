//! The state directory: what lies where, and how it is written so that a crash leaves the old or
//! the new and nothing between.
//!
//! ```text
//! identity/            certificate.pem key.pem authority.pem (written by `protocol`)
//! memory               model::session::Memory: cluster, node, epoch, incarnation, boot
//! assignment           the newest assignment obeyed, with its epoch
//! directory            the newest directory, with its epoch; may be stale or missing
//! images/              `image`'s store
//! netns/<id>           network namespaces of instances (bind mounts)
//! volumes/             `volume`'s pool and role files; absent until the first volume
//! instances/<id>/      `container`'s directory, `image`'s rootfs upper work, and ours:
//!     note             what the agent must know of it after its own death
//!     sandbox/         of a command task
//!     files/           hosts resolv.conf hostname, mounted into containers with an image
//!     anonymous/<n>    volumes that only the image declares
//! ```

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use model::session::{Kept, Memory};
use model::{Assignment, Directory, Exit, Health, InstanceId, Time};
use node::session::Remembered;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Error;

/// Where everything is.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    root: PathBuf,
}

/// What the agent must still know of an instance after its own death.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Note {
    /// The signal that asks it to end.
    pub stop_signal: i32,
    /// When its command was started.
    pub since: Option<Time>,
    /// When the stop signal was sent.
    pub stopping: Option<Time>,
    pub health: Health,
    /// It is over though its command never ran, so that no container of it says so.
    pub never_ran: Option<Exit>,
}

impl Default for Note {
    fn default() -> Self {
        Self {
            stop_signal: 15,
            since: None,
            stopping: None,
            health: Health::Unknown,
            never_ran: None,
        }
    }
}

/// Whether a power cut may bring the former content back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durable {
    Yes,
    No,
}

impl Disk {
    pub fn open(root: &Path) -> Result<Self, Error> {
        let disk = Self {
            root: root.to_owned(),
        };
        for dir in [root.to_owned(), disk.instances(), disk.namespaces()] {
            fs::create_dir_all(&dir).map_err(Error::file("create", &dir))?;
        }
        // Paths that are bound into containers must mean the same from everywhere.
        let root = fs::canonicalize(root).map_err(Error::file("find", root))?;
        Ok(Self { root })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn identity(&self) -> PathBuf {
        self.root.join("identity")
    }

    pub fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    pub fn namespaces(&self) -> PathBuf {
        self.root.join("netns")
    }

    pub fn namespace(&self, id: InstanceId) -> PathBuf {
        self.namespaces().join(id.to_string())
    }

    pub fn volumes(&self) -> PathBuf {
        self.root.join("volumes")
    }

    pub fn instances(&self) -> PathBuf {
        self.root.join("instances")
    }

    pub fn instance(&self, id: InstanceId) -> PathBuf {
        self.instances().join(id.to_string())
    }

    pub fn container(&self, id: InstanceId) -> container::Dir {
        container::Dir::new(self.instance(id))
    }

    /// What earlier agents remembered. A directory that cannot be read is forgotten: the master
    /// sends it again.
    pub fn remembered(&self) -> Result<Remembered, Error> {
        let directory: Kept<Directory> = match self.read("directory") {
            Ok(directory) => directory.unwrap_or_default(),
            Err(Error::Record { .. }) => Kept::default(),
            Err(error) => return Err(error),
        };
        Ok(Remembered {
            memory: self.read("memory")?.unwrap_or_default(),
            assignment: self.read("assignment")?.unwrap_or_default(),
            directory,
        })
    }

    pub fn keep_memory(&self, memory: &Memory) -> Result<(), Error> {
        put(&self.root.join("memory"), memory, Durable::Yes)
    }

    pub fn keep_assignment(&self, assignment: &Kept<Assignment>) -> Result<(), Error> {
        put(&self.root.join("assignment"), assignment, Durable::Yes)
    }

    pub fn keep_directory(&self, directory: &Kept<Directory>) -> Result<(), Error> {
        put(&self.root.join("directory"), directory, Durable::No)
    }

    pub fn note(&self, id: InstanceId) -> Note {
        let path = self.instance(id).join("note");
        let bytes = fs::read(path).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    /// Nothing of it is of use after a power cut.
    pub fn keep_note(&self, id: InstanceId, note: &Note) -> Result<(), Error> {
        put(&self.instance(id).join("note"), note, Durable::No)
    }

    /// The instances that have a directory.
    pub fn known_instances(&self) -> Result<Vec<InstanceId>, Error> {
        let path = self.instances();
        let read = || -> io::Result<Vec<InstanceId>> {
            let mut ids = Vec::new();
            for entry in fs::read_dir(&path)? {
                let name = entry?.file_name();
                match name.to_str().and_then(|name| name.parse().ok()) {
                    Some(id) => ids.push(id),
                    None => tracing::warn!("Left {name:?} in {} alone", path.display()),
                }
            }
            Ok(ids)
        };
        read().map_err(Error::file("list", &path))
    }

    /// The images that instances have mounted, or had until they are removed. Whatever is an
    /// instance's directory counts, known or not.
    pub fn mounted_images(&self) -> io::Result<BTreeSet<image::Digest>> {
        let mut images = BTreeSet::new();
        for entry in fs::read_dir(self.instances())? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                images.extend(image::mounted_image(&entry.path())?);
            }
        }
        Ok(images)
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Error> {
        let path = self.root.join(name);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|source| Error::Record { path, source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::file("read", &path)(source)),
        }
    }
}

/// Writes beside, syncs, renames, syncs the directory.
fn put<T: Serialize>(path: &Path, value: &T, durable: Durable) -> Result<(), Error> {
    let bytes = serde_json::to_vec(value).map_err(|source| Error::Record {
        path: path.to_owned(),
        source,
    })?;
    let beside = path.with_extension("tmp");
    let write = || -> io::Result<()> {
        let mut file = File::create(&beside)?;
        file.write_all(&bytes)?;
        if durable == Durable::Yes {
            file.sync_all()?;
        }
        fs::rename(&beside, path)?;
        match path.parent() {
            Some(parent) if durable == Durable::Yes => File::open(parent)?.sync_all(),
            _ => Ok(()),
        }
    };
    write().map_err(Error::file("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_remembered_and_a_broken_directory_is_forgotten() {
        let home = tempfile::tempdir().expect("a temporary directory");
        let disk = Disk::open(home.path()).expect("open");
        assert_eq!(disk.remembered().expect("empty"), Remembered::default());
        let memory = Memory {
            boot: "b".into(),
            ..Memory::default()
        };
        disk.keep_memory(&memory).expect("keep");
        let id = InstanceId { birth: 31, slot: 3 };
        let mut assignment = Kept::<Assignment>::default();
        assignment.whole.revision = model::Revision(7);
        disk.keep_assignment(&assignment).expect("keep");
        fs::write(disk.root().join("directory"), "{").expect("write");
        let remembered = disk.remembered().expect("read");
        assert_eq!(remembered.memory, memory);
        assert_eq!(remembered.assignment, assignment);
        assert_eq!(remembered.directory, Kept::default());
        // As agents kept it before it told of apps.
        let older = r#"{"epoch":2,"whole":{"revision":7,"nodes":{},"instances":{}}}"#;
        fs::write(disk.root().join("directory"), older).expect("write");
        let directory = disk.remembered().expect("read").directory;
        assert_eq!(directory.whole.revision, model::Revision(7));

        fs::create_dir(disk.instance(id)).expect("create");
        let note = Note {
            stopping: Some(Time(5)),
            ..Note::default()
        };
        disk.keep_note(id, &note).expect("keep");
        assert_eq!(disk.note(id), note);
        assert_eq!(disk.known_instances().expect("list"), vec![id]);
        fs::write(disk.root().join("memory"), "{").expect("write");
        assert!(matches!(disk.remembered(), Err(Error::Record { .. })));
    }
}
