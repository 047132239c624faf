//! Sets aside what a copy holds, under a name that tells what it is and when that was. A repetition
//! goes on with the name that an interrupted one chose.

use model::{Aside, Generation, Snapshot, Time, VolumeId};
use volume::SnapshotName;

use super::{Done, Error, Tools};
use crate::volumes::aside_of;

pub(super) async fn set_aside(
    tools: &Tools,
    volume: &VolumeId,
    generation: Generation,
    last: Option<Snapshot>,
) -> Result<Done, Error> {
    let pool = tools.volumes.pool().await?;
    let found = pool.list().await?.remove(volume);
    let found = found.and_then(|copy| copy.found);
    let aside = found.as_ref().and_then(aside_of);
    let aside = aside.unwrap_or_else(|| {
        let made = tools.clock.now();
        let name = name(volume, generation, made);
        Aside { name, made }
    });
    let name = SnapshotName::parse(&aside.name).expect("a volume's name and what follows are fit");
    let last = last.map(SnapshotName::from);
    pool.set_aside(volume, &name, last.as_ref()).await?;
    let Aside { name, .. } = &aside;
    tracing::warn!(
        volume.id = %volume,
        "Volume {volume} was recovered elsewhere: what it held here is set aside as {name}"
    );
    Ok(Done::Aside(aside))
}

/// `pg.g2.20261121T162944Z`.
fn name(volume: &VolumeId, generation: Generation, made: Time) -> String {
    let made = made.to_string();
    let seconds = made.split('.').next().unwrap_or(&made);
    let date: String = seconds
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .collect();
    format!("{volume}.g{generation}.{date}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_aside_is_called_by_volume_generation_and_date() {
        let pg = VolumeId::parse("pg").unwrap();
        let made: Time = "2026-11-21T16:29:44.218Z".parse().unwrap();
        assert_eq!(name(&pg, Generation(2), made), "pg.g2.20261121T162944Z");
        let longest = VolumeId::parse(&"x".repeat(63)).unwrap();
        let name = name(&longest, Generation(u64::MAX), made);
        assert!(SnapshotName::parse(&name).is_ok(), "{name}");
    }
}
