//! Names that are not there, and those that were meant.

use crate::client::views::{Apps, Instance, Node, Volume};
use crate::client::{Ask, Client, path};
use crate::fault::{Exit, Fault, Result};
use crate::near::nearest;

/// A failed look at an app, with the app that was meant.
pub async fn explain_app(fault: Fault, client: &Client, id: &str) -> Fault {
    let known = async {
        let all: Apps = client.get("/v2/apps").await?;
        Ok(all.apps.into_iter().map(|app| app.id).collect())
    };
    explain(fault, id, known, "tandem apps").await
}

/// A failed look at a node, with the node that was meant.
pub async fn explain_node(fault: Fault, client: &Client, name: &str) -> Fault {
    let known = async {
        let all: Vec<Node> = client.get("/tandem/v1/nodes").await?;
        Ok(all.into_iter().map(|node| node.name).collect())
    };
    explain(fault, name, known, "tandem nodes").await
}

/// A failed look at a volume, with the volume that was meant.
pub async fn explain_volume(fault: Fault, client: &Client, name: &str) -> Fault {
    let known = async {
        let all: Vec<Volume> = client.get("/tandem/v1/volumes").await?;
        Ok(all.into_iter().map(|volume| volume.name).collect())
    };
    explain(fault, name, known, "tandem volumes").await
}

/// `list` is the command that shows what is `known`, which is asked for only where it helps.
async fn explain(
    fault: Fault,
    name: &str,
    known: impl Future<Output = Result<Vec<String>>>,
    list: &str,
) -> Fault {
    if fault.exit != Exit::Absent {
        return fault;
    }
    let known = known.await.unwrap_or_default();
    hinted(fault, name, known.iter().map(String::as_str), list)
}

/// The instance of that id or task, or beginning with it, or the one running instance of that app.
pub async fn instance(client: &Client, name: &str) -> Result<Instance> {
    let instances: Vec<Instance> = client.get("/tandem/v1/instances").await?;
    let app = path::app_id(name);
    let exact = |i: &&Instance| i.id == name || i.task == name;
    let begins = |i: &&Instance| i.id.starts_with(name);
    let of_app = |i: &&Instance| i.app == app && i.rung == "running";
    let wanted = |i: &&Instance| of_app(i) && i.goal == "run";
    let found = [
        instances.iter().filter(exact).collect::<Vec<_>>(),
        instances.iter().filter(wanted).collect(),
        instances.iter().filter(of_app).collect(),
        instances.iter().filter(begins).collect(),
    ];
    match found.into_iter().find(|found| !found.is_empty()).as_deref() {
        Some([one]) => Ok((*one).clone()),
        Some(several) => {
            let ids: Vec<&str> = several.iter().map(|i| i.id.as_str()).collect();
            let said = format!("`{name}` is {} instances", ids.len());
            Err(Fault::new(Exit::Usage, said).hint(format!("name one: {}", ids.join(", "))))
        }
        None if client.ask(Ask::get(path::app(&app))).await.is_ok() => {
            let fault = Fault::new(Exit::Absent, format!("nothing of {app} runs"));
            Err(fault.hint(format!("`tandem ps {app}` shows what it is at")))
        }
        None => {
            let fault = Fault::new(Exit::Absent, format!("no instance is called `{name}`"));
            Err(hinted(
                fault,
                name,
                instances.iter().map(|i| i.id.as_str()),
                "tandem ps",
            ))
        }
    }
}

fn hinted<'a>(fault: Fault, name: &str, known: impl Iterator<Item = &'a str>, list: &str) -> Fault {
    match nearest(name, known) {
        Some(near) if near != name => fault.hint(format!("did you mean `{near}`?")),
        _ => fault.hint(format!("`{list}` lists what there is")),
    }
}
