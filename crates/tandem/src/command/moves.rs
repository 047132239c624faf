//! `tandem move`: an app with its volumes to another node; `tandem moves`.

use std::time::Duration;

use serde_json::json;

use super::Reading;
use super::names::{explain_app, explain_node, explain_volume};
use crate::client::path::{app_id, encoded};
use crate::client::views::{Move, Planned, Volume};
use crate::client::{Ask, Client, Connection};
use crate::fault::{Exit, Fault, Result};
use crate::{out, table, talk};

const PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct MoveArgs {
    #[command(subcommand)]
    command: Option<MoveCommand>,
    /// The app's id, such as shop/db
    #[arg(required = true)]
    app: Option<String>,
    /// The node's name, hostname or address
    #[arg(required = true)]
    node: Option<String>,
    #[command(flatten)]
    manner: Manner,
}

/// How the command goes about it.
#[derive(Clone, Debug, clap::Args)]
pub struct Manner {
    /// Return when it is there and runs
    #[arg(long)]
    wait: bool,
    /// Only say what would happen
    #[arg(long, conflicts_with = "wait")]
    dry_run: bool,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, clap::Subcommand)]
pub enum MoveCommand {
    /// Leave an app where it is; possible until it runs at the other node
    Cancel(CancelArgs),
}

#[derive(Debug, clap::Args)]
pub struct CancelArgs {
    /// The app's id, or the move's
    app: String,
    #[command(flatten)]
    connection: Connection,
}

pub async fn list(reading: Reading) -> Result<()> {
    reading
        .show("/tandem/v1/moves", |moves: Vec<Move>| render(&moves))
        .await
}

pub async fn run(args: MoveArgs) -> Result<()> {
    match (args.command, args.app, args.node) {
        (Some(MoveCommand::Cancel(args)), ..) => cancel(args).await,
        (None, Some(app), Some(node)) => {
            let id = app_id(&app);
            begin(Moved::App(&id), &node, &args.manner).await
        }
        (None, ..) => Err(Fault::new(Exit::Usage, "name an app and a node")),
    }
}

async fn cancel(args: CancelArgs) -> Result<()> {
    let client = args.connection.open()?;
    let segments = args.app.trim_matches('/').split('/').map(encoded);
    let path = segments.collect::<Vec<_>>().join("/");
    let ask = Ask::delete(format!("/tandem/v1/moves/{path}"));
    match client.ask(ask).await {
        Ok(_) => out::data(&format!("{} stays where it is\n", args.app)),
        Err(fault) if fault.exit == Exit::Absent => {
            Err(fault.hint("`tandem moves` lists what is being moved"))
        }
        Err(fault) => Err(fault),
    }
}

