//! How each change changes the state, its indexes and its counters.
//!
//! A change about something that is not there does nothing: history replays exactly, and what
//! was checked when it was decided need not be checked again.

use std::sync::Arc;

use crate::assignment::Assigned;
use crate::change::{Change, Touched};
use crate::fingerprint;
use crate::ids::{AppId, Incarnation, InstanceId, NodeId, Version};
use crate::instance::{Exit, ExitStatus, Goal, Instance, Rung};
use crate::machine::{Machine, NodeRecord, Presence, Resources};
use crate::sighting::InstanceLevel;
use crate::spec::AppSpec;
use crate::state::{App, State};

impl State {
    /// Makes `change` true. The only way a state changes.
    pub fn apply(&mut self, change: &Change) -> Touched {
        let mut touched = Touched::default();
        self.apply_noting(change, &mut touched);
        touched
    }

    /// [`State::apply`], which adds what it touches to what others touched.
    pub fn apply_noting(&mut self, change: &Change, touched: &mut Touched) {
        let concerned = self.concerned(change);
        let before = self.entry_fingerprints(&concerned);
        self.apply_change(change, touched);
        self.compare_entries(concerned, &before, touched);
    }

    fn apply_change(&mut self, change: &Change, touched: &mut Touched) {
        match change {
            Change::Founded { cluster, settings } => {
                self.cluster = *cluster;
                self.settings = settings.clone();
            }
            Change::Configured { settings } => self.settings = settings.clone(),
            Change::Led { epoch } => {
                self.epoch = *epoch;
                self.drawn = 0;
            }
            Change::TokenMade { token } => {
                self.tokens.insert(token.digest.clone(), token.clone());
            }
            Change::TokenUsed { digest, by } => {
                if let Some(token) = self.tokens.get_mut(digest) {
                    token.used_by = Some(by.clone());
                }
            }
            Change::NodeJoined {
                node,
                overlay,
                machine,
            } => {
                self.put_node(NodeRecord {
                    id: *node,
                    machine: Arc::new(machine.as_ref().clone()),
                    overlay: *overlay,
                    presence: Presence::Here,
                    draining: false,
                    joined: self.now,
                    room: None,
                    sighted: Default::default(),
                    used: Resources::default(),
                    instances: Default::default(),
                    ports: Default::default(),
                    fingerprint: 0,
                });
                touched.nodes.insert(*node);
                touched.freed.insert(*node);
            }
            Change::NodeSeen {
                node,
                sighted,
                machine,
                room,
            } => {
                self.node_seen(*node, *sighted, (machine, *room), touched);
            }
            Change::NodePresence { node, presence } => {
                if let Some(record) = self.nodes.get_mut(node.0) {
                    record.presence = *presence;
                    let moves = self.moves.values();
                    let concerned = moves.filter(|m| m.from == *node || m.to == *node);
                    touched.moves.extend(concerned.map(|m| m.id));
                    self.touch_landings(*node, touched);
                    touched.nodes.insert(*node);
                    touched.freed.insert(*node);
                }
            }
            Change::NodeDraining { node, draining } => {
                if let Some(record) = self.nodes.get_mut(node.0) {
                    record.draining = *draining;
                    touched.nodes.insert(*node);
                    touched.freed.insert(*node);
                }
            }
            Change::NodeRemoved { node } => {
                if let Some(record) = self.nodes.remove(node.0) {
                    self.node_names.remove(&record.machine.name);
                    self.addresses.remove(&record.overlay);
                    self.forget_copies(*node, touched);
                    touched.nodes.insert(*node);
                }
            }
            Change::AppPut {
                app,
                spec,
                version,
                config,
            } => {
                self.app_put(app, spec, *version, *config);
                touched.apps.insert(app.clone());
            }
            Change::AppRemoving { app } => {
                self.with_app(app, touched, |app| app.removing = true);
            }
            Change::AppRemoved { app } => {
                if let Some(slot) = self.names.remove(app)
                    && let Some(record) = self.apps.remove(slot)
                {
                    self.release_service_ports(&record);
                    touched.apps.insert(app.clone());
                }
            }
            Change::AppRestarted { app, version } => {
                self.last_version = self.last_version.max(*version);
                self.with_app(app, touched, |app| {
                    app.history_push();
                    app.version = *version;
                    app.last_config_change = *version;
                    app.restart_before = *version;
                });
                self.recount(app);
            }
            Change::AppDelay { app, delay } => {
                self.with_app(app, touched, |app| app.delay = *delay);
            }
            Change::AppFailed { app, failure } => {
                self.with_app(app, touched, |app| {
                    app.last_failure = Some(failure.as_ref().clone());
                });
            }
            Change::InstancePlaced { instance } => {
                self.drawn = self.drawn.max((instance.id.birth as u32).wrapping_add(1));
                if let Some(instance) = self.specified(instance) {
                    touched_by(touched, &instance);
                    touched.assignments.insert(instance.placement.node);
                    self.count_in(&instance);
                    self.instances.put(instance.id.slot, instance);
                }
            }
            Change::InstanceGoal { instance, goal } => {
                self.instance_goal(*instance, *goal, touched);
            }
            Change::InstanceSeen {
                instance,
                sighted,
                level,
            } => {
                self.instance_seen(*instance, *sighted, level, touched);
            }
            Change::InstanceGone { instance } => self.instance_gone(*instance, touched),
            Change::DeploymentBegan { deployment } => {
                self.drawn = self.drawn.max((deployment.id.0 as u32).wrapping_add(1));
                for app in deployment.apps() {
                    self.with_app(app, touched, |app| app.deployment = Some(deployment.id));
                }
                self.deployments
                    .insert(deployment.id, deployment.as_ref().clone());
                touched.deployments.insert(deployment.id);
            }
            Change::DeploymentStepped {
                deployment,
                current,
            } => {
                if let Some(record) = self.deployments.get_mut(deployment) {
                    record.current = *current;
                    touched.deployments.insert(*deployment);
                }
            }
            Change::DeploymentEnded { deployment, broken } => {
                if let Some(record) = self.deployments.remove(deployment) {
                    for app in record.apps() {
                        self.with_app(app, touched, |app| {
                            if app.deployment == Some(*deployment) {
                                app.deployment = None;
                            }
                        });
                    }
                    touched.deployments.insert(*deployment);
                    if *broken {
                        touched.broken.insert(*deployment);
                    }
                }
            }
            Change::VolumePut { .. }
            | Change::VolumeHome { .. }
            | Change::VolumeTenant { .. }
            | Change::VolumeSeen { .. }
            | Change::VolumeRecovered { .. }
            | Change::VolumeCopyUnwanted { .. }
            | Change::VolumeRemoving { .. }
            | Change::VolumeRemoved { .. } => self.apply_to_volume(change, touched),
            Change::MoveBegan { movement } => self.move_began(movement, touched),
            Change::MovePhase {
                movement,
                phase,
                deadline,
                heir,
                took,
            } => self.with_move(*movement, touched, |record| {
                record.phase = phase.clone();
                record.deadline = *deadline;
                record.heir = *heir;
                record.took = *took;
            }),
            Change::HandedOver { movement, deadline } => {
                self.handed_over(*movement, *deadline, touched);
            }
            Change::MoveAbandoned { movement, reason } => {
                self.move_abandoned(*movement, reason, touched);
            }
            Change::MoveEnded { movement } => self.move_ended(*movement, touched),
        }
    }

