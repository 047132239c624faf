//! What is there when the agent starts: every instance directory is looked at, what runs is
//! adopted, and role files say what the volumes' copies are. Nothing is ended or removed here, save
//! what cannot be told apart from rubbish.

use std::collections::{BTreeMap, BTreeSet};

use container::{Found, Instance};
use futures::future::join_all;
use model::InstanceId;
use node::observed::unknown_exit;
use node::{Local, Observed, Session, Stage};

use crate::Error;
use crate::act::{self, Tools};
use crate::error::words;

/// What an earlier agent left.
#[derive(Default)]
pub(crate) struct Left {
    pub observed: Observed,
    pub running: BTreeMap<InstanceId, Instance>,
}

pub(crate) async fn observe(tools: &Tools, session: &Session) -> Result<Left, Error> {
    let ids = tools.disk.known_instances()?;
    let looks = join_all(ids.iter().map(|id| look(tools, *id))).await;
    let mut left = Left::default();
    let mut broken = BTreeSet::new();
    for (id, look) in ids.into_iter().zip(looks) {
        let local = match look {
            Ok(None) => continue,
            Ok(Some((local, instance))) => {
                left.running.extend(instance.map(|instance| (id, instance)));
                local
            }
            Err(error) => {
                tracing::error!(instance.id = %id, "Gave up on {id}: {}", words(&error));
                broken.insert(id);
                Local {
                    stage: Stage::Ended(unknown_exit()),
                    ..Local::default()
                }
            }
        };
        left.observed.instances.insert(id, local);
    }
    let volumes = tools.volumes.found().await;
    left.observed.volumes = volumes.map_err(|source| Error::Volumes { source })?;
    let over: BTreeSet<InstanceId> = session.over().copied().collect();
    left.observed.count_as_over(&over);
    left.running.retain(|id, _| !over.contains(id));
    if !broken.is_empty() {
        // They are reported as ended, so nothing of them may run on.
        let known = left
            .observed
            .instances
            .keys()
            .chain(session.assignment().instances.keys());
        let known = known.filter(|id| !broken.contains(id));
        let known = known.map(InstanceId::to_string).collect();
        container::sweep(&tools.config.cgroup_base, known)
            .await
            .map_err(|source| Error::Sweep { source })?;
    }
    Ok(left)
}

/// One directory. `None`: no container was ever begun in it, and it is cleared away.
async fn look(
    tools: &Tools,
    id: InstanceId,
) -> Result<Option<(Local, Option<Instance>)>, act::Error> {
    let dir = tools.disk.container(id);
    let note = tools.disk.note(id);
    match (container::adopt(&dir).await?, note.never_ran) {
        (found, Some(exit)) => {
            if let Found::Running(instance) = found {
                instance.kill().await?;
            }
            let local = Local {
                stage: Stage::Ended(exit),
                ..Local::default()
            };
            Ok(Some((local, None)))
        }
        (Found::Nothing, None) => {
            let path = tools.disk.instance(id);
            act::blocking(move || Ok(image::unmount_root(&path)?)).await?;
            container::remove(&dir).await?;
            Ok(None)
        }
        (Found::Ended(exit), None) => {
            let local = Local {
                stage: Stage::Ended(act::exit(&dir, exit)),
                ..Local::default()
            };
            Ok(Some((local, None)))
        }
        (Found::Running(instance), None) => {
            // The clock may have been set back meanwhile; what was cannot be to come.
            let now = tools.clock.now();
            let local = Local {
                stage: Stage::Running {
                    pid: act::pid(&instance),
                    since: note.since.map_or(now, |since| since.min(now)),
                },
                health: note.health,
                stopping: note.stopping.map(|sent| sent.min(now)),
                frozen: instance.is_frozen().await?,
                ..Local::default()
            };
            tracing::info!(instance.id = %id, "Found {id} running");
            Ok(Some((local, Some(instance))))
        }
    }
}
