//! Containers: the image, its options, its mounts and its port mappings.

use std::collections::BTreeSet;

use model::VolumeId;
use model::quantity::Quantity;
use model::spec::{
    AppSpec, Container, Engine, ImageContainer, Mount, MountSource, Network, VolumeForm,
};

use super::{has_image, network, parameters};
use crate::fault::Faults;
use crate::shape::{self, App};

/// Below this directory of the node, a path was a Flocker volume.
const FLOCKER: &str = "/flocker/";

pub(super) fn read(app: &App, spec: &mut AppSpec, faults: &mut Faults) {
    let given = app.container.clone().unwrap_or_default();
    let mappings = given.port_mappings.as_deref().unwrap_or_default();
    if spec.network == Network::Host && !mappings.is_empty() {
        faults.at(
            "/container/portMappings",
            "port mappings need a bridge or container network, this app is on the host's",
        );
    } else {
        spec.ports
            .extend(mappings.iter().enumerate().map(|(index, mapping)| {
                let path = format!("/container/portMappings({index})");
                network::mapping(&path, mapping, &spec.network, faults)
            }));
    }
    let volumes = given.volumes.iter().flatten().enumerate();
    spec.mounts = volumes
        .filter_map(|(i, v)| mount(&format!("/container/volumes({i})"), v, faults))
        .collect();
    if given.linux_info.is_some() {
        faults.at("/container/linuxInfo", "is not supported yet");
    }
    spec.container = match (&app.container, &spec.network) {
        (Some(_), _) => container(&given, spec, faults),
        (None, Network::Host) => Container::None,
        (None, Network::Bridge | Network::Container(_)) => Container::Mesos,
    };
    check_mounts(spec, faults);
}

fn container(given: &shape::Container, spec: &mut AppSpec, faults: &mut Faults) -> Container {
    let engine = match given.kind.as_deref() {
        None | Some("DOCKER") => Engine::Docker,
        Some("MESOS") => Engine::Mesos,
        Some(other) => {
            faults.at(
                "/container/type",
                format!("'{other}' is neither DOCKER nor MESOS"),
            );
            Engine::Docker
        }
    };
    match (&given.docker, engine) {
        (None, Engine::Mesos) => Container::Mesos,
        (None, Engine::Docker) => {
            faults.at(
                "/container/docker",
                "a DOCKER container needs 'docker' with an image",
            );
            Container::Mesos
        }
        (Some(docker), _) => Container::Image(Box::new(image(docker, engine, spec, faults))),
    }
}

fn image(
    docker: &shape::Docker,
    engine: Engine,
    spec: &mut AppSpec,
    faults: &mut Faults,
) -> ImageContainer {
    let name = docker.image.clone().unwrap_or_default();
    if name.is_empty()
        || name.len() > 1024
        || name.contains(|c: char| c.is_whitespace() || c.is_control())
    {
        faults.at(
            "/container/docker/image",
            "must be an image's name without spaces, like nginx:1.25 or registry:5000/group/name:tag",
        );
    }
    if docker.pull_config.is_some() {
        faults.at(
            "/container/docker/pullConfig",
            "there is no secret store yet: give the agents the registry's credentials",
        );
    }
    let asked = parameters::read(docker.parameters.as_deref().unwrap_or_default(), faults);
    spec.mounts.extend(asked.mounts);
    publish(asked.published, spec, faults);
    ImageContainer {
        engine,
        image: name,
        force_pull: docker.force_pull_image.unwrap_or(false),
        privileged: docker.privileged.unwrap_or(false),
        parameters: asked.parameters,
        options: asked.options,
    }
}

/// A `publish` is a port mapping; one that equals a mapping is the same port, as clients read
/// both and send both back.
fn publish(published: Vec<parameters::Published>, spec: &mut AppSpec, faults: &mut Faults) {
    for one in published {
        if spec.network == Network::Host {
            faults.at(
                one.path,
                "publish needs a bridge or container network, this app is on the host's",
            );
            continue;
        }
        let twin = spec.ports.iter_mut().find(|port| {
            !port.published
                && (port.container, port.host, port.protocol)
                    == (one.port.container, one.port.host, one.port.protocol)
        });
        match twin {
            Some(port) => port.published = true,
            None => spec.ports.push(one.port),
        }
    }
}

