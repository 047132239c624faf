//! `tandem token create`: what lets a node join.

use serde_json::json;

use crate::client::views::Token;
use crate::client::{Ask, Connection};
use crate::fault::Result;
use crate::{out, talk};

#[derive(Debug, clap::Subcommand)]
pub enum TokenCommand {
    /// Make a token with which one node can join
    Create(CreateArgs),
}

#[derive(Debug, clap::Args)]
pub struct CreateArgs {
    /// Minutes until it expires
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    minutes: u32,
    /// Print the API's JSON instead
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

pub async fn run(command: TokenCommand) -> Result<()> {
    let TokenCommand::Create(args) = command;
    let client = args.connection.open()?;
    let life = json!({ "lifeSeconds": u64::from(args.minutes) * 60 });
    let ask = Ask::post("/tandem/v1/tokens").with(life).for_root();
    let answer = client.ask(ask).await?;
    if args.json {
        return out::data(&format!(
            "{}\n",
            String::from_utf8_lossy(&answer.body).trim_end()
        ));
    }
    let Token { token, expires } = answer.decode()?;
    talk!("for one node, until {expires}; on that node, with this machine's address:");
    talk!("  tandem agent --master ADDRESS:4433 --token {token}");
    out::data(&format!("{token}\n"))
}
