//! Claims: what only one runnable instance may hold. Each is kept where it belongs (ports at
//! their node, slots at their app, addresses here) as a [`Holding`].
//!
//! A placement takes its claims; they are given back when the instance is no longer runnable:
//! volumes only when it was seen ended, or one by one when it is recovered elsewhere; the others also
//! when its silent node is given up.

use std::net::Ipv4Addr;

use imbl::OrdMap;

use crate::ids::{InstanceId, VolumeId};
use crate::instance::{Goal, Holding, Instance};
use crate::machine::NodeRecord;
use crate::spec::Protocol;
use crate::state::{App, State};

impl State {
    /// Whether the instance exists and [`Instance::is_runnable`].
    pub fn is_runnable(&self, id: InstanceId) -> bool {
        self.instance(id).is_some_and(Instance::is_runnable)
    }

    fn is_free(&self, holding: Option<&Holding>) -> bool {
        let holds = |id| self.instance(id).is_some_and(Instance::holds_claims);
        holding.is_none_or(|h| !holds(h.holder) && h.heir.is_none_or(|heir| !holds(heir)))
    }

    /// Whether no runnable instance and no node has this overlay address.
    pub fn address_is_free(&self, address: Ipv4Addr) -> bool {
        match self.addresses.get(&address) {
            None => true,
            Some(None) => false,
            Some(Some(holding)) => self.is_free(Some(holding)),
        }
    }

    pub fn fixed_address_holder(&self, address: Ipv4Addr) -> Option<InstanceId> {
        let holding = self.fixed_addresses.get(&address)?;
        self.is_runnable(holding.holder).then_some(holding.holder)
    }

    /// The runnable instance that holds a volume.
    pub fn volume_holder(&self, volume: &VolumeId) -> Option<InstanceId> {
        let holding = self.volume(volume)?.holding?;
        // A volume waits even for an instance on a silent node, which may still be writing.
        self.instance(holding.holder)
            .is_some_and(|i| !i.has_ended())
            .then_some(holding.holder)
    }

    /// Whether no runnable instance has this port of a node.
    pub fn port_is_free(&self, node: &NodeRecord, protocol: Protocol, port: u16) -> bool {
        self.is_free(node.ports.get(&(protocol, port)))
    }

    /// Whether no runnable instance fills this slot of an app.
    pub fn slot_is_free(&self, app: &App, slot: u32) -> bool {
        self.is_free(app.slots.get(&slot))
    }

    /// The next free overlay address behind the one given last, so that an address rests before
    /// it is used again. Addresses ending in 0 or 255, the subnet's first 256 (gateway and nodes)
    /// and its last are never given.
    pub fn next_address(&self) -> Option<Ipv4Addr> {
        let (base, prefix) = self.settings.subnet;
        let base = u32::from(base);
        let size = 1_u64 << (32 - u32::from(prefix.clamp(8, 24)));
        let usable = u32::try_from(size.checked_sub(257)?).ok()?;
        let start = self
            .last_address
            .and_then(|a| u32::from(a).checked_sub(base + 256))
            .map_or(0, |offset| (offset + 1) % usable);
        (0..usable)
            .map(|n| Ipv4Addr::from(base + 256 + (start + n) % usable))
            .filter(|a| !matches!(a.octets()[3], 0 | 255))
            .find(|a| self.address_is_free(*a))
    }

    /// Takes everything that an instance may claim. An heir is noted beside the holder.
    pub(super) fn take_claims(&mut self, instance: &Instance) {
        for (volume, _) in instance.spec.volumes() {
            if let Some(volume) = self.volumes.get_mut(volume).filter(|v| instance.holds(v)) {
                volume.holding = Some(join(volume.holding.as_ref(), instance));
            }
        }
        if !instance.holds_claims() {
            return;
        }
        if let Some(address) = instance.placement.address {
            self.last_address = Some(address);
            let held = Some(join(None, instance));
            let old = self.addresses.insert(address, held).flatten();
            if old.is_some() && instance.goal == Goal::Prepare {
                let held = Some(join(old.as_ref(), instance));
                self.addresses.insert(address, held);
            }
        }
        for fixed in &instance.placement.fixed_addresses {
            take(&mut self.fixed_addresses, fixed.address, instance);
        }
        if let Some(node) = self.nodes.get_mut(instance.placement.node.0) {
            for (protocol, port, _) in instance.published() {
                let port = (protocol, port);
                let held = join(node.ports.get(&port), instance);
                node.ports.insert(port, held);
            }
        }
        if let Some(app) = self
            .apps
            .get_mut(instance.app_slot)
            .filter(|app| app.id == instance.app)
        {
            take(&mut app.slots, instance.slot, instance);
        }
    }

