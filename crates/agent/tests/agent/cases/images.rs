//! Images and what cannot be had.

use model::session::Ask;

use super::asks::texts;
use super::*;

/// A registry of the distribution's own, and what it holds; gone when dropped.
pub struct Registry {
    child: Child,
    pub address: String,
}

impl Registry {
    pub async fn start(home: &Path) -> Self {
        let probe = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = probe.local_addr().expect("an address").to_string();
        drop(probe);
        let config = home.join("registry.yml");
        let root = home.join("registry");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: \"{address}\"}}\n",
            root.display()
        );
        fs::write(&config, text).expect("write");
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("Debian package docker-registry");
        let registry = Self { child, address };
        let deadline = Instant::now() + PATIENCE;
        while std::net::TcpStream::connect(&registry.address).is_err() {
            assert!(Instant::now() < deadline, "waited for the registry");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        registry
    }

    /// Busybox and a user, with this configuration.
    pub fn push(&self, home: &Path, name: &str, config: &image::ImageConfig) {
        let root = home.join("image");
        fs::create_dir_all(root.join("bin")).expect("create");
        fs::create_dir_all(root.join("etc")).expect("create");
        fs::create_dir_all(root.join("data")).expect("create");
        fs::write(root.join("data/seed"), "seeded").expect("write");
        fs::write(
            root.join("etc/passwd"),
            "app:x:1234:1234::/home/app:/bin/sh\n",
        )
        .expect("write");
        fs::copy("/bin/busybox", root.join("bin/busybox")).expect("package busybox-static");
        for name in ["sh", "cat", "echo", "id", "env", "sleep", "hostname", "pwd"] {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(name)).expect("link");
        }
        let tar = home.join("image.tar");
        run(Command::new("tar")
            .arg("-cf")
            .arg(&tar)
            .arg("-C")
            .arg(&root)
            .arg("."));
        let layout = home.join("layout");
        image::layout::write(&layout, "x", &tar, config).expect("a layout");
        run(Command::new("skopeo")
            .args(["copy", "--quiet", "--dest-tls-verify=false"])
            .arg(format!("oci:{}:x", layout.display()))
            .arg(format!("docker://{}/{name}", self.address)));
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn run(command: &mut Command) {
    let done = command.output().expect("it runs");
    let words = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{command:?}: {words}");
}

pub async fn an_image_gives_its_files_user_and_command(mut world: World) {
    let home = world.home.path().to_owned();
    let registry = Registry::start(&home).await;
    let config = image::ImageConfig {
        user: "app".into(),
        env: vec!["COLOR=red".into(), "SHAPE=round".into()],
        entrypoint: vec!["/bin/sh".into(), "-c".into()],
        cmd: vec!["exit 99".into()],
        working_dir: "/srv/app".into(),
        volumes: [("/data".to_owned(), Default::default())].into(),
        stop_signal: "SIGUSR1".into(),
        ..Default::default()
    };
    registry.push(&home, "shop/web:1", &config);
    world.registry.clone_from(&registry.address);
    let (master, _agent) = start(&world).await;
    let image = model::spec::ImageContainer {
        image: "shop/web:1".into(),
        options: model::spec::DockerOptions {
            hostname: Some("web.weave.local".into()),
            ..Default::default()
        },
        ..Default::default()
    };
    let line = "echo $COLOR $SHAPE; id -u; pwd; hostname; cat /etc/hostname /data/seed; echo; \
                echo kept > $MESOS_SANDBOX/kept; trap 'exit 12' USR1; \
                echo ready; while :; do sleep 0.05; done";
    let spec = AppSpec {
        command: Run::Args(vec![line.into()]),
        container: model::spec::Container::Image(Box::new(image)),
        env: [("COLOR".to_owned(), "blue".to_owned())].into(),
        ..AppSpec::default()
    };
    master.assign(|all| drop(all.insert(ONE, assigned(spec.clone()))));
    master.level(ONE, "it to run", is_running).await;
    let what = Ask::Log {
        instance: ONE,
        tail: None,
        follow: true,
    };
    master.ask(1, what);
    let parts = master
        .answer(1, |parts| {
            texts(parts).last().is_some_and(|last| last == "ready")
        })
        .await;
    let expected = [
        "blue round",
        "1234",
        "/srv/app",
        "web.weave.local",
        "web.weave.local",
        "seeded",
        "ready",
    ];
    assert_eq!(texts(&parts), expected);
    let dir = world.state_dir().join("instances").join(ONE.to_string());
    let kept = fs::read_to_string(dir.join("sandbox/kept")).expect("written");
    assert_eq!(kept, "kept\n");

    master.assign(|all| all.get_mut(&ONE).expect("assigned").goal = stop(30_000));
    let gone = master
        .level(ONE, "its removal", |level| level.rung == Rung::Gone)
        .await;
    assert_eq!(
        gone.exit.map(|exit| exit.status),
        Some(ExitStatus::Code(12))
    );
    assert!(!dir.exists());

    let mut misspelt = spec;
    if let model::spec::Container::Image(image) = &mut misspelt.container {
        image.image = "shop/wbe:1".into();
    }
    master.assign(|all| drop(all.insert(TWO, assigned(misspelt))));
    master
        .level(TWO, "the registry's words", |level| {
            let detail = level.detail.as_deref().unwrap_or_default();
            detail.contains("shop/wbe:1") && detail.contains("unknown")
        })
        .await;
    master.assign(|all| all.get_mut(&TWO).expect("assigned").goal = stop(0));
    master
        .level(TWO, "its removal", |level| level.rung == Rung::Gone)
        .await;
}

pub async fn an_image_that_cannot_be_pulled_is_told_in_the_registrys_words(mut world: World) {
    world.registry = "127.0.0.1:1".into();
    let (master, _agent) = start(&world).await;
    let image = model::spec::ImageContainer {
        image: "shop/misspelt:1".into(),
        ..Default::default()
    };
    let spec = AppSpec {
        container: model::spec::Container::Image(Box::new(image)),
        ..AppSpec::default()
    };
    let began = Instant::now();
    master.assign(|all| drop(all.insert(ONE, assigned(spec))));
    let level = master
        .level(ONE, "the failure", |level| {
            level
                .detail
                .as_deref()
                .is_some_and(|detail| detail.contains("pull image shop/misspelt:1"))
        })
        .await;
    assert_eq!(level.rung, Rung::Preparing);
    assert!(began.elapsed() < Duration::from_secs(30));
    let details: Vec<Option<String>> = master
        .levels(ONE)
        .into_iter()
        .map(|level| level.detail)
        .collect();
    assert_eq!(details[0].as_deref(), Some("pulling"));
}
