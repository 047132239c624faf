//! What a copy becomes by each order, and what no order makes of it.

use super::*;
use model::{Aside, Time};

const SIZE: Mebibytes = Mebibytes::whole(64);

fn order(generation: u64, fresh: bool) -> VolumeOrder {
    VolumeOrder::Live {
        generation: Generation(generation),
        size: SIZE,
        fresh,
    }
}

fn copy(generation: u64, role: CopyRole, open: bool) -> LocalVolume {
    let file = RoleFile {
        role,
        ..RoleFile::live(Generation(generation))
    };
    LocalVolume {
        file: Some(file),
        open,
        ..LocalVolume::default()
    }
}

const WANTED: Use = Use {
    wanted: true,
    held: false,
    awake: false,
    starting: false,
};

#[test]
fn a_fresh_volume_is_made_then_opened_then_left_alone() {
    let role = RoleFile::live(Generation(1));
    let make = Step::Make { role, size: SIZE };
    let open = Step::Open {
        generation: Generation(1),
        size: SIZE,
    };
    let next = |local: LocalVolume| judge(&order(1, true), &local, WANTED);
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
    assert_eq!(judge(&order(2, false), &known, WANTED), older);
    assert_eq!(judge(&remove, &known, Use::default()), older);
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
        let verdict = judge(&order(9, true), &copy(3, role, false), WANTED);
        assert_eq!(verdict, Err(Refusal::NotLive(role)));
    }
}

#[test]
fn a_lost_copy_is_reported_and_not_replaced_by_an_empty_one() {
    let verdict = judge(&order(2, false), &LocalVolume::default(), WANTED);
    assert_eq!(verdict, Err(Refusal::NoCopy));
}

#[test]
fn a_volume_is_destroyed_only_when_nothing_holds_it() {
    let remove = VolumeOrder::Remove {
        generation: Generation(3),
    };
    let held = Use {
        held: true,
        ..Use::default()
    };
    let open = copy(2, CopyRole::Live, true);
    assert_eq!(judge(&remove, &open, held), Ok(None));
    assert_eq!(judge(&remove, &open, Use::default()), Ok(Some(Step::Close)));
    let closed = copy(2, CopyRole::Live, false);
    let destroy = Step::Destroy {
        generation: Generation(3),
    };
    assert_eq!(judge(&remove, &closed, Use::default()), Ok(Some(destroy)));
    let gone = LocalVolume::default();
    assert_eq!(judge(&remove, &gone, Use::default()), Ok(None));
}

const MOVE: MoveId = MoveId(7);

fn snapshot(round: u32) -> Snapshot {
    Snapshot {
        movement: MOVE,
        round,
    }
}

fn file(generation: u64, role: CopyRole, movement: Option<MoveId>) -> RoleFile {
    RoleFile {
        generation: Generation(generation),
        role,
        movement,
        last: None,
    }
}

fn local(file: RoleFile, snapshots: &[u32]) -> LocalVolume {
    LocalVolume {
        file: Some(file),
        snapshots: snapshots.iter().map(|round| snapshot(*round)).collect(),
        ..LocalVolume::default()
    }
}

fn seal_order() -> VolumeOrder {
    VolumeOrder::Seal {
        generation: Generation(2),
        to: model::NodeId(1),
        snapshot: snapshot(3),
        base: Some(snapshot(2)),
    }
}

fn land_order(round: Option<u32>, last: bool) -> VolumeOrder {
    VolumeOrder::Land {
        generation: Generation(2),
        movement: MOVE,
        from: Source {
            node: model::NodeId(0),
            address: "10.0.15.11:4434".parse().unwrap(),
        },
        snapshot: round.map(snapshot),
        base: None,
        last,
        needed: 0,
    }
}

