//! `tandem volumes`, and `tandem volume` on one of them.

use serde_json::{Map, Value, json};

use super::Reading;
use super::moves::Moved;
use super::moves::{self, Manner};
use super::names::{explain_node, explain_volume};
use crate::age::ago;
use crate::client::path::encoded;
use crate::client::views::{Copy, Recovery, Volume};
use crate::client::{Ask, Client, Connection};
use crate::fault::{Exit, Result};
use crate::settings::kinds::Size;
use crate::table::{self, mebibytes};
use crate::{ask, out, talk};

#[derive(Debug, clap::Subcommand)]
pub enum VolumeCommand {
    /// Make a volume; one that is there with this size stays as it is
    Create(CreateArgs),
    /// Show one volume and its copies
    Show(ShowArgs),
    /// Remove a volume with its data, or one copy that is set aside
    #[command(visible_alias = "rm")]
    Remove(RemoveArgs),
    /// Bring a volume to another node, with the app that uses it
    Move(MoveArgs),
    /// Go on with an older copy of a volume whose node is silent
    Recover(RecoverArgs),
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
    /// Only this copy that was set aside, such as n2/pg.g2.20261121T162944Z
    #[arg(long, value_name = "NODE/COPY", value_parser = AsideName::parse)]
    copy: Option<AsideName>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    connection: Connection,
}

/// A copy that is set aside: on which node, and what it is called there.
#[derive(Clone, Debug)]
struct AsideName {
    node: String,
    copy: String,
}

impl AsideName {
    fn parse(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/').filter(|(_, copy)| !copy.is_empty());
        let (node, copy) = parts.ok_or("it is called NODE/COPY, as `tandem volume show` says")?;
        Ok(Self {
            node: node.to_owned(),
            copy: copy.to_owned(),
        })
    }
}

/// Only what a silent node had is recovered: the copy that the volume's last move kept becomes the
/// truth, and what was written since is given up. Should the node come back, it kills what still
/// runs there and sets its data aside; nothing of it is destroyed.
#[derive(Debug, clap::Args)]
pub struct RecoverArgs {
    /// The volume's name
    name: String,
    /// The node whose copy it goes on with; else the newest that can be reached
    #[arg(long)]
    node: Option<String>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, clap::Args)]
pub struct MoveArgs {
    /// The volume's name
    name: String,
    /// The node's name, hostname or address
    node: String,
    #[command(flatten)]
    manner: Manner,
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
            let shown = args
                .reading
                .show(&path(&args.name), |volume: Volume| render_one(&volume))
                .await;
            match shown {
                Err(fault) => {
                    let client = args.reading.open()?;
                    Err(explain_volume(fault, &client, &args.name).await)
                }
                Ok(()) => Ok(()),
            }
        }
        VolumeCommand::Remove(args) => remove(args).await,
        VolumeCommand::Move(args) => {
            moves::begin(Moved::Volume(&args.name), &args.node, &args.manner).await
        }
        VolumeCommand::Recover(args) => recover(args).await,
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
    let volume = client.get::<Volume>(&path(&args.name)).await;
    let volume = match volume {
        Ok(volume) => volume,
        Err(fault) => return Err(explain_volume(fault, &client, &args.name).await),
    };
    if let Some(aside) = &args.copy {
        return remove_copy(&client, &args, aside).await;
    }
    let set_aside = volume.copies.iter().filter(|copy| copy.name.is_some());
    let set_aside = match set_aside.count() {
        0 => "",
        _ => " and what is set aside of it",
    };
    let what = format!("remove volume {} with its data{set_aside}", args.name);
    ask::consent(args.yes, &what)?;
    client.ask(Ask::delete(path(&args.name)).for_root()).await?;
    out::data(&format!("{} is being removed\n", args.name))
}

async fn remove_copy(client: &Client, args: &RemoveArgs, aside: &AsideName) -> Result<()> {
    let AsideName { node, copy } = aside;
    let what = format!("remove {copy}, which {node} has set aside");
    ask::consent(args.yes, &what)?;
    let (of_node, of_copy) = (encoded(node), encoded(copy));
    let path = format!("{}/copies/{of_node}/{of_copy}", path(&args.name));
    match client.ask(Ask::delete(path).for_root()).await {
        Ok(_) => out::data(&format!("{node}/{copy} is being removed\n")),
        Err(fault) if fault.text().contains("Node '") => {
            Err(explain_node(fault, client, node).await)
        }
        Err(fault) => {
            let list = format!("`tandem volume show {}` lists its copies", args.name);
            Err(fault.hint(list))
        }
    }
}

async fn recover(args: RecoverArgs) -> Result<()> {
    let client = args.connection.open()?;
    let ask = |wish: Value| {
        let path = format!("{}/recover", path(&args.name));
        Ask::post(path).with(wish).for_root()
    };
    let question = json!({ "node": args.node, "dryRun": true });
    let plan: Recovery = match client.ask(ask(question)).await {
        Ok(answer) => answer.decode()?,
        Err(fault) => {
            return Err(match &args.node {
                Some(node) if fault.text().contains("Node '") => {
                    explain_node(fault, &client, node).await
                }
                _ => explain_volume(fault, &client, &args.name).await,
            });
        }
    };
    for line in told(&args.name, &plan) {
        talk!("{line}");
    }
    let what = format!(
        "go on with {}'s copy of volume {} and give up what was written since",
        plan.node, args.name
    );
    ask::consent(args.yes, &what)?;
    // What was shown is what is done, or nothing.
    let wish = json!({ "node": plan.node, "generation": plan.generation });
    let answer = client.ask(ask(wish)).await?;
    let done: Recovery = answer.decode()?;
    out::data(&format!(
        "{} goes on at {} (generation {})\n",
        args.name, done.node, done.generation
    ))
}

