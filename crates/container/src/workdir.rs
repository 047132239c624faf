//! The working directory inside a root filesystem: made where it is missing, as Docker does
//! (0755, root). Every step is resolved by the kernel below the root; links cannot lead out.

use std::io;
use std::path::{Component, Path};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, mkdirat, openat2};

pub fn ensure(root: &Path, cwd: &Path) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat2(CWD, root, flags, Mode::empty(), ResolveFlags::empty())?;
    let mut parent = rustix::io::dup(&root)?;
    let mut path = std::path::PathBuf::new();
    for step in cwd.components() {
        let Component::Normal(name) = step else {
            continue;
        };
        path.push(name);
        let open = || openat2(&root, &path, flags, Mode::empty(), ResolveFlags::IN_ROOT);
        parent = match open() {
            Err(rustix::io::Errno::NOENT) => {
                match mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(rustix::io::Errno::EXIST) => open()?,
                    Err(error) => return Err(error.into()),
                }
            }
            other => other?,
        };
    }
    Ok(())
}