#[test]
fn a_source_is_sealed_on_disk_before_it_waits_for_its_writers_and_checked_before_the_snapshot() {
    let awake = Use {
        held: true,
        awake: true,
        wanted: true,
        starting: false,
    };
    let frozen = Use {
        awake: false,
        ..awake
    };
    let order = seal_order();
    let sealed = file(2, CopyRole::Sealed, Some(MOVE));
    let mut copy = local(file(2, CopyRole::Live, None), &[2]);
    assert_eq!(judge(&order, &copy, awake), Ok(Some(Step::Persist(sealed))));
    copy.file = Some(sealed);
    assert_eq!(
        judge(&order, &copy, awake),
        Ok(Some(Step::Flush(snapshot(3))))
    );
    copy.flushed = Some(snapshot(3));
    assert_eq!(judge(&order, &copy, awake), Ok(None));
    let check = Step::CheckStill(snapshot(3));
    assert_eq!(judge(&order, &copy, frozen), Ok(Some(check)));
    assert_eq!(giving(&order, &copy), Giving::Later);
    copy.still = Some(snapshot(3));
    assert_eq!(
        judge(&order, &copy, frozen),
        Ok(Some(Step::Snapshot(snapshot(3))))
    );
    copy.snapshots.insert(snapshot(3));
    assert_eq!(judge(&order, &copy, frozen), Ok(None));
    assert_eq!(giving(&order, &copy), Giving::Now);
    copy.snapshots.remove(&snapshot(2));
    assert_eq!(giving(&order, &copy), Giving::Never);
}

#[test]
fn only_the_word_of_its_own_move_unseals_a_copy_and_no_late_order_seals_it_again() {
    let unseal = |movement| VolumeOrder::Unseal {
        generation: Generation(2),
        size: SIZE,
        movement,
    };
    let sealed = local(file(2, CopyRole::Sealed, Some(MOVE)), &[]);
    let live = file(2, CopyRole::Live, Some(MOVE));
    let verdict = judge(&unseal(MOVE), &sealed, Use::default());
    assert_eq!(verdict, Ok(Some(Step::Persist(live))));
    let other = judge(&unseal(MoveId(8)), &sealed, Use::default());
    assert_eq!(other, Err(Refusal::OtherRole(CopyRole::Sealed)));
    let at_rest = judge(&order(2, false), &sealed, WANTED);
    assert_eq!(at_rest, Err(Refusal::NotLive(CopyRole::Sealed)));
    let late = judge(&seal_order(), &local(live, &[]), Use::default());
    assert_eq!(late, Err(Refusal::MoveOver(MOVE)));
    // One that never sealed says all the same that it has heard.
    let never = local(file(2, CopyRole::Live, None), &[]);
    let verdict = judge(&unseal(MOVE), &never, Use::default());
    assert_eq!(verdict, Ok(Some(Step::Persist(live))));
}

#[test]
fn what_was_received_is_landed_only_when_it_is_synced_and_last() {
    let landing = file(2, CopyRole::Landing, Some(MOVE));
    let next = |order: &VolumeOrder, copy: &LocalVolume| judge(order, copy, Use::default());
    let none = LocalVolume::default();
    let persist = Ok(Some(Step::Persist(landing)));
    assert_eq!(next(&land_order(None, false), &none), persist);
    let mut copy = local(landing, &[]);
    assert_eq!(next(&land_order(None, false), &copy), Ok(None));
    let receive = next(&land_order(Some(3), true), &copy);
    assert!(matches!(receive, Ok(Some(Step::Receive { .. }))));
    copy.received = Some(snapshot(3));
    let sync = Ok(Some(Step::SyncReceived(snapshot(3))));
    assert_eq!(next(&land_order(Some(3), true), &copy), sync);
    copy.snapshots.insert(snapshot(3));
    assert_eq!(next(&land_order(Some(3), false), &copy), Ok(None));
    let landed = RoleFile {
        role: CopyRole::Landed,
        last: Some(snapshot(3)),
        ..landing
    };
    let landed_step = Ok(Some(Step::Persist(landed)));
    assert_eq!(next(&land_order(Some(3), true), &copy), landed_step);
    // Nothing is received over what is or was the truth.
    for role in [CopyRole::Live, CopyRole::Sealed, CopyRole::Aside] {
        let copy = local(file(2, role, Some(MOVE)), &[]);
        let verdict = next(&land_order(None, false), &copy);
        assert_eq!(verdict, Err(Refusal::OtherRole(role)));
    }
}

