//! Moving apps and volumes to another node, and thinking better of it.

use std::collections::BTreeSet;

use model::ids::{AppId, MoveId, NodeId, VolumeId};
use model::movement::{Move, Reason, Why};
use model::{Draft, State};

use crate::relocate::{self, Plan};
use crate::request::Refusal;
use crate::request::apps::existing;

/// Why a move is refused. Each names its status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MoveRefusal {
    /// 422
    #[error("{0} has no volume; to have it elsewhere, change its constraints")]
    NoVolumes(AppId),
    /// 404
    #[error("volume {0} does not exist")]
    NoVolume(VolumeId),
    /// 404
    #[error("node {0} does not exist")]
    NoNode(String),
    /// 409
    #[error("volume {volume} is being moved already, in phase {phase}")]
    UnderWay { volume: VolumeId, phase: String },
    /// 409
    #[error("volume {0} is being removed")]
    Going(VolumeId),
    /// 409
    #[error("volume {volume} belongs to {tenant}")]
    Taken { volume: VolumeId, tenant: AppId },
    /// 409
    #[error("volume {0} is on no node yet; its first use decides")]
    Nowhere(VolumeId),
    /// 409
    #[error("volume {0} is not ready yet on its node")]
    NotMade(VolumeId),
    /// 409
    #[error("volume {0} is on another node than the app's other volumes")]
    Apart(VolumeId),
    /// 409
    #[error(
        "data of volume {volume} is set aside there as {copy}, and nothing is received over it: \
         remove it first"
    )]
    SetAside { volume: VolumeId, copy: String },
    /// 409
    #[error(
        "{node} has data of volume {volume} that a recovery gave up and that is not set aside yet: \
         nothing is received over it"
    )]
    Strayed { volume: VolumeId, node: String },
    /// 409. In MiB.
    #[error("volume {volume} cannot move to {target}: {free} MiB free, {needed} MiB needed")]
    NoSpace {
        volume: VolumeId,
        target: String,
        free: u64,
        needed: u64,
    },
    /// 409
    #[error("node {0} is lost")]
    Lost(String),
    /// 409
    #[error("node {0} is being drained")]
    Draining(String),
    /// 409
    #[error("node {0}, which has the data, is lost: wait for it, or recover the volume")]
    SourceLost(String),
    /// 409
    #[error("{app} cannot be on {node}: {reason}")]
    Refused {
        app: AppId,
        node: String,
        reason: String,
    },
    /// 404
    #[error("{0} is not being moved")]
    NotMoving(AppId),
    /// 404
    #[error("{0} is not under way")]
    NoMove(MoveId),
    /// 409
    #[error("the move of {0} was handed over; move it back instead")]
    HandedOver(AppId),
    /// 409
    #[error("{0} was handed over; move the volume back instead")]
    Past(MoveId),
    /// 409
    #[error("{app} is being moved, in phase {phase}: wait, or force it to abandon the move")]
    Leads { app: AppId, phase: String },
}

/// Moves an app with its volumes. Gives the move; `None` when it is there already. 202 or 200;
/// 404; 409, naming the constraint or the resource that is lacking; 422 for an app without
/// volumes.
pub fn move_app(draft: &mut Draft, app: &AppId, to: NodeId) -> Result<Option<MoveId>, Refusal> {
    let plan = plan_move(draft.state(), app, to)?;
    Ok(plan.map(|plan| relocate::begin(draft, plan, Why::Operator)))
}

/// What [`move_app`] would do, without doing it: refusals as there. How many bytes that is only
/// the source knows.
pub fn plan_move(state: &State, app: &AppId, to: NodeId) -> Result<Option<Plan>, Refusal> {
    let record = state.app(app).filter(|app| !app.removing);
    let record = record.ok_or_else(|| Refusal::NoApp(app.clone()))?;
    let volumes: BTreeSet<VolumeId> = record.spec.volumes().map(|(id, _)| id.clone()).collect();
    if volumes.is_empty() {
        return Err(MoveRefusal::NoVolumes(app.clone()).into());
    }
    Ok(relocate::plan(state, Some(record), &volumes, to)?)
}

