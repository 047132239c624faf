//! Writes an OCI layout around one tar file: the form in which buildah and skopeo
//! take an image that no registry has. The tar becomes the only layer, as it is.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use serde_json::{Value, json};

use crate::digest::{Digest, Hashing};
use crate::manifest::{Descriptor, ImageConfig, Platform};

/// Makes `dir` an OCI layout that holds `tar` under `tag`; returns the image's id.
pub fn write(dir: &Path, tag: &str, tar: &Path, config: &ImageConfig) -> io::Result<Digest> {
    let blobs = dir.join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    let mut reader = Hashing::new(File::open(tar)?);
    let unnamed = blobs.join("layer");
    let size = io::copy(&mut reader, &mut File::create(&unnamed)?)?;
    let (layer, _) = reader.finish();
    fs::rename(unnamed, blobs.join(layer.hex()))?;
    let layer = Descriptor {
        media_type: "application/vnd.oci.image.layer.v1.tar".into(),
        digest: layer,
        size,
        platform: None,
    };

    let Platform {
        os, architecture, ..
    } = Platform::here();
    let config = json!({
        "os": os, "architecture": architecture, "config": config,
        "rootfs": { "type": "layers", "diff_ids": [&layer.digest] },
    });
    let config = write_blob(&blobs, "application/vnd.oci.image.config.v1+json", &config)?;
    let manifest_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({ "schemaVersion": 2, "mediaType": manifest_type, "config": &config, "layers": [layer] });
    let manifest = write_blob(&blobs, manifest_type, &manifest)?;
    let mut entry = serde_json::to_value(manifest)?;
    entry["annotations"] = json!({ "org.opencontainers.image.ref.name": tag });
    fs::write(
        dir.join("index.json"),
        json!({ "schemaVersion": 2, "manifests": [entry] }).to_string(),
    )?;
    fs::write(
        dir.join("oci-layout"),
        json!({ "imageLayoutVersion": "1.0.0" }).to_string(),
    )?;
    Ok(config.digest)
}

fn write_blob(blobs: &Path, media_type: &str, value: &Value) -> io::Result<Descriptor> {
    let bytes = value.to_string().into_bytes();
    let digest = Digest::of(&bytes);
    fs::write(blobs.join(digest.hex()), &bytes)?;
    Ok(Descriptor {
        media_type: media_type.to_owned(),
        digest,
        size: bytes.len() as u64,
        platform: None,
    })
}
