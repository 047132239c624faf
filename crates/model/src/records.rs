//! A state as a list of records, and back: what a checkpoint holds. Indexes and counters are not
//! recorded; they follow from the records. A spec is recorded with its app, and with an instance
//! only where the app does not have it; instances read back share their app's.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::deployment::Deployment;
use crate::ids::{InstanceId, Revision};
use crate::instance::{Instance, RecordedInstance};
use crate::machine::NodeRecord;
use crate::movement::Move;
use crate::spec::AppSpec;
use crate::state::{App, Header, State, Token};
use crate::volume::Volume;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Record {
    Header(Header),
    Token(Token),
    Node(Box<NodeRecord>),
    App(Box<App>),
    Volume(Box<Volume>),
    Instance(Box<RecordedInstance>),
    Deployment(Box<Deployment>),
    Move(Box<Move>),
}

/// A record that no state was ever written down as.
#[derive(Debug, thiserror::Error)]
#[error("instance {task} is of a version that its app does not know, and has no spec of its own")]
pub struct Unspecified {
    pub task: String,
}

impl State {
    /// Everything there is, in an order from which [`State::restore`] builds it again.
    pub fn records(&self) -> impl Iterator<Item = Record> + '_ {
        std::iter::once(Record::Header(self.header()))
            .chain(self.tokens().cloned().map(Record::Token))
            .chain(self.nodes().map(|n| Record::Node(Box::new(n.bare()))))
            .chain(self.apps().map(|a| Record::App(Box::new(a.bare()))))
            .chain(self.volumes().map(|v| Record::Volume(Box::new(v.clone()))))
            .chain(
                self.instances()
                    .map(|i| Record::Instance(Box::new(self.recorded(i)))),
            )
            .chain(
                self.deployments()
                    .map(|d| Record::Deployment(Box::new(d.clone()))),
            )
            .chain(self.moves().map(|m| Record::Move(Box::new(m.clone()))))
    }

    /// The state that these records are of, as it was at `revision`.
    pub fn restore(
        records: impl IntoIterator<Item = Record>,
        revision: Revision,
    ) -> Result<Self, Unspecified> {
        let mut state = Self::default();
        for record in records {
            state.put_record(record)?;
        }
        // Claims go to the instance placed last, as they did when it was placed.
        let mut ids: Vec<InstanceId> = state.instances().map(|instance| instance.id).collect();
        ids.sort_unstable();
        for id in ids {
            if let Some(instance) = state.instance(id).cloned() {
                state.count_in(&instance);
            }
        }
        state.sum_directory();
        Ok(state.numbered(revision))
    }
}

impl State {
    /// The instance's app, and what that was in the instance's version as far as it remembers.
    fn remembered<S>(&self, instance: &Instance<S>) -> Option<(&App, Option<&Arc<AppSpec>>)> {
        let app = self.app_in_slot(instance.app_slot)?;
        (app.id == instance.app).then(|| (app, app.spec_at(instance.version)))
    }

    /// The instance as it is written down beside its app.
    fn recorded(&self, instance: &Instance) -> RecordedInstance {
        let its = self.remembered(instance).and_then(|(_, spec)| spec);
        let other = its != Some(&instance.spec);
        instance.with_spec(other.then(|| Arc::clone(&instance.spec)))
    }

    /// The spec of an instance that was written down: its app's own where the two are equal, so
    /// that all instances share it; `None` when it is nowhere.
    pub(crate) fn spec_of<'a>(
        &'a self,
        recorded: &'a RecordedInstance,
    ) -> Option<&'a Arc<AppSpec>> {
        let its = self.remembered(recorded).and_then(|(_, spec)| spec);
        let other = recorded.spec.as_ref();
        other.filter(|spec| its != Some(*spec)).or(its)
    }

    /// What was written down of an instance, with its spec; `None` when that is nowhere.
    pub(crate) fn specified(&self, recorded: &RecordedInstance) -> Option<Instance> {
        let mut instance = recorded.with_spec(Arc::clone(self.spec_of(recorded)?));
        if let Some((app, _)) = self.remembered(recorded) {
            instance.app = app.id.clone();
        }
        Some(instance)
    }
}

impl NodeRecord {
    /// Without what follows from the instances, as it is read back.
    fn bare(&self) -> Self {
        Self {
            used: Default::default(),
            instances: Default::default(),
            ports: Default::default(),
            fingerprint: 0,
            ..self.clone()
        }
    }
}

impl App {
    /// Without what follows from the instances, as it is read back.
    fn bare(&self) -> Self {
        Self {
            instances: Default::default(),
            slots: Default::default(),
            counters: Default::default(),
            on_nodes: Default::default(),
            ..self.clone()
        }
    }
}
