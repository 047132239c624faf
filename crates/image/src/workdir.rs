//! A working directory for one thread only. A process has one for all its
//! threads, so a thread that needs another must first stop sharing.

#![allow(unsafe_code)]

use std::io;
use std::path::Path;

use rustix::thread::UnshareFlags;

/// Runs `work` on a thread of its own, in `dir`.
pub(crate) fn within<T: Send>(
    dir: &Path,
    work: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: only the file-system attributes of this new thread are
            // unshared; descriptors and memory stay as they are.
            unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS) }?;
            rustix::process::chdir(dir)?;
            work()
        });
        thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the mounting thread panicked")))
    })
}
