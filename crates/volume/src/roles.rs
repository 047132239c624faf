//! The role files: what this node's copy of each volume is, kept so that a crash cannot blur it.
//!
//! ```text
//! DIR/NAME.json      {"format":1,"generation":3,"role":"Sealed","move":7,"final":"move-7.final"}
//! ```
//!
//! They lie beside the pool, not in it: a pool that turned read-only must not keep a node from
//! sealing.
//!
//! **The more cautious role is persisted before the act, the less cautious one only on the
//! leader's word.** So `sealed` is on disk before the last snapshot is taken, `landing` before
//! the first byte is received, `kept` before a copy that others took over is touched; `landed`
//! only after the received data is on disk, `live` only when the leader ordered this generation.
//! Whoever reads the file after a crash may then trust the worst it can mean. The calls here
//! return only after file and directory are synced. An older generation than the file's is
//! refused; what else may follow what is judged in `node`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use model::ids::{Generation, MoveId, VolumeId};
use model::volume::{CopyRole, RoleFile, Snapshot};
use serde::{Deserialize, Serialize};

use crate::disk;
use crate::driver::SnapshotName;
use crate::error::{Doing, Error, Result};

const FORMAT: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    pub generation: Generation,
    pub role: CopyRole,
    /// The move in whose course it got this role.
    #[serde(rename = "move")]
    pub in_move: Option<MoveId>,
    /// The snapshot that this role is about: sealed with, landed, or kept.
    #[serde(rename = "final")]
    pub snapshot: Option<SnapshotName>,
}

impl Role {
    pub fn file(&self) -> RoleFile {
        RoleFile {
            generation: self.generation,
            role: self.role,
            movement: self.in_move,
            last: self
                .snapshot
                .as_ref()
                .and_then(|name| Snapshot::named(name.as_str())),
        }
    }
}

