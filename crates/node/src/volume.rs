//! What a node may do with its copy of a volume, from the order and the role file alone. Volumes
//! at rest only: sealing, landing and resuming belong to a move.
//!
//! The role file holds the highest generation this node has obeyed; an order of an older one is
//! refused with it. A copy becomes `live` only here, on the leader's word; one that is `sealed`
//! or was received in a move never becomes so by an order about a volume at rest.

use model::Mebibytes;
use model::ids::Generation;
use model::volume::{CopyRole, RoleFile, VolumeOrder};

use crate::observed::LocalVolume;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Make {
        role: RoleFile,
        size: Mebibytes,
    },
    Adopt(RoleFile),
    Open {
        generation: Generation,
        size: Mebibytes,
    },
    Close,
    Destroy {
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
}

/// The next step towards `order`; `None` when there is nothing to do (now).
pub fn judge(order: &VolumeOrder, local: LocalVolume, by: Use) -> Result<Option<Step>, Refusal> {
    let (VolumeOrder::Live { generation, .. } | VolumeOrder::Remove { generation }) = *order;
    if let Some(file) = local.file.filter(|file| file.generation > generation) {
        return Err(Refusal::Older {
            ordered: generation,
            known: file.generation,
        });
    }
    match *order {
        VolumeOrder::Live { size, fresh, .. } => live(generation, size, fresh, local, by),
        VolumeOrder::Remove { .. } => Ok(match (by.held, local.open, local.file) {
            (true, _, _) | (false, false, None) => None,
            (false, true, _) => Some(Step::Close),
            (false, false, Some(_)) => Some(Step::Destroy { generation }),
        }),
    }
}

fn live(
    generation: Generation,
    size: Mebibytes,
    fresh: bool,
    local: LocalVolume,
    by: Use,
) -> Result<Option<Step>, Refusal> {
    let role = RoleFile {
        generation,
        role: CopyRole::Live,
    };
    match local.file {
        None if fresh => Ok(Some(Step::Make { role, size })),
        None => Err(Refusal::NoCopy),
        Some(file) if file.role != CopyRole::Live => Err(Refusal::NotLive(file.role)),
        Some(file) if file.generation < generation => Ok(Some(Step::Adopt(role))),
        Some(_) if by.wanted && !local.open => Ok(Some(Step::Open { generation, size })),
        Some(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Mebibytes = Mebibytes::whole(64);

    fn order(generation: u64, fresh: bool) -> VolumeOrder {
        VolumeOrder::Live {
            generation: Generation(generation),
            size: SIZE,
            fresh,
        }
    }

    fn copy(generation: u64, role: CopyRole, open: bool) -> LocalVolume {
        let generation = Generation(generation);
        LocalVolume {
            file: Some(RoleFile { generation, role }),
            open,
        }
    }

    const WANTED: Use = Use {
        wanted: true,
        held: false,
    };

    #[test]
    fn a_fresh_volume_is_made_then_opened_then_left_alone() {
        let role = RoleFile {
            generation: Generation(1),
            role: CopyRole::Live,
        };
        let make = Step::Make { role, size: SIZE };
        let open = Step::Open {
            generation: Generation(1),
            size: SIZE,
        };
        let next = |local| judge(&order(1, true), local, WANTED);
        assert_eq!(next(LocalVolume::default()), Ok(Some(make)));
        assert_eq!(next(copy(1, CopyRole::Live, false)), Ok(Some(open)));
        assert_eq!(next(copy(1, CopyRole::Live, true)), Ok(None));
    }

    #[test]
    fn an_order_of_an_older_generation_is_refused_whatever_it_says() {
        let known = copy(3, CopyRole::Live, false);
        let older = Err(Refusal::Older {
            ordered: Generation(2),
            known: Generation(3),
        });
        let remove = VolumeOrder::Remove {
            generation: Generation(2),
        };
        assert_eq!(judge(&order(2, false), known, WANTED), older);
        assert_eq!(judge(&remove, known, Use::default()), older);
    }

    #[test]
    fn what_a_move_left_is_never_opened_by_an_order_at_rest() {
        for role in [
            CopyRole::Sealed,
            CopyRole::Landing,
            CopyRole::Landed,
            CopyRole::Kept,
            CopyRole::Aside,
        ] {
            let verdict = judge(&order(9, true), copy(3, role, false), WANTED);
            assert_eq!(verdict, Err(Refusal::NotLive(role)));
        }
    }

    #[test]
    fn a_lost_copy_is_reported_and_not_replaced_by_an_empty_one() {
        let verdict = judge(&order(2, false), LocalVolume::default(), WANTED);
        assert_eq!(verdict, Err(Refusal::NoCopy));
    }

    #[test]
    fn a_volume_is_destroyed_only_when_nothing_holds_it() {
        let remove = VolumeOrder::Remove {
            generation: Generation(3),
        };
        let held = Use {
            wanted: false,
            held: true,
        };
        let open = copy(2, CopyRole::Live, true);
        assert_eq!(judge(&remove, open, held), Ok(None));
        assert_eq!(judge(&remove, open, Use::default()), Ok(Some(Step::Close)));
        let closed = copy(2, CopyRole::Live, false);
        let destroy = Step::Destroy {
            generation: Generation(3),
        };
        assert_eq!(judge(&remove, closed, Use::default()), Ok(Some(destroy)));
        let gone = LocalVolume::default();
        assert_eq!(judge(&remove, gone, Use::default()), Ok(None));
    }
}