#[test]
fn only_what_landed_is_promoted_and_only_under_a_higher_generation() {
    let promote = |generation| VolumeOrder::Promote {
        generation: Generation(generation),
        size: SIZE,
        movement: MOVE,
        snapshot: snapshot(3),
    };
    let landed = RoleFile {
        last: Some(snapshot(3)),
        ..file(2, CopyRole::Landed, Some(MOVE))
    };
    let mut copy = local(landed, &[3]);
    let step = Step::Promote {
        snapshot: snapshot(3),
        size: SIZE,
    };
    assert_eq!(judge(&promote(3), &copy, WANTED), Ok(Some(step)));
    let same = judge(&promote(2), &copy, WANTED);
    assert_eq!(same, Err(Refusal::OtherRole(CopyRole::Landed)));
    copy.promoted = Some(snapshot(3));
    let live = file(3, CopyRole::Live, Some(MOVE));
    assert_eq!(
        judge(&promote(3), &copy, WANTED),
        Ok(Some(Step::Persist(live)))
    );
    copy.file = Some(live);
    let open = Step::Open {
        generation: Generation(3),
        size: SIZE,
    };
    assert_eq!(judge(&promote(3), &copy, WANTED), Ok(Some(open)));
    let landing = local(file(2, CopyRole::Landing, Some(MOVE)), &[3]);
    let verdict = judge(&promote(3), &landing, WANTED);
    assert_eq!(verdict, Err(Refusal::OtherRole(CopyRole::Landing)));
}

#[test]
fn a_source_that_was_handed_over_keeps_its_last_and_discards_it_only_when_told() {
    let keep = VolumeOrder::Keep {
        generation: Generation(3),
        movement: MOVE,
    };
    let kept = RoleFile {
        last: Some(snapshot(3)),
        ..file(3, CopyRole::Kept, Some(MOVE))
    };
    let sealed = local(file(2, CopyRole::Sealed, Some(MOVE)), &[2, 3]);
    let verdict = judge(&keep, &sealed, Use::default());
    assert_eq!(verdict, Ok(Some(Step::Persist(kept))));
    let copy = local(kept, &[2, 3]);
    let drop = judge(&keep, &copy, Use::default());
    assert_eq!(drop, Ok(Some(Step::Drop(snapshot(2)))));
    let discard = VolumeOrder::Discard {
        generation: Generation(4),
    };
    let destroy = Step::Destroy {
        generation: Generation(4),
    };
    assert_eq!(judge(&discard, &copy, Use::default()), Ok(Some(destroy)));
    for role in [CopyRole::Live, CopyRole::Sealed, CopyRole::Aside] {
        let verdict = judge(&discard, &local(file(3, role, None), &[]), Use::default());
        assert_eq!(verdict, Err(Refusal::OtherRole(role)));
    }
}

fn aside_order() -> VolumeOrder {
    VolumeOrder::SetAside {
        generation: Generation(4),
    }
}

#[test]
fn what_was_recovered_elsewhere_is_set_aside_when_nothing_uses_it_any_more() {
    let order = aside_order();
    for role in [
        CopyRole::Live,
        CopyRole::Sealed,
        CopyRole::Landed,
        CopyRole::Kept,
    ] {
        let verdict = judge(
            &order,
            &local(file(3, role, Some(MOVE)), &[3]),
            Use::default(),
        );
        // The generation stays that of the data, which the name will tell.
        let aside = file(3, CopyRole::Aside, Some(MOVE));
        assert_eq!(verdict, Ok(Some(Step::Persist(aside))));
    }
    let mut copy = copy(3, CopyRole::Aside, true);
    let held = Use {
        held: true,
        ..Use::default()
    };
    assert_eq!(judge(&order, &copy, held), Ok(None));
    assert_eq!(judge(&order, &copy, Use::default()), Ok(Some(Step::Close)));
    copy.open = false;
    let step = Step::SetAside {
        generation: Generation(3),
    };
    assert_eq!(judge(&order, &copy, Use::default()), Ok(Some(step)));
    copy.aside = Some(Aside {
        name: "pg.g3".into(),
        made: Time(1),
    });
    assert_eq!(judge(&order, &copy, Use::default()), Ok(None));
    let nothing = judge(&order, &LocalVolume::default(), Use::default());
    assert_eq!(nothing, Err(Refusal::NoCopy));
}

