//! Settings: a flag wins over its environment variable, that over the file, that over the
//! default. One TOML file serves every role; a key that nobody knows is an error.
//!
//! What there is to set stands in `keys.rs`. This module reads no machine: defaults that depend
//! on it (host name, memory) are the roles'.

pub mod keys;
pub mod kinds;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::fault::{Doing, Exit, Fault, Result};
use crate::near::nearest;
use keys::{
    AgentGiven, GeneralGiven, Given, Key, LocalGiven, MasterGiven, NetworkGiven, RegistryGiven,
    VolumeGiven,
};

/// Read where no other file is named; it need not exist.
pub const FILE: &str = "/etc/tandem/tandem.toml";

/// Where the settings file is; part of every command that reads it.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ConfigFile {
    /// Settings file (TOML) [default: /etc/tandem/tandem.toml, if it exists]
    #[arg(
        long,
        env = "TANDEM_CONFIG",
        hide_env_values = true,
        value_name = "FILE"
    )]
    pub config: Option<PathBuf>,
}

/// What a settings file says.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct File {
    state_dir: Option<PathBuf>,
    log: Option<String>,
    pub master: MasterGiven,
    pub agent: AgentGiven,
    pub registry: RegistryGiven,
    pub volume: VolumeGiven,
    pub network: NetworkGiven,
    pub local: LocalGiven,
}

impl ConfigFile {
    pub fn read(&self) -> Result<File> {
        let path = self.config.as_deref().unwrap_or(Path::new(FILE));
        match std::fs::read_to_string(path) {
            Ok(text) => File::parse(&text, path),
            Err(error) if error.kind() == ErrorKind::NotFound && self.config.is_none() => {
                Ok(File::default())
            }
            Err(error) => Err(error)
                .doing(|| format!("read settings {}", path.display()))
                .exit(Exit::Usage),
        }
    }

    /// The named file as a path that holds in any directory.
    pub fn absolute(&self) -> Result<Option<PathBuf>> {
        let whole = self.config.as_deref().map(std::path::absolute).transpose();
        whole.doing(|| "find the settings file".into())
    }
}

impl File {
    /// `path` is for messages.
    fn parse(text: &str, path: &Path) -> Result<File> {
        let reading = || format!("read settings {}", path.display());
        let table: toml::Table = toml::from_str(text).doing(reading).exit(Exit::Usage)?;
        check_keys(&table, path)?;
        toml::from_str(text).doing(reading).exit(Exit::Usage)
    }

    pub fn general(&self) -> GeneralGiven {
        GeneralGiven {
            state_dir: self.state_dir.clone(),
            log: self.log.clone(),
        }
    }
}

