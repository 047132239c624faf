//! `tandem scale`: how many instances an app wants.

use serde_json::json;

use super::names::explain_app;
use super::wait::{self, Waiting};
use crate::client::views::Deployed;
use crate::client::{Ask, Connection, path};
use crate::fault::Result;
use crate::out;

#[derive(Debug, clap::Args)]
pub struct ScaleArgs {
    /// The app's id, such as shop/web
    app: String,
    /// How many instances it should have
    #[arg(value_parser = number, allow_negative_numbers = true)]
    instances: u32,
    /// Return when they run
    #[arg(long)]
    wait: bool,
    /// Go on although another deployment holds the app
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    connection: Connection,
}

fn number(text: &str) -> Result<u32, String> {
    let number = text.parse();
    number.map_err(|_| format!("`{text}` is not a number of instances"))
}

pub async fn run(args: ScaleArgs) -> Result<()> {
    let id = path::app_id(&args.app);
    let client = args.connection.open()?;
    let ask = Ask::patch(
        format!("{}?force={}", path::app(&id), args.force),
        json!({ "instances": args.instances }),
    );
    let deployed: Deployed = match client.ask(ask).await {
        Ok(answer) => answer.decode()?,
        Err(fault) => return Err(explain_app(fault, &client, &id).await),
    };
    out::data(&format!(
        "{id} scales to {}, deployment {}\n",
        args.instances, deployed.deployment_id
    ))?;
    match args.wait {
        true => wait::until_running(&client, &Waiting::new(deployed.deployment_id, [id])).await,
        false => Ok(()),
    }
}
