//! Volumes at rest.

use model::spec::{Mount, MountSource, VolumeForm};
use model::volume::{CopyRole, VolumeOrder};
use model::{Generation, VolumeId, VolumeLevel};

use super::images::Registry;
use super::*;

const THREE: InstanceId = InstanceId { birth: 3, slot: 0 };

fn pg() -> VolumeId {
    VolumeId::parse("pg").expect("a name")
}

fn live(generation: u64, fresh: bool) -> VolumeOrder {
    VolumeOrder::Live {
        generation: Generation(generation),
        size: Mebibytes::whole(64),
        fresh,
    }
}

/// With the volume at `data` in its sandbox.
fn writer(line: &str) -> Assigned {
    assigned(AppSpec {
        command: Run::Shell(line.into()),
        mounts: vec![Mount {
            path: "data".into(),
            source: MountSource::Volume {
                volume: pg(),
                size: None,
                form: VolumeForm::Flocker,
            },
            read_only: false,
        }],
        ..AppSpec::default()
    })
}

/// Adds its name to the volume's rows and stays.
fn adds(name: &str) -> Assigned {
    writer(&format!(
        "echo {name} >> data/rows; touch ready; exec sleep 1000"
    ))
}

fn by_nobody(wanted: &Assigned) -> Assigned {
    let spec = AppSpec {
        user: Some("nobody".into()),
        ..(*wanted.spec).clone()
    };
    assigned(spec)
}

fn directory(world: &World) -> PathBuf {
    world.pool_mount().join("volumes/pg")
}

fn rows(world: &World) -> String {
    fs::read_to_string(directory(world).join("live/rows")).unwrap_or_default()
}

async fn ready(world: &World, id: InstanceId) {
    let dir = world.state_dir().join("instances").join(id.to_string());
    exists(&dir.join("sandbox/ready")).await;
}

fn is_live(generation: u64) -> impl Fn(&VolumeLevel) -> bool {
    move |level| {
        *level
            == VolumeLevel {
                role: Some(CopyRole::Live),
                generation: Generation(generation),
                bytes: level.bytes,
                ..VolumeLevel::default()
            }
    }
}

/// Mounts on the pool's place, and loop devices of its file.
fn held(world: &World) -> (usize, usize) {
    let point = world.pool_mount().display().to_string();
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    let mounts = mounts
        .lines()
        .filter(|line| line.split(' ').nth(4) == Some(&point));
    let file = world.state_dir().join("volumes/pool.btrfs");
    let file = file.display().to_string();
    let devices = children(Path::new("/sys/block")).into_iter().filter(|dir| {
        fs::read_to_string(dir.join("loop/backing_file"))
            .is_ok_and(|backing| backing.starts_with(&file))
    });
    (mounts.count(), devices.count())
}