impl From<RoleFile> for Role {
    fn from(file: RoleFile) -> Self {
        Self {
            generation: file.generation,
            role: file.role,
            in_move: file.movement,
            snapshot: file.last.map(SnapshotName::from),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Record {
    format: u32,
    #[serde(flatten)]
    role: Role,
}

/// What is read before anything else of a record, whose rest may be newer than we are.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

pub struct Roles {
    dir: PathBuf,
}

impl Roles {
    pub fn open(dir: PathBuf) -> Result<Self> {
        disk::private_directory(&dir)?;
        disk::sync_parent(&dir)?;
        Ok(Self { dir })
    }

    /// On disk when it returns. Persisting the same again changes nothing.
    pub fn persist(&self, volume: &VolumeId, role: &Role) -> Result<()> {
        if let Some(known) = self.get(volume)? {
            if known.generation > role.generation {
                return Err(Error::Older {
                    volume: volume.clone(),
                    offered: role.generation,
                    known: known.generation,
                });
            }
            if known == *role {
                return Ok(());
            }
        }
        let path = self.path(volume);
        let record = Record {
            format: FORMAT,
            role: role.clone(),
        };
        let text = serde_json::to_vec(&record).map_err(|source| Error::RoleFile {
            path: path.clone(),
            source,
        })?;
        disk::replace(&path, &text)
    }

    pub fn get(&self, volume: &VolumeId) -> Result<Option<Role>> {
        let path = self.path(volume);
        match fs::read(&path) {
            Ok(text) => read(&path, &text).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).doing(|| format!("read {}", path.display())),
        }
    }

    /// All of them. One that cannot be understood fails all: a copy whose role is unknown must
    /// not be taken for one that has none.
    pub fn all(&self) -> Result<BTreeMap<VolumeId, Role>> {
        let action = || format!("list {}", self.dir.display());
        let mut roles = BTreeMap::new();
        for entry in fs::read_dir(&self.dir).doing(action)? {
            let name = entry.doing(action)?.file_name();
            let Some(volume) = name
                .to_str()
                .and_then(|name| name.strip_suffix(".json"))
                .and_then(|name| VolumeId::parse(name).ok())
            else {
                continue;
            };
            if let Some(role) = self.get(&volume)? {
                roles.insert(volume, role);
            }
        }
        Ok(roles)
    }

    /// After the last copy is gone.
    pub fn forget(&self, volume: &VolumeId) -> Result<()> {
        disk::delete(&self.path(volume))
    }

    fn path(&self, volume: &VolumeId) -> PathBuf {
        self.dir.join(format!("{volume}.json"))
    }
}

fn read(path: &Path, text: &[u8]) -> Result<Role> {
    let not_understood = |source| Error::RoleFile {
        path: path.to_owned(),
        source,
    };
    let Format { format } = serde_json::from_slice(text).map_err(not_understood)?;
    if format > FORMAT {
        return Err(Error::RoleFormat {
            path: path.to_owned(),
            format,
        });
    }
    let record: Record = serde_json::from_slice(text).map_err(not_understood)?;
    Ok(record.role)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(generation: u64) -> Role {
        Role {
            generation: Generation(generation),
            role: CopyRole::Sealed,
            in_move: Some(MoveId(7)),
            snapshot: Some(SnapshotName::parse("move-7.final").unwrap()),
        }
    }

    fn volume(name: &str) -> VolumeId {
        VolumeId::parse(name).unwrap()
    }

    #[test]
    fn roles_are_read_back_as_they_were_written() {
        let dir = tempfile::tempdir().unwrap();
        let roles = Roles::open(dir.path().join("roles")).unwrap();
        let live = Role::from(RoleFile::live(Generation(1)));
        roles.persist(&volume("pg"), &sealed(3)).unwrap();
        roles.persist(&volume("pg.json.new"), &live).unwrap();
        let again = Roles::open(dir.path().join("roles")).unwrap();
        assert_eq!(
            again.all().unwrap(),
            BTreeMap::from([(volume("pg"), sealed(3)), (volume("pg.json.new"), live)])
        );
        assert_eq!(
            fs::read_to_string(dir.path().join("roles/pg.json")).unwrap(),
            r#"{"format":1,"generation":3,"role":"Sealed","move":7,"final":"move-7.final"}"#
        );
        again.forget(&volume("pg")).unwrap();
        again.forget(&volume("pg")).unwrap();
        assert_eq!(again.get(&volume("pg")).unwrap(), None);
    }

    #[test]
    fn an_older_generation_is_refused_with_the_known_one() {
        let dir = tempfile::tempdir().unwrap();
        let roles = Roles::open(dir.path().to_owned()).unwrap();
        roles.persist(&volume("pg"), &sealed(3)).unwrap();
        let error = roles.persist(&volume("pg"), &sealed(2)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "volume pg: generation 2 is refused, this node has obeyed generation 3"
        );
        assert_eq!(roles.get(&volume("pg")).unwrap(), Some(sealed(3)));
    }

    #[test]
    fn what_a_crash_left_half_written_is_never_read() {
        let dir = tempfile::tempdir().unwrap();
        let roles = Roles::open(dir.path().to_owned()).unwrap();
        roles.persist(&volume("pg"), &sealed(3)).unwrap();
        fs::write(dir.path().join("pg.json.new"), "{\"form").unwrap();
        assert_eq!(roles.all().unwrap().len(), 1);
        roles.persist(&volume("pg"), &sealed(4)).unwrap();
        assert_eq!(roles.get(&volume("pg")).unwrap(), Some(sealed(4)));
    }

    #[test]
    fn a_damaged_or_newer_file_is_an_error_and_not_a_missing_role() {
        let dir = tempfile::tempdir().unwrap();
        let roles = Roles::open(dir.path().to_owned()).unwrap();
        fs::write(dir.path().join("pg.json"), "{}").unwrap();
        assert!(matches!(roles.all(), Err(Error::RoleFile { .. })));
        fs::write(dir.path().join("pg.json"), r#"{"format":2,"rank":1}"#).unwrap();
        assert!(matches!(
            roles.all(),
            Err(Error::RoleFormat { format: 2, .. })
        ));
    }
}
