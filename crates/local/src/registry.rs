//! The cluster's image registry: Debian's `docker-registry`, twice, because it
//! listens on one address only. Both serve one directory and sign with one
//! secret; neither caches which blobs exist, as the other may delete them.

use crate::error::{Doing, Result};
use crate::options::{Options, Program};
use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// One of the two, by the address it listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Registry {
    pub(crate) name: &'static str,
    pub(crate) listen: SocketAddrV4,
}

/// Where they listen: never on all addresses.
pub(crate) fn both(options: &Options) -> [Registry; 2] {
    let at = |address| SocketAddrV4::new(address, options.ports.registry);
    [
        Registry {
            name: "registry",
            listen: at(options.machine.address),
        },
        Registry {
            name: "registry-loopback",
            listen: at(Ipv4Addr::LOCALHOST),
        },
    ]
}

/// Writes the configuration and says how to start it.
pub(crate) fn prepare(options: &Options, registry: Registry) -> Result<Program> {
    let storage = options.state_dir.join("registry");
    fs::create_dir_all(&storage).doing(|| format!("create {}", storage.display()))?;
    let secret = secret(&options.state_dir.join("registry.secret"))?;
    let file = options.state_dir.join(format!("{}.yml", registry.name));
    write_private(&file, &config(&storage, registry.listen, &secret))?;
    Ok(Program::new([
        "docker-registry",
        "serve",
        &file.display().to_string(),
    ]))
}

/// The configuration file. JSON strings are YAML strings, with every escape.
fn config(storage: &Path, listen: SocketAddrV4, secret: &str) -> String {
    let directory = serde_json::Value::from(storage.display().to_string());
    format!(
        "version: 0.1
log:
  level: warn
  accesslog:
    disabled: true
storage:
  filesystem:
    rootdirectory: {directory}
  delete:
    enabled: true
http:
  addr: {listen}
  secret: {secret}
"
    )
}

/// Made once, so that an upload begun before a restart can be finished after it.
fn secret(file: &Path) -> Result<String> {
    let kept = fs::read_to_string(file).unwrap_or_default();
    if kept.len() == 64 {
        return Ok(kept);
    }
    let mut bytes = [0; 32];
    let random =
        fs::File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut bytes));
    random.doing(|| "read /dev/urandom".into())?;
    let secret: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    write_private(file, &secret)?;
    Ok(secret)
}

/// Replaces a file, readable by root alone, in one step.
pub(crate) fn write_private(file: &Path, text: &str) -> Result<()> {
    let aside = PathBuf::from(format!("{}.new", file.display()));
    let write = || {
        let mut options = fs::File::options();
        let mut new = options
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&aside)?;
        std::io::Write::write_all(&mut new, text.as_bytes())?;
        new.sync_all()?;
        fs::rename(&aside, file)
    };
    write().doing(|| format!("write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_what_docker_registry_reads() {
        let listen = SocketAddrV4::new(Ipv4Addr::new(10, 0, 15, 10), 5000);
        let expected = r#"version: 0.1
log:
  level: warn
  accesslog:
    disabled: true
storage:
  filesystem:
    rootdirectory: "/var/lib/tandem/registry"
  delete:
    enabled: true
http:
  addr: 10.0.15.10:5000
  secret: 00ff
"#;
        assert_eq!(
            config(Path::new("/var/lib/tandem/registry"), listen, "00ff"),
            expected
        );
    }
}
