//! Kills every process of an instance; done when it has ended.

use std::io;

use container::Found;

use super::{Done, Error, Tools, Work, exit};

pub(super) async fn kill(tools: &Tools, work: Work) -> Result<Done, Error> {
    let dir = tools.disk.container(work.id);
    // Dropped before its start, a container is ended by its shim.
    drop(work.created);
    let ended = match work.running {
        Some(instance) => {
            instance.kill().await?;
            instance.wait().await?
        }
        None => match container::adopt(&dir).await? {
            Found::Ended(exit) => exit,
            Found::Running(instance) => {
                instance.kill().await?;
                instance.wait().await?
            }
            Found::Nothing => {
                let source = io::ErrorKind::NotFound.into();
                return Err(Error::file("find the container in", dir.path())(source));
            }
        },
    };
    Ok(Done::Ended(exit(&dir, ended)))
}
