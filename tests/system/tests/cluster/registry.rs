//! (I) The cluster's registry under other people's tools, and when it is down or its disk is bad.

use crate::cluster::{
    Cluster, Instance, Process, ask, image, json_of, sh, wait_for, wait_until, with,
};
use nix::sys::signal::Signal;
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};

const MACHINE: &str = "10.0.15.10:5000";
const LOOPBACK: &str = "127.0.0.1:5000";

pub fn skopeo_and_buildah_push_and_pull_and_trouble_is_told(cluster: &Cluster) {
    cluster.up(&["--nodes", "2"]);
    cluster.push_images();
    let daemons = || ["master", "n1/agent", "n2/agent"].map(|group| cluster.daemon(group));
    let before = daemons();
    let buildah = Buildah::new(cluster);
    pushed_and_pulled(cluster, &buildah);
    down_and_back(cluster, &buildah);
    corrupt_and_mended(cluster, &buildah);
    assert_eq!(daemons(), before, "the same daemons all along");
    buildah.clear();
    cluster.down();
}

/// By one address and the other, there and back; then both run.
fn pushed_and_pulled(cluster: &Cluster, buildah: &Buildah) {
    let of_buildah = buildah.push("by-buildah", LOOPBACK);
    buildah.pull(&format!("{MACHINE}/tools/by-buildah:1"));
    let directory = cluster.path("oci").display().to_string();
    let skopeo =
        "skopeo --insecure-policy copy --quiet --src-tls-verify=false --dest-tls-verify=false";
    sh(&format!(
        "{skopeo} docker://{MACHINE}/tools/by-buildah:1 oci:{directory}:1 && \
         {skopeo} oci:{directory}:1 docker://{LOOPBACK}/tools/by-skopeo:1 && \
         {skopeo} docker://{LOOPBACK}/tools/by-skopeo:1 docker://{MACHINE}/tools/by-skopeo:2"
    ));
    assert_eq!(layers("tools/by-skopeo:2"), of_buildah);
    for (id, name) in [
        ("/by-name", "tools/by-buildah:1".to_owned()),
        ("/by-machine", format!("{MACHINE}/tools/by-skopeo:1")),
        ("/by-loopback", format!("{LOOPBACK}/tools/by-skopeo:2")),
    ] {
        cluster.put(id, &image(&name));
        says(&cluster.running(id, 1)[0], "by-buildah");
    }
}

/// Both registries die and cannot come back: what runs does not notice, what is new says why.
fn down_and_back(cluster: &Cluster, buildah: &Buildah) {
    buildah.push("late", MACHINE);
    let running = cluster.processes_of(&cluster.running("/by-name", 1));
    let registries = cluster.members("registry");
    assert_eq!(registries.len(), 2, "{registries:?}");
    let keeper = cluster.supervisor();
    keeper.signal(Signal::SIGSTOP);
    registries.iter().for_each(Process::kill);
    wait_until("the registries to be dead", || {
        !registries.iter().any(Process::lives)
    });
    cluster.put("/late", &image("tools/late:1"));
    ps_tells(
        cluster,
        "late",
        &["preparing", MACHINE, "tools/late", "Connection refused"],
    );
    cluster.put("/by-name", &json!({ "instances": 2 }));
    keeper.signal(Signal::SIGCONT);
    says(&cluster.running("/late", 1)[0], "late");
    cluster.running("/by-name", 2);
    assert!(running.iter().all(Process::lives));
}

