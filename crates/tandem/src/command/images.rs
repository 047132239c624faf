//! `tandem images`: what is in the cluster's registry.

use serde::{Deserialize, Serialize};

use super::build::RegistryArgs;
use crate::client::path::encoded;
use crate::client::{Ask, Client};
use crate::fault::{Exit, Fault, Result};
use crate::{out, table};

/// Names asked for at once: as many as a registry gives.
const PAGE: usize = 1000;

#[derive(Debug, clap::Args)]
pub struct ImagesArgs {
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    registry: RegistryArgs,
}

#[derive(Deserialize)]
struct Catalog {
    repositories: Vec<String>,
}

#[derive(Deserialize)]
struct Tags {
    /// `null` after the last one was removed.
    tags: Option<Vec<String>>,
}

#[derive(Serialize)]
struct Image {
    name: String,
    tags: Vec<String>,
}

pub async fn run(args: ImagesArgs) -> Result<()> {
    let (registry, _) = args.registry.settle()?;
    let client = Client::of_address(&registry)?;
    let names = names(&client).await;
    let names = names.map_err(|fault| unreachable(fault, &registry))?;
    let mut images = Vec::new();
    for name in names {
        let mut tags = tags(&client, &name).await?;
        tags.sort();
        if !tags.is_empty() {
            images.push(Image { name, tags });
        }
    }
    match args.json {
        true => out::data(&format!("{}\n", serde_json::to_string(&images)?)),
        false => out::data(&render(&registry, &images)),
    }
}

/// All names, page by page.
async fn names(client: &Client) -> Result<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    loop {
        let last = names.last().map(|last| format!("&last={}", encoded(last)));
        let path = format!("/v2/_catalog?n={PAGE}{}", last.unwrap_or_default());
        let page = client.get::<Catalog>(&path).await?.repositories;
        let whole = page.len() == PAGE;
        names.extend(page);
        if !whole {
            return Ok(names);
        }
    }
}

fn unreachable(fault: Fault, registry: &str) -> Fault {
    match fault.exit {
        Exit::Unreachable => Fault::new(
            Exit::Unreachable,
            format!("no registry answers at {registry}"),
        )
        .hint("start a cluster with `tandem up`, or name the registry by --registry HOST:PORT"),
        _ => fault,
    }
}

async fn tags(client: &Client, name: &str) -> Result<Vec<String>> {
    let parts: Vec<String> = name.split('/').map(encoded).collect();
    let ask = Ask::get(format!("/v2/{}/tags/list", parts.join("/")));
    match client.ask(ask).await {
        Ok(answer) => Ok(answer.decode::<Tags>()?.tags.unwrap_or_default()),
        Err(fault) if fault.exit == Exit::Absent => Ok(Vec::new()),
        Err(fault) => Err(fault),
    }
}

fn render(registry: &str, images: &[Image]) -> String {
    if images.is_empty() {
        return format!("no images in {registry}; `tandem build DIR -t NAME --push` makes one\n");
    }
    let row = |image: &Image| [image.name.clone(), image.tags.join(" ")];
    let rows: Vec<_> = images.iter().map(row).collect();
    table::render(["IMAGE", "TAGS"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_show_their_tags() {
        let image = Image {
            name: "shop/web".into(),
            tags: vec!["1".into(), "latest".into()],
        };
        let expected = "IMAGE     TAGS\nshop/web  1 latest\n";
        assert_eq!(render("r:5000", &[image]), expected);
    }
}
