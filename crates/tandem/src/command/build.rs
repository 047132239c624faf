//! `tandem build`: an image of a directory, by buildah, and to the cluster's registry with it.

use std::path::PathBuf;

use image::{Build, Builder};

use crate::fault::{Exit, Fault, Result};
use crate::settings::ConfigFile;
use crate::settings::keys::{GeneralGiven, Given, RegistryGiven};
use crate::{out, talk};

/// Where a local cluster's registry is on its machine.
const REGISTRY: &str = "127.0.0.1:5000";

/// The cluster's registry, as settings name it.
#[derive(Debug, clap::Args)]
pub struct RegistryArgs {
    #[command(flatten)]
    pub config: ConfigFile,
    /// The cluster's registry [default: 127.0.0.1:5000]
    #[arg(
        long,
        env = "TANDEM_REGISTRY_ADDRESS",
        hide_env_values = true,
        value_name = "HOST:PORT"
    )]
    registry: Option<String>,
}

#[derive(Debug, clap::Args)]
pub struct BuildArgs {
    /// Directory with a Dockerfile
    dir: PathBuf,
    /// The image's name; without a host it is the cluster registry's
    #[arg(short, long)]
    tag: String,
    /// Push it to where its name says
    #[arg(long)]
    push: bool,
    #[command(flatten)]
    registry: RegistryArgs,
    #[command(flatten)]
    general: GeneralGiven,
}

impl RegistryArgs {
    /// `host:port`, and the rest of what the file says.
    pub fn settle(self) -> Result<(String, crate::settings::File)> {
        let file = self.config.read()?;
        let given = RegistryGiven {
            address: self.registry,
            ..RegistryGiven::default()
        };
        let address = given.or(file.registry.clone()).settle().address;
        Ok((address.unwrap_or_else(|| REGISTRY.into()), file))
    }
}

pub async fn run(args: BuildArgs) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        let fault = Fault::new(Exit::Refused, "building images needs root");
        return Err(fault.hint("run it as root, with sudo for instance"));
    }
    let (registry, file) = args.registry.settle()?;
    let general = args.general.or(file.general()).settle();
    let build = Build {
        context: &args.dir,
        tag: &args.tag,
        push: args.push,
    };
    let builder = Builder::new(&general.state_dir.join("builder"), &registry)?;
    let built = builder.build(&build, |line| talk!("{line}")).await;
    builder.rest().await?;
    let image = built.map_err(|error| explained(error, &registry))?;
    out::data(&format!("{image}\n"))
}

fn explained(error: image::BuildError, registry: &str) -> Fault {
    let hint = match &error {
        image::BuildError::Push { .. } => Some(format!(
            "is the registry at {registry} up? name another by --registry HOST:PORT"
        )),
        _ => None,
    };
    let fault = Fault::from(error);
    match hint {
        Some(hint) => fault.hint(hint),
        None => fault,
    }
}
