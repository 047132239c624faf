//! `tandem master`: the deciding role with its API.

use master::Master;
use model::Millis;
use model::state::Settings;

use crate::fault::{Doing, Result};
use crate::settings::keys::{self, GeneralGiven, Given, MasterGiven, NetworkGiven, VolumeGiven};
use crate::settings::{ConfigFile, File};

#[derive(Debug, clap::Args)]
pub struct MasterArgs {
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    general: GeneralGiven,
    #[command(flatten)]
    master: MasterGiven,
    #[command(flatten)]
    volume: VolumeGiven,
    #[command(flatten)]
    network: NetworkGiven,
}

/// All that the master needs to start.
struct Plan {
    log: String,
    master: master::Config,
    api: api::Config,
}

pub fn run(args: MasterArgs) -> Result<()> {
    let file = args.config.read()?;
    let plan = plan(args, file);
    super::log(&plan.log)?;
    super::runtime()?.block_on(super::until_told(serve(plan)))
}

async fn serve(plan: Plan) -> Result<()> {
    let (master, running) = Master::start(plan.master)
        .await
        .doing(|| "start the master".into())?;
    tokio::select! {
        error = running.ended() => Err(error.into()),
        ended = api::serve(master, plan.api) => ended.doing(|| "serve the API".into()),
    }
}

fn plan(args: MasterArgs, file: File) -> Plan {
    let general = args.general.or(file.general()).settle();
    let master = args.master.or(file.master).settle();
    let dir = general.state_dir.join("master");
    let port = master.api.0.first().map_or(8080, |address| address.port());
    Plan {
        log: general.log,
        api: api::Config {
            socket: dir.join("api.sock"),
            advertised: (hostname(&master), port),
            listen: master.api.0,
        },
        master: master::Config {
            dir,
            listen: master.listen,
            settings: Settings {
                subnet: subnet(args.network.or(file.network).settle()),
                node_timeout: Millis::seconds(master.node_timeout.into()),
                volume_size: args.volume.or(file.volume).settle().default_size.0,
                service_ports: (master.service_ports.0, master.service_ports.1),
            },
        },
    }
}

fn hostname(master: &keys::Master) -> String {
    let own = || {
        let uname = rustix::system::uname();
        uname.nodename().to_string_lossy().into_owned()
    };
    master.hostname.clone().unwrap_or_else(own)
}

fn subnet(network: keys::Network) -> (std::net::Ipv4Addr, u8) {
    let network = network.subnet.network();
    (network.address, network.prefix())
}