    fn with_app(&mut self, id: &AppId, touched: &mut Touched, change: impl FnOnce(&mut App)) {
        if let Some(slot) = self.names.get(id)
            && let Some(app) = self.apps.get_mut(*slot)
        {
            change(app);
            touched.apps.insert(id.clone());
        }
    }

    fn app_put(&mut self, id: &AppId, spec: &Arc<AppSpec>, version: Version, config: bool) {
        self.last_version = self.last_version.max(version);
        if let Some(old) = self.app(id).cloned() {
            self.release_service_ports(&old);
        }
        match self.names.get(id).and_then(|slot| self.apps.get_mut(*slot)) {
            Some(app) => {
                app.history_push();
                app.last_scaling = version;
                if config {
                    app.last_config_change = version;
                    app.restart_before = version;
                }
                app.spec = Arc::clone(spec);
                app.version = version;
                app.removing = false;
            }
            None => self.put_app(App {
                id: id.clone(),
                slot: self.next_app_slot(),
                spec: Arc::clone(spec),
                version,
                last_scaling: version,
                last_config_change: version,
                restart_before: version,
                history: Vec::new(),
                removing: false,
                deployment: None,
                delay: None,
                last_failure: None,
                instances: Default::default(),
                slots: Default::default(),
                counters: Default::default(),
                on_nodes: Default::default(),
            }),
        }
        self.take_service_ports(id, spec);
        self.recount(id);
    }

