//! `tandem debug`: looking beneath the cluster, at what its daemons say and what the kernel has.

mod logs;
mod network;

use clap::Subcommand;

use super::Reading;
use crate::client;
use crate::fault::Result;

#[derive(Debug, Subcommand)]
pub enum DebugCommand {
    /// Print what the daemons of the cluster on this machine logged
    Logs(logs::LogsArgs),
    /// Compare a node's part of the network with what it should be
    Network {
        /// The node's name, hostname or address
        node: String,
        #[command(flatten)]
        reading: Reading,
    },
}

pub fn run(command: DebugCommand) -> Result<()> {
    match command {
        DebugCommand::Logs(args) => logs::run(args),
        DebugCommand::Network { node, reading } => {
            client::runtime()?.block_on(network::run(&node, reading))
        }
    }
}
