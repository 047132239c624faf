//! The few kernel calls that no safe wrapper offers: loop devices, and what btrfs knows of itself.
//! Nothing here decides anything.
#![allow(unsafe_code)]

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;

use nix::libc;

const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4C82;
const LOOP_CONFIGURE: libc::c_ulong = 0x4C0A;
const LOOP_GET_STATUS64: libc::c_ulong = 0x4C05;
const LO_FLAGS_AUTOCLEAR: u32 = 4;

const BTRFS_MAGIC: libc::c_ulong = 0x94;
const fn ioc_read(number: libc::c_ulong, size: usize) -> libc::c_ulong {
    (2 << 30) | ((size as libc::c_ulong) << 16) | (BTRFS_MAGIC << 8) | number
}
const fn ioc_write(number: libc::c_ulong, size: usize) -> libc::c_ulong {
    (1 << 30) | ((size as libc::c_ulong) << 16) | (BTRFS_MAGIC << 8) | number
}
const fn ioc_both(number: libc::c_ulong, size: usize) -> libc::c_ulong {
    ioc_read(number, size) | ioc_write(number, size)
}
const BTRFS_IOC_SNAP_CREATE_V2: libc::c_ulong = ioc_write(23, size_of::<RawSnapshot>());
const BTRFS_IOC_QGROUP_LIMIT: libc::c_ulong = ioc_read(43, size_of::<RawLimit>());
const BTRFS_IOC_FS_INFO: libc::c_ulong = ioc_read(31, size_of::<RawFilesystem>());
const BTRFS_IOC_GET_SUBVOL_INFO: libc::c_ulong = ioc_read(60, size_of::<RawSubvolume>());
const BTRFS_IOC_GET_SUBVOL_ROOTREF: libc::c_ulong = ioc_both(61, size_of::<RawChildren>());
/// Of a subvolume's flags: read-only.
const SUBVOLUME_READ_ONLY: u64 = 1;
/// Of a snapshot's making: read-only.
const SNAPSHOT_READ_ONLY: u64 = 2;
/// Of a limit: the bytes that a subvolume refers to.
const LIMIT_REFERRED: u64 = 1;

/// `struct loop_info64`
#[repr(C)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

impl LoopInfo {
    const fn empty() -> Self {
        Self {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: 0,
            size_limit: 0,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags: 0,
            file_name: [0; 64],
            crypt_name: [0; 64],
            encrypt_key: [0; 32],
            init: [0; 2],
        }
    }
}

/// `struct loop_config`
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

/// `struct btrfs_ioctl_fs_info_args`
#[repr(C)]
struct RawFilesystem {
    max_id: u64,
    devices: u64,
    id: [u8; 16],
    rest: [u8; 992],
}

/// `struct btrfs_ioctl_timespec`
#[repr(C)]
#[derive(Clone, Copy)]
struct RawTime {
    seconds: u64,
    nanoseconds: u32,
}

/// `struct btrfs_ioctl_get_subvol_info_args`
#[repr(C)]
struct RawSubvolume {
    tree: u64,
    name: [u8; 256],
    parent: u64,
    directory: u64,
    generation: u64,
    flags: u64,
    uuid: [u8; 16],
    parent_uuid: [u8; 16],
    received_uuid: [u8; 16],
    changed: u64,
    made: u64,
    sent: u64,
    received: u64,
    changed_at: RawTime,
    made_at: RawTime,
    sent_at: RawTime,
    received_at: RawTime,
    reserved: [u64; 8],
}

/// `struct btrfs_ioctl_vol_args_v2`
#[repr(C)]
struct RawSnapshot {
    source: i64,
    transaction: u64,
    flags: u64,
    unused: [u64; 4],
    name: [u8; 4040],
}

/// `struct btrfs_ioctl_qgroup_limit_args`
#[repr(C)]
struct RawLimit {
    group: u64,
    flags: u64,
    referred: u64,
    exclusive: u64,
    reserved_referred: u64,
    reserved_exclusive: u64,
}