/// As when the node's mount namespace goes with its last process.
async fn lose_mounts(world: &World) {
    while unmount(&world.pool_mount()) {}
    let deadline = Instant::now() + PATIENCE;
    while held(world) != (0, 0) {
        assert!(
            Instant::now() < deadline,
            "waited for the loop device to go"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn removed(master: &Master, id: InstanceId) {
    master.assign(|all| all.get_mut(&id).expect("assigned").goal = stop(0));
    master
        .level(id, "its removal", |level| level.rung == Rung::Gone)
        .await;
    master.assign(|all| drop(all.remove(&id)));
}

pub async fn data_outlives_instances_agents_and_mounts(world: World) {
    let (master, mut agent) = start(&world).await;
    master.joined(1).await;
    assert!(!world.state_dir().join("volumes").exists());
    master.order(&pg(), live(1, true));
    master.assign(|all| drop(all.insert(ONE, by_nobody(&adds("one")))));
    master.volume(&pg(), "it to be live", is_live(1)).await;
    ready(&world, ONE).await;
    assert_eq!(rows(&world), "one\n");
    let once = held(&world);
    assert_eq!(once.1, 1);
    removed(&master, ONE).await;

    // Another instance under another agent.
    agent.kill();
    master.order(&pg(), live(1, false));
    master.assign(|all| drop(all.insert(TWO, by_nobody(&adds("two")))));
    let mut agent = world.agent(master.address, "");
    ready(&world, TWO).await;
    assert_eq!(rows(&world), "one\ntwo\n");
    assert_eq!(held(&world), once);

    // An agent that finds the volume in use, and a new generation of it.
    let before = pid(&world, TWO);
    agent.kill();
    master.order(&pg(), live(2, false));
    let mut agent = world.agent(master.address, "");
    master.volume(&pg(), "its adoption", is_live(2)).await;
    assert_eq!(pid(&world, TWO), before);
    assert_eq!(held(&world), once);

    agent.kill();
    let init = before.parse().expect("a pid");
    kill(Pid::from_raw(init), Signal::SIGKILL).expect("kill");
    let dir = world.state_dir().join("instances").join(TWO.to_string());
    exists(&dir.join("exit")).await;
    lose_mounts(&world).await;
    let mut agent = world.agent(master.address, "");
    removed(&master, TWO).await;
    master.assign(|all| drop(all.insert(THREE, by_nobody(&adds("three")))));
    ready(&world, THREE).await;
    assert_eq!(rows(&world), "one\ntwo\nthree\n");
    assert_eq!(held(&world), once);

    // A removal waits for whoever uses it.
    master.order(
        &pg(),
        VolumeOrder::Remove {
            generation: Generation(3),
        },
    );
    removed(&master, THREE).await;
    let gone = VolumeLevel {
        role: None,
        generation: Generation(3),
        ..VolumeLevel::default()
    };
    master
        .volume(&pg(), "its destruction", |level| *level == gone)
        .await;
    assert!(!directory(&world).exists());
    assert_eq!(
        children(&world.state_dir().join("volumes/roles")),
        Vec::<PathBuf>::new()
    );
    agent.kill();
    lose_mounts(&world).await;
}

fn remount(world: &World, flags: MsFlags) {
    let none: Option<&str> = None;
    let flags = flags | MsFlags::MS_REMOUNT | MsFlags::MS_BIND;
    mount(none, &world.pool_mount(), none, flags, none).expect("remount");
}

pub async fn a_pool_that_turns_read_only_is_told_and_its_cure_too(world: World) {
    let (master, _agent) = start(&world).await;
    master.order(&pg(), live(1, true));
    master.assign(|all| drop(all.insert(ONE, adds("one"))));
    ready(&world, ONE).await;
    remount(&world, MsFlags::MS_RDONLY);
    let level = master
        .volume(&pg(), "the trouble", |level| level.trouble.is_some())
        .await;
    assert!(
        level.trouble.is_some_and(|why| why.contains("read-only")),
        "told in other words"
    );
    assert_eq!(level.role, Some(CopyRole::Live));
    remount(&world, MsFlags::empty());
    master.volume(&pg(), "its cure", is_live(1)).await;
    assert!(master.levels(ONE).last().is_some_and(is_running));
}

/// Where the image declares a volume of its own, and as the image's user.
pub async fn an_image_has_its_volume_at_its_path(mut world: World) {
    let home = world.home.path().to_owned();
    let registry = Registry::start(&home).await;
    let config = image::ImageConfig {
        user: "app".into(),
        volumes: [("/data".to_owned(), Default::default())].into(),
        ..Default::default()
    };
    registry.push(&home, "shop/db:1", &config);
    world.registry.clone_from(&registry.address);
    let (master, _agent) = start(&world).await;
    let image = model::spec::ImageContainer {
        image: "shop/db:1".into(),
        ..Default::default()
    };
    let line = "id -u >> /data/rows; echo >> $MESOS_SANDBOX/ready; exec sleep 1000";
    let mut spec = (*writer(line).spec).clone();
    spec.container = model::spec::Container::Image(Box::new(image));
    for mount in &mut spec.mounts {
        mount.path = "/data".into();
    }
    master.order(&pg(), live(1, true));
    master.assign(|all| drop(all.insert(ONE, assigned(spec))));
    ready(&world, ONE).await;
    assert_eq!(rows(&world), "1234\n");
}

pub async fn a_pool_without_room_is_told_where_it_is_missed(mut world: World) {
    world.pool_mebibytes = 1 << 30;
    let (master, mut agent) = start(&world).await;
    master.order(&pg(), live(1, true));
    master.assign(|all| drop(all.insert(ONE, adds("one"))));
    let is_told = |text: &Option<String>| {
        text.as_deref()
            .is_some_and(|text| text.contains("no room for the volumes' pool"))
    };
    let level = master
        .level(ONE, "the lack", |level| is_told(&level.detail))
        .await;
    assert_eq!(level.rung, Rung::Starting);
    let level = master
        .volume(&pg(), "the lack", |level| is_told(&level.trouble))
        .await;
    assert_eq!(level.role, None);
    assert_eq!(held(&world), (0, 0));

    // With room there is nothing to be mended.
    agent.kill();
    world.pool_mebibytes = 256;
    let _agent = world.agent(master.address, "");
    ready(&world, ONE).await;
    master.volume(&pg(), "it to be live", is_live(1)).await;
}

pub async fn killed_at_any_moment_an_agent_makes_a_volume_once(world: World) {
    let (master, mut agent) = start(&world).await;
    master.joined(1).await;
    master.order(&pg(), live(1, true));
    let line = "echo run >> data/rows; touch ready; exec sleep 1000";
    for (n, pause) in (10..).zip([10, 30, 60, 100, 160, 250]) {
        let id = InstanceId { birth: n, slot: 0 };
        master.assign(|all| drop(all.insert(id, writer(line))));
        tokio::time::sleep(Duration::from_millis(pause)).await;
        agent.kill();
        agent = world.agent(master.address, "");
    }
    master.volume(&pg(), "it to be live", is_live(1)).await;
    let mut runs = 0;
    for n in 10..16 {
        let id = InstanceId { birth: n, slot: 0 };
        let level = master
            .level(id, "it to run or be over", |level| {
                is_running(level) || has_ended(level)
            })
            .await;
        if is_running(&level) {
            ready(&world, id).await;
            runs += 1;
        }
    }
    assert_eq!(rows(&world).matches("run\n").count(), runs);
    assert_eq!(held(&world).1, 1);
    master.assign(std::collections::BTreeMap::clear);
    let remove = VolumeOrder::Remove {
        generation: Generation(2),
    };
    master.order(&pg(), remove);
    master
        .volume(&pg(), "its destruction", |level| level.role.is_none())
        .await;
    assert!(!directory(&world).exists());
}
