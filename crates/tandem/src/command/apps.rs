//! `tandem apps`, and `tandem app` on one of them.

use super::Reading;
use super::names::explain_app;
use super::wait::{self, Waiting};
use crate::client::views::{App, Apps, Deployed, OneApp};
use crate::client::{Ask, Connection, path};
use crate::fault::Result;
use crate::table::{self, cpus, mebibytes};
use crate::{ask, out};

#[derive(Debug, clap::Subcommand)]
pub enum AppCommand {
    /// Show one app
    Show(ShowArgs),
    /// Replace every instance of an app
    Restart(RestartArgs),
    /// Remove an app and its instances; its volumes stay
    #[command(visible_alias = "rm")]
    Remove(RemoveArgs),
}

#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    /// The app's id, such as shop/web
    app: String,
    #[command(flatten)]
    reading: Reading,
}

#[derive(Debug, clap::Args)]
pub struct RestartArgs {
    /// The app's id, such as shop/web
    app: String,
    /// Go on although another deployment holds the app
    #[arg(long)]
    force: bool,
    /// Return when the new instances run
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, clap::Args)]
pub struct RemoveArgs {
    /// The app's id, such as shop/web
    app: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Return when the last instance is gone
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    connection: Connection,
}

pub async fn list(reading: Reading) -> Result<()> {
    reading
        .show(
            "/v2/apps?embed=apps.counts&embed=apps.deployments",
            |apps: Apps| render(&apps.apps),
        )
        .await
}

pub async fn run(command: AppCommand) -> Result<()> {
    match command {
        AppCommand::Show(args) => show(args).await,
        AppCommand::Restart(args) => restart(args).await,
        AppCommand::Remove(args) => remove(args).await,
    }
}

async fn show(args: ShowArgs) -> Result<()> {
    let id = path::app_id(&args.app);
    let client = args.reading.open()?;
    match client.ask(Ask::get(path::app(&id))).await {
        Ok(answer) => args
            .reading
            .print(&answer, |one: OneApp| render_one(&one.app)),
        Err(fault) => Err(explain_app(fault, &client, &id).await),
    }
}

async fn restart(args: RestartArgs) -> Result<()> {
    let id = path::app_id(&args.app);
    let client = args.connection.open()?;
    let ask = Ask::post(format!("{}/restart?force={}", path::app(&id), args.force));
    let deployed: Deployed = match client.ask(ask).await {
        Ok(answer) => answer.decode()?,
        Err(fault) => return Err(explain_app(fault, &client, &id).await),
    };
    out::data(&format!(
        "{id} restarts, deployment {}\n",
        deployed.deployment_id
    ))?;
    match args.wait {
        true => wait::until_running(&client, &Waiting::new(deployed.deployment_id, [id])).await,
        false => Ok(()),
    }
}

async fn remove(args: RemoveArgs) -> Result<()> {
    let id = path::app_id(&args.app);
    let client = args.connection.open()?;
    if let Err(fault) = client.ask(Ask::get(path::app(&id))).await {
        return Err(explain_app(fault, &client, &id).await);
    }
    ask::consent(args.yes, &format!("remove {id} and its instances"))?;
    let deployed: Deployed = client.ask(Ask::delete(path::app(&id))).await?.decode()?;
    out::data(&format!(
        "{id} removed, deployment {}\n",
        deployed.deployment_id
    ))?;
    match args.wait {
        true => wait::until_gone(&client, &Waiting::new(deployed.deployment_id, [id])).await,
        false => Ok(()),
    }
}

fn render(apps: &[App]) -> String {
    if apps.is_empty() {
        return "no apps yet; `tandem deploy FILE` makes one\n".into();
    }
    let row = |app: &App| {
        [
            app.id.clone(),
            format!("{}/{}", app.tasks_running, app.instances),
            health(app),
            cpus(app.cpus),
            mebibytes(app.mem),
            state(app).into(),
            program(app),
        ]
    };
    let rows: Vec<_> = apps.iter().map(row).collect();
    let headers = ["APP", "RUNNING", "HEALTH", "CPUS", "MEM", "STATE", "RUNS"];
    table::render(headers, &rows)
}

fn render_one(app: &App) -> String {
    let mut facts = vec![
        ("APP", app.id.clone()),
        ("RUNS", program(app)),
        (
            "RUNNING",
            format!(
                "{} of {}, {} starting",
                app.tasks_running, app.instances, app.tasks_staged
            ),
        ),
        ("HEALTH", health(app)),
        ("CPUS", cpus(app.cpus)),
        ("MEM", mebibytes(app.mem)),
        ("STATE", state(app).into()),
        ("VERSION", app.version.clone()),
    ];
    for deployment in &app.deployments {
        facts.push(("DEPLOYMENT", deployment.id.clone()));
    }
    if let Some(failure) = &app.last_task_failure {
        let words = format!(
            "{} on {}: {}",
            failure.timestamp, failure.host, failure.message
        );
        facts.push(("LAST FAILURE", words));
    }
    table::facts(&facts)
}

fn state(app: &App) -> &'static str {
    match app {
        app if !app.deployments.is_empty() => "deploying",
        app if app.tasks_running < app.instances => "waiting",
        app if app.tasks_unhealthy > 0 => "unhealthy",
        _ => "steady",
    }
}

fn health(app: &App) -> String {
    match app.health_checks.len() {
        0 => String::new(),
        _ => format!("{}/{}", app.tasks_healthy, app.instances),
    }
}

/// Its image, else its command.
fn program(app: &App) -> String {
    let docker = app
        .container
        .as_ref()
        .and_then(|container| container.docker.as_ref());
    match (docker, &app.cmd, &app.args) {
        (Some(docker), ..) if !docker.image.is_empty() => docker.image.clone(),
        (_, Some(cmd), _) => cmd.clone(),
        (_, None, Some(args)) => args.join(" "),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apps_show_desired_beside_observed() {
        let apps: Apps = serde_json::from_str(
            r#"{"apps":[
            {"id":"/shop/web","instances":2,"cpus":0.5,"mem":64,"tasksRunning":2,"tasksHealthy":1,
             "tasksUnhealthy":1,"healthChecks":[{}],"container":{"docker":{"image":"shop/web:1"}}},
            {"id":"/sleep","instances":3,"cpus":1,"mem":2048,"tasksRunning":1,"cmd":"sleep 1000",
             "container":null,"deployments":[{"id":"d1"}]}]}"#,
        )
        .unwrap();
        insta::assert_snapshot!(render(&apps.apps), @r"
        APP        RUNNING  HEALTH  CPUS  MEM     STATE      RUNS
        /shop/web  2/2      1/2     0.5   64 MiB  unhealthy  shop/web:1
        /sleep     1/3      -       1     2 GiB   deploying  sleep 1000
        ");
    }

    #[test]
    fn one_app_shows_its_last_failure() {
        let one: OneApp = serde_json::from_str(
            r#"{"app":{"id":"/x","instances":1,"cpus":0.1,"mem":32,"cmd":"false","version":"v1",
            "lastTaskFailure":{"message":"Container exited with status 1","host":"10.0.15.11",
            "timestamp":"2026-01-01T00:00:00.000Z"}}}"#,
        )
        .unwrap();
        insta::assert_snapshot!(render_one(&one.app), @r"
        APP           /x
        RUNS          false
        RUNNING       0 of 1, 0 starting
        HEALTH        -
        CPUS          0.1
        MEM           32 MiB
        STATE         waiting
        VERSION       v1
        LAST FAILURE  2026-01-01T00:00:00.000Z on 10.0.15.11: Container exited with status 1
        ");
    }
}
