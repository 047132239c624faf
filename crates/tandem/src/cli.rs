//! The command line: every command with its place in the help. What a command does is in `role`
//! and `command`.

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::command::apps::AppCommand;
use crate::command::build::BuildArgs;
use crate::command::debug::DebugCommand;
use crate::command::deploy::DeployArgs;
use crate::command::deployments::DeploymentCommand;
use crate::command::events::EventsArgs;
use crate::command::exec::ExecArgs;
use crate::command::images::ImagesArgs;
use crate::command::logs::LogsArgs;
use crate::command::moves::MoveArgs;
use crate::command::nodes::NodeCommand;
use crate::command::ps::PsArgs;
use crate::command::scale::ScaleArgs;
use crate::command::token::TokenCommand;
use crate::command::volumes::VolumeCommand;
use crate::command::{self, Reading};
use crate::fault::Result;
use crate::role::agent::AgentArgs;
use crate::role::down::DownArgs;
use crate::role::master::MasterArgs;
use crate::role::up::UpArgs;
use crate::{client, out, role, settings};

/// One pool of machines that keeps long-running containers, and their data, running
#[derive(Debug, Parser)]
#[command(
    name = "tandem",
    version,
    propagate_version = false,
    max_term_width = 100
)]
#[command(after_help = "Begin with `tandem up` on one machine, then `tandem deploy FILE`.")]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a cluster of several nodes on this machine
    Up(UpArgs),
    /// Stop the cluster on this machine; its state stays
    Down(DownArgs),
    /// Run the role that decides
    Master(MasterArgs),
    /// Run the role that acts, on every node
    Agent(Box<AgentArgs>),
    /// Show the cluster: nodes, apps, and what waits for what
    Status(Reading),
    /// List nodes
    Nodes(Reading),
    /// Show, drain or give up one node
    #[command(subcommand)]
    Node(NodeCommand),
    /// Deploy apps from files; what is as it should be stays untouched
    Deploy(DeployArgs),
    /// List apps
    Apps(Reading),
    /// Show, restart or remove one app
    #[command(subcommand)]
    App(AppCommand),
    /// Set how many instances an app has
    Scale(ScaleArgs),
    /// List instances, wanted beside seen
    Ps(PsArgs),
    /// Print what an app's instances write
    Logs(LogsArgs),
    /// Run a command in an instance
    Exec(ExecArgs),
    /// List volumes
    Volumes(Reading),
    /// Make, show, move or remove one volume
    #[command(subcommand)]
    Volume(VolumeCommand),
    /// Bring an app with its volumes to another node
    Move(MoveArgs),
    /// List what is being moved
    Moves(Reading),
    /// List what is being deployed
    Deployments(Reading),
    /// Cancel a deployment
    #[command(subcommand)]
    Deployment(DeploymentCommand),
    /// Show why something is not running
    Queue(Reading),
    /// Follow what happens, one line for each event
    Events(EventsArgs),
    /// Show the overlay network and its addresses
    Network(Reading),
    /// Look beneath the cluster: logs of its daemons, a node's network
    #[command(subcommand)]
    Debug(DebugCommand),
    /// Build an image from a directory with a Dockerfile
    Build(BuildArgs),
    /// List images in the cluster's registry
    Images(ImagesArgs),
    /// Make a token with which a node can join
    #[command(subcommand)]
    Token(TokenCommand),
    /// Print settings
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print completions for a shell
    Completions { shell: Shell },
    /// Print the version
    Version,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print every setting with its default, as a settings file
    Default,
}

pub fn run(cli: Cli) -> Result<()> {
    match cli.command {
        // These run on threads and runtimes of their own.
        Command::Up(args) => role::up::run(args),
        Command::Down(args) => role::down::run(args),
        Command::Master(args) => role::master::run(args),
        Command::Agent(args) => role::agent::run(*args),
        Command::Config(ConfigCommand::Default) => out::data(&settings::default_file()),
        Command::Completions { shell } => completions(shell),
        Command::Version => out::data(&format!("tandem {}\n", env!("CARGO_PKG_VERSION"))),
        Command::Debug(command) => command::debug::run(command),
        command => client::runtime()?.block_on(ask(command)),
    }
}

/// The commands that talk to the cluster.
async fn ask(command: Command) -> Result<()> {
    match command {
        Command::Status(reading) => command::status::run(reading).await,
        Command::Nodes(reading) => command::nodes::list(reading).await,
        Command::Node(command) => command::nodes::run(command).await,
        Command::Deploy(args) => command::deploy::run(args).await,
        Command::Apps(reading) => command::apps::list(reading).await,
        Command::App(command) => command::apps::run(command).await,
        Command::Scale(args) => command::scale::run(args).await,
        Command::Ps(args) => command::ps::run(args).await,
        Command::Logs(args) => command::logs::run(args).await,
        Command::Exec(args) => command::exec::run(args).await,
        Command::Volumes(reading) => command::volumes::list(reading).await,
        Command::Volume(command) => command::volumes::run(command).await,
        Command::Move(args) => command::moves::run(args).await,
        Command::Moves(reading) => command::moves::list(reading).await,
        Command::Deployments(reading) => command::deployments::list(reading).await,
        Command::Deployment(command) => command::deployments::run(command).await,
        Command::Queue(reading) => command::queue::run(reading).await,
        Command::Events(args) => command::events::run(args).await,
        Command::Network(reading) => command::network::run(reading).await,
        Command::Build(args) => command::build::run(args).await,
        Command::Images(args) => command::images::run(args).await,
        Command::Token(command) => command::token::run(command).await,
        Command::Up(_)
        | Command::Down(_)
        | Command::Master(_)
        | Command::Agent(_)
        | Command::Config(_)
        | Command::Completions { .. }
        | Command::Version
        | Command::Debug(_) => unreachable!("`run` handles these itself"),
    }
}

fn completions(shell: Shell) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "tandem", &mut script);
    out::data(&String::from_utf8_lossy(&script))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// The help of a command and of all below it that are shown.
    fn helps(command: &mut clap::Command, path: &str, text: &mut String) {
        let help = command.render_help().to_string();
        text.push_str(&format!("$ tandem{path} -h\n{help}\n"));
        for below in command.get_subcommands_mut() {
            if !below.is_hide_set() && below.get_name() != "help" {
                let path = format!("{path} {}", below.get_name());
                helps(below, &path, text);
            }
        }
    }

    #[test]
    fn help_reads_well() {
        let mut command = Cli::command().term_width(100);
        command.build();
        let mut text = String::new();
        helps(&mut command, "", &mut text);
        insta::assert_snapshot!(text);
    }

    #[test]
    fn a_command_that_is_misspelt_is_guessed() {
        let error = Cli::try_parse_from(["tandem", "stauts"]).unwrap_err();
        assert!(error.to_string().contains("'status'"), "{error}");
    }

    #[test]
    fn completions_know_the_commands() {
        let mut script = Vec::new();
        clap_complete::generate(Shell::Bash, &mut Cli::command(), "tandem", &mut script);
        assert!(String::from_utf8(script).unwrap().contains("deployments"));
    }
}
