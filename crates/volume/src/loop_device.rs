//! Loop devices that vanish with their last user: attached with autoclear, so that neither a
//! killed node nor a forgotten clean-up leaves one behind.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::{Doing, Result};
use crate::sys;

/// How often another process may take the free device before us.
const TRIES: u32 = 64;

/// A loop device, held open: it lives as long as this does, or as it is mounted.
pub struct LoopDevice {
    pub path: PathBuf,
    _held: File,
}

/// The device for `file`: the one it has, else a new one.
///
/// A second device over one file would be a second, unknowing writer of the filesystem in it.
pub fn attach(file: &Path) -> Result<LoopDevice> {
    let action = || format!("attach {} to a loop device", file.display());
    let backing = OpenOptions::new()
        .read(true)
        .write(true)
        .open(file)
        .doing(action)?;
    if let Some(device) = attached(&backing).doing(action)? {
        return Ok(device);
    }
    let control = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/loop-control")
        .doing(|| "open /dev/loop-control: is the kernel module loop there?".to_owned())?;
    let mut tries = 0;
    loop {
        match new_device(&control, &backing) {
            Err(error) if is_race(&error) && tries < TRIES => tries += 1,
            result => return result.doing(action),
        }
    }
}

fn new_device(control: &File, backing: &File) -> io::Result<LoopDevice> {
    let path = PathBuf::from(format!("/dev/loop{}", sys::free_loop(control)?));
    let held = open_device(&path)?;
    sys::configure_loop(&held, backing)?;
    Ok(LoopDevice { path, _held: held })
}

fn attached(backing: &File) -> io::Result<Option<LoopDevice>> {
    let wanted = backing.metadata()?;
    for entry in fs::read_dir("/sys/block")? {
        let entry = entry?;
        // Without this file it has nothing behind it, and opening it would cost for nothing.
        if !entry.path().join("loop/backing_file").exists() {
            continue;
        }
        let path = Path::new("/dev").join(entry.file_name());
        // It may be let go of between two looks; once open it stays.
        let Ok(held) = open_device(&path) else {
            continue;
        };
        if sys::loop_backing(&held).is_ok_and(|is| is == (wanted.dev(), wanted.ino())) {
            return Ok(Some(LoopDevice { path, _held: held }));
        }
    }
    Ok(None)
}

fn open_device(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

/// Whether another process was faster; devtmpfs may also be a moment late with a new device.
fn is_race(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ResourceBusy | io::ErrorKind::NotFound
    )
}
