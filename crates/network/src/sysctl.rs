//! Kernel settings of the current network namespace.
//!
//! `/proc/sys/net` shows the namespace of the thread that opens it.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use crate::error::{Result, system};

/// Writes `value` unless it is there already, so that a read-only `/proc/sys` which is right
/// stays no obstacle.
pub(crate) fn set(key: &str, value: &str) -> Result<()> {
    let path = Path::new("/proc/sys").join(key);
    let now = fs::read_to_string(&path).map_err(system(format!("read {}", path.display())))?;
    if now.trim() == value {
        return Ok(());
    }
    fs::write(&path, value).map_err(system(format!("set {} to {value}", path.display())))
}

/// As [`set`], where the key may be absent with the part of the kernel that it steers.
pub(crate) fn set_if_present(key: &str, value: &str) -> Result<()> {
    match fs::metadata(Path::new("/proc/sys").join(key)) {
        Err(fault) if fault.kind() == ErrorKind::NotFound => Ok(()),
        _ => set(key, value),
    }
}

/// Writes `least` where a smaller number stands.
pub(crate) fn raise_if_present(key: &str, least: u64) -> Result<()> {
    match fs::read_to_string(Path::new("/proc/sys").join(key)) {
        Ok(now) if now.trim().parse::<u64>().is_ok_and(|now| now < least) => {
            set(key, &least.to_string())
        }
        _ => Ok(()),
    }
}
