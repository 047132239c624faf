//! Runs an app's move hook in its instance, as a health check's command is run. A hook shortens
//! the pause; a move does without one that fails.

use std::time::Duration;

use container::{ExecSpec, How};

use super::{Done, Error, Work};

const PATIENCE: Duration = Duration::from_secs(60);

pub(super) async fn run(work: Work) -> Result<Done, Error> {
    let hook = work.assigned()?.spec.move_hook().map(str::to_owned);
    let (Some(hook), Some(instance)) = (hook, work.running) else {
        return Ok(Done::AsOrdered);
    };
    let spec = ExecSpec {
        args: vec!["/bin/sh".into(), "-c".into(), hook],
        ..ExecSpec::default()
    };
    let id = work.id;
    match instance.run(&spec, PATIENCE).await {
        Ok(output) => match output.how {
            Some(How::Code(0)) => {}
            Some(how) => {
                let said = String::from_utf8_lossy(&output.stderr);
                tracing::warn!(instance.id = %id, "The move hook of {id} ended with {how:?}: {}", said.trim());
            }
            None => tracing::warn!(instance.id = %id, "The move hook of {id} took too long"),
        },
        Err(error) => {
            tracing::warn!(instance.id = %id, "Could not run the move hook of {id}: {error}")
        }
    }
    Ok(Done::AsOrdered)
}
