//! What registries say about an image: index, manifest, configuration, in the
//! OCI and the Docker spelling, which differ only in their media types. Reads
//! just the fields that are used, and is lenient about all others.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::digest::Digest;

/// The `Accept` header of every manifest request.
pub(crate) const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json";

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    pub os: String,
    pub architecture: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// A document under a tag: one image, or a choice of them.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Document {
    Manifest(Manifest),
    Index { manifests: Vec<Descriptor> },
}

#[derive(Debug, Deserialize)]
pub(crate) struct Manifest {
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
}

/// The configuration blob.
#[derive(Debug, Deserialize)]
pub(crate) struct Configuration {
    #[serde(default, deserialize_with = "null_is_default")]
    pub config: ImageConfig,
    pub rootfs: RootFs,
}

#[derive(Debug, Deserialize)]
pub(crate) struct RootFs {
    #[serde(default, deserialize_with = "null_is_default")]
    pub diff_ids: Vec<Digest>,
}

/// The part of an image's configuration that says how to run it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageConfig {
    #[serde(deserialize_with = "null_is_default")]
    pub user: String,
    /// `KEY=value` each.
    #[serde(deserialize_with = "null_is_default")]
    pub env: Vec<String>,
    #[serde(deserialize_with = "null_is_default")]
    pub entrypoint: Vec<String>,
    #[serde(deserialize_with = "null_is_default")]
    pub cmd: Vec<String>,
    #[serde(deserialize_with = "null_is_default")]
    pub working_dir: String,
    #[serde(deserialize_with = "null_is_default")]
    pub volumes: BTreeMap<String, Nothing>,
    /// `80/tcp` each.
    #[serde(deserialize_with = "null_is_default")]
    pub exposed_ports: BTreeMap<String, Nothing>,
    #[serde(deserialize_with = "null_is_default")]
    pub labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "null_is_default")]
    pub stop_signal: String,
}

/// The empty object that stands as value in sets written as JSON objects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Nothing {}

fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl Platform {
    /// This machine's, in the registries' words.
    pub fn here() -> Platform {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "aarch64" => ("arm64", Some("v8")),
            "arm" => ("arm", Some("v7")),
            "x86" => ("386", None),
            "powerpc64" => ("ppc64le", None),
            other => (other, None),
        };
        Platform {
            os: "linux".into(),
            architecture: architecture.into(),
            variant: variant.map(str::to_owned),
        }
    }

    /// Chooses from an index: the exact variant if offered, else one without a
    /// variant, else the first of the same architecture.
    pub(crate) fn choose<'a>(&self, offered: &'a [Descriptor]) -> Option<&'a Descriptor> {
        let fits = |descriptor: &&Descriptor| {
            descriptor
                .platform
                .as_ref()
                .is_some_and(|p| p.os == self.os && p.architecture == self.architecture)
        };
        let variant =
            |descriptor: &&Descriptor| descriptor.platform.as_ref().and_then(|p| p.variant.clone());
        let fitting = || offered.iter().filter(fits);
        fitting()
            .find(|d| variant(d) == self.variant)
            .or_else(|| fitting().find(|d| variant(d).is_none()))
            .or_else(|| fitting().next())
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant
            .iter()
            .try_for_each(|variant| write!(f, "/{variant}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(architecture: &str, variant: Option<&str>) -> Descriptor {
        let platform = Platform {
            os: "linux".into(),
            architecture: architecture.into(),
            variant: variant.map(str::to_owned),
        };
        Descriptor {
            media_type: String::new(),
            digest: Digest::of(format!("{platform}").as_bytes()),
            size: 1,
            platform: Some(platform),
        }
    }

    #[test]
    fn the_platform_decides_what_an_index_means() {
        let arm = Platform {
            os: "linux".into(),
            architecture: "arm".into(),
            variant: Some("v7".into()),
        };
        let offered = [
            offer("amd64", None),
            offer("arm", Some("v5")),
            offer("arm", Some("v7")),
            offer("unknown", None),
        ];
        assert_eq!(arm.choose(&offered).unwrap().digest, offered[2].digest);
        assert_eq!(arm.choose(&offered[..2]).unwrap().digest, offered[1].digest);
        assert!(arm.choose(&offered[..1]).is_none());
    }

    #[test]
    fn nulls_and_unknown_fields_of_old_images_are_read() {
        let text = r#"{"architecture":"amd64","os":"linux","container_config":{"Cmd":1},"history":null,
            "config":{"User":"","Env":null,"Cmd":["/bin/sh"],"Volumes":{"/data":{}},"Entrypoint":null,"OnBuild":null,"Healthcheck":{"Test":["NONE"]}},
            "rootfs":{"type":"layers","diff_ids":null}}"#;
        let configuration: Configuration = serde_json::from_str(text).unwrap();
        assert_eq!(configuration.config.cmd, ["/bin/sh"]);
        assert!(configuration.config.volumes.contains_key("/data"));
        let none: Configuration = serde_json::from_str(r#"{"config":null,"rootfs":{}}"#).unwrap();
        assert_eq!(none.config, ImageConfig::default());
    }
}