/// What an operator has to know before.
fn told(name: &str, plan: &Recovery) -> Vec<String> {
    let Recovery { from, node, .. } = plan;
    let silent = match &plan.silent_since {
        Some(since) => format!("{from} is silent since {since}, {}", ago(since)),
        None => format!("{from} does not have it any more"),
    };
    let size = plan.bytes.map_or_else(
        || "of a size that is not known yet".to_owned(),
        |bytes| format!("about {}", table::bytes(bytes)),
    );
    let (state, since) = match &plan.copied {
        Some(at) => (format!("as it was at {at}, {}", ago(at)), "then"),
        None => ("of an earlier move".to_owned(), "it was made"),
    };
    let mut lines = vec![
        format!("volume {name} is on {from}: {silent}"),
        format!("{node} has a copy, {state}, {size}"),
        format!(
            "everything written since {since} is given up; should {from} come back, it sets that aside"
        ),
    ];
    if plan.silent_since.is_some() {
        lines.push(format!(
            "should {from} only be cut off, what runs there may answer until it hears of this"
        ));
    }
    if !plan.newer.is_empty() {
        let newer = plan.newer.join(", ");
        lines.push(format!("newer copies are on {newer}, silent too"));
    }
    lines.extend(
        plan.tenant
            .iter()
            .map(|app| format!("{app} starts on {node}")),
    );
    lines
}

fn render(volumes: &[Volume]) -> String {
    if volumes.is_empty() {
        return "no volumes yet; `tandem volume create NAME` makes one, or the first app that uses it\n".into();
    }
    let row = |volume: &Volume| {
        let copies: Vec<String> = volume
            .copies
            .iter()
            .map(|copy| match (role(volume, copy), told_of(copy).as_str()) {
                (role, "") => format!("{} {role}", copy.node),
                (role, of_it) => format!("{} {role} ({of_it})", copy.node),
            })
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
        let role = role(volume, copy);
        let mut words = format!("{role} on {}, generation {}", copy.node, copy.generation);
        for more in [told_of(copy), aside_name(copy)] {
            if !more.is_empty() {
                words.push_str(&format!(", {more}"));
            }
        }
        facts.push(("COPY", words + &trouble.collect::<String>()));
    }
    table::facts(&facts)
}

/// What a copy is; one that a silent node took for the truth, before others went on, is not.
fn role<'a>(volume: &Volume, copy: &'a Copy) -> &'a str {
    match copy.role.as_str() {
        "live" if copy.generation < volume.generation => "outdated",
        role => role,
    }
}

/// Size and age of a copy that is not the truth.
fn told_of(copy: &Copy) -> String {
    let age = copy.since.as_deref().map(ago);
    let bytes = copy.bytes.filter(|_| age.is_some()).map(table::bytes);
    let facts: Vec<String> = bytes.into_iter().chain(age).collect();
    facts.join(", ")
}

/// `n2/pg.g2.20261121T162944Z`, as `tandem volume remove --copy` takes it.
fn aside_name(copy: &Copy) -> String {
    let name = copy.name.as_ref();
    name.map_or_else(String::new, |name| format!("{}/{name}", copy.node))
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

    #[test]
    fn what_is_set_aside_shows_its_size_its_age_and_its_name() {
        let volume: Volume = serde_json::from_str(
            r#"{"name":"pg","size":1024,"home":"n1","generation":3,"removing":false,"copies":[
            {"node":"n1","role":"live","generation":3,"bytes":39845888},
            {"node":"n2","role":"aside","generation":2,"bytes":39845888,"since":"a while",
            "name":"pg.g2.20261121T162944Z"}]}"#,
        )
        .unwrap();
        insta::assert_snapshot!(render(std::slice::from_ref(&volume)), @r"
        VOLUME  SIZE   NODE  APP  STATE  COPIES
        pg      1 GiB  n1    -    free   n1 live, n2 aside (38 MiB, a while)
        ");
        insta::assert_snapshot!(render_one(&volume), @r"
        VOLUME      pg
        SIZE        1 GiB
        NODE        n1
        APP         -
        INSTANCE    -
        GENERATION  3
        STATE       free
        COPY        live on n1, generation 3
        COPY        aside on n2, generation 2, 38 MiB, a while, n2/pg.g2.20261121T162944Z
        ");
    }

    #[test]
    fn an_operator_is_told_what_a_recovery_gives_up() {
        let plan = Recovery {
            from: "n2".into(),
            silent_since: Some("noon".into()),
            node: "n1".into(),
            copied: Some("breakfast".into()),
            bytes: Some(39845888),
            generation: 3,
            tenant: Some("/db".into()),
            newer: vec!["n3".into()],
        };
        insta::assert_snapshot!(told("pg", &plan).join("\n"), @r"
        volume pg is on n2: n2 is silent since noon, noon
        n1 has a copy, as it was at breakfast, breakfast, about 38 MiB
        everything written since then is given up; should n2 come back, it sets that aside
        should n2 only be cut off, what runs there may answer until it hears of this
        newer copies are on n3, silent too
        /db starts on n1
        ");
    }
}
