//! What [`StdFs`](super::StdFs) needs from a Unix kernel beyond `std`.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

pub(super) use crate::mapped::MappedFile as Mapping;

/// Size of the blocks that `st_blocks` counts, whatever the file system's own block size.
const STAT_BLOCK_BYTES: u64 = 512;

/// Maps `file` for stores, or `None` where positional writes are the better choice.
pub(super) fn map_segment(file: &File, len: u64, fresh: bool) -> Option<Mapping> {
    let len = usize::try_from(len).ok()?;
    if !overwrites_in_place(file) {
        return None;
    }
    Mapping::new(file, len, fresh).ok()
}

/// False for file systems where a store into an allocated block can still fail: those that copy on
/// write, and those where the disk is elsewhere.
#[cfg(target_os = "linux")]
fn overwrites_in_place(file: &File) -> bool {
    const BCACHEFS: i64 = 0xCA45_1A4E;
    const BTRFS: i64 = 0x9123_683E;
    const CIFS: i64 = 0xFF53_4D42;
    const F2FS: i64 = 0xF2F5_2010;
    const FUSE: i64 = 0x6573_5546;
    const NFS: i64 = 0x6969;
    const SMB2: i64 = 0xFE53_4D42;
    const V9FS: i64 = 0x0102_1997;
    const ZFS: i64 = 0x2FC1_2FC1;
    const NOT_IN_PLACE: [i64; 9] = [BCACHEFS, BTRFS, CIFS, F2FS, FUSE, NFS, SMB2, V9FS, ZFS];
    // The kernel's magic numbers are 32 bits wide; the field is wider on some machines.
    rustix::fs::fstatfs(file)
        .is_ok_and(|stat| !NOT_IN_PLACE.iter().any(|magic| (*magic as u32) == (stat.f_type as u32)))
}

#[cfg(not(target_os = "linux"))]
fn overwrites_in_place(_file: &File) -> bool {
    false
}

/// Allocates blocks for `len` bytes and sets that length; false where that is not supported.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
pub(super) fn preallocate(file: &File, len: u64) -> io::Result<bool> {
    loop {
        match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, len) {
            Ok(()) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
pub(super) fn preallocate(_file: &File, _len: u64) -> io::Result<bool> {
    Ok(false)
}

/// True if the file has no holes, as far as its block count can tell.
pub(super) fn has_all_blocks(file: &File) -> io::Result<bool> {
    let metadata = file.metadata()?;
    Ok(metadata.blocks().saturating_mul(STAT_BLOCK_BYTES) >= metadata.len())
}

pub(super) fn read_at(file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    // The kernel refuses offsets past its signed range; no file reaches them, so that is its end.
    if i64::try_from(offset).is_err() {
        return Ok(0);
    }
    file.read_at(buf, offset)
}

pub(super) fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    file.write_all_at(bytes, offset)
}

/// Linux starts to write what it is told not to keep; what is being written it keeps all the same.
#[cfg(target_os = "linux")]
pub(super) fn begin_writing(file: &File, offset: u64, len: usize) {
    let len = std::num::NonZeroU64::new(len as u64);
    let _refused = rustix::fs::fadvise(file, offset, len, rustix::fs::Advice::DontNeed).is_err();
}

#[cfg(not(target_os = "linux"))]
pub(super) fn begin_writing(_file: &File, _offset: u64, _len: usize) {}

#[expect(clippy::disallowed_methods, reason = "the seam itself")]
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    let file = File::open(dir)?;
    if !file.metadata()?.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    file.sync_all()
}

/// Takes the exclusive lock of the open file description, or fails with `WouldBlock`.
pub(super) fn lock(file: &File) -> io::Result<()> {
    loop {
        match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

/// Gives the lock back, whoever else still holds the open file description.
pub(super) fn unlock(file: &File) -> io::Result<()> {
    Ok(rustix::fs::flock(file, FlockOperation::Unlock)?)
}

pub(super) fn free_space(dir: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(dir)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}
