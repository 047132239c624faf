//! Starting instances: a place for each, until there is no room or the app must wait.

use model::ids::AppId;
use model::instance::Goal;
use model::state::Delay;
use model::{App, Change, Draft, Health, Placement, RecordedInstance, Rung, State};
use scheduler::{NoRoom, Tally, Wish, place};

use crate::leader::{Agenda, Subject};
use crate::{relocate, request};

/// At most this many are placed in one turn, so that other apps have theirs.
const TURN: usize = 256;

/// Places up to `count` more instances of the app. What finds no room waits on the agenda.
pub(crate) fn start(agenda: &mut Agenda, draft: &mut Draft, id: &AppId, count: usize, room: usize) {
    let Some(app) = draft.state().app(id) else {
        return;
    };
    if count == 0 {
        return;
    }
    let delay = app.delay;
    if let Some(delay) = delay.filter(|delay| delay.until > draft.now()) {
        agenda.remind(delay.until, Subject::App(id.clone()));
        return;
    }
    let Some(wish) = agenda.wish(id, &app.spec) else {
        return;
    };
    if agenda.waiting.lines_up(&wish) {
        return;
    }
    // One that was being removed when the app named it is gone by now, and is made anew.
    request::take_volumes(draft, id, &wish.spec);
    let Some(app) = draft.state().app(id) else {
        return;
    };
    let mut tally = Tally::of(draft.state(), &wish);
    let (at, mut slot) = (app.slot, first_slot(app));
    let mut placed = 0;
    while placed < count.min(room).min(TURN) {
        match place(draft.state(), &wish, &mut tally) {
            Ok(placement) => {
                slot = launch(draft, &wish, at, placement, slot) + 1;
                placed += 1;
            }
            Err(why) => {
                let deployed = draft.state().app(id).filter(|app| app.deployment.is_some());
                if let Some(app) = deployed.cloned() {
                    relocate::evade(agenda, draft, &app);
                }
                wait(agenda, &wish, &why);
                break;
            }
        }
    }
    agenda.examined += tally.examined;
    // Every start sets the clock of a backoff back.
    if let Some(delay) = delay.filter(|_| placed > 0) {
        draft.apply(Change::AppDelay {
            app: id.clone(),
            delay: Some(Delay {
                until: draft.now() + delay.span,
                ..delay
            }),
        });
    }
}

fn wait(agenda: &mut Agenda, wish: &Wish, why: &NoRoom) {
    match why {
        NoRoom::NoNode => agenda.waiting.turned_away(wish),
        NoRoom::Hindered(_) | NoRoom::NoAddress => agenda.wait_for_claim(wish.app.clone()),
    }
}

/// Places one instance of the app kept `at`, in its first free slot from `slot` on, and gives
/// that slot.
fn launch(draft: &mut Draft, wish: &Wish, at: u32, placement: Placement, slot: u32) -> u32 {
    settle_volumes(draft, wish, &placement);
    let state = draft.state();
    let Some(app) = state.app_in_slot(at) else {
        return slot;
    };
    let slot = free_slot(state, app, slot);
    let instance = placed(state, app, slot, placement, Goal::Run);
    draft.apply(Change::InstancePlaced {
        instance: Box::new(instance),
    });
    slot
}

/// A new instance of the app, of its newest version.
pub(crate) fn placed(
    state: &State,
    app: &App,
    slot: u32,
    placement: Placement,
    goal: Goal,
) -> RecordedInstance {
    RecordedInstance {
        id: state.next_instance(),
        app: app.id.clone(),
        app_slot: app.slot,
        slot,
        version: app.version,
        spec: None,
        placement,
        goal,
        rung: Rung::Placed,
        health: Health::Unknown,
        detail: None,
        exit: None,
        placed_at: state.now,
        running_at: None,
        ended_at: None,
        health_at: None,
        sighted: Default::default(),
    }
}

/// Volumes that are used for the first time get their home and tenant with the placement.
fn settle_volumes(draft: &mut Draft, wish: &Wish, placement: &Placement) {
    for (id, _) in wish.spec.volumes() {
        let Some(volume) = draft.state().volume(id) else {
            continue;
        };
        let (homeless, free) = (volume.home.is_none(), volume.tenant.is_none());
        let generation = volume.generation;
        if homeless {
            draft.apply(Change::VolumeHome {
                volume: id.clone(),
                home: placement.node,
                generation,
            });
        }
        if free {
            draft.apply(Change::VolumeTenant {
                volume: id.clone(),
                tenant: Some(wish.app.clone()),
            });
        }
    }
}

/// Where the search for a free slot begins: behind the last in a large app whose slots are all
/// in use, else at 0.
fn first_slot(app: &App) -> u32 {
    let all = app.slots.len() as u32;
    match all > 64 && app.counters.living() >= all {
        true => all,
        false => 0,
    }
}

fn free_slot(state: &State, app: &App, from: u32) -> u32 {
    let mut slot = from;
    while !state.slot_is_free(app, slot) {
        slot += 1;
    }
    slot
}
