//! From an assigned instance to the container it shall be: the joint between `model`, `image`,
//! `network` and `container`.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use container::{Limits, Mount, Network, Root, Source, Spec, Ulimit, User};
use image::{Arguments, ImageConfig, Overrides, Process};
use model::spec::{Command, DockerOptions, Engine, ImageContainer, MountSource};
use model::{Assigned, InstanceId, VolumeId};

use super::{Error, Tools, Work};
use crate::environment;
use crate::overlay;

/// Weight of one core.
const SHARES: u64 = 1024;
/// The least that the kernel takes.
const SHARES_MIN: u64 = 2;

/// In bytes. None wanted is no limit; a little is enough for the container to start, for what it
/// holds before its command runs could not be squeezed into less.
fn memory_limit(wanted: u64) -> Option<u64> {
    (wanted > 0).then(|| wanted.max(DockerOptions::MEMORY_MIN))
}

/// Everything that is known before the disk is touched.
pub(super) struct Plan {
    assigned: Assigned,
    dir: PathBuf,
    config: ImageConfig,
    overrides: Overrides,
    /// Where its namespace is and what it is called by; `None` on the node's own network.
    network: Option<(PathBuf, Ipv4Addr)>,
    gateway: Ipv4Addr,
    hidden: Vec<PathBuf>,
    /// Directories of open volumes.
    volumes: BTreeMap<VolumeId, PathBuf>,
    cgroup: String,
    shim_cgroup: String,
    log: container::LogLimits,
}

impl Plan {
    pub fn of(tools: &Tools, work: &Work) -> Result<Self, Error> {
        let (id, assigned) = (work.id, work.assigned()?);
        let spec = &assigned.spec;
        // Placed where it was allowed; the agent may have been started again without it.
        let privileged = spec.image().is_some_and(|image| image.privileged);
        if privileged && !tools.config.machine.allows("privileged") {
            return Err(Error::Privileged);
        }
        let dir = tools.disk.instance(id);
        let config = match spec.image() {
            Some(image) => mounted(tools, image, &dir)?,
            None => ImageConfig::default(),
        };
        let fixed = assigned.placement.fixed_addresses.first();
        let address = assigned
            .placement
            .address
            .or(fixed.map(|fixed| fixed.address));
        let network = address.map(|address| (tools.disk.namespace(id), address));
        let host = &tools.config.machine.hostname;
        let mut hidden = tools.config.hidden.clone();
        hidden.push(tools.disk.root().to_owned());
        Ok(Self {
            assigned: assigned.clone(),
            config,
            overrides: overrides(id, assigned, host, network.is_some()),
            network,
            gateway: work
                .welcome
                .as_ref()
                .map_or(Ipv4Addr::UNSPECIFIED, overlay::gateway),
            hidden,
            volumes: work.volumes.clone(),
            cgroup: tools.cgroup(id),
            shim_cgroup: tools.shim_cgroup(),
            log: tools.config.log,
            dir,
        })
    }

    /// Writes what the container is to find, and says what it shall be and how it is asked to
    /// end. Blocking.
    pub fn carry_out(self) -> Result<(Spec, i32), Error> {
        let options = self.options();
        let image = self.assigned.spec.image();
        let (root, rootfs) = match image {
            Some(_) => {
                let rootfs = self.dir.join("rootfs");
                (Root::Mounted(rootfs.clone()), rootfs)
            }
            None => (self.host_root(), PathBuf::from("/")),
        };
        let process = image::process(&self.config, &self.overrides, &rootfs)?;
        let sandbox = self.sandbox();
        std::os::unix::fs::chown(&sandbox, Some(process.uid), Some(process.gid))
            .map_err(Error::file("give its owner", &sandbox))?;
        let mounts = self.mounts(&options, &process, &rootfs)?;
        let mut spec = Spec::new(
            process.args,
            root,
            self.cgroup.clone(),
            self.shim_cgroup.clone(),
        );
        spec.env = process.env;
        // A command task begins in its sandbox.
        spec.cwd = image.map(|_| PathBuf::from(process.cwd));
        spec.user = User {
            uid: process.uid,
            gid: process.gid,
            additional_gids: process.groups,
        };
        let on_the_node = self.network.is_none() && options.hostname.is_none();
        spec.hostname = (!on_the_node).then(|| self.overrides.hostname.clone());
        spec.read_only_root = options.read_only;
        if let Some((namespace, _)) = &self.network {
            spec.network = Network::Namespace(namespace.clone());
        }
        spec.mounts = mounts;
        if let Some(bytes) = options.shm_size {
            spec.shm_bytes = bytes;
        }
        spec.limits = self.limits(&options);
        spec.capabilities_add = options.cap_add;
        spec.capabilities_drop = options.cap_drop;
        spec.privileged = image.is_some_and(|image| image.privileged);
        spec.no_new_privileges = options.no_new_privileges.unwrap_or(!spec.privileged);
        spec.log = self.log;
        Ok((spec, process.stop_signal))
    }