    /// The heir becomes the holder of what both claim, at the hand-over. What only the one who
    /// held has (its own address, its node's ports) stays with it to its end.
    pub(super) fn hand_over_claims(&mut self, heir: &Instance) {
        let held = Holding {
            holder: heir.id,
            heir: None,
        };
        for (volume, _) in heir.spec.volumes() {
            if let Some(volume) = self.volumes.get_mut(volume) {
                volume.holding = Some(held);
            }
        }
        for fixed in &heir.placement.fixed_addresses {
            self.fixed_addresses.insert(fixed.address, held);
        }
        if let Some(app) = self
            .apps
            .get_mut(heir.app_slot)
            .filter(|app| app.id == heir.app)
        {
            app.slots.insert(heir.slot, held);
        }
    }

    /// Gives back the volumes that the instance still holds.
    pub(super) fn release_volumes(&mut self, instance: &Instance) {
        for (volume, _) in instance.spec.volumes() {
            if let Some(volume) = self.volumes.get_mut(volume) {
                volume.holding = volume.holding.and_then(|held| left(&held, instance.id));
            }
        }
    }

    /// Gives back everything but volumes that the instance still holds.
    pub(super) fn release_claims(&mut self, instance: &Instance) {
        let left = |held: &Holding| left(held, instance.id);
        if let Some(address) = instance.placement.address
            && let Some(Some(held)) = self.addresses.get(&address)
        {
            match left(held) {
                Some(held) => drop(self.addresses.insert(address, Some(held))),
                None => drop(self.addresses.remove(&address)),
            }
        }
        for fixed in &instance.placement.fixed_addresses {
            if let Some(held) = self.fixed_addresses.get(&fixed.address) {
                match left(held) {
                    Some(held) => drop(self.fixed_addresses.insert(fixed.address, held)),
                    None => drop(self.fixed_addresses.remove(&fixed.address)),
                }
            }
        }
        if let Some(node) = self.nodes.get_mut(instance.placement.node.0) {
            for (protocol, port, _) in instance.published() {
                if let Some(held) = node.ports.get(&(protocol, port)) {
                    match left(held) {
                        Some(held) => drop(node.ports.insert((protocol, port), held)),
                        None => drop(node.ports.remove(&(protocol, port))),
                    }
                }
            }
        }
        if let Some(app) = self.apps.get_mut(instance.app_slot)
            && app.id == instance.app
            && let Some(held) = app.slots.get(&instance.slot)
        {
            match left(held) {
                Some(held) => drop(app.slots.insert(instance.slot, held)),
                None => drop(app.slots.remove(&instance.slot)),
            }
        }
    }
}

/// Takes a claim in one visit to its map; an heir, which may find a holder, comes again.
fn take<K: Ord + Copy>(claims: &mut OrdMap<K, Holding>, claim: K, instance: &Instance) {
    let old = claims.insert(claim, join(None, instance));
    if old.is_some() && instance.goal == Goal::Prepare {
        claims.insert(claim, join(old.as_ref(), instance));
    }
}

/// A claim that an instance takes, or that it waits for as an heir.
fn join(old: Option<&Holding>, instance: &Instance) -> Holding {
    match old {
        Some(old) if instance.goal == Goal::Prepare => Holding {
            holder: old.holder,
            heir: Some(instance.id),
        },
        _ => Holding {
            holder: instance.id,
            heir: None,
        },
    }
}

/// What is left of a claim without one instance.
fn left(held: &Holding, id: InstanceId) -> Option<Holding> {
    match (held.holder == id, held.heir) {
        (true, heir) => heir.map(|holder| Holding { holder, heir: None }),
        (false, Some(heir)) if heir == id => Some(Holding {
            heir: None,
            ..*held
        }),
        (false, _) => Some(*held),
    }
}