    fn take_service_ports(&mut self, id: &AppId, spec: &AppSpec) {
        for port in spec.ports.iter().filter(|port| port.service != 0) {
            self.service_ports
                .entry(port.service)
                .or_insert_with(|| id.clone());
        }
    }

    fn release_service_ports(&mut self, app: &App) {
        for port in &app.spec.ports {
            if self.service_ports.get(&port.service) == Some(&app.id) {
                self.service_ports.remove(&port.service);
            }
        }
    }

    /// Counts an app's instances anew, after a change of which versions are current.
    fn recount(&mut self, id: &AppId) {
        let Some(app) = self.app(id) else { return };
        let slot = app.slot;
        let counts: Vec<_> = self
            .instances_of(app)
            .map(|instance| (instance.placement.node, instance.count(app)))
            .collect();
        if let Some(app) = self.apps.get_mut(slot) {
            app.counters = Default::default();
            app.on_nodes = Default::default();
            for (node, count) in counts {
                app.add(node, &count);
            }
        }
    }

    pub(super) fn put_node(&mut self, node: NodeRecord) {
        self.node_names.insert(node.machine.name.clone(), node.id);
        self.addresses.insert(node.overlay, None);
        // Beyond the subnet's first 256, nodes' addresses come from the same search.
        let reserved = u32::from(self.settings.subnet.0).saturating_add(256);
        if u32::from(node.overlay) >= reserved {
            self.last_address = Some(node.overlay);
        }
        self.nodes.put(node.id.0, node);
    }

    pub(super) fn put_app(&mut self, app: App) {
        let (id, slot, spec) = (app.id.clone(), app.slot, Arc::clone(&app.spec));
        self.names.insert(id.clone(), slot);
        self.apps.put(slot, app);
        self.take_service_ports(&id, &spec);
    }

    /// Lets an instance take its claims, and counts it at its app and its node.
    pub(crate) fn count_in(&mut self, instance: &Instance) {
        let id = instance.id;
        self.take_claims(instance);
        if let Some(app) = self
            .apps
            .get_mut(instance.app_slot)
            .filter(|app| app.id == instance.app)
        {
            let count = instance.count(app);
            app.instances.insert(id);
            app.add(instance.placement.node, &count);
        }
        if let Some(node) = self.nodes.get_mut(instance.placement.node.0) {
            node.instances.insert(id, ());
            node.used = node.used.plus(resources(instance));
            node.fingerprint = node.fingerprint.wrapping_add(entry(instance));
        }
    }

    fn node_seen(
        &mut self,
        id: NodeId,
        sighted: (Incarnation, u64),
        (machine, room): (&Machine, Option<u64>),
        touched: &mut Touched,
    ) {
        let Some(node) = self.nodes.get_mut(id.0) else {
            return;
        };
        if sighted <= node.sighted {
            return;
        }
        node.sighted = sighted;
        node.room = room.or(node.room);
        if *node.machine != *machine {
            self.node_names.remove(&node.machine.name);
            self.node_names.insert(machine.name.clone(), id);
            node.machine = Arc::new(machine.clone());
            touched.freed.insert(id);
        }
        touched.nodes.insert(id);
    }

    /// Changes an instance, keeping its app's counters and its node's fingerprint right.
    pub(super) fn change_instance(
        &mut self,
        id: InstanceId,
        touched: &mut Touched,
        change: impl FnOnce(&mut Instance),
    ) {
        let Some(instance) = self.instances.get_mut(id.slot).filter(|i| i.id == id) else {
            return;
        };
        touched_by(touched, instance);
        let app = self
            .apps
            .get_mut(instance.app_slot)
            .filter(|app| app.id == instance.app);
        let before = (app.as_ref().map(|app| instance.count(app)), instance.goal);
        touched.moves.extend(self.moving_apps.get(&instance.app));
        let entry_before = entry(instance);
        let is = |i: &Instance| (i.has_ended(), i.holds_claims(), i.holds_volumes());
        let (was, runnable_before) = (is(instance), instance.is_runnable());
        change(instance);
        if instance.is_unsettled() {
            touched.unsettled.insert(id);
        }
        if let (Some(app), Some(count)) = (app, before.0) {
            let now = instance.count(app);
            app.subtract(instance.placement.node, &count);
            app.add(instance.placement.node, &now);
        }
        if runnable_before && !instance.is_runnable() {
            touched.freed.insert(instance.placement.node);
        }
        if instance.goal != before.1
            && let Some(node) = self.nodes.get_mut(instance.placement.node.0)
        {
            node.fingerprint = node
                .fingerprint
                .wrapping_sub(entry_before)
                .wrapping_add(entry(instance));
            touched.assignments.insert(instance.placement.node);
        }
        if is(instance) != was {
            self.release_what_passed(id);
        }
    }