/// `struct btrfs_ioctl_get_subvol_rootref_args`
#[repr(C)]
struct RawChildren {
    least: u64,
    children: [[u64; 2]; 255],
    count: u8,
    align: [u8; 7],
}

/// What btrfs says of a subvolume. An all-zero uuid means none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subvolume {
    pub id: u64,
    pub read_only: bool,
    pub uuid: [u8; 16],
    /// Of which it was made as a snapshot.
    pub parent_uuid: [u8; 16],
    /// What the sender called it, when it was received.
    pub received_uuid: [u8; 16],
    /// The transaction that changed it last.
    pub changed: u64,
    /// The sender's `changed`, when it was received.
    pub sent: u64,
    /// Seconds since 1970 at which it was made here.
    pub made_at: u64,
}

fn check(answer: libc::c_int) -> io::Result<libc::c_int> {
    if answer < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(answer)
    }
}

/// The number of a loop device that is free at this moment.
pub fn free_loop(control: &File) -> io::Result<u32> {
    // SAFETY: takes no argument and touches no memory of ours.
    let number = check(unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) })?;
    u32::try_from(number).map_err(io::Error::other)
}

/// Binds `backing` to the loop device, which is let go of when its last user closes it.
pub fn configure_loop(device: &File, backing: &File) -> io::Result<()> {
    let config = LoopConfig {
        fd: u32::try_from(backing.as_raw_fd()).map_err(io::Error::other)?,
        block_size: 0,
        info: LoopInfo {
            flags: LO_FLAGS_AUTOCLEAR,
            ..LoopInfo::empty()
        },
        reserved: [0; 8],
    };
    // SAFETY: `config` is a whole `struct loop_config`, which the kernel only reads.
    check(unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) })?;
    Ok(())
}

/// Device (in the kernel's encoding) and inode of the file behind a loop device; `ENXIO` when
/// there is none.
pub fn loop_backing(device: &File) -> io::Result<(u64, u64)> {
    let mut info = LoopInfo::empty();
    // SAFETY: the kernel writes one `struct loop_info64`, which `info` is.
    check(unsafe { libc::ioctl(device.as_raw_fd(), LOOP_GET_STATUS64, &raw mut info) })?;
    Ok((info.device, info.inode))
}

/// The id of the btrfs that this open file or directory is on, as sysfs writes it.
pub fn filesystem_id(file: &File) -> io::Result<String> {
    let mut raw = RawFilesystem {
        max_id: 0,
        devices: 0,
        id: [0; 16],
        rest: [0; 992],
    };
    // SAFETY: the kernel writes one `struct btrfs_ioctl_fs_info_args`, which `raw` is in size.
    check(unsafe { libc::ioctl(file.as_raw_fd(), BTRFS_IOC_FS_INFO, &raw mut raw) })?;
    Ok(uuid_text(&raw.id))
}

/// What btrfs knows of the subvolume that this open file or directory is in.
pub fn subvolume(file: &File) -> io::Result<Subvolume> {
    const NEVER: RawTime = RawTime {
        seconds: 0,
        nanoseconds: 0,
    };
    let mut raw = RawSubvolume {
        tree: 0,
        name: [0; 256],
        parent: 0,
        directory: 0,
        generation: 0,
        flags: 0,
        uuid: [0; 16],
        parent_uuid: [0; 16],
        received_uuid: [0; 16],
        changed: 0,
        made: 0,
        sent: 0,
        received: 0,
        changed_at: NEVER,
        made_at: NEVER,
        sent_at: NEVER,
        received_at: NEVER,
        reserved: [0; 8],
    };
    // SAFETY: the kernel writes one `struct btrfs_ioctl_get_subvol_info_args`, which `raw` is.
    check(unsafe { libc::ioctl(file.as_raw_fd(), BTRFS_IOC_GET_SUBVOL_INFO, &raw mut raw) })?;
    Ok(Subvolume {
        id: raw.tree,
        read_only: raw.flags & SUBVOLUME_READ_ONLY != 0,
        uuid: raw.uuid,
        parent_uuid: raw.parent_uuid,
        received_uuid: raw.received_uuid,
        changed: raw.changed,
        sent: raw.sent,
        made_at: raw.made_at.seconds,
    })
}

