//! Streams between machines: a target asks the source that its order names, and is given what
//! the source's own order says, if the bases are the same.

use model::Millis;
use node::{Action, jobs};

use super::World;
use crate::data::Held;

impl World {
    /// Performs a [`Action::Receive`]; `Err`: why there is nothing, as the receiver would say.
    pub(super) fn receive(&mut self, machine: usize, action: &Action) -> Result<(), String> {
        let Action::Receive {
            volume,
            generation,
            from,
            snapshot,
            base,
            ..
        } = action
        else {
            return Ok(());
        };
        let target = &self.machines[machine];
        let welcome = target.disk.remembered.memory.welcome.as_ref();
        let me = welcome.map(|welcome| welcome.node);
        let source = self
            .machines
            .iter()
            .find(|paper| paper.machine.address == from.address)
            .filter(|paper| paper.powered && !paper.cut && !target.cut)
            .ok_or("no route to the source")?;
        let agent = source.agent.as_ref().ok_or("connection refused")?;
        let offers = jobs::offered(agent.session.assignment(), &agent.observed);
        let offered = offers.iter().any(|offer| {
            offer.volume == volume
                && Some(offer.to) == me
                && (offer.generation, offer.snapshot, offer.base) == (*generation, *snapshot, *base)
        });
        if !offered {
            return Err("the source does not offer it".into());
        }
        if self.pace.mishap(30) {
            return Err("unexpected end of stream".into());
        }
        let theirs = source.disk.volumes.get(volume);
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
