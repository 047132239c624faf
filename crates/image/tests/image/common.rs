//! A real registry on a loopback port, and images made by hand and pushed there.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use image::{Digest, Image, Policy, Reference, Registries, Store, mount_root, unmount_root};
use serde_json::json;

/// Whether this test can mount and make devices; says so if not.
pub fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("skipped: needs root");
    }
    root
}

pub struct Registry {
    pub room: tempfile::TempDir,
    pub address: String,
    child: Child,
}

impl Registry {
    pub fn start() -> Registry {
        let room = tempfile::tempdir().unwrap();
        for _ in 0..20 {
            let address = TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap()
                .to_string();
            let mut child = serve(room.path(), &address);
            let patience = Instant::now() + Duration::from_secs(30);
            while Instant::now() < patience && child.try_wait().unwrap().is_none() {
                if TcpStream::connect(&address).is_ok() && child.try_wait().unwrap().is_none() {
                    return Registry {
                        room,
                        address,
                        child,
                    };
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            child.kill().ok();
            child.wait().unwrap();
        }
        panic!("docker-registry does not come up");
    }

    pub fn registries(&self) -> Registries {
        Registries {
            cluster: Some(self.address.clone()),
            mirrors: BTreeMap::new(),
        }
    }

    /// The file in which the registry keeps a blob.
    pub fn blob_path(&self, digest: &str) -> PathBuf {
        let hex = digest.trim_start_matches("sha256:");
        self.room.path().join(format!(
            "data/docker/registry/v2/blobs/sha256/{}/{hex}/data",
            &hex[..2]
        ))
    }

    /// Pushes an image of these layers; returns its manifest.
    pub fn push(
        &self,
        name: &str,
        layers: &[Vec<u8>],
        config: serde_json::Value,
    ) -> serde_json::Value {
        let dir = self
            .room
            .path()
            .join(format!("layout-{}", name.replace(['/', ':'], "-")));
        write_layout(&dir, layers, config);
        run(Command::new("skopeo")
            .args([
                "copy",
                "--quiet",
                "--insecure-policy",
                "--dest-tls-verify=false",
            ])
            .arg(format!("oci:{}:x", dir.display()))
            .arg(format!("docker://{}/{name}", self.address)));
        let raw = run(Command::new("skopeo")
            .args(["inspect", "--raw", "--tls-verify=false"])
            .arg(format!("docker://{}/{name}", self.address)));
        serde_json::from_str(&raw).unwrap()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn serve(room: &Path, address: &str) -> Child {
    let config = room.join("config.yml");
    let text = format!(
        "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\nhttp: {{addr: \"{address}\", secret: x}}\n",
        room.join("data").display()
    );
    fs::write(&config, text).unwrap();
    Command::new("docker-registry")
        .arg("serve")
        .arg(config)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn write_layout(dir: &Path, layers: &[Vec<u8>], config: serde_json::Value) {
    let blobs = dir.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let blob = |kind: &str, bytes: &[u8]| {
        let digest = Digest::of(bytes);
        fs::write(blobs.join(digest.hex()), bytes).unwrap();
        json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest, "size": bytes.len()})
    };
    let diff_ids: Vec<Digest> = layers
        .iter()
        .map(|layer| Digest::of(&inflate(layer)))
        .collect();
    let described: Vec<_> = layers
        .iter()
        .map(|layer| blob(layer_kind(layer), layer))
        .collect();
    let config = json!({"os": "linux", "architecture": "amd64", "config": config, "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    let config = blob("config.v1+json", config.to_string().as_bytes());
    let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": described});
    let mut manifest = blob("manifest.v1+json", manifest.to_string().as_bytes());
    manifest["annotations"] = json!({"org.opencontainers.image.ref.name": "x"});
    fs::write(
        dir.join("index.json"),
        json!({"schemaVersion": 2, "manifests": [manifest]}).to_string(),
    )
    .unwrap();
    fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

fn layer_kind(layer: &[u8]) -> &'static str {
    match layer {
        [0x1f, 0x8b, ..] => "layer.v1.tar+gzip",
        [0x28, 0xb5, ..] => "layer.v1.tar+zstd",
        _ => "layer.v1.tar",
    }
}

fn inflate(layer: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match layer_kind(layer) {
        "layer.v1.tar+gzip" => flate2::read::MultiGzDecoder::new(layer)
            .read_to_end(&mut out)
            .map(drop)
            .unwrap(),
        "layer.v1.tar+zstd" => out = zstd::decode_all(layer).unwrap(),
        _ => out = layer.to_vec(),
    }
    out
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Runs a tool; its output, or a panic with what it said.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// An archive under construction; names are written as given, hostile or not.
#[derive(Default)]
pub struct Tar(Vec<u8>);

impl Tar {
    pub fn entry(
        mut self,
        kind: char,
        path: &str,
        link: &str,
        data: &[u8],
        change: impl FnOnce(&mut tar::Header),
    ) -> Tar {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::new(kind as u8));
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_mode(if kind == '5' { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        header.set_size(data.len() as u64);
        change(&mut header);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn file(self, path: &str, data: &str) -> Tar {
        self.entry('0', path, "", data.as_bytes(), |_| ())
    }

    pub fn dir(self, path: &str) -> Tar {
        self.entry('5', path, "", b"", |_| ())
    }

    pub fn symlink(self, path: &str, target: &str) -> Tar {
        self.entry('2', path, target, b"", |_| ())
    }

    pub fn hard_link(self, path: &str, target: &str) -> Tar {
        self.entry('1', path, target, b"", |_| ())
    }

    /// Extended attributes for the entry that follows.
    pub fn attribute(self, name: &str, value: &[u8]) -> Tar {
        let body = [b" SCHILY.xattr.", name.as_bytes(), b"=", value, b"\n"].concat();
        let digits = (1..9)
            .find(|digits| (digits + body.len()).to_string().len() == *digits)
            .unwrap();
        let record = [(digits + body.len()).to_string().as_bytes(), &body].concat();
        self.entry('x', "pax", "", &record, |_| ())
    }

    pub fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

pub fn name(text: &str) -> Reference {
    Reference::parse(text).unwrap()
}

/// Opens a store that this process or a child of it has just closed: a process that another test
/// is starting may have the lock's descriptor for a moment.
pub fn reopen(dir: &Path, registries: Registries) -> Arc<Store> {
    let patience = Instant::now() + Duration::from_secs(30);
    loop {
        match Store::open(dir, registries.clone()) {
            Err(image::StoreError::InUse { .. }) if Instant::now() < patience => {
                std::thread::sleep(Duration::from_millis(10));
            }
            store => return store.unwrap(),
        }
    }
}

pub async fn pull(store: &Arc<Store>, text: &str) -> Result<Image, String> {
    store
        .pull(&name(text), Policy::IfAbsent, |_| ())
        .await
        .map_err(|error| sentence(&*error))
}

/// An error and its causes.
pub fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// A mounted root filesystem, unmounted at the end.
pub struct Root {
    pub path: PathBuf,
    dir: tempfile::TempDir,
}

impl Root {
    pub fn mount(image: &Image) -> Root {
        let dir = tempfile::tempdir().unwrap();
        let path = mount_root(image, dir.path()).unwrap();
        assert_eq!(
            mount_root(image, dir.path()).unwrap(),
            path,
            "mounting twice is mounting once"
        );
        Root { path, dir }
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path.join(path)).unwrap_or_else(|error| format!("({error})"))
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        unmount_root(self.dir.path()).unwrap();
    }
}
