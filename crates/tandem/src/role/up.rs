//! `tandem up`: a whole cluster on this machine. `local` builds and supervises it; this says which
//! programs its roles are, and tells when everything answers.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use local::{Options, Ports, Program, Ready, Roles, Up};

use crate::client::Client;
use crate::client::views::Status;
use crate::fault::{Doing, Exit, Fault, Result};
use crate::settings::ConfigFile;
use crate::settings::keys::{
    General, GeneralGiven, Given, Local, LocalGiven, Network, NetworkGiven,
};
use crate::talk;

/// How long a node may take to join after its machine is up.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug, clap::Args)]
pub struct UpArgs {
    /// Attributes for constraints: `disk:ssd` for every node, `n1=disk:ssd` for one
    #[arg(
        long,
        num_args = 1..,
        value_name = "[NODE=]KEY:VALUE",
        env = "TANDEM_LOCAL_ATTRIBUTES",
        hide_env_values = true,
        value_delimiter = ','
    )]
    attributes: Vec<local::Attribute>,
    /// Return when the cluster is up; `tandem down` stops it
    #[arg(long)]
    detach: bool,
    #[command(flatten)]
    place: PlaceArgs,
}

/// Which local cluster: what `up` and `down` must agree on.
#[derive(Debug, clap::Args)]
pub struct PlaceArgs {
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    general: GeneralGiven,
    #[command(flatten)]
    local: LocalGiven,
    #[command(flatten)]
    network: NetworkGiven,
}

pub fn run(args: UpArgs) -> Result<()> {
    let options = Options {
        attributes: args.attributes,
        ..args.place.options()?
    };
    if !args.detach {
        tell_when_ready(options.clone());
    }
    let up =
        local::up(&options, args.detach).map_err(|error| fault(&error, "start a local cluster"))?;
    match up {
        Up::Stopped => Ok(()),
        Up::Detached { .. } => {
            await_nodes(&options)?;
            talk!("{}", summary(&options));
            Ok(())
        }
        Up::Running(running) => {
            match running.added.as_slice() {
                [] => talk!("the cluster runs already (process {})", running.pid),
                added => talk!("added {} to the running cluster", added.join(", ")),
            }
            let options = Options {
                nodes: u8::try_from(running.nodes.len()).unwrap_or(u8::MAX),
                ..options
            };
            await_nodes(&options)?;
            talk!("{}", summary(&options));
            Ok(())
        }
    }
}

impl PlaceArgs {
    pub fn options(self) -> Result<Options> {
        let file = self.config.read()?;
        let config = self.config.absolute()?;
        let mut general = self.general.or(file.general()).settle();
        let state_dir = std::path::absolute(&general.state_dir);
        general.state_dir = state_dir.doing(|| "find the state directory".into())?;
        let local = self.local.or(file.local).settle();
        let network = self.network.or(file.network).settle();
        Ok(options(config.as_deref(), general, local, &network))
    }
}

fn options(config: Option<&Path>, general: General, local: Local, network: &Network) -> Options {
    Options {
        nodes: local.nodes,
        overlay: network.subnet.network(),
        ports: Ports {
            api: local.api_port,
            registry: local.registry_port,
            agents: local.agents_port,
        },
        ready: Some(Ready {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, local.api_port)),
            path: "/ping".into(),
        }),
        machine: local.machine,
        cgroup: local.cgroup.clone(),
        log_dir: local.log_dir.clone(),
        state_dir: general.state_dir.clone(),
        ..Options::new(Roles {
            master: Program::new(master_command(config, &general, &local, network)),
            agent: Program::new(agent_command(config, &general, &local)),
        })
    }
}

fn master_command(
    config: Option<&Path>,
    general: &General,
    local: &Local,
    network: &Network,
) -> Vec<String> {
    let api = local.api_port;
    let mut command = vec![
        "/proc/self/exe".into(),
        "master".into(),
        format!("--state-dir={}", general.state_dir.display()),
        format!("--log={}", general.log),
        format!("--listen={{address}}:{}", local.agents_port),
        format!("--api={{address}}:{api},127.0.0.1:{api}"),
        "--hostname={address}".into(),
        format!("--network-subnet={}", network.subnet),
    ];
    command.extend(config.map(|file| format!("--config={}", file.display())));
    command
}

fn agent_command(config: Option<&Path>, general: &General, local: &Local) -> Vec<String> {
    let machine = local.machine.address;
    let state_dir = general.state_dir.display();
    let mut command = vec![
        "/proc/self/exe".into(),
        "agent".into(),
        "--state-dir={state}".into(),
        format!("--log={}", general.log),
        "--name={name}".into(),
        "--address={address}".into(),
        "--hostname={address}".into(),
        "--attributes={attributes}".into(),
        "--mem={memory}MiB".into(),
        format!("--cgroup={}/{{name}}", local.cgroup),
        "--own-namespace=true".into(),
        format!("--hidden={state_dir},{}", local.log_dir.display()),
        format!("--master={machine}:{}", local.agents_port),
        format!("--token-socket={state_dir}/master/api.sock"),
        format!("--registry-address={machine}:{}", local.registry_port),
    ];
    command.extend(config.map(|file| format!("--config={}", file.display())));
    command
}

/// In the foreground `local` holds this thread until the end.
fn tell_when_ready(options: Options) {
    std::thread::spawn(move || {
        if await_nodes(&options).is_ok() {
            talk!("{}", summary(&options));
        }
    });
}

/// Returns when every node has joined.
fn await_nodes(options: &Options) -> Result<()> {
    let wanted = u64::from(options.nodes);
    let client = Client::of_loopback(options.ports.api);
    let runtime = crate::client::runtime()?;
    let patience = Instant::now() + PATIENCE;
    runtime.block_on(async {
        loop {
            let status = client.get::<Status>("/tandem/v1/status").await;
            match status {
                Ok(status) if status.nodes.here >= wanted => return Ok(()),
                answer if Instant::now() > patience => {
                    let here = answer.map_or(0, |status| status.nodes.here);
                    let said = format!(
                        "only {here} of {wanted} nodes joined within {} s",
                        PATIENCE.as_secs()
                    );
                    let logs = format!("their logs are in {}", options.log_dir.display());
                    return Err(Fault::new(Exit::Failed, said).hint(logs));
                }
                _ => tokio::time::sleep(PAUSE).await,
            }
        }
    })
}

fn summary(options: &Options) -> String {
    let machine = options.machine.address;
    let Ports { api, registry, .. } = options.ports;
    let nodes: Vec<String> = (1..=options.nodes)
        .filter_map(|number| options.node(number).ok())
        .map(|node| format!("{} {}", node.name, node.address))
        .collect();
    format!(
        "API       http://127.0.0.1:{api} and http://{machine}:{api}\n\
         Registry  127.0.0.1:{registry} and {machine}:{registry}\n\
         Nodes     {}\n\
         State     {}\n\
         Logs      {}\n\
         Next      tandem deploy FILE, tandem status; tandem down stops it",
        nodes.join(", "),
        options.state_dir.display(),
        options.log_dir.display(),
    )
}

/// A failure of `local` with its cure.
pub fn fault(error: &local::Error, doing: &str) -> Fault {
    let mut said = doing.to_owned();
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        said.push_str(&format!(": {error}"));
        cause = error.source();
    }
    match error {
        local::Error::Refused(refusal) => Fault::new(Exit::Refused, said).hint(refusal.cure()),
        _ => Fault::new(Exit::Failed, said),
    }
}
