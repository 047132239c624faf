//! What a node may do with its copy of a volume, from the order and the role file alone.
//!
//! ```text
//!            Seal                        Keep
//!  live ────────────▶ sealed ────────────────────────▶ kept
//!   ▲ ◀───────────────┘ Unseal                           │ Land, of a later move
//!   │        Land           snapshot synced       ◀──────┘
//!  none ─────────────▶ landing ────────▶ landed ── Promote ──▶ live, one generation higher
//!
//!  kept, landing ── Promote, of a recovery ──▶ live      live, sealed, landed, kept ── SetAside ──▶ aside
//!  landing ── Keep, of an abandoned move ──▶ kept                            aside ── Clear ──▶ none
//! ```
//! The role file holds the highest generation this node has obeyed; an order of an older one is
//! refused with it. The more cautious role is on disk before the act that needs it; the less
//! cautious one only on the leader's word: a copy becomes `live` by `Unseal` of the move that
//! sealed it, or by `Promote` of the snapshot that landed or was kept, or, in a recovery, of one that
//! came before the move was cut short; a repeated order changes nothing. What is set aside becomes nothing else, and only `Clear` with its name destroys it.

use model::ids::{Generation, MoveId};
use model::volume::{CopyRole, RoleFile, Source, VolumeOrder};
use model::{Mebibytes, Snapshot};

use crate::observed::LocalVolume;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Make {
        role: RoleFile,
        size: Mebibytes,
    },
    Persist(RoleFile),
    Open {
        generation: Generation,
        size: Mebibytes,
    },
    Close,
    Destroy {
        generation: Generation,
    },
    /// The hook, if an instance runs that has one.
    Hook(Snapshot),
    Flush(Snapshot),
    CheckStill(Snapshot),
    Snapshot(Snapshot),
    Receive {
        generation: Generation,
        from: Source,
        snapshot: Snapshot,
        base: Option<Snapshot>,
        needed: u64,
    },
    SyncReceived(Snapshot),
    Promote {
        snapshot: Snapshot,
        size: Mebibytes,
    },
    Drop(Snapshot),
    /// Turn what the copy holds, which was written under this generation, into something that
    /// only its name destroys.
    SetAside {
        generation: Generation,
    },
}

/// Who on this node has to do with the volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Use {
    /// An instance is to run with it.
    pub wanted: bool,
    /// A process has it mounted, or may have.
    pub held: bool,
    /// Such a process is not frozen.
    pub awake: bool,
    /// An instance is about to run with it.
    pub starting: bool,
}

/// Why an order is not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("ordered under generation {ordered}, but this node has obeyed generation {known}")]
    Older {
        ordered: Generation,
        known: Generation,
    },
    #[error("this node has no copy of it")]
    NoCopy,
    #[error("this node's copy is {0:?}, which only a move or a recovery makes live")]
    NotLive(CopyRole),
    #[error("this node's copy is {0:?}, and the order is for another")]
    OtherRole(CopyRole),
    #[error("this node has obeyed that {0} is over")]
    MoveOver(MoveId),
    #[error("this node's copy lacks {0}")]
    NoSnapshot(Snapshot),
    #[error("something else is set aside on this node")]
    OtherAside,
}

type Verdict = Result<Option<Step>, Refusal>;

/// The next step towards `order`; `None` when there is nothing to do (now).
pub fn judge(order: &VolumeOrder, local: &LocalVolume, by: Use) -> Verdict {
    let generation = order.generation();
    let newer = |file: &RoleFile| file.generation > generation;
    if let Some(file) = local.file.filter(newer) {
        return Err(Refusal::Older {
            ordered: generation,
            known: file.generation,
        });
    }
    match *order {
        VolumeOrder::Live { size, fresh, .. } => {
            let step = live(generation, size, fresh, local, by)?;
            Ok(step.or_else(|| surplus(local, by)))
        }
        VolumeOrder::Remove { .. } => Ok(destroy(generation, local, by)),
        VolumeOrder::Seed {
            size,
            snapshot,
            hook,
            ..
        } => {
            let step = live(generation, size, false, local, by)?;
            Ok(step.or_else(|| seed(snapshot, hook, local)))
        }
        VolumeOrder::Seal { snapshot, .. } => seal(generation, snapshot, local, by),
        VolumeOrder::Unseal { size, movement, .. } => unseal(generation, size, movement, local, by),
        VolumeOrder::Keep { movement, .. } => keep(generation, movement, local, by),
        VolumeOrder::Land { .. } => land(order, local, by),
        VolumeOrder::Promote {
            size,
            movement,
            snapshot,
            ..
        } => promote(generation, size, (movement, snapshot), local, by),
        VolumeOrder::Discard { .. } => match local.file.map(|file| file.role) {
            None | Some(CopyRole::Landing | CopyRole::Landed | CopyRole::Kept) => {
                Ok(destroy(generation, local, by))
            }
            Some(role) => Err(Refusal::OtherRole(role)),
        },
        VolumeOrder::SetAside { .. } => set_aside(local, by),
        VolumeOrder::Clear { ref aside, .. } => match (local.file, &local.aside) {
            (None, _) => Ok(None),
            (Some(file), Some(known)) if file.role == CopyRole::Aside && known.name == *aside => {
                Ok(destroy(generation, local, by))
            }
            (Some(_), _) => Err(Refusal::OtherAside),
        },
    }
}

