//! Why an app's instance is not placed: run when somebody asks, over all nodes.

use std::collections::BTreeMap;
use std::fmt;

use model::State;
use model::ids::NodeId;

use crate::fit::{hindrance, reasons};
use crate::reason::{Hindrance, Kind, Reason};
use crate::tally::Tally;
use crate::wish::Wish;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Why {
    /// What keeps the app from every node.
    pub hindrances: Vec<Hindrance>,
    /// Every node, in order of ids.
    pub nodes: Vec<Verdict>,
}

/// What one node has against the app; nothing: it would take an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub node: NodeId,
    pub name: String,
    pub reasons: Vec<Reason>,
}

/// Holds one more instance of the app against every node.
pub fn explain(state: &State, wish: &Wish) -> Why {
    let delay = state.app(&wish.app).and_then(|app| app.delay);
    let waits = delay.filter(|delay| delay.until > state.now);
    let mut hindrances: Vec<Hindrance> = hindrance(state, wish).into_iter().collect();
    hindrances.extend(waits.map(|delay| Hindrance::Backoff { until: delay.until }));
    if state.node_count() == 0 {
        hindrances.push(Hindrance::NoNodes);
    }
    let tally = Tally::of(state, wish);
    let nodes = state.nodes().map(|node| Verdict {
        node: node.id,
        name: node.machine.name.clone(),
        reasons: reasons(state, wish, &tally, node),
    });
    Why {
        hindrances,
        nodes: nodes.collect(),
    }
}

impl Why {
    /// How many nodes have each reason as their first, most frequent first.
    pub fn counts(&self) -> Vec<(u32, &Reason)> {
        let mut counts: BTreeMap<&Reason, u32> = BTreeMap::new();
        for reason in self.nodes.iter().filter_map(|node| node.reasons.first()) {
            *counts.entry(reason).or_insert(0) += 1;
        }
        let mut counts: Vec<_> = counts.into_iter().map(|(reason, n)| (n, reason)).collect();
        counts.sort_by_key(|(n, _)| std::cmp::Reverse(*n));
        counts
    }

    /// How many nodes fail for each sort of reason, first reasons only.
    pub fn kinds(&self) -> BTreeMap<Kind, u32> {
        let mut kinds = BTreeMap::new();
        for reason in self.nodes.iter().filter_map(|node| node.reasons.first()) {
            *kinds.entry(reason.kind()).or_insert(0) += 1;
        }
        kinds
    }
}

impl fmt::Display for Why {
    /// `volume pg belongs to /db; 3 nodes: attribute disk is spinning, wanted ssd; 1 node: …`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hindrances = self.hindrances.iter().map(ToString::to_string);
        let counts = self.counts().into_iter().map(|(n, reason)| match n {
            1 => format!("1 node: {reason}"),
            n => format!("{n} nodes: {reason}"),
        });
        let parts: Vec<String> = hindrances.chain(counts).collect();
        f.write_str(&parts.join("; "))
    }
}