    /// Claims of an instance that is no longer runnable are free for others.
    fn release_what_passed(&mut self, id: InstanceId) {
        let Some(instance) = self.instance(id).cloned() else {
            return;
        };
        if !instance.holds_volumes() {
            self.release_volumes(&instance);
        }
        if !instance.holds_claims() {
            self.release_claims(&instance);
        }
    }

    fn instance_goal(&mut self, id: InstanceId, goal: Goal, touched: &mut Touched) {
        self.change_instance(id, touched, |instance| {
            // Once told to stop an instance never runs again, whatever else is wanted.
            if !instance.goal.is_stop() || goal.is_stop() {
                instance.goal = goal;
            }
        });
    }

    fn instance_seen(
        &mut self,
        id: InstanceId,
        sighted: (Incarnation, u64),
        level: &InstanceLevel,
        touched: &mut Touched,
    ) {
        let now = self.now;
        self.change_instance(id, touched, |instance| {
            if sighted <= instance.sighted {
                return;
            }
            instance.sighted = sighted;
            if level.rung < instance.rung {
                return;
            }
            if instance.running_at.is_none() && (Rung::Running..Rung::Ended).contains(&level.rung) {
                instance.running_at = Some(now);
            }
            if instance.ended_at.is_none() && level.rung >= Rung::Ended {
                instance.ended_at = Some(now);
            }
            if instance.health != level.health {
                instance.health_at = Some(now);
            }
            instance.rung = level.rung;
            instance.health = level.health;
            instance.detail.clone_from(&level.detail);
            // A node that removed the exit record and forgot so knows less than is known here.
            let unknown = |exit: &Exit| exit.status == ExitStatus::Unknown;
            if let Some(exit) = &level.exit
                && (instance.exit.is_none() || !unknown(exit))
            {
                instance.exit = Some(exit.clone());
            }
        });
    }

    fn instance_gone(&mut self, id: InstanceId, touched: &mut Touched) {
        if self.instance(id).is_none() {
            return;
        }
        let Some(instance) = self.instances.remove(id.slot) else {
            return;
        };
        touched_by(touched, &instance);
        touched.moves.extend(self.moving_apps.get(&instance.app));
        touched.assignments.insert(instance.placement.node);
        touched.freed.insert(instance.placement.node);
        self.release_volumes(&instance);
        self.release_claims(&instance);
        if let Some(app) = self
            .apps
            .get_mut(instance.app_slot)
            .filter(|app| app.id == instance.app)
        {
            let count = instance.count(app);
            app.instances.remove(&id);
            app.subtract(instance.placement.node, &count);
        }
        if let Some(node) = self.nodes.get_mut(instance.placement.node.0) {
            node.instances.remove(&id);
            node.used = node.used.minus(resources(&instance));
            node.fingerprint = node.fingerprint.wrapping_sub(entry(&instance));
        }
    }
}

impl App {
    /// Remembers the version that is about to be replaced.
    fn history_push(&mut self) {
        self.history.push((self.version, Arc::clone(&self.spec)));
        let surplus = self.history.len().saturating_sub(Self::HISTORY);
        self.history.drain(..surplus);
    }
}

pub(super) fn touched_by(touched: &mut Touched, instance: &Instance) {
    touched.instances.insert(instance.id);
    touched.apps.insert(instance.app.clone());
    touched.nodes.insert(instance.placement.node);
}

fn resources(instance: &Instance) -> Resources {
    let wanted = &instance.spec.resources;
    Resources {
        cpus: wanted.cpus,
        mem: wanted.mem,
        disk: wanted.disk,
    }
}

/// The fingerprint of an instance's entry in its node's assignment.
fn entry(instance: &Instance) -> u64 {
    fingerprint::of(&(&instance.id, &Assigned::from(instance)))
}