/// What is to move, by its name.
pub enum Moved<'a> {
    App(&'a str),
    Volume(&'a str),
}

/// Asks for a move.
pub async fn begin(moved: Moved<'_>, node: &str, manner: &Manner) -> Result<()> {
    let client = manner.connection.open()?;
    let (kind, called) = match moved {
        Moved::App(id) => ("app", id),
        Moved::Volume(name) => ("volume", name),
    };
    let ask = Ask::post("/tandem/v1/moves").with(json!({
        kind: called,
        "to": node,
        "dryRun": manner.dry_run,
    }));
    let planned: Option<Planned> = match client.ask(ask).await {
        Ok(answer) => answer.decode()?,
        Err(fault) if fault.text().contains("Node '") => {
            return Err(explain_node(fault, &client, node).await);
        }
        Err(fault) => {
            return Err(match moved {
                Moved::App(id) => explain_app(fault, &client, id).await,
                Moved::Volume(name) => explain_volume(fault, &client, name).await,
            });
        }
    };
    let Some(planned) = planned else {
        return out::data(&format!("{called} is on {node} already\n"));
    };
    out::data(&said(called, &planned))?;
    match &planned.id {
        Some(id) if manner.wait => until_there(&client, id, &planned, called).await,
        _ => Ok(()),
    }
}

fn said(called: &str, planned: &Planned) -> String {
    let what = match &planned.app {
        Some(app) if app != called => format!("{called}, with {app}"),
        Some(_) | None => called.to_owned(),
    };
    let verb = match planned.id {
        Some(_) => "moves",
        None => "would move",
    };
    let cold = match planned.cold {
        true => "; nothing runs meanwhile",
        false => "",
    };
    let Planned {
        from, to, volumes, ..
    } = planned;
    format!(
        "{what} {verb} from {from} to {to} (volumes: {}){cold}\n",
        volumes.join(", ")
    )
}

/// Returns when the move is over and the volumes are at the other node.
async fn until_there(client: &Client, id: &str, planned: &Planned, called: &str) -> Result<()> {
    let mut said = String::new();
    let mut reason = None;
    loop {
        let moves: Vec<Move> = client.get_patiently("/tandem/v1/moves").await?;
        let Some(movement) = moves.into_iter().find(|movement| movement.id == id) else {
            break;
        };
        let line = progress(&movement);
        if said != line {
            talk!("waiting for {called}: {line}");
            said = line;
        }
        reason = movement.reason;
        tokio::time::sleep(PAUSE).await;
    }
    for name in &planned.volumes {
        let volume: Volume = client
            .get_patiently(&format!("/tandem/v1/volumes/{}", encoded(name)))
            .await?;
        if volume.home.as_deref() != Some(planned.to.as_str()) {
            let why = reason.unwrap_or_else(|| "the move was abandoned".to_owned());
            let from = &planned.from;
            let said = format!("{called} stays on {from}: {why}");
            return Err(Fault::new(Exit::Failed, said));
        }
    }
    out::data(&format!("{called} is on {}\n", planned.to))
}

/// `seed, round 2, 48.3 MiB at 61 MiB/s`.
fn progress(movement: &Move) -> String {
    let mut line = movement.phase.clone();
    if let Some(round) = movement.round {
        line += &format!(", round {}", round + 1);
    }
    if let Some(bytes) = movement.bytes.filter(|bytes| *bytes > 0) {
        line += &format!(", {}", table::bytes(bytes));
    }
    // Later rounds are too short to have a rate worth a word.
    if let Some(rate) = movement.bytes_per_second.filter(|rate| *rate > 0)
        && movement.phase == "seed"
    {
        line += &format!(" at {}/s", table::bytes(rate));
    }
    if let Some(why) = movement.reason.as_ref().or(movement.trouble.as_ref()) {
        line += &format!("; {why}");
    }
    line
}

fn render(moves: &[Move]) -> String {
    if moves.is_empty() {
        return "nothing is being moved\n".into();
    }
    let row = |movement: &Move| {
        [
            movement.id.clone(),
            movement.app.clone().unwrap_or_default(),
            movement.volumes.join(" "),
            movement.from.clone(),
            movement.to.clone(),
            progress(movement),
        ]
    };
    let rows: Vec<_> = moves.iter().map(row).collect();
    table::render(["MOVE", "APP", "VOLUMES", "FROM", "TO", "PHASE"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_move_shows_what_goes_where_and_how_far_it_is() {
        let moves: Vec<Move> = serde_json::from_str(
            r#"[{"id":"move-1","app":"/shop/db","volumes":["shopdata"],"from":"n1","to":"n2",
            "phase":"seed","round":1,"bytes":50646220,"bytesPerSecond":64172851},
            {"id":"move-2","volumes":["old"],"from":"n1","to":"n3","phase":"abandon",
            "reason":"it was cancelled"}]"#,
        )
        .unwrap();
        insta::assert_snapshot!(render(&moves), @r"
        MOVE    APP       VOLUMES   FROM  TO  PHASE
        move-1  /shop/db  shopdata  n1    n2  seed, round 2, 48.3 MiB at 61.2 MiB/s
        move-2  -         old       n1    n3  abandon; it was cancelled
        ");
    }
}
