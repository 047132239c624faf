//! `tandem deployments`, and `tandem deployment cancel`.

use super::Reading;
use crate::client::path::encoded;
use crate::client::views::Deployment;
use crate::client::{Ask, Connection};
use crate::fault::Result;
use crate::{out, table};

#[derive(Debug, clap::Subcommand)]
pub enum DeploymentCommand {
    /// Cancel a deployment and go back to what was before
    Cancel(CancelArgs),
}

#[derive(Debug, clap::Args)]
pub struct CancelArgs {
    /// The deployment's id
    id: String,
    /// Stop where it is instead of going back
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    connection: Connection,
}

pub async fn list(reading: Reading) -> Result<()> {
    reading
        .show("/v2/deployments", |deployments: Vec<Deployment>| {
            render(&deployments)
        })
        .await
}

pub async fn run(command: DeploymentCommand) -> Result<()> {
    let DeploymentCommand::Cancel(args) = command;
    let client = args.connection.open()?;
    let path = format!("/v2/deployments/{}?force={}", encoded(&args.id), args.force);
    client.ask(Ask::delete(path)).await?;
    let what = match args.force {
        true => "stopped where it was",
        false => "cancelled; what was before is restored",
    };
    out::data(&format!("{} {what}\n", args.id))
}

fn render(deployments: &[Deployment]) -> String {
    if deployments.is_empty() {
        return "nothing is being deployed\n".into();
    }
    let row = |deployment: &Deployment| {
        let actions = deployment.current_actions.iter();
        let actions: Vec<String> = actions.map(|a| format!("{} {}", a.action, a.app)).collect();
        [
            deployment.id.clone(),
            deployment.affected_apps.join(" "),
            format!("{}/{}", deployment.current_step, deployment.total_steps),
            actions.join(", "),
            deployment.version.clone(),
        ]
    };
    let rows: Vec<_> = deployments.iter().map(row).collect();
    table::render(["DEPLOYMENT", "APPS", "STEP", "NOW", "VERSION"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deployment_shows_its_step_and_what_happens_in_it() {
        let deployments: Vec<Deployment> = serde_json::from_str(
            r#"[{"id":"d1","version":"v","affectedApps":["/a","/b"],"currentStep":1,"totalSteps":2,
            "currentActions":[{"action":"ScaleApplication","app":"/a"}]}]"#,
        )
        .unwrap();
        insta::assert_snapshot!(render(&deployments), @r"
        DEPLOYMENT  APPS   STEP  NOW                  VERSION
        d1          /a /b  1/2   ScaleApplication /a  v
        ");
    }
}
