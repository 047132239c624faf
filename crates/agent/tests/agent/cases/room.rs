//! Images on a disk that is too small for all of them.

use model::spec::{Container, ImageContainer};

use super::images::Registry;
use super::*;

const MIB: usize = 1 << 20;

/// A file system of its own on the state directory, gone when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(world: &World, mebibytes: usize) -> Self {
        let (file, at) = (world.home.path().join("disk"), world.state_dir());
        let disk = fs::File::create(&file).expect("create");
        disk.set_len((mebibytes * MIB) as u64).expect("its size");
        fs::create_dir(&at).expect("create");
        images::run(Command::new("mkfs.ext4").args(["-q", "-m0"]).arg(&file));
        // The loop device goes with the mount.
        images::run(
            Command::new("mount")
                .args(["-o", "loop"])
                .arg(&file)
                .arg(&at),
        );
        Self(at)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        while unmount(&self.0) {}
    }
}

/// Pushes an image of so many bytes and busybox.
fn push(registry: &Registry, home: &Path, name: &str, bytes: usize) {
    let _ = fs::remove_dir_all(home.join("image"));
    fs::create_dir(home.join("image")).expect("create");
    let mut content = name.as_bytes().repeat(bytes / name.len());
    content.truncate(bytes);
    fs::write(home.join("image/content"), content).expect("write");
    registry.push(home, name, &image::ImageConfig::default());
}

/// Runs until it is told to end, reading its image all the time.
fn reader(image: &str) -> Assigned {
    let line = "while cat /content /data/seed > /dev/null; do sleep 0.05; done; exit 9";
    assigned(AppSpec {
        command: Run::Shell(line.into()),
        container: Container::Image(Box::new(ImageContainer {
            image: image.into(),
            ..ImageContainer::default()
        })),
        ..AppSpec::default()
    })
}

async fn runs(master: &Master, id: InstanceId, image: &str) {
    master.assign(|all| drop(all.insert(id, reader(image))));
    master
        .level(id, &format!("{image} to run"), is_running)
        .await;
}

async fn goes(master: &Master, id: InstanceId) {
    master.assign(|all| all.get_mut(&id).expect("assigned").goal = stop(0));
    master
        .level(id, "its removal", |level| level.rung == Rung::Gone)
        .await;
    master.assign(|all| drop(all.remove(&id)));
}

fn id(n: u64) -> InstanceId {
    InstanceId { birth: n, slot: 0 }
}

/// The names of the images in the store.
fn names(world: &World) -> Vec<String> {
    let mut names = Vec::new();
    for path in children(&world.state_dir().join("images/names")) {
        // It may be on its way out.
        let text = fs::read_to_string(path).unwrap_or_default();
        names.extend(text.split('"').nth(3).map(str::to_owned));
    }
    names.sort();
    names
}

/// Makes every use of an image so far one of an hour ago; their order stays.
fn an_hour_passes(world: &World) {
    for path in children(&world.state_dir().join("images/images")) {
        let file = fs::File::open(path).expect("open");
        let used = file.metadata().and_then(|metadata| metadata.modified());
        let before = used.expect("a time") - Duration::from_secs(3600);
        file.set_modified(before).expect("set its time");
    }
}

async fn gone(world: &World, image: &str) {
    let deadline = Instant::now() + PATIENCE;
    while names(world).iter().any(|name| name == image) {
        assert!(Instant::now() < deadline, "there are {:?}", names(world));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // The log tells it when its files are gone too.
    while !fs::read_to_string(world.log()).is_ok_and(|log| log.contains("Removed image")) {
        assert!(Instant::now() < deadline, "nothing was told");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub async fn images_that_nothing_names_go_when_the_disk_fills(mut world: World) {
    let home = world.home.path().to_owned();
    let registry = Registry::start(&home).await;
    let _disk = SmallDisk::mount(&world, 128);
    for image in ["web:1", "old:1", "older:1", "new:1"] {
        push(&registry, &home, image, 20 * MIB);
    }
    world.registry.clone_from(&registry.address);
    let (master, mut agent) = start(&world).await;
    // The image in use is the one that came first.
    runs(&master, ONE, "web:1").await;
    for (n, image) in [(10, "older:1"), (11, "old:1")] {
        runs(&master, id(n), image).await;
        goes(&master, id(n)).await;
    }
    let library = |name: &str| format!("docker.io/library/{name}");
    let all = ["old:1", "older:1", "web:1"].map(library);
    assert_eq!(names(&world), all, "there is room for three");
    let pid_before = pid(&world, ONE);

    // Again in use, so that the other one is older now. The order outlives the agent.
    runs(&master, id(12), "older:1").await;
    goes(&master, id(12)).await;
    agent.kill();
    an_hour_passes(&world);
    let _agent = world.agent(master.address, "");
    master.joined(2).await;
    runs(&master, TWO, "new:1").await;
    gone(&world, &library("old:1")).await;
    let log = fs::read_to_string(world.log()).expect("a log");
    let line = log.lines().find(|line| line.contains("Removed image"));
    let line = line.expect("what went is told");
    // A look while the pull was half done needed one only.
    let (old, older) = (line.find("image old:1"), line.find("image older:1"));
    assert!(
        old.is_some() && older.is_none_or(|older| old < Some(older)),
        "{line}"
    );
    assert!(line.contains("% of the disk"), "{line}");

    // What is named is whole: it runs on, and again, without the registry.
    drop(registry);
    assert_eq!(pid(&world, ONE), pid_before);
    runs(&master, id(13), "web:1").await;
    for image in ["new:1", "web:1"].map(library) {
        assert!(names(&world).contains(&image));
    }
    for instance in [ONE, TWO] {
        let last = master.levels(instance).pop().expect("a level");
        assert!(is_running(&last), "{last:?}");
    }
    for instance in [ONE, TWO, id(13)] {
        goes(&master, instance).await;
    }
}

pub async fn a_pull_that_finds_no_room_makes_some(mut world: World) {
    let home = world.home.path().to_owned();
    let registry = Registry::start(&home).await;
    let _disk = SmallDisk::mount(&world, 80);
    push(&registry, &home, "small:1", 30 * MIB);
    push(&registry, &home, "large:1", 42 * MIB);
    // Only the pull may take away what is in its way.
    world.images_high = 100;
    world.registry.clone_from(&registry.address);
    let (master, _agent) = start(&world).await;
    runs(&master, ONE, "small:1").await;
    goes(&master, ONE).await;
    runs(&master, TWO, "large:1").await;
    assert_eq!(names(&world), ["docker.io/library/large:1"]);
    goes(&master, TWO).await;
}
