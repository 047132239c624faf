//! `docker.parameters`: what `docker run` options ask for, done natively.
//!
//! | done | accepted, with a warning | refused |
//! |---|---|---|
//! | hostname, volume, volume-driver, publish, env, label, user, workdir, entrypoint, cap-add, cap-drop, ulimit, memory, pids-limit, read-only, tmpfs, shm-size, stop-signal, stop-timeout, init=false, security-opt no-new-privileges | log-driver, log-opt | every other, by name |

use model::VolumeId;
use model::spec::{DockerOptions, Mount, MountSource, Parameter, Port, VolumeForm};

use super::{container, units};
use crate::fault::{Faults, did_you_mean};
use crate::shape;

const KNOWN: [&str; 23] = [
    "cap-add",
    "cap-drop",
    "entrypoint",
    "env",
    "hostname",
    "init",
    "label",
    "log-driver",
    "log-opt",
    "memory",
    "pids-limit",
    "publish",
    "read-only",
    "security-opt",
    "shm-size",
    "stop-signal",
    "stop-timeout",
    "tmpfs",
    "ulimit",
    "user",
    "volume",
    "volume-driver",
    "workdir",
];

/// Why `init=true` is refused.
const INIT: &str =
    "is not supported yet: process 1 of a container is the app itself; only init=false is";

/// What all the parameters of one container ask for.
#[derive(Default)]
pub(super) struct Asked {
    /// As they were given.
    pub(super) parameters: Vec<Parameter>,
    pub(super) options: DockerOptions,
    pub(super) mounts: Vec<Mount>,
    pub(super) published: Vec<Published>,
}

pub(super) struct Published {
    /// Of the parameter.
    pub(super) path: String,
    pub(super) port: Port,
}

pub(super) fn read(given: &[shape::Parameter], faults: &mut Faults) -> Asked {
    let mut asked = Asked::default();
    for (index, parameter) in given.iter().enumerate() {
        let path = format!("/container/docker/parameters({index})");
        let key = parameter.key.clone().unwrap_or_default();
        let value = parameter.value.clone().unwrap_or_default();
        let outcome = if value.contains('\0') {
            Err("must not contain a NUL character".to_owned())
        } else {
            asked.take(&path, &key, &value)
        };
        if let Err(fault) = outcome {
            faults.at(path, format!("docker parameter '{key}': {fault}"));
        }
        asked.parameters.push(Parameter { key, value });
    }
    asked
}

impl Asked {
    fn take(&mut self, path: &str, key: &str, value: &str) -> Result<(), String> {
        let options = &mut self.options;
        match key {
            "hostname" => options.hostname = Some(hostname(value)?),
            "user" => options.user = Some(present(value)?),
            "workdir" => {
                if value != "/" {
                    container::absolute(value)?;
                }
                options.workdir = Some(value.to_owned());
            }
            "entrypoint" => {
                let words = Some(value.to_owned()).filter(|word| !word.is_empty());
                options.entrypoint = Some(words.into_iter().collect());
            }
            "env" => options.env.extend([units::pair(value)?]),
            "label" if value.contains('=') => options.labels.extend([units::pair(value)?]),
            "label" => options.labels.extend([(present(value)?, String::new())]),
            "cap-add" => options.cap_add.push(units::capability(value)?),
            "cap-drop" => options.cap_drop.push(units::capability(value)?),
            "ulimit" => options.ulimits.push(units::ulimit(value)?),
            "memory" => options.memory = Some(memory(value)?),
            "pids-limit" => options.pids_limit = Some(units::pids(value)?),
            "read-only" => options.read_only = units::boolean(value)?,
            "tmpfs" => options.tmpfs.push(units::tmpfs(value)?),
            "shm-size" => options.shm_size = Some(units::bytes(value)?),
            "stop-signal" => options.stop_signal = Some(units::signal(value)?),
            "stop-timeout" => options.stop_timeout = Some(units::seconds(value)?),
            "init" if units::boolean(value)? => return Err(INIT.to_owned()),
            "init" => {}
            "security-opt" => options.no_new_privileges = Some(no_new_privileges(value)?),
            "log-driver" => options.log_driver = Some(present(value)?),
            "log-opt" => {
                if let (key, tag) = units::pair(value)?
                    && key == "tag"
                {
                    options.log_tag = Some(tag);
                }
            }
            // Every driver's volumes are ours here.
            "volume-driver" => drop(present(value)?),
            "volume" => self.mounts.push(volume(value)?),
            "publish" => self.published.push(Published {
                path: path.to_owned(),
                port: units::publish(value)?,
            }),
            _ => return Err(format!("is not supported{}", did_you_mean(key, KNOWN))),
        }
        Ok(())
    }
}

fn memory(value: &str) -> Result<u64, String> {
    let bytes = units::bytes(value)?;
    (bytes >= DockerOptions::MEMORY_MIN)
        .then_some(bytes)
        .ok_or_else(|| format!("'{value}' is too little: the minimum is 6m"))
}

fn present(value: &str) -> Result<String, String> {
    let given = Some(value.to_owned()).filter(|value| !value.is_empty());
    given.ok_or_else(|| "needs a value".to_owned())
}

fn hostname(value: &str) -> Result<String, String> {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let valid = value.len() <= 253 && value.split('.').all(label);
    let named = valid.then(|| value.to_owned());
    named.ok_or_else(|| format!("'{value}' is no host name"))
}

fn no_new_privileges(value: &str) -> Result<bool, String> {
    let (name, setting) = value.split_once(['=', ':']).unwrap_or((value, ""));
    if name != "no-new-privileges" {
        return Err(format!(
            "'{name}' is not supported; only no-new-privileges is"
        ));
    }
    units::boolean(setting)
}

/// `NAME:/path[:ro]` is a named volume, `/directory:/path[:ro]` a directory of the node.
fn volume(value: &str) -> Result<Mount, String> {
    let parts: Vec<&str> = value.split(':').collect();
    let (source, path, flags) = match parts.as_slice() {
        [source, path] => (*source, *path, ""),
        [source, path, flags] => (*source, *path, *flags),
        _ => {
            return Err(format!(
                "'{value}' is not of the form NAME:/path or /directory:/path, with :ro perhaps"
            ));
        }
    };
    container::absolute(path)?;
    let mut read_only = false;
    for flag in flags.split(',') {
        match flag {
            "ro" => read_only = true,
            // z and Z are SELinux's.
            "" | "rw" | "z" | "Z" | "nocopy" => {}
            other => {
                return Err(format!(
                    "option '{other}' of '{value}' is not supported; ro and rw are"
                ));
            }
        }
    }
    let source = if source.starts_with('/') {
        container::host_path(source)?
    } else {
        MountSource::Volume {
            volume: VolumeId::parse(source).map_err(|fault| fault.to_string())?,
            size: None,
            form: VolumeForm::Parameter,
        }
    };
    Ok(Mount {
        path: container::trimmed(path),
        source,
        read_only,
    })
}
