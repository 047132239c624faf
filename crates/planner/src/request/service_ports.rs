//! Marathon's service ports: 0 becomes the lowest free one of the range, an app keeps the ones
//! it had.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::ids::AppId;
use model::{AppSpec, State};

use crate::request::Refusal;

/// Gives every port of every spec a service port.
pub(super) fn assign(
    state: &State,
    wanted: BTreeMap<AppId, Option<AppSpec>>,
) -> Result<BTreeMap<AppId, Option<Arc<AppSpec>>>, Refusal> {
    // What the specs ask for by number is not given to others in the same change.
    let mut taken: BTreeSet<u16> = wanted
        .values()
        .flatten()
        .flat_map(|spec| &spec.ports)
        .map(|port| port.service)
        .filter(|service| *service != 0)
        .collect();
    let assigned = wanted.into_iter().map(|(app, spec)| {
        let spec = spec.map(|spec| assign_one(state, &app, spec, &mut taken));
        Ok((app, spec.transpose()?.map(Arc::new)))
    });
    assigned.collect()
}

fn assign_one(
    state: &State,
    app: &AppId,
    mut spec: AppSpec,
    taken: &mut BTreeSet<u16>,
) -> Result<AppSpec, Refusal> {
    let before = state.app(app).map(|app| Arc::clone(&app.spec));
    let before = before.iter().flat_map(|spec| &spec.ports);
    let mut earlier = before
        .map(|port| port.service)
        .filter(|service| *service != 0 && !taken.contains(service))
        .collect::<Vec<_>>()
        .into_iter();
    let (first, last) = state.settings.service_ports;
    for port in spec.ports.iter_mut().filter(|port| port.service == 0) {
        let given = earlier.next().or_else(|| {
            let free =
                |number: &u16| !taken.contains(number) && state.service_port(*number).is_none();
            (first..=last).find(free)
        });
        port.service = given.ok_or(Refusal::NoServicePort(first, last))?;
        taken.insert(port.service);
    }
    Ok(spec)
}
