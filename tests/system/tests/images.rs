//! The images of the wild app definitions, pushed to a registry and pulled by Tandem's own store,
//! then run in a network namespace without a cluster.

use std::collections::BTreeMap;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use image::{Policy, Reference, Registries, Store, mount_root, unmount_root};
use system::images;

const WILD_NAMES: [&str; 4] = [
    "mongo",
    "10.0.15.10:5000/application/app/nodeapp:1",
    "10.0.15.10:5000/application/web/nginx:1",
    "192.168.58.201:5000/myapp:latest",
];

/// Runs as the first process of its own network and pids; what it leaves ends with it.
const THREE_TIERS: &str = r#"
set -eu
mount -t proc proc /proc
ip link set lo up
ip address add 10.32.0.9/32 dev lo
try() { for _ in $(seq 300); do "$@" 2>/dev/null && return; sleep 0.1; done; "$@"; }
get() { curl --silent --show-error --fail --max-time 5 "$@"; }
start_mongo() { chroot "$1" start >/dev/null & mongo=$!; }

start_mongo "$1"
MONGO_URI=mongodb://mongo:27017/todos chroot "$2" sh -c 'httpd -p 3000 -h /srv && httpd -p 8000 -h /srv'
chroot "$3" httpd -p 80 -h /srv
try get --output /dev/null http://127.0.0.1:8000/
get --data-urlencode 'entry=bread & butter' http://127.0.0.1:8000/cgi-bin/index.cgi
get --data-urlencode 'entry=a second one' http://127.0.0.1/cgi-bin/index.cgi
kill -KILL $mongo; wait $mongo || true
get --output /dev/null http://127.0.0.1:8000/ 2>/dev/null && echo "answers without a database"
start_mongo "$1"
try get http://127.0.0.1/
chroot "$4" httpd -p 81 -h /srv
get http://127.0.0.1:81/
"#;

struct Registry {
    child: Child,
    address: String,
}

impl Registry {
    /// A registry on a loopback port that was free a moment ago.
    fn start(room: &Path) -> Registry {
        let free = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let address = free.local_addr().expect("a bound address").to_string();
        drop(free);
        let config = room.join("registry.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage:\n  \
             filesystem: {{rootdirectory: {}}}\nhttp: {{addr: \"{address}\", secret: x}}\n",
            room.join("registry").display()
        );
        fs::write(&config, text).expect("a file in our room");
        let mut serve = Command::new("docker-registry");
        serve.arg("serve").arg(config);
        serve.stdout(Stdio::null()).stderr(Stdio::null());
        let registry = Registry {
            child: serve.spawn().expect("docker-registry is installed"),
            address,
        };
        let deadline = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(&registry.address).is_err() {
            assert!(Instant::now() < deadline, "the registry does not come up");
            std::thread::sleep(Duration::from_millis(20));
        }
        registry
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Root filesystems of images, unmounted at the end.
#[derive(Default)]
struct Roots(Vec<PathBuf>);

impl Drop for Roots {
    fn drop(&mut self) {
        for directory in &self.0 {
            unmount_root(directory).ok();
        }
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wild_images_are_three_tiers_whose_entries_outlive_the_database() {
    if !is_root() {
        println!("skipped: needs root");
        return;
    }
    let room = tempfile::tempdir().expect("a directory");
    let registry = Registry::start(room.path());
    images::push(images::Set::Wild, room.path(), &registry.address)
        .await
        .unwrap_or_else(|error| panic!("{error:#}"));

    let foreign = ["10.0.15.10:5000", "192.168.58.201:5000"];
    let registries = Registries {
        cluster: Some(registry.address.clone()),
        mirrors: BTreeMap::from(foreign.map(|name| (name.to_owned(), registry.address.clone()))),
    };
    let store = Store::open(&room.path().join("store"), registries).expect("a store");
    let mut roots = Roots::default();
    let mut script = Command::new("unshare");
    script.args(["--net", "--pid", "--mount", "--fork", "--kill-child"]);
    script.args(["sh", "-c", THREE_TIERS, "three-tiers"]);
    for (index, name) in WILD_NAMES.into_iter().enumerate() {
        let name = Reference::parse(name).expect("a name that users wrote");
        let image = store.pull(&name, Policy::IfAbsent, |_| ()).await;
        let image = image.unwrap_or_else(|error| panic!("pull {name}: {error}"));
        let directory = room.path().join(format!("instance-{index}"));
        fs::create_dir(&directory).expect("a directory in our room");
        let root = mount_root(&image, &directory).expect("a root filesystem");
        roots.0.push(directory);
        let hosts = "127.0.0.1 localhost mongo nodeapp\n";
        fs::write(root.join("etc/hosts"), hosts).expect("a root that can be written");
        script.arg(root);
    }
    let output = script.output().expect("unshare is installed");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "entry 1\nentry 2\nfrom 10.32.0.9\nbread & butter\na second one\n10.32.0.9\n",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
