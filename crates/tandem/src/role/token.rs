//! A join token from the master on the same machine: how nodes of a local cluster get theirs.

use std::path::Path;
use std::time::Duration;

use serde_json::json;

use crate::client::views::Token;
use crate::client::{Ask, Client};
use crate::fault::Result;

/// Longer than any start of a local cluster takes.
const LIFE_SECONDS: u32 = 3600;
const PAUSE: Duration = Duration::from_millis(100);
/// Every so many tries, what is in the way is said.
const TRIES_UNSAID: u32 = 50;

/// Asks until it is answered: the master may start later than its agents.
pub async fn obtain(socket: &Path) -> String {
    let client = Client::of_socket(socket.to_owned());
    let mut tries = 0;
    loop {
        match ask(&client).await {
            Ok(token) => return token.token,
            Err(fault) if tries % TRIES_UNSAID == TRIES_UNSAID - 1 => {
                tracing::warn!("No token to join with yet: {}", fault.text());
            }
            Err(_) => {}
        }
        tries += 1;
        tokio::time::sleep(PAUSE).await;
    }
}

async fn ask(client: &Client) -> Result<Token> {
    let ask = Ask::post("/tandem/v1/tokens").with(json!({ "lifeSeconds": LIFE_SECONDS }));
    client.ask(ask.for_root()).await?.decode()
}
