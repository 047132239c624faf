//! A state as a list of records, and back: what a checkpoint holds. Indexes and counters are not
//! recorded; they follow from the records.

use serde::{Deserialize, Serialize};

use crate::deployment::Deployment;
use crate::ids::Revision;
use crate::instance::Instance;
use crate::machine::NodeRecord;
use crate::movement::Move;
use crate::state::{App, Header, State, Token};
use crate::volume::Volume;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Record {
    Header(Header),
    Token(Token),
    Node(Box<NodeRecord>),
    App(Box<App>),
    Volume(Box<Volume>),
    Instance(Box<Instance>),
    Deployment(Box<Deployment>),
    Move(Box<Move>),
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
                    .map(|i| Record::Instance(Box::new(i.clone()))),
            )
            .chain(
                self.deployments()
                    .map(|d| Record::Deployment(Box::new(d.clone()))),
            )
            .chain(self.moves().map(|m| Record::Move(Box::new(m.clone()))))
    }

    /// The state that these records are of, as it was at `revision`.
    pub fn restore(records: impl IntoIterator<Item = Record>, revision: Revision) -> Self {
        let mut state = Self::default();
        let mut instances = Vec::new();
        for record in records {
            match record {
                Record::Instance(instance) => instances.push(*instance),
                record => state.put_record(record),
            }
        }
        // Claims go to the instance placed last, as they did when it was placed.
        instances.sort_unstable_by_key(|instance| instance.id);
        for instance in instances {
            state.put_instance(instance);
        }
        state.sum_directory();
        state.numbered(revision)
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