/// Moves a volume, with the app that has it and all of that app's volumes, if one does and they are
/// together. As [`move_app`].
pub fn move_volume(
    draft: &mut Draft,
    volume: &VolumeId,
    to: NodeId,
) -> Result<Option<MoveId>, Refusal> {
    let plan = plan_volume_move(draft.state(), volume, to)?;
    Ok(plan.map(|plan| relocate::begin(draft, plan, Why::Operator)))
}

/// What [`move_volume`] would do.
pub fn plan_volume_move(
    state: &State,
    volume: &VolumeId,
    to: NodeId,
) -> Result<Option<Plan>, Refusal> {
    let record = state.volume(volume);
    let record = record.ok_or_else(|| Refusal::NoVolume(volume.clone()))?;
    let user = record.tenant.as_ref().filter(|tenant| {
        let app = state.app(tenant);
        app.is_some_and(|app| !app.removing && app.spec.volumes().any(|(id, _)| id == volume))
    });
    let alone = [volume.clone()].into();
    match user {
        // What a recovery took apart comes together again one by one.
        Some(app) if is_apart(state, app) => Ok(relocate::plan(state, state.app(app), &alone, to)?),
        Some(app) => plan_move(state, app, to),
        None => Ok(relocate::plan(state, None, &alone, to)?),
    }
}

/// Whether the app's volumes are on different nodes, so that it cannot run.
fn is_apart(state: &State, app: &AppId) -> bool {
    let volumes = state
        .app(app)
        .into_iter()
        .flat_map(|app| app.spec.volumes());
    let homes = volumes.filter_map(|(id, _)| state.volume(id)?.home);
    homes.collect::<BTreeSet<NodeId>>().len() > 1
}

/// Abandons the app's move: everything stays where it was. Once more changes nothing. 200; 404;
/// 409 after the hand-over.
pub fn cancel_move(draft: &mut Draft, app: &AppId) -> Result<(), Refusal> {
    existing(draft, app)?;
    let movement = draft.state().move_of_app(app);
    let movement = movement.ok_or_else(|| MoveRefusal::NotMoving(app.clone()))?;
    let id = movement.id;
    cancel(draft, id)
}

/// As [`cancel_move`], by the move.
pub fn cancel(draft: &mut Draft, id: MoveId) -> Result<(), Refusal> {
    let movement = draft.state().movement(id);
    let movement = movement.ok_or(MoveRefusal::NoMove(id))?;
    if movement.phase.is_past() {
        return Err(match &movement.app {
            Some(app) => MoveRefusal::HandedOver(app.clone()),
            None => MoveRefusal::Past(id),
        }
        .into());
    }
    relocate::abandon(draft, id, Reason::Cancelled);
    Ok(())
}

/// Refuses to change an app that a move leads.
pub(super) fn let_be(state: &State, app: &AppId) -> Result<(), Refusal> {
    match leading(state, app) {
        None => Ok(()),
        Some(movement) => Err(MoveRefusal::Leads {
            app: app.clone(),
            phase: movement.phase.to_string(),
        }
        .into()),
    }
}

/// Abandons a move that leads the app.
pub(super) fn overrule(draft: &mut Draft, app: &AppId, reason: Reason) {
    if let Some(id) = leading(draft.state(), app).map(|movement| movement.id) {
        relocate::abandon(draft, id, reason);
    }
}

/// Abandons the app's move, unless it was handed over.
pub(super) fn abandon(draft: &mut Draft, app: &AppId, reason: Reason) {
    if let Some(id) = draft.state().move_of_app(app).map(|movement| movement.id) {
        relocate::abandon(draft, id, reason);
    }
}

fn leading<'a>(state: &'a State, app: &AppId) -> Option<&'a Move> {
    let movement = state.move_of_app(app)?;
    movement.phase.leads().then_some(movement)
}