    fn options(&self) -> DockerOptions {
        let image = self.assigned.spec.image();
        image.map(|image| image.options.clone()).unwrap_or_default()
    }

    fn sandbox(&self) -> PathBuf {
        self.dir.join("sandbox")
    }

    fn host_root(&self) -> Root {
        Root::Host {
            sandbox: self.sandbox(),
            hidden: self.hidden.clone(),
        }
    }

    fn limits(&self, options: &DockerOptions) -> Limits {
        let wanted = &self.assigned.spec.resources;
        let memory = options.memory.unwrap_or(wanted.mem.mebibytes_as_bytes());
        let ulimits = options.ulimits.iter().map(|limit| Ulimit {
            name: limit.name.clone(),
            soft: limit.soft,
            hard: limit.hard,
        });
        Limits {
            cpu_shares: Some((wanted.cpus.0.saturating_mul(SHARES) / 1000).max(SHARES_MIN)),
            cpu_quota: wanted.cpu_limit.map(|limit| limit.as_f64()),
            memory_bytes: memory_limit(memory),
            pids: options.pids_limit.unwrap_or(Limits::default().pids),
            ulimits: ulimits.collect(),
        }
    }

    /// The app's mounts, then what the image declares and nobody mounted, then our files.
    fn mounts(
        &self,
        options: &DockerOptions,
        process: &Process,
        rootfs: &Path,
    ) -> Result<Vec<Mount>, Error> {
        let mut mounts = Vec::new();
        for mount in &self.assigned.spec.mounts {
            mounts.push(Mount {
                source: self.source(&mount.source)?,
                target: self.target(&mount.path),
                read_only: mount.read_only,
            });
        }
        mounts.extend(options.tmpfs.iter().map(|tmpfs| Mount {
            source: Source::Tmpfs { bytes: tmpfs.size },
            target: PathBuf::from(&tmpfs.path),
            read_only: false,
        }));
        for (n, path) in process.volumes.iter().enumerate() {
            let target = PathBuf::from(path);
            if mounts.iter().all(|mount: &Mount| mount.target != target) {
                let anonymous = self.dir.join("anonymous");
                fs::create_dir_all(&anonymous).map_err(Error::file("create", &anonymous))?;
                let directory = anonymous.join(n.to_string());
                image::prepare_volume(rootfs, path, &directory)?;
                mounts.push(Mount {
                    source: Source::Bind(directory),
                    target,
                    read_only: false,
                });
            }
        }
        for (target, path) in self.files()? {
            if mounts.iter().all(|mount| mount.target != target) {
                mounts.push(Mount {
                    source: Source::Bind(path),
                    target,
                    read_only: false,
                });
            }
        }
        Ok(mounts)
    }

    /// What is mounted; a host path that is missing is made, as Docker does.
    fn source(&self, source: &MountSource) -> Result<Source, Error> {
        match source {
            MountSource::Volume { volume, .. } => {
                let open = self.volumes.get(volume).cloned();
                let directory = open.ok_or_else(|| Error::NotOpen(volume.clone()))?;
                Ok(Source::Bind(directory))
            }
            MountSource::Host(path) => {
                let path = PathBuf::from(path);
                if !path.exists() {
                    fs::create_dir_all(&path).map_err(Error::file("create", &path))?;
                }
                Ok(Source::Bind(path))
            }
        }
    }

    /// A relative path is one in the sandbox, as under Mesos.
    fn target(&self, path: &str) -> PathBuf {
        Path::new(environment::SANDBOX).join(path)
    }

    /// Where the container finds its sandbox, and its own `hosts`, `resolv.conf` and `hostname`
    /// where it is not to see the node's. A command task has its sandbox by its root.
    fn files(&self) -> Result<Vec<(PathBuf, PathBuf)>, Error> {
        let has_image = self.assigned.spec.image().is_some();
        let hostname = &self.overrides.hostname;
        let of_node = |name: &str| fs::read_to_string(etc(name)).unwrap_or_default();
        let contents = match &self.network {
            Some((_, address)) => vec![
                ("hosts", network::hosts(*address, hostname)),
                ("resolv.conf", network::resolv_conf(self.gateway)),
                ("hostname", format!("{hostname}\n")),
            ],
            None if has_image => vec![
                ("hosts", of_node("hosts")),
                ("resolv.conf", of_node("resolv.conf")),
                ("hostname", format!("{hostname}\n")),
            ],
            None => Vec::new(),
        };
        let files = self.dir.join("files");
        fs::create_dir_all(&files).map_err(Error::file("create", &files))?;
        let mut all = Vec::new();
        if has_image {
            all.push((PathBuf::from(environment::SANDBOX), self.sandbox()));
        }
        for (name, text) in contents {
            // The node's root is read-only: a file that it lacks cannot be made there.
            if has_image || etc(name).exists() {
                let path = files.join(name);
                fs::write(&path, text).map_err(Error::file("write", &path))?;
                all.push((etc(name), path));
            }
        }
        Ok(all)
    }
}

