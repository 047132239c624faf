//! What happened, in lines that people read: the differences between one durable state and the
//! next.

use std::collections::BTreeMap;

use model::ids::{DeploymentId, Epoch, InstanceId, MoveId, NodeId, Version, VolumeId};
use model::instance::{ExitStatus, Health, Rung};
use model::movement::Phase;
use model::{AppId, Instance, Presence, Recovery, Revision, State};

#[derive(Clone, Debug, Default)]
pub struct Story {
    revision: Option<Revision>,
    epoch: Epoch,
    nodes: BTreeMap<NodeId, (bool, bool)>,
    apps: BTreeMap<AppId, (Version, bool)>,
    instances: BTreeMap<InstanceId, (String, Rung, Health)>,
    deployments: BTreeMap<DeploymentId, Vec<AppId>>,
    volumes: BTreeMap<VolumeId, String>,
    recoveries: BTreeMap<VolumeId, Recovery>,
    moves: BTreeMap<MoveId, (String, String)>,
}

impl Story {
    /// What changed since the last call.
    pub fn tell(&mut self, state: &State) -> Vec<String> {
        if self.revision == Some(state.revision) {
            return Vec::new();
        }
        self.revision = Some(state.revision);
        let mut lines = Vec::new();
        if self.epoch != state.epoch {
            self.epoch = state.epoch;
            lines.push(format!("the master leads (epoch {})", state.epoch));
        }
        self.nodes(state, &mut lines);
        self.apps(state, &mut lines);
        self.instances(state, &mut lines);
        self.deployments(state, &mut lines);
        self.moves(state, &mut lines);
        self.volumes(state, &mut lines);
        lines
    }

    /// What an instance was called when it was last told of.
    pub fn name_of(&self, id: InstanceId) -> Option<&str> {
        self.instances.get(&id).map(|(name, ..)| name.as_str())
    }

    fn nodes(&mut self, state: &State, lines: &mut Vec<String>) {
        for node in state.nodes() {
            let is = (node.presence == Presence::Here, node.draining);
            let was = self.nodes.insert(node.id, is);
            let what = match (was, is) {
                (None, _) => "joined",
                (Some((true, _)), (false, _)) => "lost",
                (Some((false, _)), (true, _)) => "back",
                (Some((_, false)), (_, true)) => "draining",
                (Some((_, true)), (_, false)) => "not draining any more",
                _ => continue,
            };
            lines.push(format!("{}: {what}", node.machine.name));
        }
    }

    fn apps(&mut self, state: &State, lines: &mut Vec<String>) {
        for app in state.apps() {
            let is = (app.version, app.removing);
            if self.apps.insert(app.id.clone(), is) == Some(is) {
                continue;
            }
            lines.push(match app.removing {
                true => format!("{}: is to go", app.id),
                false => format!("{}: {} wanted", app.id, app.spec.instances),
            });
        }
        let gone = |id: &AppId| state.app(id).is_none();
        let lost: Vec<AppId> = self.apps.keys().filter(|id| gone(id)).cloned().collect();
        for id in lost {
            self.apps.remove(&id);
            lines.push(format!("{id}: removed"));
        }
    }

    fn instances(&mut self, state: &State, lines: &mut Vec<String>) {
        for instance in state.instances() {
            let name = name(instance);
            let is = (name.clone(), instance.rung, instance.health);
            let was = self.instances.insert(instance.id, is);
            match was {
                None => lines.push(format!("{name}: placed on {}", node(state, instance))),
                Some((_, rung, _)) if rung != instance.rung => {
                    lines.extend(rung_line(&name, instance));
                }
                Some((_, _, health)) if health != instance.health => {
                    lines.push(format!("{name}: {:?}", instance.health).to_lowercase());
                }
                Some(_) => {}
            }
        }
        self.instances.retain(|id, (name, ..)| {
            let there = state.instance(*id).is_some();
            if !there {
                lines.push(format!("{name}: gone"));
            }
            there
        });
    }

    fn deployments(&mut self, state: &State, lines: &mut Vec<String>) {
        for deployment in state.deployments() {
            let apps: Vec<AppId> = deployment.apps().cloned().collect();
            self.deployments.entry(deployment.id).or_insert(apps);
        }
        self.deployments.retain(|id, apps| {
            let there = state.deployment(*id).is_some();
            if !there {
                let apps: Vec<&str> = apps.iter().map(AppId::as_str).collect();
                lines.push(format!("deployment of {} ended", apps.join(", ")));
            }
            there
        });
    }
}

