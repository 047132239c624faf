//! How an app's instances are spread over the values that its constraints count. Built once for
//! a turn of placements and kept by adding each, so that a placement need not count again.

use std::collections::BTreeMap;

use model::ids::NodeId;
use model::{App, NodeRecord, State};

use crate::wish::{Rule, Test, Wish};

/// How many instances there are for each value of one field.
#[derive(Clone, Debug, Default)]
struct Groups {
    counts: BTreeMap<String, u32>,
    /// How many groups there are of each size.
    sizes: BTreeMap<u32, u32>,
}

#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// By rule: how many current instances are on nodes with each value. Empty for rules that
    /// do not count.
    groups: Vec<Groups>,
    /// Where the state keeps the app, so that it is not looked for by name again and again.
    slot: Option<u32>,
    /// Where the search for a node goes on.
    pub(crate) cursor: u32,
    /// Nodes looked at so far.
    pub examined: usize,
}

impl Tally {
    /// As if the app had no instance.
    pub(crate) fn empty(wish: &Wish) -> Self {
        Self {
            groups: vec![Groups::default(); wish.rules.len()],
            ..Self::default()
        }
    }

    /// Counts the app's current instances, those of the version wanted now.
    pub fn of(state: &State, wish: &Wish) -> Self {
        let app = state.app(&wish.app);
        let mut tally = Self {
            groups: vec![Groups::default(); wish.rules.len()],
            slot: app.map(|app| app.slot),
            // Searches that begin at different nodes meet fewer nodes that are full.
            cursor: state.next_number() as u32,
            examined: 0,
        };
        if let Some(app) = app
            && wish.counts()
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
        for (rule, groups) in wish.rules.iter().zip(&mut self.groups) {
            if rule.counts()
                && let Some(value) = node.field(&rule.field)
            {
                groups.add(value, count);
            }
        }
    }

    /// The app that is counted, if it exists.
    pub(crate) fn app<'a>(&self, state: &'a State) -> Option<&'a App> {
        state.app_in_slot(self.slot?)
    }

    pub(crate) fn on(&self, rule: usize, value: &str) -> u32 {
        self.groups[rule].counts.get(value).copied().unwrap_or(0)
    }

    /// A value that some instance already has.
    pub(crate) fn first(&self, rule: usize) -> Option<&str> {
        self.groups[rule].counts.keys().next().map(String::as_str)
    }

    /// How many values were seen.
    pub(crate) fn group_count(&self, rule: usize) -> usize {
        self.groups[rule].counts.len()
    }

    /// The size of the smallest group.
    pub(crate) fn least(&self, rule: usize) -> Option<u32> {
        self.groups[rule].sizes.keys().next().copied()
    }

    /// How many groups are larger than `size`.
    pub(crate) fn larger(&self, rule: usize, size: u32) -> u32 {
        let sizes = self.groups[rule].sizes.iter().rev();
        sizes.take_while(|(n, _)| **n > size).map(|(_, n)| n).sum()
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

impl Groups {
    fn add(&mut self, value: &str, count: u32) {
        let Some(size) = self.counts.get_mut(value) else {
            self.counts.insert(value.to_owned(), count);
            *self.sizes.entry(count).or_insert(0) += 1;
            return;
        };
        if let Some(groups) = self.sizes.get_mut(size) {
            *groups -= 1;
            if *groups == 0 {
                self.sizes.remove(size);
            }
        }
        *size += count;
        *self.sizes.entry(*size).or_insert(0) += 1;
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
