//! What [`StdFs`](super::StdFs) makes do with where there is no Unix kernel: no mapping, no directory
//! sync, no free space figure, and a seek before each read.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use parking_lot::Mutex;

/// One seek-and-move at a time: a cloned handle shares its position with the original.
static POSITION: Mutex<()> = Mutex::new(());

/// Never built: segments are not mapped here.
#[derive(Debug)]
pub(super) enum Mapping {}

impl Mapping {
    pub(super) fn store(&self, _offset: usize, _bytes: &[u8]) -> io::Result<()> {
        match *self {}
    }

    pub(super) fn announce(&self, _end: usize) {
        match *self {}
    }

    pub(super) fn prefault(&self) {
        match *self {}
    }

    pub(super) fn leave(&self) {
        match *self {}
    }

    pub(super) fn reach(&self) {
        match *self {}
    }
}

pub(super) fn map_segment(_file: &File, _len: u64, _fresh: bool) -> Option<Mapping> {
    None
}

pub(super) fn begin_writing(_file: &File, _offset: u64, _len: usize) {}

pub(super) fn preallocate(_file: &File, _len: u64) -> io::Result<bool> {
    Ok(false)
}

pub(super) fn has_all_blocks(_file: &File) -> io::Result<bool> {
    Ok(false)
}

pub(super) fn read_at(mut file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    let _position = POSITION.lock();
    file.seek(SeekFrom::Start(offset))?;
    file.read(buf)
}

pub(super) fn write_all_at(mut file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    let _position = POSITION.lock();
    file.seek(SeekFrom::Start(offset))?;
    file.write_all(bytes)
}

#[expect(clippy::disallowed_methods, reason = "the seam itself")]
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    match std::fs::metadata(dir)?.is_dir() {
        true => Ok(()),
        false => Err(io::ErrorKind::NotADirectory.into()),
    }
}

#[expect(clippy::incompatible_msrv, reason = "no rustix lock here")]
pub(super) fn lock(file: &File) -> io::Result<()> {
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => io::ErrorKind::WouldBlock.into(),
        TryLockError::Error(error) => error,
    })
}

pub(super) fn unlock(file: &File) -> io::Result<()> {
    file.unlock()
}

#[expect(clippy::disallowed_methods, reason = "the seam itself")]
pub(super) fn free_space(dir: &Path) -> io::Result<u64> {
    std::fs::metadata(dir).map(|_| u64::MAX)
}
