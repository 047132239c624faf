//! `tandem deploy`: apps from files. Everything is read before anything is sent; what is as it
//! should be stays untouched.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::wait::{self, Waiting};
use crate::client::views::{Apps, Deployed};
use crate::client::{Answer, Ask, Client, Connection, path};
use crate::definition::{self, Definition};
use crate::fault::{Doing, Exit, Fault, Result};
use crate::{out, talk, template};

#[derive(Debug, clap::Args)]
pub struct DeployArgs {
    /// Files with an app, an array of apps or a group, as JSON or as Jinja2 templates (.j2);
    /// of a directory, its *.json and *.json.j2; - is standard input
    #[arg(required = true, value_name = "FILE|DIR")]
    files: Vec<PathBuf>,
    /// A variable for templates
    #[arg(short, long = "extra-vars", value_name = "KEY=VALUE", value_parser = template::variable)]
    extra: Vec<(String, String)>,
    /// Id of the one app, where the file has none or another
    #[arg(long)]
    id: Option<String>,
    /// Return when everything runs
    #[arg(long)]
    wait: bool,
    /// Go on although other deployments hold the apps
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    connection: Connection,
}

pub async fn run(args: DeployArgs) -> Result<()> {
    let variables = template::variables(args.extra);
    let mut files = Vec::new();
    for named in &args.files {
        for file in files_of(named)? {
            files.push((file.display().to_string(), read(&file, &variables)?));
        }
    }
    if args.id.is_some() && files.len() != 1 {
        let said = format!("--id is for one file, here are {}", files.len());
        return Err(Fault::new(Exit::Usage, said));
    }
    let mut plans = Vec::new();
    for (name, value) in files {
        plans.push((definition::apps(&name, value, args.id.as_deref())?, name));
    }
    let client = args.connection.open()?;
    let mut deployed = Vec::new();
    for (definitions, name) in plans {
        let ids: Vec<String> = definitions.iter().map(|d| d.id.clone()).collect();
        let deployment = put(&client, definitions, args.force).await;
        deployed.push(Waiting::new(
            deployment.doing(|| format!("deploy {name}"))?,
            ids,
        ));
    }
    if args.wait {
        for waiting in &deployed {
            wait::until_running(&client, waiting).await?;
        }
    }
    Ok(())
}

/// Itself, or what of a directory is to be deployed, in order.
fn files_of(named: &Path) -> Result<Vec<PathBuf>> {
    if !named.is_dir() {
        return Ok(vec![named.to_owned()]);
    }
    let reading = || format!("read directory {}", named.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(named).doing(reading)? {
        let path = entry.doing(reading)?.path();
        let name = path.to_string_lossy();
        if path.is_file() && (name.ends_with(".json") || name.ends_with(".json.j2")) {
            files.push(path);
        }
    }
    files.sort();
    match files.is_empty() {
        true => Err(Fault::new(
            Exit::Usage,
            format!("{} has no *.json and no *.json.j2", named.display()),
        )),
        false => Ok(files),
    }
}

fn read(file: &Path, variables: &BTreeMap<String, String>) -> Result<Value> {
    let name = file.display().to_string();
    let text = match name.as_str() {
        "-" => std::io::read_to_string(std::io::stdin()),
        _ => std::fs::read_to_string(file),
    };
    let text = text.doing(|| format!("read {name}")).exit(Exit::Usage)?;
    match template::is_template(&name) {
        true => template::json(&name, &template::render(&name, &text, variables)?),
        false => template::json(&name, &text),
    }
}

/// Sends the apps of one file as one change, and prints what became of each. The deployment's id.
async fn put(client: &Client, definitions: Vec<Definition>, force: bool) -> Result<String> {
    let ids: Vec<String> = definitions.iter().map(|d| d.id.clone()).collect();
    let before = versions(client).await?;
    let answer = client.ask(request(definitions, force)).await?;
    for warning in answer.warnings() {
        talk!("warning: {warning}");
    }
    let deployed: Deployed = answer.decode()?;
    let after = after(client, &ids, &answer, &deployed).await?;
    for id in &ids {
        let what = became(before.get(id), after.get(id));
        let deployment = match what {
            "unchanged" => String::new(),
            _ => format!(", deployment {}", deployed.deployment_id),
        };
        out::data(&format!("{id} {what}{deployment}\n"))?;
    }
    Ok(deployed.deployment_id)
}

fn request(mut definitions: Vec<Definition>, force: bool) -> Ask {
    match definitions.as_mut_slice() {
        [one] => Ask::put(
            format!("{}?force={force}", path::app(&one.id)),
            Value::Object(std::mem::take(&mut one.app)),
        ),
        _ => {
            let apps = definitions.into_iter().map(|d| Value::Object(d.app));
            Ask::put(format!("/v2/apps?force={force}"), apps.collect())
        }
    }
}

/// Which version each app has now. For one app the answer says it.
async fn after(
    client: &Client,
    ids: &[String],
    answer: &Answer,
    deployed: &Deployed,
) -> Result<BTreeMap<String, String>> {
    match ids {
        [one] if answer.status.is_success() => Ok([(one.clone(), deployed.version.clone())].into()),
        _ => versions(client).await,
    }
}

async fn versions(client: &Client) -> Result<BTreeMap<String, String>> {
    let apps: Apps = client.get("/v2/apps?embed=apps.counts").await?;
    let versions = apps.apps.into_iter().map(|app| (app.id, app.version));
    Ok(versions.collect())
}

fn became(before: Option<&String>, after: Option<&String>) -> &'static str {
    match (before, after) {
        (None, _) => "created",
        (Some(before), Some(after)) if before == after => "unchanged",
        (Some(_), _) => "changed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_tells_what_became_of_an_app() {
        let (old, new) = ("1".to_owned(), "2".to_owned());
        assert_eq!(became(None, Some(&new)), "created");
        assert_eq!(became(Some(&old), Some(&old)), "unchanged");
        assert_eq!(became(Some(&old), Some(&new)), "changed");
    }

    #[test]
    fn a_directory_gives_its_definitions_in_order() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(files_of(dir.path()).unwrap_err().exit, Exit::Usage);
        for name in ["b.json", "a.json.j2", "README.md", "c.j2"] {
            std::fs::write(dir.path().join(name), "{}").unwrap();
        }
        let names: Vec<_> = files_of(dir.path())
            .unwrap()
            .iter()
            .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(names, ["a.json.j2", "b.json"]);
    }

    #[test]
    fn a_file_that_is_no_json_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("web.json");
        std::fs::write(&file, "{").unwrap();
        let fault = read(&file, &BTreeMap::new()).unwrap_err();
        assert!(
            fault.text().contains("web.json as JSON"),
            "{}",
            fault.text()
        );
        assert_eq!(fault.exit, Exit::Usage);
    }
}
