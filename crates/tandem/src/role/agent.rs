//! `tandem agent`: the acting role, on every node. What nobody said about the machine is read from
//! it here.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::{Machine, Mebibytes, Quantity, Resources};
use tokio::signal::unix::{SignalKind, signal};

use crate::fault::{Doing, Exit, Fault, Result};
use crate::settings::keys::{self, AgentGiven, GeneralGiven, Given, RegistryGiven, VolumeGiven};
use crate::settings::{ConfigFile, File};

/// What is left to the machine itself.
const OFFERED_PERCENT: u64 = 80;
/// For the instances of a machine that goes down.
const STOP_PATIENCE: Duration = Duration::from_secs(8);

#[derive(Debug, clap::Args)]
pub struct AgentArgs {
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    general: GeneralGiven,
    #[command(flatten)]
    agent: AgentGiven,
    #[command(flatten)]
    registry: RegistryGiven,
    #[command(flatten)]
    volume: VolumeGiven,
}

/// All that the agent needs to start.
struct Plan {
    log: String,
    agent: agent::Config,
    token_socket: Option<PathBuf>,
}

pub fn run(args: AgentArgs) -> Result<()> {
    let file = args.config.read()?;
    let plan = plan(args, file)?;
    super::log(&plan.log)?;
    super::runtime()?.block_on(live(plan))
}

/// SIGTERM ends the agent alone, and its containers run on. SIGPWR is what init systems are told
/// of a machine that goes down.
async fn live(plan: Plan) -> Result<()> {
    let state_dir = plan.agent.state_dir.clone();
    let power = SignalKind::from_raw(rustix::process::Signal::POWER.as_raw());
    let mut power = signal(power).doing(|| "listen for signals".into())?;
    tokio::select! {
        ended = super::until_told(serve(plan)) => ended,
        _ = power.recv() => agent::stop_all(&state_dir, STOP_PATIENCE)
            .await
            .doing(|| "stop the instances".into()),
    }
}

async fn serve(plan: Plan) -> Result<()> {
    let mut config = plan.agent;
    let identity = protocol::Identity::load(&config.state_dir.join("identity"))
        .doing(|| "read this node's identity".into())?;
    if let (None, None, Some(socket)) = (identity, &config.token, plan.token_socket) {
        config.token = Some(super::token::obtain(&socket).await);
    }
    agent::run(config).await.doing(|| "run the agent".into())
}

fn plan(args: AgentArgs, file: File) -> Result<Plan> {
    let general = args.general.or(file.general()).settle();
    let agent = args.agent.or(file.agent).settle();
    let registry = args.registry.or(file.registry).settle();
    let volume = args.volume.or(file.volume).settle();
    let state_dir = general.state_dir.join("agent");
    let master = master(&agent)?;
    std::fs::create_dir_all(&state_dir).doing(|| format!("create {}", state_dir.display()))?;
    let machine = machine(&agent, master, &state_dir)?;
    let cgroup = agent
        .cgroup
        .unwrap_or_else(|| format!("tandem/{}", machine.name));
    let mut hidden = agent.hidden.0;
    hidden.push(general.state_dir);
    Ok(Plan {
        log: general.log,
        token_socket: agent.token_socket,
        agent: agent::Config {
            state_dir,
            master,
            token: agent.token,
            machine,
            cgroup_base: cgroup.trim_matches('/').to_owned(),
            registries: image::Registries {
                cluster: registry.address,
                mirrors: registry.mirrors.0,
            },
            own_namespace: agent.own_namespace,
            upstreams: agent.upstreams.map(|list| list.0),
            hidden,
            log: container::LogLimits {
                bytes: agent.log_size.0.mebibytes_as_bytes(),
                files: agent.log_files.max(1),
            },
            pool_size: volume.pool_size.0,
            image_marks: agent::ImageMarks {
                high: agent.images_high.0,
                low: agent.images_low.0,
                free: agent.images_free.0.mebibytes_as_bytes(),
            },
        },
    })
}

fn master(agent: &keys::Agent) -> Result<SocketAddr> {
    let Some(master) = &agent.master else {
        let fault = Fault::new(Exit::Usage, "an agent needs its master's address");
        return Err(
            fault.hint("give it by --master ADDRESS:4433, TANDEM_AGENT_MASTER or `[agent] master`")
        );
    };
    let resolved = master.to_socket_addrs();
    let mut addresses = resolved
        .doing(|| format!("find the master `{master}`"))
        .hint(|| "it looks like 10.0.15.10:4433".into())?;
    addresses.find(SocketAddr::is_ipv4).ok_or_else(|| {
        Fault::new(
            Exit::Failed,
            format!("the master `{master}` has no IPv4 address"),
        )
    })
}

fn machine(agent: &keys::Agent, master: SocketAddr, state_dir: &Path) -> Result<Machine> {
    let own_name = || {
        rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned()
    };
    let address = match agent.address {
        Some(address) => address,
        None => facing(master)?,
    };
    Ok(Machine {
        name: agent.name.clone().unwrap_or_else(own_name),
        hostname: agent
            .hostname
            .clone()
            .unwrap_or_else(|| address.to_string()),
        address,
        resources: resources(agent, state_dir)?,
        attributes: agent.attributes.0.clone(),
        ports: (agent.ports.0, agent.ports.1),
        stream_port: agent.stream_port,
        allow: agent.allow.0.clone(),
        // The agent finds it out.
        boot: String::new(),
        version: env!("CARGO_PKG_VERSION").into(),
    })
}

/// This machine's address on the way to the master. Nothing is sent.
fn facing(master: SocketAddr) -> Result<Ipv4Addr> {
    let found = || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect(master)?;
        socket.local_addr()
    };
    let address =
        found().doing(|| format!("find this machine's address on the way to {master}"))?;
    match address.ip() {
        IpAddr::V4(address) if !address.is_loopback() => Ok(address),
        _ => Err(Fault::new(
            Exit::Usage,
            format!("this machine reaches {master} by its loopback, which other nodes cannot"),
        )
        .hint("name the node's address by --address ADDRESS")),
    }
}

fn resources(agent: &keys::Agent, state_dir: &Path) -> Result<Resources> {
    let cpus = match agent.cpus {
        Some(cpus) => Quantity::from_f64(cpus)
            .ok_or_else(|| Fault::new(Exit::Usage, format!("{cpus} is no number of processors")))?,
        None => {
            let all = std::thread::available_parallelism().doing(|| "count processors".into())?;
            Quantity::whole(all.get() as u64)
        }
    };
    let mem = match agent.mem {
        Some(mem) => mem.0,
        None => {
            let system = rustix::system::sysinfo();
            offered((system.totalram as u64).saturating_mul(system.mem_unit.into()))
        }
    };
    let disk = match agent.disk {
        Some(disk) => disk.0,
        None => {
            let free = rustix::fs::statvfs(state_dir)
                .doing(|| format!("measure the disk of {}", state_dir.display()))?;
            offered(free.f_bavail.saturating_mul(free.f_frsize))
        }
    };
    Ok(Resources { cpus, mem, disk })
}

/// The share of so many bytes that apps may have, in whole MiB.
fn offered(bytes: u64) -> Mebibytes {
    Mebibytes::whole(bytes / 100 * OFFERED_PERCENT / 1_048_576)
}