fn live(
    generation: Generation,
    size: Mebibytes,
    fresh: bool,
    local: &LocalVolume,
    by: Use,
) -> Verdict {
    match local.file {
        None if fresh => Ok(Some(Step::Make {
            role: RoleFile::live(generation),
            size,
        })),
        None => Err(Refusal::NoCopy),
        Some(file) if file.role != CopyRole::Live => Err(Refusal::NotLive(file.role)),
        Some(file) if file.generation < generation => {
            Ok(Some(Step::Persist(RoleFile { generation, ..file })))
        }
        Some(_) if by.wanted && !local.open => Ok(Some(Step::Open { generation, size })),
        Some(_) => Ok(None),
    }
}

fn destroy(generation: Generation, local: &LocalVolume, by: Use) -> Option<Step> {
    match (by.held, local.open, local.file) {
        (true, _, _) | (false, false, None) => None,
        (false, true, _) => Some(Step::Close),
        (false, false, Some(_)) => Some(Step::Destroy { generation }),
    }
}

/// Between moves only the newest snapshot is kept, as the base of the next. Nothing is deleted
/// beside an app that is about to start.
fn surplus(local: &LocalVolume, by: Use) -> Option<Step> {
    if by.starting {
        return None;
    }
    let newest = local.snapshots.last()?;
    let oldest = local.snapshots.first().filter(|oldest| *oldest != newest);
    oldest.map(|oldest| Step::Drop(*oldest))
}

fn seed(snapshot: Snapshot, hook: bool, local: &LocalVolume) -> Option<Step> {
    match local.snapshots.contains(&snapshot) {
        true => None,
        false if hook && local.hooked != Some(snapshot) => Some(Step::Hook(snapshot)),
        false => Some(Step::Snapshot(snapshot)),
    }
}

fn seal(generation: Generation, snapshot: Snapshot, local: &LocalVolume, by: Use) -> Verdict {
    let file = local.file.ok_or(Refusal::NoCopy)?;
    let movement = Some(snapshot.movement);
    match file.role {
        // The word that this move is over was obeyed; nothing takes that back.
        CopyRole::Live if file.movement == movement => Err(Refusal::MoveOver(snapshot.movement)),
        CopyRole::Live => Ok(Some(Step::Persist(RoleFile {
            generation,
            role: CopyRole::Sealed,
            movement,
            last: None,
        }))),
        CopyRole::Sealed if file.movement == movement => Ok(match local {
            local if local.snapshots.contains(&snapshot) => None,
            local if local.flushed != Some(snapshot) => Some(Step::Flush(snapshot)),
            _ if by.awake => None,
            local if local.still != Some(snapshot) => Some(Step::CheckStill(snapshot)),
            _ => Some(Step::Snapshot(snapshot)),
        }),
        role => Err(Refusal::OtherRole(role)),
    }
}

fn unseal(
    generation: Generation,
    size: Mebibytes,
    movement: MoveId,
    local: &LocalVolume,
    by: Use,
) -> Verdict {
    let file = local.file.ok_or(Refusal::NoCopy)?;
    let ours = file.movement == Some(movement);
    match file.role {
        CopyRole::Live if ours => {
            let of_it = local.snapshots.iter().find(|s| s.movement == movement);
            let drop = of_it.map(|snapshot| Step::Drop(*snapshot));
            Ok(live(generation, size, false, local, by)?.or(drop))
        }
        CopyRole::Live => Ok(Some(Step::Persist(RoleFile {
            movement: Some(movement),
            ..RoleFile::live(generation)
        }))),
        CopyRole::Sealed if ours => Ok(Some(Step::Persist(RoleFile {
            movement: Some(movement),
            ..RoleFile::live(generation)
        }))),
        role => Err(Refusal::OtherRole(role)),
    }
}

fn keep(generation: Generation, movement: MoveId, local: &LocalVolume, by: Use) -> Verdict {
    let file = local.file.ok_or(Refusal::NoCopy)?;
    match file.role {
        CopyRole::Sealed => Ok(Some(Step::Persist(RoleFile {
            generation,
            role: CopyRole::Kept,
            movement: Some(movement),
            last: local.snapshots.last().copied(),
        }))),
        CopyRole::Kept if by.held => Ok(None),
        CopyRole::Kept if local.open => Ok(Some(Step::Close)),
        CopyRole::Kept => Ok(surplus(local, by)),
        CopyRole::Landing | CopyRole::Landed => Ok(Some(keep_former(generation, file, local))),
        role => Err(Refusal::OtherRole(role)),
    }
}

