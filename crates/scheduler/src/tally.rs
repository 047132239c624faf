//! How an app's instances are spread over the values that its constraints count. Built once for
//! a turn of placements and kept by adding each, so that a placement need not count again.

use std::collections::BTreeMap;

use model::ids::NodeId;
use model::{NodeRecord, State};

use crate::wish::{Rule, Test, Wish};

#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// By rule: how many current instances are on nodes with each value. Empty for rules that
    /// do not count.
    values: Vec<BTreeMap<String, u32>>,
    /// Where the search for a node goes on.
    pub(crate) cursor: u32,
    /// Nodes looked at so far.
    pub examined: usize,
}

impl Tally {
    /// As if the app had no instance.
    pub(crate) fn empty(wish: &Wish) -> Self {
        Self {
            values: vec![BTreeMap::new(); wish.rules.len()],
            ..Self::default()
        }
    }

    /// Counts the app's current instances, those of the version wanted now.
    pub fn of(state: &State, wish: &Wish) -> Self {
        let mut tally = Self {
            values: vec![BTreeMap::new(); wish.rules.len()],
            // Searches that begin at different nodes meet fewer nodes that are full.
            cursor: state.next_number() as u32,
            examined: 0,
        };
        if let Some(app) = state.app(&wish.app)
            && wish.rules.iter().any(Rule::counts)
        {
            for (node, count) in &app.on_nodes {
                if let Some(node) = state.node(*node) {
                    tally.add(wish, node, *count);
                }
            }
        }
        tally
    }

    /// Notes that `count` more instances are on `node`.
    pub fn add(&mut self, wish: &Wish, node: &NodeRecord, count: u32) {
        for (rule, values) in wish.rules.iter().zip(&mut self.values) {
            if rule.counts()
                && let Some(value) = node.field(&rule.field)
            {
                match values.get_mut(value) {
                    Some(n) => *n += count,
                    None => drop(values.insert(value.to_owned(), count)),
                }
            }
        }
    }

    pub(crate) fn on(&self, rule: usize, value: &str) -> u32 {
        self.values[rule].get(value).copied().unwrap_or(0)
    }

    /// A value that some instance already has.
    pub(crate) fn first(&self, rule: usize) -> Option<&str> {
        self.values[rule].keys().next().map(String::as_str)
    }

    /// Counts of each value seen.
    pub(crate) fn groups(&self, rule: usize) -> impl Iterator<Item = u32> + '_ {
        self.values[rule].values().copied()
    }

    /// How crowded the groups of this node are, for rules that group.
    pub(crate) fn crowd(&self, wish: &Wish, node: &NodeRecord) -> u32 {
        let rules = wish.rules.iter().enumerate();
        rules
            .filter(|(_, rule)| matches!(rule.test, Test::GroupBy(_)))
            .filter_map(|(n, rule)| Some(self.on(n, node.field(&rule.field)?)))
            .sum()
    }

    pub(crate) fn start(&self, bound: u32) -> u32 {
        self.cursor % bound.max(1)
    }

    pub(crate) fn stopped_at(&mut self, node: NodeId) {
        self.cursor = node.0.wrapping_add(1);
    }
}

impl Rule {
    pub(crate) fn counts(&self) -> bool {
        match self.test {
            Test::Unique | Test::Cluster(None) | Test::MaxPer(_) | Test::GroupBy(_) => true,
            Test::Cluster(Some(_)) | Test::Like(..) | Test::Unlike(..) | Test::Is(_) => false,
        }
    }
}
