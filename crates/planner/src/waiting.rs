//! Apps that found no room, in lines: those that ask the same of a node stand in one, and what
//! the first cannot have the others cannot either. So that ten thousand wait costs what one does.
//!
//! A line is *closed* when its first was turned away; it opens when a node that suits it may have
//! more room than before. While it is open its apps are tried, first come, first served.

use std::collections::BTreeMap;

use model::NodeRecord;
use model::ids::AppId;
use model::spec::{Constraint, HostPort, Protocols, Wanted};
use scheduler::{Wish, suits};

#[derive(Clone, Debug, Default)]
pub(crate) struct Waiting {
    lines: BTreeMap<Need, Line>,
    /// Where each app stands.
    places: BTreeMap<AppId, (Need, i64)>,
}

/// What decides about room for an app.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Need {
    resources: Wanted,
    constraints: Vec<Constraint>,
    permissions: Vec<String>,
    ports: Vec<(Protocols, HostPort)>,
    /// Where its own instances, volumes or service ports decide too, it stands alone.
    alone: Option<AppId>,
}

#[derive(Clone, Debug)]
struct Line {
    /// That of any of them: all suit the same nodes.
    wish: Wish,
    apps: BTreeMap<i64, AppId>,
    open: bool,
}

impl Need {
    fn of(wish: &Wish) -> Self {
        let spec = &wish.spec;
        let is_alone = wish.counts() || spec.require_ports || spec.volumes().next().is_some();
        let ports = spec.ports.iter().map(|port| (port.protocol, port.host));
        Self {
            resources: spec.resources.clone(),
            constraints: spec.constraints.clone(),
            permissions: wish.permissions().to_vec(),
            ports: ports.collect(),
            alone: is_alone.then(|| wish.app.clone()),
        }
    }
}

impl Waiting {
    /// The app was turned away: it is the first of its line, which closes.
    pub fn turned_away(&mut self, wish: &Wish) {
        self.stand(wish, |line| {
            line.open = false;
            line.apps.keys().next().map_or(0, |first| first - 1)
        });
    }

    /// Lets the app stand at the end of its line if that is closed; whether it does.
    pub fn lines_up(&mut self, wish: &Wish) -> bool {
        if self.lines.is_empty() {
            return false;
        }
        let closed = self.lines.get(&Need::of(wish)).is_some_and(|l| !l.open);
        if closed {
            self.stand(wish, |line| {
                line.apps.keys().next_back().map_or(0, |last| last + 1)
            });
        }
        closed
    }

    fn stand(&mut self, wish: &Wish, place: impl FnOnce(&mut Line) -> i64) {
        self.leave(&wish.app);
        let need = Need::of(wish);
        let line = self.lines.entry(need.clone()).or_insert_with(|| Line {
            wish: wish.clone(),
            apps: BTreeMap::new(),
            open: false,
        });
        let place = place(line);
        line.apps.insert(place, wish.app.clone());
        self.places.insert(wish.app.clone(), (need, place));
    }

    pub fn leave(&mut self, app: &AppId) {
        let Some((need, place)) = self.places.remove(app) else {
            return;
        };
        if let Some(line) = self.lines.get_mut(&need) {
            line.apps.remove(&place);
            if line.apps.is_empty() {
                self.lines.remove(&need);
            }
        }
    }

    /// The node may have more room than before.
    pub fn room_on(&mut self, node: &NodeRecord) {
        for line in self.lines.values_mut() {
            // With volumes it may have to move first, for which its home must be there too,
            // however little that suits it.
            let moves = line.wish.spec.volumes().next().is_some();
            line.open |= moves || suits(&line.wish, node);
        }
    }

    /// The next app that is worth a try; it stands in no line then.
    pub fn next(&mut self) -> Option<AppId> {
        let line = self.lines.values().find(|line| line.open)?;
        let app = line.apps.values().next()?.clone();
        self.leave(&app);
        Some(app)
    }
}