/// Back to what the copy was before an abandoned move began to land in it; the source has dropped
/// that move's snapshots too.
fn keep_former(generation: Generation, file: RoleFile, local: &LocalVolume) -> Step {
    let landed = |snapshot: &&Snapshot| Some(snapshot.movement) == file.movement;
    match local.snapshots.iter().find(landed) {
        Some(landed) => Step::Drop(*landed),
        None => Step::Persist(RoleFile {
            generation,
            role: CopyRole::Kept,
            movement: file.movement,
            last: local.snapshots.last().copied(),
        }),
    }
}

/// Nothing runs on it once the role is on disk and what ran is dead; only then is it touched.
fn set_aside(local: &LocalVolume, by: Use) -> Verdict {
    let file = local.file.ok_or(Refusal::NoCopy)?;
    match file.role {
        CopyRole::Aside if local.aside.is_some() || by.held => Ok(None),
        CopyRole::Aside if local.open => Ok(Some(Step::Close)),
        CopyRole::Aside => Ok(Some(Step::SetAside {
            generation: file.generation,
        })),
        CopyRole::Live | CopyRole::Sealed | CopyRole::Landed | CopyRole::Kept => {
            Ok(Some(Step::Persist(RoleFile {
                role: CopyRole::Aside,
                ..file
            })))
        }
        CopyRole::Landing => Err(Refusal::OtherRole(file.role)),
    }
}

fn land(order: &VolumeOrder, local: &LocalVolume, by: Use) -> Verdict {
    let VolumeOrder::Land {
        generation,
        movement,
        from,
        snapshot,
        base,
        last,
        needed,
    } = *order
    else {
        return Ok(None);
    };
    let role = |role, last| RoleFile {
        generation,
        role,
        movement: Some(movement),
        last,
    };
    let landing = role(CopyRole::Landing, None);
    match local.file {
        Some(file)
            if matches!(
                file.role,
                CopyRole::Live | CopyRole::Sealed | CopyRole::Aside
            ) =>
        {
            return Err(Refusal::OtherRole(file.role));
        }
        Some(file) if file.movement == Some(movement) && file.role == CopyRole::Landed => {
            return Ok(None);
        }
        // What is still mounted of an earlier life is not received over.
        Some(_) if local.open => return Ok((!by.held).then_some(Step::Close)),
        Some(file) if file == landing => {}
        None | Some(_) => return Ok(Some(Step::Persist(landing))),
    }
    let Some(snapshot) = snapshot else {
        return Ok(None);
    };
    Ok(match local.snapshots.contains(&snapshot) {
        true if last => Some(Step::Persist(role(CopyRole::Landed, Some(snapshot)))),
        true => None,
        false if local.received == Some(snapshot) => Some(Step::SyncReceived(snapshot)),
        false => Some(Step::Receive {
            generation,
            from,
            snapshot,
            base,
            needed,
        }),
    })
}

fn promote(
    generation: Generation,
    size: Mebibytes,
    (movement, snapshot): (MoveId, Snapshot),
    local: &LocalVolume,
    by: Use,
) -> Verdict {
    let file = local.file.ok_or(Refusal::NoCopy)?;
    match file.role {
        CopyRole::Live if file.generation == generation => {
            Ok(live(generation, size, false, local, by)?.or_else(|| surplus(local, by)))
        }
        // A move never ends half-way.
        CopyRole::Landing if movement == snapshot.movement => Err(Refusal::OtherRole(file.role)),
        CopyRole::Kept | CopyRole::Landing if local.open || by.held => {
            Ok((!by.held).then_some(Step::Close))
        }
        // Only under a generation above the one of what landed or was kept.
        CopyRole::Landed | CopyRole::Landing | CopyRole::Kept if file.generation < generation => {
            let fits = file.role == CopyRole::Landing || file.last == Some(snapshot);
            if !fits || !local.snapshots.contains(&snapshot) {
                return Err(Refusal::NoSnapshot(snapshot));
            }
            Ok(Some(match local.promoted == Some(snapshot) {
                false => Step::Promote { snapshot, size },
                true => Step::Persist(RoleFile {
                    movement: Some(movement),
                    ..RoleFile::live(generation)
                }),
            }))
        }
        role => Err(Refusal::OtherRole(role)),
    }
}

/// How far this node is with a stream that it is ordered to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Giving {
    /// It cannot: what the stream builds on is not here.
    Never,
    /// The snapshot is still to be made, or its copy to be sealed.
    Later,
    Now,
}

/// Of the snapshot that the order names, with its base.
pub fn giving(order: &VolumeOrder, local: &LocalVolume) -> Giving {
    let (snapshot, base, role) = match *order {
        VolumeOrder::Seed { snapshot, base, .. } => (snapshot, base, CopyRole::Live),
        VolumeOrder::Seal { snapshot, base, .. } => (snapshot, base, CopyRole::Sealed),
        _ => return Giving::Never,
    };
    let fits = |file: RoleFile| file.role == role && file.generation == order.generation();
    let is_made = local.file.is_some_and(fits) && local.snapshots.contains(&snapshot);
    match base.is_none_or(|base| local.snapshots.contains(&base)) {
        false => Giving::Never,
        true if is_made => Giving::Now,
        true => Giving::Later,
    }
}

#[cfg(test)]
mod tests;