fn all_keys() -> Vec<Key> {
    [
        GeneralGiven::keys(),
        MasterGiven::keys(),
        AgentGiven::keys(),
        RegistryGiven::keys(),
        VolumeGiven::keys(),
        NetworkGiven::keys(),
        LocalGiven::keys(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Refuses the first key that nobody knows.
fn check_keys(table: &toml::Table, path: &Path) -> Result<()> {
    let keys = all_keys();
    let known: Vec<String> = keys.iter().map(full_name).collect();
    let sections: Vec<&str> = keys.iter().map(|key| key.section).collect();
    let mut found = Vec::new();
    for (name, value) in table {
        match value.as_table() {
            Some(section) if sections.contains(&name.as_str()) => {
                found.extend(section.keys().map(|key| format!("{name}.{key}")));
            }
            _ => found.push(name.clone()),
        }
    }
    match found.into_iter().find(|name| !known.contains(name)) {
        None => Ok(()),
        Some(unknown) => {
            let said = format!(
                "read settings {}: no key is called `{unknown}`",
                path.display()
            );
            let fault = Fault::new(Exit::Usage, said);
            let names = known.iter().map(String::as_str).chain(sections);
            Err(match nearest(&unknown, names) {
                Some(near) => fault.hint(format!("did you mean `{near}`?")),
                None => fault.hint("`tandem config default` prints every key"),
            })
        }
    }
}

fn full_name(key: &Key) -> String {
    match key.section {
        "" => key.name.to_owned(),
        section => format!("{section}.{}", key.name),
    }
}

/// Every key with its default, commented out: what `tandem config default` prints.
pub fn default_file() -> String {
    let mut text = String::from(
        "# Settings of Tandem. Every key is also a flag and an environment variable: see\n\
         # `tandem master --help`, `tandem agent --help` and `tandem up --help`.\n",
    );
    let mut section = "";
    for key in all_keys() {
        if key.section != section {
            section = key.section;
            text.push_str(&format!("\n[{section}]\n"));
        } else {
            text.push('\n');
        }
        for line in key.about {
            text.push_str(&format!("#{line}\n"));
        }
        let default = key.default.map(|value| format!(" {value}"));
        text.push_str(&format!("#{} ={}\n", key.name, default.unwrap_or_default()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use keys::General;

    fn parse(text: &str) -> Result<File> {
        File::parse(text, Path::new("tandem.toml"))
    }

    /// Every key that has a default, active.
    fn uncommented() -> String {
        default_file()
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(key) if !key.starts_with(' ') && !key.ends_with('=') => format!("{key}\n"),
                _ => format!("{line}\n"),
            })
            .collect()
    }

    #[test]
    fn the_printed_defaults_are_the_defaults() {
        let text = uncommented();
        let file = parse(&text).unwrap();
        assert_ne!(file, File::default());
        assert_eq!(file.general().settle(), GeneralGiven::default().settle());
        assert_eq!(file.master.settle(), MasterGiven::default().settle());
        assert_eq!(file.agent.settle(), AgentGiven::default().settle());
        assert_eq!(file.registry.settle(), RegistryGiven::default().settle());
        assert_eq!(file.volume.settle(), VolumeGiven::default().settle());
        assert_eq!(file.network.settle(), NetworkGiven::default().settle());
        assert_eq!(file.local.settle(), LocalGiven::default().settle());
        let active = text
            .lines()
            .filter(|line| line.contains(" = ") && !line.starts_with('#'));
        let with_default = all_keys().into_iter().filter(|key| key.default.is_some());
        assert_eq!(active.count(), with_default.count());
    }

    #[test]
    fn as_printed_the_file_sets_nothing() {
        assert_eq!(parse(&default_file()), Ok(File::default()));
    }

    #[test]
    fn the_default_file_reads_well() {
        insta::assert_snapshot!(default_file());
    }

    #[test]
    fn a_flag_wins_over_the_file_and_that_over_the_default() {
        let file = parse("state_dir = '/file'\nlog = 'debug'").unwrap();
        let flags = GeneralGiven {
            state_dir: Some("/flag".into()),
            log: None,
        };
        let expected = General {
            state_dir: "/flag".into(),
            log: "debug".into(),
        };
        assert_eq!(flags.or(file.general()).settle(), expected);
        assert_eq!(GeneralGiven::default().settle().log, "info");
    }

    #[test]
    fn an_unknown_key_is_named_with_the_nearest_one() {
        let fault = parse("[master]\nlisten = '0.0.0.0:1'\nnode_timout = 3").unwrap_err();
        let expected = "error: read settings tandem.toml: no key is called `master.node_timout`\n\
                        hint: did you mean `master.node_timeout`?";
        assert_eq!((fault.text().as_str(), fault.exit), (expected, Exit::Usage));
        let fault = parse("[mastr]\nlisten = '0.0.0.0:1'").unwrap_err();
        assert!(
            fault.text().ends_with("did you mean `master`?"),
            "{}",
            fault.text()
        );
    }

    #[test]
    fn a_wrong_value_is_shown_where_it_stands() {
        let text = parse("[agent]\nports = '9-1'").unwrap_err().text();
        assert!(text.contains("line 2"), "{text}");
        assert!(text.contains("`9-1` is no range of ports"), "{text}");
    }

    #[test]
    fn a_named_file_must_exist() {
        let absent = ConfigFile {
            config: Some("/nonexistent/tandem.toml".into()),
        };
        assert_eq!(absent.read().unwrap_err().exit, Exit::Usage);
    }
}