impl Story {
    fn moves(&mut self, state: &State, lines: &mut Vec<String>) {
        for movement in state.moves() {
            let what = movement.app.as_ref().map(ToString::to_string);
            let what = what.or_else(|| movement.volumes.keys().next().map(ToString::to_string));
            let to = state.node(movement.to);
            let to = to.map_or("?", |node| node.machine.name.as_str());
            let name = format!("{} → {to}", what.unwrap_or_default());
            let is = match &movement.phase {
                Phase::Abandon { reason, .. } => format!("abandoned, {reason}"),
                phase => phase.to_string(),
            };
            let is = (name, is);
            if self.moves.insert(movement.id, is.clone()).as_ref() != Some(&is) {
                lines.push(format!("{}: {}", is.0, is.1));
            }
        }
        self.moves.retain(|id, (name, _)| {
            let there = state.movement(*id).is_some();
            if !there {
                lines.push(format!("{name}: over"));
            }
            there
        });
    }

    fn volumes(&mut self, state: &State, lines: &mut Vec<String>) {
        let node_name = |id: NodeId| {
            state
                .node(id)
                .map_or("?", |node| node.machine.name.as_str())
        };
        for volume in state.volumes() {
            let copies = volume.copies.iter().map(|(node, copy)| {
                let role = format!("{:?}", copy.role).to_lowercase();
                let trouble = copy.trouble.as_ref().map(|why| format!(" ({why})"));
                format!(
                    "{role} on {} under {}{}",
                    node_name(*node),
                    copy.generation,
                    trouble.unwrap_or_default()
                )
            });
            let copies: Vec<String> = copies.collect();
            let is = match (volume.removing, copies.is_empty()) {
                (true, true) => "is to go".to_owned(),
                (true, false) => format!("is to go, {}", copies.join(", ")),
                (false, true) => "no copy yet".to_owned(),
                (false, false) => copies.join(", "),
            };
            if let Some(recovery) = volume.recovery()
                && self.recoveries.insert(volume.id.clone(), *recovery) != Some(*recovery)
            {
                let home = volume.home.map_or("?", node_name);
                lines.push(format!(
                    "{}: goes on at {home} as of {}",
                    volume.id, recovery.snapshot
                ));
            }
            let was = self.volumes.insert(volume.id.clone(), is.clone());
            if was.as_ref() != Some(&is) {
                lines.push(format!("{}: {is}", volume.id));
            }
        }
        self.volumes.retain(|id, _| {
            let there = state.volume(id).is_some();
            if !there {
                lines.push(format!("{id}: removed"));
            }
            there
        });
    }
}

/// `/web.0`: the app and the slot, as scripts name instances.
pub fn name(instance: &Instance) -> String {
    format!("{}.{}", instance.app, instance.slot)
}

fn node(state: &State, instance: &Instance) -> String {
    state
        .node(instance.placement.node)
        .map_or_else(|| "?".into(), |node| node.machine.name.clone())
}

/// The rungs that people care for.
fn rung_line(name: &str, instance: &Instance) -> Option<String> {
    match instance.rung {
        Rung::Placed | Rung::Preparing | Rung::Starting => None,
        Rung::Running => Some(format!("{name}: running")),
        Rung::Stopping => Some(format!("{name}: stopping")),
        Rung::Gone => Some(format!("{name}: removed from its node")),
        Rung::Ended => Some(format!("{name}: ended{}", how(instance))),
    }
}

fn how(instance: &Instance) -> String {
    match instance.exit.as_ref().map(|exit| &exit.status) {
        None => String::new(),
        Some(ExitStatus::Code(code)) => format!(" (exit {code})"),
        Some(ExitStatus::Signal(signal)) => format!(" (signal {signal})"),
        Some(ExitStatus::Unknown) => " (nobody knows how)".into(),
        Some(ExitStatus::NeverRan(why)) => format!(" (never ran: {why})"),
        Some(ExitStatus::Unhealthy(why)) => format!(" (unhealthy: {why})"),
    }
}
