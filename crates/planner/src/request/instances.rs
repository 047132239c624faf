//! Killing instances by name.

use std::collections::BTreeMap;

use model::ids::{AppId, InstanceId};
use model::instance::StopCause;
use model::{AppSpec, Draft};

use crate::request::change::change;
use crate::request::{Accepted, Force, Refusal};
use crate::stop;

/// How instances are to be killed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kill {
    /// Make the apps smaller by what is killed, so that nothing takes its place.
    pub scale: bool,
    /// Marathon's: give up what a killed instance reserved. Instances here reserve nothing
    /// beyond their end, and volumes are removed only by name.
    pub wipe: bool,
    pub force: Force,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Killed {
    pub instances: Vec<InstanceId>,
    /// The deployment that makes the apps smaller, if that was asked for.
    pub accepted: Option<Accepted>,
}

/// Stops instances; unknown ones and those that stop already are passed over. 200; 400 for
/// scale and wipe together; 409 when a deployment holds an app to be scaled.
pub fn kill_instances(
    draft: &mut Draft,
    ids: &[InstanceId],
    kill: Kill,
) -> Result<Killed, Refusal> {
    if kill.scale && kill.wipe {
        return Err(Refusal::ScaleAndWipe);
    }
    let mut instances: Vec<InstanceId> = ids.to_vec();
    instances.sort_unstable();
    instances.dedup();
    instances.retain(|id| draft.state().instance(*id).is_some_and(|i| i.is_active()));
    let accepted = match kill.scale && !instances.is_empty() {
        true => Some(change(draft, smaller(draft, &instances), kill.force)?),
        false => None,
    };
    let cause = match kill.scale {
        true => StopCause::ScaledDown,
        false => StopCause::Killed,
    };
    for id in &instances {
        stop::stop(draft, *id, cause);
    }
    Ok(Killed {
        instances,
        accepted,
    })
}

/// The apps of these instances, each smaller by as many.
fn smaller(draft: &Draft, instances: &[InstanceId]) -> Vec<(AppId, Option<AppSpec>)> {
    let mut losses: BTreeMap<&AppId, u32> = BTreeMap::new();
    for instance in instances
        .iter()
        .filter_map(|id| draft.state().instance(*id))
    {
        *losses.entry(&instance.app).or_insert(0) += 1;
    }
    let apps = losses.into_iter().filter_map(|(id, loss)| {
        let app = draft.state().app(id).filter(|app| !app.removing)?;
        let spec = AppSpec {
            instances: app.spec.instances.saturating_sub(loss),
            ..app.spec.as_ref().clone()
        };
        Some((id.clone(), Some(spec)))
    });
    apps.collect()
}
