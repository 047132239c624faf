//! What clients asked for and were told. A request that was answered holds; one whose answer
//! never came may hold or not; nothing else may be wanted.

use std::collections::BTreeMap;

use model::{AppId, AppSpec, State};

/// What an app may be for all that its clients know: by the number of the request, the last one
/// answered first, then those not answered yet.
#[derive(Clone, Debug, Default)]
pub struct Clients {
    asked: u64,
    may_be: BTreeMap<AppId, Vec<(u64, Shape)>>,
    /// Answers that clients read, for transcripts.
    pub answers: Vec<String>,
}

/// What is compared of an app; `None`: there is none.
pub type Shape = Option<(u32, BTreeMap<String, String>)>;

pub fn shape(spec: &AppSpec) -> Shape {
    Some((spec.instances, spec.labels.clone()))
}

impl Clients {
    pub fn asks(&mut self, app: &AppId, shape: Shape) -> u64 {
        self.asked += 1;
        self.may_be
            .entry(app.clone())
            .or_insert_with(|| vec![(0, None)])
            .push((self.asked, shape));
        self.asked
    }

    /// The request was answered: it holds, and what was asked before does not any more.
    pub fn accepted(&mut self, app: &AppId, request: u64) {
        if let Some(may_be) = self.may_be.get_mut(app) {
            may_be.retain(|(number, _)| *number >= request);
        }
    }

    /// The request was refused: it never holds.
    pub fn void(&mut self, app: &AppId, request: u64) {
        if let Some(may_be) = self.may_be.get_mut(app) {
            may_be.retain(|(number, _)| *number != request);
        }
    }

    /// What is wrong with what the master has on its disk.
    pub fn disagree(&self, durable: &State) -> Option<String> {
        self.may_be.iter().find_map(|(id, may_be)| {
            let is = durable
                .app(id)
                .filter(|app| !app.removing)
                .and_then(|app| shape(&app.spec));
            let known = may_be.iter().any(|(_, shape)| *shape == is);
            (!known).then(|| format!("{id} is {is:?}, but clients know only of {may_be:?}"))
        })
    }
}
