//! What `/metrics` shows, in the JSON that Marathon's monitors read, and as Prometheus' text.

use std::collections::BTreeMap;

use model::instance::Rung;
use model::machine::Presence;
use model::state::State;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

/// Numbers by their names, whose parts are joined by dots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetricsView {
    /// What only rises, for as long as one leads.
    pub counters: BTreeMap<String, u64>,
    /// What is now.
    pub gauges: BTreeMap<String, u64>,
}

/// Of an instance that is there, with the words of [`MetricsView::of`].
const RUNGS: [(Rung, &str); 6] = [
    (Rung::Placed, "placed"),
    (Rung::Preparing, "preparing"),
    (Rung::Starting, "starting"),
    (Rung::Running, "running"),
    (Rung::Stopping, "stopping"),
    (Rung::Ended, "ended"),
];

impl MetricsView {
    /// What a state says; the caller adds what it knows besides.
    pub fn of(state: &State) -> Self {
        let lost = |presence| matches!(presence, Presence::Lost { .. });
        let lost = state.nodes().filter(|node| lost(node.presence)).count();
        let sum = |of: &dyn Fn(&model::state::Counters) -> u32| -> u64 {
            state.apps().map(|app| u64::from(of(&app.counters))).sum()
        };
        let (active, running) = (sum(&|c| c.active), sum(&|c| c.running));
        let mut view = Self::default();
        let gauges = [
            ("marathon.apps.active", count(state.app_count())),
            (
                "marathon.deployments.active",
                count(state.deployments().count()),
            ),
            ("marathon.instances.running", running),
            ("marathon.instances.staged", active.saturating_sub(running)),
            ("tandem.instances.healthy", sum(&|c| c.healthy)),
            ("tandem.instances.unhealthy", sum(&|c| c.unhealthy)),
            ("tandem.nodes.here", count(state.node_count() - lost)),
            ("tandem.nodes.lost", count(lost)),
            ("tandem.volumes", count(state.volumes().count())),
            ("tandem.moves.active", count(state.moves().count())),
            ("tandem.store.revision", state.revision.0),
            ("tandem.leader.epoch", state.epoch.0),
        ];
        for (name, value) in gauges {
            view.gauges.insert(format!("{name}.gauge"), value);
        }
        for (rung, name) in RUNGS {
            let name = format!("tandem.instances.rung.{name}.gauge");
            view.gauges.insert(name, sum(&|c| c.on(rung)));
        }
        view
    }

    /// Prometheus' text format; dots and dashes in names are underscores there.
    pub fn prometheus(&self) -> String {
        let line = |name: &str, kind: &str, value: u64| {
            let name = name.replace(['.', '-'], "_");
            format!("# TYPE {name} {kind}\n{name} {value}\n")
        };
        let counters = self.counters.iter();
        let counters = counters.map(|(name, value)| line(name, "counter", *value));
        let gauges = self.gauges.iter();
        let gauges = gauges.map(|(name, value)| line(name, "gauge", *value));
        counters.chain(gauges).collect()
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

impl Serialize for MetricsView {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let each = |numbers: &BTreeMap<String, u64>, key: &str| -> Map<String, Value> {
            let numbers = numbers.iter();
            numbers
                .map(|(name, number)| (name.clone(), json!({ key: number })))
                .collect()
        };
        json!({
            "version": "4.0.0",
            "counters": each(&self.counters, "count"),
            "gauges": each(&self.gauges, "value"),
            "histograms": {},
            "meters": {},
            "timers": {},
        })
        .serialize(to)
    }
}
