//! Streams between machines: a target asks the source that its order names, and is given what
//! the source's own order says, if the bases are the same.

use std::net::Ipv4Addr;

use model::Millis;
use node::{Action, jobs};

use super::World;
use crate::data::Held;
use crate::machine::Paper;

impl World {
    /// Whether whoever asks for this stream is told to wait: it is ordered and not made yet.
    pub(super) fn is_awaited(&self, machine: usize, action: &Action) -> bool {
        matches!(self.offered(machine, action), Ok(false))
    }

    /// Whether the stream is ready at its source; `Err`: why it is not to be had, as the receiver
    /// would say.
    fn offered(&self, machine: usize, action: &Action) -> Result<bool, String> {
        let Action::Receive {
            volume,
            generation,
            from,
            snapshot,
            base,
            ..
        } = action
        else {
            return Ok(true);
        };
        let target = &self.machines[machine];
        let welcome = target.disk.remembered.memory.welcome.as_ref();
        let me = welcome.map(|welcome| welcome.node);
        let source = self.source(*from.address.ip())?;
        if target.cut {
            return Err("no route to the source".into());
        }
        let agent = source.agent.as_ref().ok_or("connection refused")?;
        let offers = jobs::offered(agent.session.assignment(), &agent.observed);
        let offer = offers.iter().find(|offer| {
            offer.volume == volume
                && Some(offer.to) == me
                && (offer.generation, offer.snapshot, offer.base) == (*generation, *snapshot, *base)
        });
        let offer = offer.ok_or("the source was not ordered to send it")?;
        Ok(offer.ready)
    }

    fn source(&self, address: Ipv4Addr) -> Result<&Paper, String> {
        let mut machines = self.machines.iter();
        let source = machines.find(|paper| paper.machine.address == address);
        let reached = source.filter(|paper| paper.powered && !paper.cut);
        reached.ok_or_else(|| "no route to the source".into())
    }

    fn source_mut(&mut self, address: Ipv4Addr) -> Option<&mut Paper> {
        let mut machines = self.machines.iter_mut();
        machines.find(|paper| paper.machine.address == address)
    }

    /// Performs a [`Action::Receive`]; `Err`: why there is nothing.
    pub(super) fn receive(&mut self, machine: usize, action: &Action) -> Result<(), String> {
        let Action::Receive {
            volume,
            from,
            snapshot,
            base,
            ..
        } = action
        else {
            return Ok(());
        };
        self.offered(machine, action)?;
        if self.pace.mishap(30) {
            return Err("unexpected end of stream".into());
        }
        let target = &self.machines[machine];
        let theirs = self.source(*from.address.ip())?.disk.volumes.get(volume);
        let held = theirs.and_then(|data| data.snapshots.get(snapshot));
        let held = *held.ok_or("the source lacks the snapshot")?;
        let before = match base {
            None => 0,
            Some(base) => {
                let theirs = theirs.and_then(|data| data.snapshots.get(base));
                let mine = target.disk.volumes.get(volume);
                let mine = mine.and_then(|data| data.snapshots.get(base));
                let same = theirs.zip(mine).filter(|(a, b)| a.identity == b.identity);
                same.ok_or("cannot find the parent subvolume")?.0.content
            }
        };
        // A snapshot is made by committing it, so that what was sent cannot be lost and made anew.
        if let Some(source) = self.source_mut(*from.address.ip())
            && let Some(data) = source.disk.volumes.get_mut(volume)
            && let Some(sent) = data.snapshots.get_mut(snapshot)
        {
            sent.synced |= !sent.received;
        }
        let paper = &mut self.machines[machine];
        let data = paper.disk.volumes.entry(volume.clone()).or_default();
        let received = Held {
            synced: false,
            received: true,
            ..held
        };
        data.snapshots.insert(*snapshot, received);
        if let Some(agent) = &mut paper.agent {
            agent.volume(volume).took = Some(Millis(held.content.saturating_sub(before)));
        }
        Ok(())
    }
}
