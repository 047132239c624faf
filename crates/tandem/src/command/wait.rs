//! `--wait`: until what was asked for is so, with a line that says what is waited for.

use std::time::Duration;

use super::queue::reasons;
use crate::client::views::{App, Deployment, OneApp, Status};
use crate::client::{Client, path};
use crate::fault::{Exit, Fault, Result};
use crate::talk;

const PAUSE: Duration = Duration::from_millis(300);

/// A deployment and the apps that it was started for.
pub struct Waiting {
    deployment: String,
    apps: Vec<String>,
}

impl Waiting {
    pub fn new(deployment: String, apps: impl IntoIterator<Item = String>) -> Self {
        Waiting {
            deployment,
            apps: apps.into_iter().collect(),
        }
    }
}

/// Returns when the deployment is over and every app has the instances it wants, healthy where it
/// has checks.
pub async fn until_running(client: &Client, waiting: &Waiting) -> Result<()> {
    let mut said = String::new();
    loop {
        let line = match deploying(client, waiting).await? {
            Some(_) => lacking(client, waiting)
                .await?
                .or(Some("the deployment to end".into())),
            None => lacking(client, waiting).await?,
        };
        match line {
            None => return Ok(()),
            Some(line) => say_new(&mut said, line),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Returns when the deployment that removes the apps is over.
pub async fn until_gone(client: &Client, waiting: &Waiting) -> Result<()> {
    let mut said = String::new();
    while deploying(client, waiting).await?.is_some() {
        say_new(&mut said, format!("{} to end", waiting.apps.join(", ")));
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

fn say_new(said: &mut String, line: String) {
    if *said != line {
        talk!("waiting for {line}");
        *said = line;
    }
}

async fn deploying(client: &Client, waiting: &Waiting) -> Result<Option<Deployment>> {
    let deployments: Vec<Deployment> = client.get_patiently("/v2/deployments").await?;
    let mut deployments = deployments.into_iter();
    Ok(deployments.find(|deployment| deployment.id == waiting.deployment))
}

/// What the first app that is not as it should be lacks.
async fn lacking(client: &Client, waiting: &Waiting) -> Result<Option<String>> {
    for id in &waiting.apps {
        let app = match client.get_patiently::<OneApp>(&path::app(id)).await {
            Ok(answer) => answer.app,
            Err(fault) if fault.exit == Exit::Absent => {
                return Err(Fault::new(
                    Exit::Failed,
                    format!("{id} was removed meanwhile"),
                ));
            }
            Err(fault) => return Err(fault),
        };
        if let Some(line) = shortage(&app) {
            let status: Status = client.get("/tandem/v1/status").await.unwrap_or_default();
            let waiting = status.waiting.iter().find(|queued| queued.app == *id);
            let why = match waiting.map(reasons).filter(|why| !why.is_empty()) {
                Some(why) => why,
                None => lost_with(&status, id),
            };
            let parts: Vec<String> = std::iter::once(line).chain(why).collect();
            return Ok(Some(parts.join("; ")));
        }
    }
    Ok(None)
}

/// Nodes that are lost with instances of the app that nobody replaces.
fn lost_with(status: &Status, id: &str) -> Vec<String> {
    let lost = status.lost.iter();
    let with_it = lost.filter(|lost| lost.apps.iter().any(|app| app == id));
    with_it
        .map(|lost| format!("{} is lost since {}", lost.node, lost.since))
        .collect()
}

/// `/web: 1 of 3 running`, if that is not all.
fn shortage(app: &App) -> Option<String> {
    let App {
        id,
        instances,
        tasks_running,
        tasks_healthy,
        ..
    } = app;
    if tasks_running < instances {
        let failed = app.last_task_failure.as_ref();
        let failed = failed.map(|failure| format!("; last failure: {}", failure.message));
        return Some(format!(
            "{id}: {tasks_running} of {instances} running{}",
            failed.unwrap_or_default()
        ));
    }
    let unchecked = !app.health_checks.is_empty() && tasks_healthy < instances;
    unchecked.then(|| format!("{id}: {tasks_healthy} of {instances} healthy"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_lacks_running_then_healthy_instances_then_nothing() {
        let mut app = App {
            id: "/web".into(),
            instances: 2,
            health_checks: vec![serde_json::json!({})],
            ..App::default()
        };
        assert_eq!(shortage(&app).unwrap(), "/web: 0 of 2 running");
        app.tasks_running = 2;
        assert_eq!(shortage(&app).unwrap(), "/web: 0 of 2 healthy");
        app.tasks_healthy = 2;
        assert_eq!(shortage(&app), None);
    }
}
