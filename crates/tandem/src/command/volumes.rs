//! `tandem volumes`, and `tandem volume` on one of them.

use serde_json::{Map, json};

use super::Reading;
use super::names::explain_node;
use crate::client::path::encoded;
use crate::client::views::Volume;
use crate::client::{Ask, Connection};
use crate::fault::{Exit, Result};
use crate::settings::kinds::Size;
use crate::table::{self, mebibytes};
use crate::{ask, out};

#[derive(Debug, clap::Subcommand)]
pub enum VolumeCommand {
    /// Make a volume; one that is there with this size stays as it is
    Create(CreateArgs),
    /// Show one volume and its copies
    Show(ShowArgs),
    /// Remove a volume with its data
    #[command(visible_alias = "rm")]
    Remove(RemoveArgs),
    /// Bring a volume to another node
    #[command(hide = true)]
    Move(crate::cli::Anything),
    /// Go on with a copy of a volume whose node is lost
    #[command(hide = true)]
    Recover(crate::cli::Anything),
}

#[derive(Debug, clap::Args)]
pub struct CreateArgs {
    /// The volume's name
    name: String,
    /// How large it may grow, such as 1GB (units are powers of 1024)
    #[arg(long)]
    size: Option<Size>,
    /// Node to keep it on; else the one where it is first used
    #[arg(long)]
    node: Option<String>,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    /// The volume's name
    name: String,
    #[command(flatten)]
    reading: Reading,
}

#[derive(Debug, clap::Args)]
pub struct RemoveArgs {
    /// The volume's name
    name: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    connection: Connection,
}

pub async fn list(reading: Reading) -> Result<()> {
    reading
        .show("/tandem/v1/volumes", |volumes: Vec<Volume>| {
            render(&volumes)
        })
        .await
}

pub async fn run(command: VolumeCommand) -> Result<()> {
    match command {
        VolumeCommand::Create(args) => create(args).await,
        VolumeCommand::Show(args) => {
            args.reading
                .show(&path(&args.name), |volume: Volume| render_one(&volume))
                .await
        }
        VolumeCommand::Remove(args) => remove(args).await,
        VolumeCommand::Move(_) => Err(crate::cli::not_there_yet("moving volumes")),
        VolumeCommand::Recover(_) => Err(crate::cli::not_there_yet("recovering volumes")),
    }
}

fn path(name: &str) -> String {
    format!("/tandem/v1/volumes/{}", encoded(name))
}

async fn create(args: CreateArgs) -> Result<()> {
    let client = args.connection.open()?;
    let mut wish = Map::new();
    if let Some(Size(size)) = args.size {
        wish.insert("size".into(), json!(size.as_f64()));
    }
    if let Some(node) = &args.node {
        wish.insert("node".into(), json!(node));
    }
    let ask = Ask::put(path(&args.name), wish.into());
    let answer = match client.ask(ask).await {
        Ok(answer) => answer,
        Err(fault) => {
            return Err(match &args.node {
                Some(node) if fault.exit == Exit::Absent => {
                    explain_node(fault, &client, node).await
                }
                _ => fault,
            });
        }
    };
    let volume: Volume = answer.decode()?;
    let what = match answer.status.as_u16() {
        201 => "created",
        _ => "unchanged",
    };
    out::data(&format!(
        "{} {what}, {}\n",
        volume.name,
        mebibytes(volume.size)
    ))
}

async fn remove(args: RemoveArgs) -> Result<()> {
    let client = args.connection.open()?;
    // It is told apart from a name that is not there before anybody is asked.
    client.ask(Ask::get(path(&args.name))).await?;
    ask::consent(
        args.yes,
        &format!("remove volume {} with its data", args.name),
    )?;
    client.ask(Ask::delete(path(&args.name)).for_root()).await?;
    out::data(&format!("{} is being removed\n", args.name))
}

fn render(volumes: &[Volume]) -> String {
    if volumes.is_empty() {
        return "no volumes yet; `tandem volume create NAME` makes one, or the first app that uses it\n".into();
    }
    let row = |volume: &Volume| {
        let copies: Vec<String> = volume
            .copies
            .iter()
            .map(|copy| format!("{} {}", copy.node, copy.role))
            .collect();
        [
            volume.name.clone(),
            mebibytes(volume.size),
            volume.home.clone().unwrap_or_default(),
            volume.tenant.clone().unwrap_or_default(),
            state(volume),
            copies.join(", "),
        ]
    };
    let rows: Vec<_> = volumes.iter().map(row).collect();
    table::render(["VOLUME", "SIZE", "NODE", "APP", "STATE", "COPIES"], &rows)
}

fn render_one(volume: &Volume) -> String {
    let mut facts = vec![
        ("VOLUME", volume.name.clone()),
        ("SIZE", mebibytes(volume.size)),
        ("NODE", volume.home.clone().unwrap_or_default()),
        ("APP", volume.tenant.clone().unwrap_or_default()),
        ("INSTANCE", volume.holder.clone().unwrap_or_default()),
        ("GENERATION", volume.generation.to_string()),
        ("STATE", state(volume)),
    ];
    for copy in &volume.copies {
        let trouble = copy.trouble.iter().map(|trouble| format!(": {trouble}"));
        let words = format!(
            "{} on {}, generation {}",
            copy.role, copy.node, copy.generation
        );
        facts.push(("COPY", words + &trouble.collect::<String>()));
    }
    table::facts(&facts)
}

fn state(volume: &Volume) -> String {
    let trouble = volume.copies.iter().find_map(|copy| copy.trouble.clone());
    match (volume.removing, trouble, &volume.holder) {
        (true, ..) => "being removed".into(),
        (_, Some(trouble), _) => trouble,
        (_, None, Some(_)) => "in use".into(),
        _ => "free".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_show_where_they_are_and_who_uses_them() {
        let volumes: Vec<Volume> = serde_json::from_str(
            r#"[{"name":"pg","size":1024,"home":"n1","generation":2,"tenant":"/db","holder":"1a.0",
            "copies":[{"node":"n1","role":"live","generation":2},
            {"node":"n2","role":"kept","generation":1}],"removing":false},
            {"name":"new","size":100,"generation":1,"copies":[],"removing":false}]"#,
        )
        .unwrap();
        insta::assert_snapshot!(render(&volumes), @r"
        VOLUME  SIZE     NODE  APP  STATE   COPIES
        pg      1 GiB    n1    /db  in use  n1 live, n2 kept
        new     100 MiB  -     -    free    -
        ");
        insta::assert_snapshot!(render_one(&volumes[0]), @r"
        VOLUME      pg
        SIZE        1 GiB
        NODE        n1
        APP         /db
        INSTANCE    1a.0
        GENERATION  2
        STATE       in use
        COPY        live on n1, generation 2
        COPY        kept on n2, generation 1
        ");
    }
}
