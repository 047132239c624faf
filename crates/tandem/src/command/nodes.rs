//! `tandem nodes`, and `tandem node` on one of them.

use super::Reading;
use super::names::explain_node;
use crate::client::path::encoded;
use crate::client::views::Node;
use crate::client::{Ask, Connection};
use crate::fault::Result;
use crate::table::{self, cpus, mebibytes};
use crate::{ask, out};

#[derive(Debug, clap::Subcommand)]
pub enum NodeCommand {
    /// Show one node
    Show(ShowArgs),
    /// Place nothing new on a node
    Drain(NodeArgs),
    /// Use a drained node again
    Undrain(NodeArgs),
    /// Say that a silent node will never come back
    Lost(LostArgs),
}

#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    /// The node's name, hostname or address
    node: String,
    #[command(flatten)]
    reading: Reading,
}

#[derive(Debug, clap::Args)]
pub struct NodeArgs {
    /// The node's name, hostname or address
    node: String,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, clap::Args)]
pub struct LostArgs {
    /// Do not ask
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    node: NodeArgs,
}

pub async fn list(reading: Reading) -> Result<()> {
    reading
        .show("/tandem/v1/nodes", |nodes: Vec<Node>| render(&nodes))
        .await
}

pub async fn run(command: NodeCommand) -> Result<()> {
    match command {
        NodeCommand::Show(args) => show(args).await,
        NodeCommand::Drain(args) => tell(&args, "drain", "is drained").await,
        NodeCommand::Undrain(args) => tell(&args, "undrain", "is used again").await,
        NodeCommand::Lost(args) => {
            let what = format!("give up {} and what runs there", args.node.node);
            ask::consent(args.yes, &what)?;
            tell(&args.node, "lost", "is given up").await
        }
    }
}

async fn show(args: ShowArgs) -> Result<()> {
    let client = args.reading.open()?;
    let path = format!("/tandem/v1/nodes/{}", encoded(&args.node));
    match client.ask(Ask::get(path)).await {
        Ok(answer) => args.reading.print(&answer, |node: Node| render_one(&node)),
        Err(fault) => Err(explain_node(fault, &client, &args.node).await),
    }
}

async fn tell(args: &NodeArgs, verb: &str, done: &str) -> Result<()> {
    let client = args.connection.open()?;
    let ask = Ask::post(format!("/tandem/v1/nodes/{}/{verb}", encoded(&args.node)));
    let ask = if verb == "lost" { ask.for_root() } else { ask };
    match client.ask(ask).await {
        Ok(_) => out::data(&format!("{} {done}\n", args.node)),
        Err(fault) => Err(explain_node(fault, &client, &args.node).await),
    }
}

fn render(nodes: &[Node]) -> String {
    if nodes.is_empty() {
        return "no nodes yet; `tandem token create` says how one joins\n".into();
    }
    let row = |node: &Node| {
        [
            node.name.clone(),
            node.address.clone(),
            state(node),
            node.instances.to_string(),
            format!("{}/{}", cpus(node.used.cpus), cpus(node.resources.cpus)),
            format!(
                "{}/{}",
                mebibytes(node.used.mem),
                mebibytes(node.resources.mem)
            ),
            attributes(node),
        ]
    };
    let rows: Vec<_> = nodes.iter().map(row).collect();
    let headers = [
        "NODE",
        "ADDRESS",
        "STATE",
        "INSTANCES",
        "CPUS",
        "MEM",
        "ATTRIBUTES",
    ];
    table::render(headers, &rows)
}

fn render_one(node: &Node) -> String {
    let used = |used: String, of: String| format!("{used} of {of} used");
    table::facts(&[
        ("NODE", node.name.clone()),
        ("HOSTNAME", node.hostname.clone()),
        ("ADDRESS", node.address.clone()),
        ("OVERLAY", node.overlay.clone()),
        ("STATE", state(node)),
        (
            "SINCE",
            node.since.clone().unwrap_or_else(|| node.joined.clone()),
        ),
        ("INSTANCES", node.instances.to_string()),
        (
            "CPUS",
            used(cpus(node.used.cpus), cpus(node.resources.cpus)),
        ),
        (
            "MEM",
            used(mebibytes(node.used.mem), mebibytes(node.resources.mem)),
        ),
        (
            "DISK",
            used(mebibytes(node.used.disk), mebibytes(node.resources.disk)),
        ),
        ("ATTRIBUTES", attributes(node)),
        ("VERSION", node.version.clone()),
    ])
}

fn state(node: &Node) -> String {
    let state = match (node.presence.as_str(), node.session) {
        ("here", true) => "here",
        ("here", false) => "silent",
        (other, _) => other,
    };
    match node.draining {
        true => format!("{state}, drained"),
        false => state.to_owned(),
    }
}

fn attributes(node: &Node) -> String {
    let pairs = node
        .attributes
        .iter()
        .map(|(key, value)| format!("{key}:{value}"));
    pairs.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes() -> Vec<Node> {
        serde_json::from_str(
            r#"[{"name":"n1","hostname":"10.0.15.11","address":"10.0.15.11","overlay":"10.32.0.2",
            "presence":"here","session":true,"draining":true,"resources":{"cpus":2,"mem":2048,"disk":10240},
            "used":{"cpus":0.5,"mem":64,"disk":0},"attributes":{"disk":"ssd","zone":"a"},"instances":1,
            "joined":"2026-01-01T00:00:00.000Z","version":"0.1.0"},
            {"name":"n2","hostname":"10.0.15.12","address":"10.0.15.12","overlay":"10.32.0.3",
            "presence":"lost","since":"2026-01-01T00:00:09.000Z","session":false}]"#,
        )
        .unwrap()
    }

    #[test]
    fn nodes_show_what_they_have_and_what_is_used() {
        insta::assert_snapshot!(render(&nodes()), @r"
        NODE  ADDRESS     STATE          INSTANCES  CPUS   MEM           ATTRIBUTES
        n1    10.0.15.11  here, drained  1          0.5/2  64 MiB/2 GiB  disk:ssd zone:a
        n2    10.0.15.12  lost           0          0/0    0 MiB/0 MiB   -
        ");
    }

    #[test]
    fn one_node_shows_all_of_it() {
        insta::assert_snapshot!(render_one(&nodes()[0]), @r"
        NODE        n1
        HOSTNAME    10.0.15.11
        ADDRESS     10.0.15.11
        OVERLAY     10.32.0.2
        STATE       here, drained
        SINCE       2026-01-01T00:00:00.000Z
        INSTANCES   1
        CPUS        0.5 of 2 used
        MEM         64 MiB of 2 GiB used
        DISK        0 MiB of 10 GiB used
        ATTRIBUTES  disk:ssd zone:a
        VERSION     0.1.0
        ");
    }
}
