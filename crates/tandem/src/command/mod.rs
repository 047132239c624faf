//! The client commands: one file per noun or verb, each with its arguments and its tables.

pub mod apps;
pub mod build;
pub mod debug;
pub mod deploy;
pub mod deployments;
pub mod events;
pub mod exec;
pub mod images;
pub mod logs;
pub mod moves;
pub mod names;
pub mod network;
pub mod nodes;
pub mod ps;
pub mod queue;
pub mod scale;
pub mod status;
pub mod token;
pub mod volumes;
mod wait;

use serde::de::DeserializeOwned;

use crate::client::{Answer, Ask, Client, Connection};
use crate::fault::Result;
use crate::out;

/// What every reading command takes.
#[derive(Debug, clap::Args)]
pub struct Reading {
    /// Print the API's JSON instead of a table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

impl Reading {
    /// Prints what is at `path`: as it came, or rendered.
    async fn show<T: DeserializeOwned>(
        &self,
        path: &str,
        render: impl FnOnce(T) -> String,
    ) -> Result<()> {
        let client = self.connection.open()?;
        let answer = client.ask(Ask::get(path)).await?;
        self.print(&answer, render)
    }

    fn print<T: DeserializeOwned>(
        &self,
        answer: &Answer,
        render: impl FnOnce(T) -> String,
    ) -> Result<()> {
        match self.json {
            true => out::data(&format!(
                "{}\n",
                String::from_utf8_lossy(&answer.body).trim_end()
            )),
            false => out::data(&render(answer.decode()?)),
        }
    }

    fn open(&self) -> Result<Client> {
        self.connection.open()
    }
}