fn etc(name: &str) -> PathBuf {
    Path::new("/etc").join(name)
}

/// The configuration of the image that is mounted, whatever its name means by now.
fn mounted(tools: &Tools, image: &ImageContainer, dir: &Path) -> Result<ImageConfig, Error> {
    let id = image::mounted_image(dir).map_err(Error::file("read", &dir.join("image")))?;
    let listed = tools.images.store.images();
    listed
        .into_iter()
        .find(|listed| Some(&listed.image.id) == id.as_ref())
        .map(|listed| listed.image.config)
        .ok_or_else(|| Error::NoImage(image.image.clone()))
}

fn overrides(id: InstanceId, assigned: &Assigned, host: &str, networked: bool) -> Overrides {
    let spec = &assigned.spec;
    let options = spec.image().map(|image| &image.options);
    let arguments = match &spec.command {
        Command::Image => None,
        Command::Shell(line) => Some(Arguments::Shell(line.clone())),
        Command::Args(args) => Some(Arguments::List(args.clone())),
    };
    let mut entrypoint = options.and_then(|options| options.entrypoint.clone());
    // Under Mesos' own engine a shell line takes the place of the entrypoint too.
    let by_mesos = spec
        .image()
        .is_some_and(|image| image.engine == Engine::Mesos);
    if by_mesos && entrypoint.is_none() && matches!(arguments, Some(Arguments::Shell(_))) {
        entrypoint = Some(Vec::new());
    }
    let of_options = options.iter().flat_map(|options| &options.env);
    let env = of_options
        .filter(|(key, _)| !spec.env.contains_key(*key))
        .chain(&spec.env)
        .map(|(key, value)| (key.clone(), value.clone()));
    let own = match networked {
        true => format!(
            "{}-{}",
            assigned.app.name(),
            id.to_string().replace('.', "-")
        ),
        false => host.to_owned(),
    };
    let hostname = options.and_then(|options| options.hostname.clone());
    Overrides {
        entrypoint,
        arguments,
        given_env: environment::given(id, assigned, host),
        env: env.collect(),
        user: options
            .and_then(|options| options.user.clone())
            .or_else(|| spec.user.clone()),
        cwd: options.and_then(|options| options.workdir.clone()),
        stop_signal: options.and_then(|options| options.stop_signal.clone()),
        hostname: hostname.unwrap_or(own),
        tty: false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::{AppId, AppSpec, Goal, Placement, Time};

    use super::*;

    fn wished(engine: Engine, command: Command) -> Overrides {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let image = ImageContainer {
            engine,
            options: DockerOptions {
                env: [pair("A", "option"), pair("B", "option")].into(),
                ..DockerOptions::default()
            },
            ..ImageContainer::default()
        };
        let spec = AppSpec {
            command,
            container: model::spec::Container::Image(Box::new(image)),
            env: [pair("A", "app")].into(),
            ..AppSpec::default()
        };
        let assigned = Assigned {
            app: AppId::parse("/shop/db").expect("an id"),
            slot: 0,
            version: Time(0),
            spec: Arc::new(spec),
            placement: Placement::default(),
            goal: Goal::Run,
        };
        let id = InstanceId { birth: 31, slot: 2 };
        overrides(id, &assigned, "n1", true)
    }

    #[test]
    fn a_little_memory_is_enough_to_start() {
        assert_eq!(memory_limit(0), None);
        assert_eq!(memory_limit(1048), Some(6 << 20));
        assert_eq!(memory_limit(7 << 20), Some(7 << 20));
    }

    #[test]
    fn a_shell_line_keeps_dockers_entrypoint_and_not_mesos() {
        let line = || Command::Shell("date".into());
        assert_eq!(wished(Engine::Docker, line()).entrypoint, None);
        assert_eq!(wished(Engine::Mesos, line()).entrypoint, Some(Vec::new()));
        let args = Command::Args(vec!["date".into()]);
        assert_eq!(wished(Engine::Mesos, args).entrypoint, None);
    }

    #[test]
    fn an_apps_own_environment_wins_over_its_options() {
        let wished = wished(Engine::Docker, Command::Image);
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(wished.env, [pair("B", "option"), pair("A", "app")]);
        assert_eq!(wished.hostname, "db-1f-2");
    }
}
