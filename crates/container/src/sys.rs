//! The few kernel calls that no safe wrapper offers. Nothing here decides anything.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::libc;
use nix::sys::signal::{SigHandler, Signal};
use tokio::io::unix::AsyncFd;

/// `struct pidfd_info`, in the kernel's first version of it (64 bytes).
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup: u64,
    ids: [u32; 11],
    exit_code: i32,
}

const PIDFD_INFO_EXIT: u64 = 1 << 3;
/// `_IOWR(0xFF, 11, struct pidfd_info)`
const PIDFD_GET_INFO: libc::c_ulong =
    (3 << 30) | ((size_of::<PidfdInfo>() as libc::c_ulong) << 16) | (0xFF << 8) | 11;

/// The wait status of a process that was *reaped*, by any holder of a pidfd opened before its
/// end. `None` while it is not reaped, and on kernels before 6.15.
pub fn pidfd_exit_status(pidfd: BorrowedFd<'_>) -> Option<i32> {
    let mut info = PidfdInfo {
        mask: PIDFD_INFO_EXIT,
        ..PidfdInfo::default()
    };
    // SAFETY: the kernel writes at most the size encoded in the request, which is that of `info`.
    let answer = unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_INFO, &raw mut info) };
    (answer == 0 && info.mask & PIDFD_INFO_EXIT != 0).then_some(info.exit_code)
}

/// Loads a compiled filter into the calling thread; needs no_new_privs.
pub fn load_seccomp(filter: &[u8]) -> io::Result<()> {
    let instructions: Vec<libc::sock_filter> = filter
        .chunks_exact(size_of::<libc::sock_filter>())
        .map(|i| libc::sock_filter {
            code: u16::from_ne_bytes([i[0], i[1]]),
            jt: i[2],
            jf: i[3],
            k: u32::from_ne_bytes([i[4], i[5], i[6], i[7]]),
        })
        .collect();
    let length = u16::try_from(instructions.len())
        .map_err(|_| io::Error::other("seccomp filter is too long"))?;
    let program = libc::sock_fprog {
        len: length,
        filter: instructions.as_ptr().cast_mut(),
    };
    // SAFETY: `program` points at `length` instructions, which the kernel copies and never writes.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0 as libc::c_ulong,
            &raw const program,
        )
    };
    if answer == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Gives every signal its default action. Rust's runtime ignores SIGPIPE, and an ignored
/// signal stays ignored across `execve`.
///
/// By the bare call: the C library keeps two real-time signals to itself, and those can be
/// inherited as ignored like any other.
pub fn default_signals() {
    const SIGNALS: libc::c_int = 64;
    let default = [0_u64; 4];
    for signal in 1..=SIGNALS {
        // SAFETY: the kernel reads its `struct sigaction`, of at most 32 bytes; all zero means
        // the default action, which runs no code of ours. KILL and STOP answer EINVAL.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null::<u64>(),
                size_of::<u64>(),
            );
        }
    }
}

/// Any signal by number, real-time ones included.
pub fn send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let info: *const libc::siginfo_t = std::ptr::null();
    // SAFETY: without a siginfo the call takes numbers only.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            info,
            0 as libc::c_uint,
        )
    };
    if answer == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Lets SIGTERM, SIGINT and SIGHUP pass by: a shim ends when its container does.
pub fn ignore_endings() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        // SAFETY: ignoring a signal installs no handler.
        let _ = unsafe { nix::sys::signal::signal(signal, SigHandler::SigIgn) };
    }
}

/// Lets ended children vanish by themselves, or wait to be asked for.
pub fn reap_children(unseen: bool) {
    let action = if unseen {
        SigHandler::SigIgn
    } else {
        SigHandler::SigDfl
    };
    // SAFETY: neither action installs a handler.
    let _ = unsafe { nix::sys::signal::signal(Signal::SIGCHLD, action) };
}

/// A copy of this process, which must have one thread: its pid here, `None` in itself.
pub fn fork() -> io::Result<Option<i32>> {
    // SAFETY: with a single thread nothing is held by another, and the copy may do anything.
    match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Parent { child } => Ok(Some(child.as_raw())),
        nix::unistd::ForkResult::Child => Ok(None),
    }
}

/// Joins the mount namespace behind `fd`; only for a single-threaded process.
pub fn join_mounts(fd: BorrowedFd<'_>) -> io::Result<()> {
    nix::sched::setns(fd, nix::sched::CloneFlags::CLONE_NEWNS).map_err(io::Error::from)
}

/// Makes every mount below `tree` read-only and private, in the tree alone.
pub fn read_only_recursive(tree: BorrowedFd<'_>) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY,
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: 0,
    };
    let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    // SAFETY: an empty C string and a fully initialised structure with its own size.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if answer == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Watches an owned descriptor from within the runtime.
pub fn watched(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open, stays open as long as the value that takes it, and always
    // answers with the same number.
    unsafe { AsyncFd::register(fd) }.map_err(io::Error::from)
}