#[test]
fn what_is_set_aside_is_destroyed_by_its_name_alone_and_never_received_over() {
    let mut copy = copy(3, CopyRole::Aside, false);
    copy.aside = Some(Aside {
        name: "pg.g3".into(),
        made: Time(1),
    });
    let clear = |name: &str| VolumeOrder::Clear {
        generation: Generation(4),
        aside: name.into(),
    };
    let destroy = Step::Destroy {
        generation: Generation(4),
    };
    let judged = |order: &VolumeOrder| judge(order, &copy, Use::default());
    assert_eq!(judged(&clear("pg.g3")), Ok(Some(destroy)));
    assert_eq!(judged(&clear("pg.g2")), Err(Refusal::OtherAside));
    let discard = VolumeOrder::Discard {
        generation: Generation(4),
    };
    let land = VolumeOrder::Land {
        generation: Generation(4),
        movement: MoveId(9),
        from: Source {
            node: model::NodeId(0),
            address: "10.0.15.11:4434".parse().unwrap(),
        },
        snapshot: None,
        base: None,
        last: false,
        needed: 0,
    };
    for order in [discard, land] {
        assert_eq!(judged(&order), Err(Refusal::OtherRole(CopyRole::Aside)));
    }
    assert_eq!(
        judged(&order(4, false)),
        Err(Refusal::NotLive(CopyRole::Aside))
    );
}

#[test]
fn a_kept_copy_goes_live_by_a_recovery_once_nothing_uses_it() {
    let promote = VolumeOrder::Promote {
        generation: Generation(4),
        size: SIZE,
        movement: MoveId(9),
        snapshot: snapshot(3),
    };
    let kept = RoleFile {
        last: Some(snapshot(3)),
        ..file(3, CopyRole::Kept, Some(MOVE))
    };
    let mut copy = local(kept, &[3]);
    copy.open = true;
    let held = Use {
        held: true,
        ..Use::default()
    };
    assert_eq!(judge(&promote, &copy, held), Ok(None));
    assert_eq!(
        judge(&promote, &copy, Use::default()),
        Ok(Some(Step::Close))
    );
    copy.open = false;
    let step = Step::Promote {
        snapshot: snapshot(3),
        size: SIZE,
    };
    assert_eq!(judge(&promote, &copy, Use::default()), Ok(Some(step)));
    copy.promoted = Some(snapshot(3));
    let live = RoleFile {
        movement: Some(MoveId(9)),
        ..RoleFile::live(Generation(4))
    };
    let verdict = judge(&promote, &copy, Use::default());
    assert_eq!(verdict, Ok(Some(Step::Persist(live))));
    // Another state than the one that was chosen is not the truth.
    let lacks = judge(&promote, &local(kept, &[2]), Use::default());
    assert_eq!(lacks, Err(Refusal::NoSnapshot(snapshot(3))));
}

#[test]
fn what_was_landing_when_its_move_was_cut_short_goes_live_by_a_recovery() {
    let promote = |movement| VolumeOrder::Promote {
        generation: Generation(4),
        size: SIZE,
        movement,
        snapshot: snapshot(3),
    };
    let landing = file(3, CopyRole::Landing, Some(MOVE));
    let copy = local(landing, &[2, 3]);
    let step = Step::Promote {
        snapshot: snapshot(3),
        size: SIZE,
    };
    let by_recovery = promote(MoveId(9));
    assert_eq!(judge(&by_recovery, &copy, Use::default()), Ok(Some(step)));
    let lacks = judge(&by_recovery, &local(landing, &[2]), Use::default());
    assert_eq!(lacks, Err(Refusal::NoSnapshot(snapshot(3))));
    let by_move = judge(&promote(MOVE), &copy, Use::default());
    assert_eq!(by_move, Err(Refusal::OtherRole(CopyRole::Landing)));
}

#[test]
fn a_target_keeps_what_it_had_before_a_move_that_was_abandoned() {
    let former = Snapshot {
        movement: MoveId(MOVE.0 - 1),
        round: 4,
    };
    let keep = VolumeOrder::Keep {
        generation: Generation(2),
        movement: MOVE,
    };
    let mut copy = local(file(2, CopyRole::Landing, Some(MOVE)), &[0]);
    copy.snapshots.insert(former);
    let verdict = judge(&keep, &copy, Use::default());
    assert_eq!(verdict, Ok(Some(Step::Drop(snapshot(0)))));
    copy.snapshots.remove(&snapshot(0));
    let kept = RoleFile {
        last: Some(former),
        ..file(2, CopyRole::Kept, Some(MOVE))
    };
    let verdict = judge(&keep, &copy, Use::default());
    assert_eq!(verdict, Ok(Some(Step::Persist(kept))));
}