fn mount(path: &str, given: &shape::Volume, faults: &mut Faults) -> Option<Mount> {
    let target = given.container_path.clone().unwrap_or_default();
    if let Err(fault) = absolute(&target) {
        faults.at(format!("{path}/containerPath"), fault);
    }
    let read_only = match given.mode.as_deref() {
        None | Some("RW") => false,
        Some("RO") => true,
        Some(other) => {
            faults.at(
                format!("{path}/mode"),
                format!("'{other}' is neither RO nor RW"),
            );
            false
        }
    };
    Some(Mount {
        path: trimmed(&target),
        source: source(path, given, faults)?,
        read_only,
    })
}

fn source(path: &str, given: &shape::Volume, faults: &mut Faults) -> Option<MountSource> {
    if given.persistent.is_some() {
        faults.at(
            format!("{path}/persistent"),
            "local persistent volumes are not supported yet: use a named volume, hostPath \"/flocker/NAME\" or external",
        );
        return None;
    }
    if given.secret.is_some() {
        faults.at(format!("{path}/secret"), "there is no secret store yet");
        return None;
    }
    match (&given.host_path, &given.external) {
        (Some(host), None) => host_path(host)
            .map_err(|fault| faults.at(format!("{path}/hostPath"), fault))
            .ok(),
        (None, Some(given)) => external(&format!("{path}/external"), given, faults),
        (Some(_), Some(_)) | (None, None) => {
            faults.at(path, "a volume has either hostPath or external");
            None
        }
    }
}

/// A directory of the node, or a volume by Flocker's convention.
pub(super) fn host_path(path: &str) -> Result<MountSource, String> {
    absolute(path)?;
    let path = trimmed(path);
    if path == FLOCKER.trim_end_matches('/') {
        return Err("name the volume: /flocker/NAME".to_owned());
    }
    let Some(name) = path.strip_prefix(FLOCKER) else {
        return Ok(MountSource::Host(path));
    };
    Ok(MountSource::Volume {
        volume: VolumeId::parse(name).map_err(|fault| fault.to_string())?,
        size: None,
        form: VolumeForm::Flocker,
    })
}

fn external(path: &str, given: &shape::External, faults: &mut Faults) -> Option<MountSource> {
    let size = given.size.map(|gibibytes| {
        if gibibytes < 1 {
            faults.at(
                format!("{path}/size"),
                "error.min: must be at least 1 (GiB)",
            );
        }
        Quantity::whole(1024).saturating_mul(u64::try_from(gibibytes).unwrap_or(0))
    });
    let volume = VolumeId::parse(given.name.as_deref().unwrap_or_default())
        .map_err(|fault| faults.at(format!("{path}/name"), fault.to_string()))
        .ok()?;
    Some(MountSource::Volume {
        volume,
        size,
        form: VolumeForm::External {
            provider: given.provider.clone().unwrap_or_else(|| "dvdi".to_owned()),
            options: given.options.clone().unwrap_or_default(),
        },
    })
}

/// Whether a path is absolute and stays where it says.
pub(super) fn absolute(path: &str) -> Result<(), String> {
    if !path.starts_with('/') {
        return Err(format!("'{path}' must be an absolute path"));
    }
    let harmless = !path.contains('\0') && path.split('/').all(|part| part != ".." && part != ".");
    let somewhere = !trimmed(path).is_empty();
    (harmless && somewhere)
        .then_some(())
        .ok_or_else(|| format!("'{path}' must name a path below /, without '.' and '..'"))
}

/// Without repeated and trailing slashes.
pub(crate) fn trimmed(path: &str) -> String {
    path.split('/')
        .filter(|part| !part.is_empty())
        .flat_map(|part| ["/", part])
        .collect()
}

fn check_mounts(spec: &AppSpec, faults: &mut Faults) {
    let mut paths = BTreeSet::new();
    for mount in &spec.mounts {
        if !paths.insert(&mount.path) {
            faults.at(
                "/container/volumes",
                format!("two volumes have the container path {}", mount.path),
            );
        }
    }
    let mut volumes = BTreeSet::new();
    for (volume, _) in spec.volumes() {
        if !volumes.insert(volume) {
            faults.at(
                "/container/volumes",
                format!("volume '{volume}' is given twice"),
            );
        }
    }
    if !spec.mounts.is_empty() && !has_image(&spec.container) {
        faults.at(
            "/container/volumes",
            "volumes need a container with an image: a command task sees its node's files read-only",
        );
    }
}
