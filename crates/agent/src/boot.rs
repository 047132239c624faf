//! Which boot of the machine this is: another one means that everything that ran is over. A node
//! that is a container or a namespace boots with its pid 1.

use std::fs;
use std::io;
use std::path::Path;

use crate::Error;

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const INIT: &str = "/proc/1/stat";

/// `<kernel boot id>/<start time of pid 1>`
pub(crate) fn current() -> Result<String, Error> {
    let read = |path: &str| fs::read_to_string(path).map_err(Error::file("read", Path::new(path)));
    let kernel = read(BOOT_ID)?;
    let stat = read(INIT)?;
    let init = start_time(&stat)
        .ok_or_else(|| Error::file("read", Path::new(INIT))(io::ErrorKind::InvalidData.into()))?;
    Ok(format!("{}/{init}", kernel.trim()))
}

/// Field 22; the command in field 2 may hold anything, so counting begins behind it.
fn start_time(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_brackets_does_not_shift_the_fields() {
        let stat = "1 (a) b) S 0 1 1 0 -1 4194560 9 9 9 9 9 9 9 9 20 0 1 0 4711 99 9";
        assert_eq!(start_time(stat), Some(4711));
        assert!(current().is_ok_and(|boot| boot.len() > 37));
    }
}