/// Makes the snapshot `name` of subvolume `source` in `directory`; on disk when this returns, with
/// the source's limit.
pub fn snapshot(source: &File, directory: &File, name: &OsStr, read_only: bool) -> io::Result<()> {
    let mut raw = RawSnapshot {
        source: source.as_raw_fd().into(),
        transaction: 0,
        flags: if read_only { SNAPSHOT_READ_ONLY } else { 0 },
        unused: [0; 4],
        name: [0; 4040],
    };
    let name = name.as_bytes();
    // The name ends with a zero, which must have its place too.
    if name.len() > 255 {
        return Err(io::ErrorKind::InvalidFilename.into());
    }
    raw.name[..name.len()].copy_from_slice(name);
    // SAFETY: `raw` is a whole `struct btrfs_ioctl_vol_args_v2`; without flags for it, the kernel
    // follows no pointer in it.
    check(unsafe {
        libc::ioctl(
            directory.as_raw_fd(),
            BTRFS_IOC_SNAP_CREATE_V2,
            &raw mut raw,
        )
    })?;
    Ok(())
}

/// Limits what subvolume number `id` may refer to, in bytes; `None`: not at all. On disk with the
/// filesystem's next commit. `file` is anything on the filesystem.
pub fn set_limit(file: &File, id: u64, size: Option<u64>) -> io::Result<()> {
    let mut raw = RawLimit {
        group: id,
        flags: LIMIT_REFERRED,
        // The kernel takes the greatest number for none.
        referred: size.unwrap_or(u64::MAX),
        exclusive: 0,
        reserved_referred: 0,
        reserved_exclusive: 0,
    };
    // SAFETY: `raw` is a whole `struct btrfs_ioctl_qgroup_limit_args`.
    check(unsafe { libc::ioctl(file.as_raw_fd(), BTRFS_IOC_QGROUP_LIMIT, &raw mut raw) })?;
    Ok(())
}

/// Whether other subvolumes are directly in the one that this open directory is in.
pub fn has_nested(file: &File) -> io::Result<bool> {
    let mut raw = RawChildren {
        least: 0,
        children: [[0; 2]; 255],
        count: 0,
        align: [0; 7],
    };
    // SAFETY: the kernel writes one `struct btrfs_ioctl_get_subvol_rootref_args`, which `raw` is.
    let answer =
        unsafe { libc::ioctl(file.as_raw_fd(), BTRFS_IOC_GET_SUBVOL_ROOTREF, &raw mut raw) };
    match check(answer) {
        Ok(_) => Ok(raw.count > 0),
        // More than fit.
        Err(error) if error.raw_os_error() == Some(libc::EOVERFLOW) => Ok(true),
        Err(error) => Err(error),
    }
}

/// `8-4-4-4-12` hexadecimal digits.
pub fn uuid_text(uuid: &[u8; 16]) -> String {
    use std::fmt::Write;
    let mut text = String::with_capacity(36);
    for (at, byte) in uuid.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structures_have_the_kernels_sizes() {
        assert_eq!(size_of::<LoopInfo>(), 232);
        assert_eq!(size_of::<LoopConfig>(), 304);
        assert_eq!(size_of::<RawFilesystem>(), 1024);
        assert_eq!(size_of::<RawSubvolume>(), 504);
        assert_eq!(size_of::<RawSnapshot>(), 4096);
        assert_eq!(size_of::<RawLimit>(), 48);
        assert_eq!(size_of::<RawChildren>(), 4096);
    }

    #[test]
    fn a_uuid_reads_as_sysfs_writes_it() {
        let uuid = [
            0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0, 1, 2, 3, 4, 5, 6, 7, 0xff,
        ];
        assert_eq!(uuid_text(&uuid), "12345678-9abc-def0-0102-0304050607ff");
    }
}