/// One byte of a layer changes on the registry's disk: nothing of it is run or kept.
fn corrupt_and_mended(cluster: &Cluster, buildah: &Buildah) {
    let layers = buildah.push("bad", MACHINE);
    let digest = layers.last().unwrap().trim_start_matches("sha256:");
    let blobs = cluster.path("state/registry/docker/registry/v2/blobs/sha256");
    let blob = blobs.join(&digest[..2]).join(digest).join("data");
    let whole = fs::read(&blob).unwrap();
    let mut corrupt = whole.clone();
    let middle = corrupt.len() / 2;
    corrupt[middle] ^= 1;
    fs::write(&blob, &corrupt).unwrap();

    let kept = || ["n1", "n2"].map(|node| unpacked(&cluster.path("state/nodes").join(node)));
    let before = kept();
    cluster.put(
        "/bad",
        &with(image("tools/bad:1"), json!({ "instances": 2 })),
    );
    ps_tells(
        cluster,
        "bad",
        &["preparing", "tools/bad", digest, "have the digest sha256:"],
    );
    assert_eq!(kept(), before, "nothing of it is kept");
    assert!(cluster.processes_of(&cluster.instances("/bad")).is_empty());

    // The registry takes what it has for good, so what is damaged goes first.
    fs::remove_file(&blob).unwrap();
    buildah.push("bad", LOOPBACK);
    assert!(fs::read(&blob).unwrap() == whole);
    for instance in cluster.running("/bad", 2) {
        says(&instance, "bad");
    }
}

/// What an agent's store holds for good.
fn unpacked(node: &Path) -> Vec<PathBuf> {
    let parts = ["layers", "images", "names"].map(|part| node.join("agent/images").join(part));
    let entries = parts
        .iter()
        .flat_map(|part| fs::read_dir(part).into_iter().flatten());
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn ps_tells(cluster: &Cluster, app: &str, words: &[&str]) {
    wait_for(&format!("ps to tell {words:?}"), || {
        let ps = cluster.tandem(&["ps", app]);
        let told = words.iter().all(|word| ps.contains(word));
        told.then_some(()).ok_or(ps)
    });
}

/// The image is the one that was made under this name.
fn says(instance: &Instance, name: &str) {
    let address = format!("{}:80", instance.address.unwrap());
    wait_for(&format!("{name} to answer"), || {
        let answer = ask(&address, "GET", "/who", None).map_err(|error| error.to_string())?;
        (answer == (200, name.to_owned()))
            .then_some(())
            .ok_or(answer.1)
    });
}

fn layers(name: &str) -> Vec<String> {
    let inspected = sh(&format!(
        "skopeo inspect --tls-verify=false docker://{MACHINE}/{name}"
    ));
    serde_json::from_value(json_of(&inspected)["Layers"].clone()).unwrap()
}

/// buildah, with images of its own.
struct Buildah {
    directory: PathBuf,
}

impl Buildah {
    fn new(cluster: &Cluster) -> Buildah {
        let directory = cluster.path("buildah");
        fs::create_dir(&directory).unwrap();
        Buildah { directory }
    }

    fn call(&self, arguments: &str) -> String {
        let own = self.directory.display();
        sh(&format!(
            "buildah --root {own}/storage --runroot {own}/run --storage-driver vfs {arguments}"
        ))
    }

    /// A page more than an image of the registry; pushed as `tools/NAME:1`. Its layers.
    fn push(&self, name: &str, registry: &str) -> Vec<String> {
        let page = self.directory.join(name);
        // Made once, as a layer's digest tells its file's time.
        if !page.exists() {
            fs::write(&page, name).unwrap();
            let base = format!("docker://{MACHINE}/myapp:latest");
            let container = self.call(&format!("from --tls-verify=false {base}"));
            self.call(&format!("copy {container} {} /srv/who", page.display()));
            self.call(&format!("commit --quiet --rm {container} {name}"));
        }
        let target = format!("docker://{registry}/tools/{name}:1");
        self.call(&format!("push --quiet --tls-verify=false {name} {target}"));
        layers(&format!("tools/{name}:1"))
    }

    fn pull(&self, name: &str) {
        self.call(&format!("pull --quiet --tls-verify=false docker://{name}"));
    }

    fn clear(&self) {
        self.call("rmi --all --force");
    }
}
