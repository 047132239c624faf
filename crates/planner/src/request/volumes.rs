//! Creating and removing volumes, and what is set aside of them, by name.

use model::ids::{NodeId, VolumeId};
use model::quantity::Mebibytes;
use model::{Aside, Change, Draft, Generation, Volume};

use crate::request::{MoveRefusal, Refusal};

/// Creates an empty volume, on `node` if one is named, else where it is first used. Creating it
/// again with the same wishes changes nothing. Gives whether it is new. 201 or 200; 404 for the
/// node; 409 when it exists otherwise.
pub fn create_volume(
    draft: &mut Draft,
    id: VolumeId,
    size: Option<Mebibytes>,
    node: Option<NodeId>,
) -> Result<bool, Refusal> {
    if let Some(node) = node.filter(|node| draft.state().node(*node).is_none()) {
        return Err(Refusal::NoNode(node));
    }
    if let Some(volume) = draft.state().volume(&id) {
        if volume.removing {
            return Err(Refusal::VolumeGoing(id));
        }
        let same = size.is_none_or(|size| size == volume.size)
            && node.is_none_or(|node| volume.home == Some(node));
        let home = volume.home.and_then(|home| draft.state().node(home));
        return match same {
            true => Ok(false),
            false => Err(Refusal::VolumeDiffers {
                volume: id,
                size: volume.size,
                home: home.map(|home| home.machine.name.clone()),
            }),
        };
    }
    let size = size.unwrap_or(draft.state().settings.volume_size);
    let volume = Volume {
        home: node,
        ..Volume::empty(id, size, draft.now())
    };
    draft.apply(Change::VolumePut {
        volume: Box::new(volume),
    });
    Ok(true)
}

/// Removes a volume and every copy of it; it is gone when every node has confirmed. 202; 404;
/// 409 while an app has it.
pub fn remove_volume(draft: &mut Draft, id: &VolumeId) -> Result<(), Refusal> {
    let volume = draft.state().volume(id);
    let volume = volume.ok_or_else(|| Refusal::NoVolume(id.clone()))?;
    if let Some(tenant) = &volume.tenant {
        return Err(Refusal::VolumeInUse {
            volume: id.clone(),
            tenant: tenant.clone(),
        });
    }
    if let Some(movement) = draft.state().move_of_volume(id) {
        let phase = movement.phase.to_string();
        let volume = id.clone();
        return Err(MoveRefusal::UnderWay { volume, phase }.into());
    }
    if !volume.removing {
        let generation = Generation(volume.generation.0 + 1);
        draft.apply(Change::VolumeRemoving {
            volume: id.clone(),
            generation,
        });
    }
    Ok(())
}

/// Removes what `node` has set aside of a volume, which `copy` names; it is gone when the node has
/// confirmed. Once more changes nothing. 202; 404.
pub fn remove_copy(
    draft: &mut Draft,
    id: &VolumeId,
    node: NodeId,
    copy: &str,
) -> Result<(), Refusal> {
    let volume = draft.state().volume(id);
    let volume = volume.ok_or_else(|| Refusal::NoVolume(id.clone()))?;
    let named = |aside: &Aside| aside.name == copy;
    let found = volume.copies.get(&node);
    let found = found.filter(|found| found.aside.as_ref().is_some_and(named));
    let found = found.ok_or_else(|| Refusal::VolumeCopyMissing {
        volume: id.clone(),
        copy: copy.to_owned(),
    })?;
    if !found.unwanted {
        draft.apply(Change::VolumeCopyUnwanted {
            volume: id.clone(),
            node,
        });
    }
    Ok(())
}
