//! Telling instances to stop, and which of an app's first.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use model::ids::InstanceId;
use model::instance::{Goal, Health, StopCause};
use model::spec::{KillSelection, Operator};
use model::time::Millis;
use model::{App, AppSpec, Change, Draft, Instance, Presence, State};

/// Between the stop signal and SIGKILL where nobody says otherwise; Mesos' default.
const GRACE: Millis = Millis::seconds(3);

/// Tells an instance to stop; one that was told already keeps its reason, unless its node is
/// given up.
pub(crate) fn stop(draft: &mut Draft, id: InstanceId, cause: StopCause) {
    let Some(instance) = draft.state().instance(id) else {
        return;
    };
    let gives_up = matches!(cause, StopCause::NodeLost | StopCause::Recovered);
    if instance.goal.is_stop() && (!gives_up || instance.is_heir_no_more()) {
        return;
    }
    // An heir has nothing to lose but its claims, which the holder still has.
    let cause = match instance.goal {
        Goal::Prepare => StopCause::Abandoned,
        Goal::Run | Goal::Stop { .. } => cause,
    };
    let grace = grace(&instance.spec);
    draft.apply(Change::InstanceGoal {
        instance: id,
        goal: Goal::Stop { cause, grace },
    });
}

/// Between its stop signal and SIGKILL.
pub(crate) fn grace(spec: &AppSpec) -> Millis {
    let docker = spec.image().and_then(|image| image.options.stop_timeout);
    spec.kill_grace
        .or(docker.map(Millis::seconds))
        .unwrap_or(GRACE)
}

/// Whether its node is silent, so that nothing it is told arrives.
pub(crate) fn is_cut_off(state: &State, instance: &Instance) -> bool {
    state
        .node(instance.placement.node)
        .is_none_or(|node| node.presence != Presence::Here)
}

/// The app's active instances that `choose` takes, in Marathon's order of killing: what makes
/// groups uneven, then unreachable, then the lower rungs, then by the app's selection.
pub(crate) fn order(
    state: &State,
    app: &App,
    choose: impl Fn(&Instance) -> bool,
) -> Vec<InstanceId> {
    let candidates = state.instances_of(app);
    let mut candidates: Vec<&Instance> =
        candidates.filter(|i| i.is_active() && choose(i)).collect();
    candidates.sort_by_cached_key(|instance| {
        let age = match app.spec.kill_selection {
            KillSelection::OldestFirst => (instance.id.birth, Reverse(0)),
            KillSelection::YoungestFirst => (0, Reverse(instance.id.birth)),
        };
        (
            !is_cut_off(state, instance),
            instance.rung,
            instance.health != Health::Unhealthy,
            age,
        )
    });
    let constraints = app.spec.constraints.iter();
    let grouped = constraints
        .filter(|constraint| constraint.operator == Operator::GroupBy)
        .map(|constraint| constraint.field.as_str())
        .next();
    match grouped {
        Some(field) => even_out(state, field, candidates),
        None => candidates.iter().map(|instance| instance.id).collect(),
    }
}

/// Moves to the front what the largest groups have more than the others.
fn even_out(state: &State, field: &str, candidates: Vec<&Instance>) -> Vec<InstanceId> {
    let mut sizes: BTreeMap<Option<&str>, u32> = BTreeMap::new();
    let mut placed: Vec<(u32, InstanceId)> = Vec::with_capacity(candidates.len());
    // The last to be killed is the first that its group keeps.
    for instance in candidates.iter().rev() {
        let node = state.node(instance.placement.node);
        let size = sizes.entry(node.and_then(|n| n.field(field))).or_insert(0);
        placed.push((*size, instance.id));
        *size += 1;
    }
    placed.reverse();
    placed.sort_by_key(|(position, _)| Reverse(*position));
    placed.into_iter().map(|(_, id)| id).collect()
}
