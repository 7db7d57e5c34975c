//! [`StdFs`]: the real disk.
#![expect(
    clippy::disallowed_methods,
    reason = "this is the seam that the disallowed calls point to"
)]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::{FileKind, FileLock, Fs, Metadata, RandomAccessFile, SegmentFile, WritableFile};

#[cfg(not(unix))]
use portable as sys;
#[cfg(unix)]
use unix as sys;

#[cfg(not(unix))]
mod portable;
#[cfg(unix)]
mod unix;

/// The file system of the operating system.
///
/// Log segments are stored through a memory mapping where the file system keeps its promise of
/// allocated blocks, and by positional writes elsewhere (copy-on-write and network file systems,
/// files with holes). Syncs are `fdatasync`, which covers dirty mapped pages too.
#[derive(Debug, Clone)]
pub struct StdFs {
    mapping: bool,
}

impl Default for StdFs {
    fn default() -> Self {
        Self::new()
    }
}

impl StdFs {
    /// The real disk; segments are memory mapped where that is safe.
    #[must_use]
    pub fn new() -> Self {
        Self { mapping: true }
    }

    /// The real disk; segments are always written by system calls.
    #[must_use]
    pub fn without_mapping() -> Self {
        Self { mapping: false }
    }

    fn segment(&self, file: File, len: u64, solid: bool, fresh: bool) -> Arc<dyn SegmentFile> {
        if self.mapping
            && solid
            && len > 0
            && let Some(segment) = sys::map_segment(&file, len, fresh)
        {
            let (prefaulted, unsynced) = (AtomicBool::new(false), AtomicUsize::new(0));
            return Arc::new(StdMappedSegment { file, segment, len, prefaulted, unsynced });
        }
        Arc::new(StdSegment { file, len })
    }
}

impl Fs for StdFs {
    fn create(&self, path: &Path) -> io::Result<Box<dyn WritableFile>> {
        // Reopened in append mode, which `std` does not combine with truncation: the end is then found by the kernel, so a second handle cannot make holes.
        File::create(path).and_then(|_| self.open_append(path))
    }

    fn open_append(&self, path: &Path) -> io::Result<Box<dyn WritableFile>> {
        let file = OpenOptions::new().append(true).open(path)?;
        let len = file.metadata()?.len();
        Ok(Box::new(StdWritable { file, len }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn RandomAccessFile>> {
        let file = File::open(path)?;
        if file.metadata()?.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        Ok(Arc::new(StdRandomAccess { file }))
    }

    fn create_segment(&self, path: &Path, len: u64) -> io::Result<Arc<dyn SegmentFile>> {
        // A fresh file, not a truncated one: shortening a file that somebody still maps would turn
        // their next store into a signal.
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        match allocate(&file, len) {
            Ok(solid) => Ok(self.segment(file, len, solid, true)),
            Err(error) => {
                // Half a segment is of no use; the caller learns the first error, not the cleanup's.
                drop(fs::remove_file(path));
                Err(error)
            }
        }
    }

    fn open_segment(&self, path: &Path) -> io::Result<Arc<dyn SegmentFile>> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let len = file.metadata()?.len();
        let solid = sys::has_all_blocks(&file)?;
        Ok(self.segment(file, len, solid, false))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let mut names = fs::read_dir(dir)?
            .map(|entry| entry.map(|entry| PathBuf::from(entry.file_name())))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        let metadata = fs::metadata(path)?;
        Ok(match metadata.is_dir() {
            true => Metadata { kind: FileKind::Dir, len: 0 },
            false => Metadata { kind: FileKind::File, len: metadata.len() },
        })
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        sys::sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn FileLock>> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        sys::lock(&file)?;
        Ok(Box::new(StdLock { file }))
    }

    fn free_space(&self, dir: &Path) -> io::Result<u64> {
        sys::free_space(dir)
    }
}

/// Gives `file` exactly `len` zero bytes. True if the file system promised their blocks.
fn allocate(file: &File, len: u64) -> io::Result<bool> {
    if len == 0 || sys::preallocate(file, len)? {
        return Ok(true);
    }
    write_zeros(file, len)?;
    Ok(false)
}

fn write_zeros(mut file: &File, len: u64) -> io::Result<()> {
    let zeros = vec![0; len.min(1 << 20) as usize];
    let mut left = len;
    while left > 0 {
        let step = left.min(zeros.len() as u64);
        file.write_all(&zeros[..step as usize])?;
        left -= step;
    }
    Ok(())
}

/// `InvalidInput` unless `offset..offset + len` lies within `file_len` bytes.
fn check_range(offset: u64, len: usize, file_len: u64) -> io::Result<()> {
    let end = u64::try_from(len).ok().and_then(|len| offset.checked_add(len));
    match end {
        Some(end) if end <= file_len => Ok(()),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("write leaves the segment offset={offset} len={len} segment_len={file_len}"),
        )),
    }
}

#[derive(Debug)]
struct StdWritable {
    file: File,
    len: u64,
}

impl WritableFile for StdWritable {
    fn append(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.file.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.len += count as u64;
                    bytes = &bytes[count..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn len(&self) -> u64 {
        self.len
    }
}

#[derive(Debug)]
struct StdRandomAccess {
    file: File,
}

impl RandomAccessFile for StdRandomAccess {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            let Some(at) = offset.checked_add(done as u64) else { break };
            match sys::read_at(&self.file, &mut buf[done..], at) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
}

/// A segment written by system calls.
#[derive(Debug)]
struct StdSegment {
    file: File,
    len: u64,
}

impl SegmentFile for StdSegment {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        check_range(offset, bytes.len(), self.len)?;
        sys::write_all_at(&self.file, bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn len(&self) -> u64 {
        self.len
    }
}

/// A segment written through its mapping; stores land in the page cache, as writes would.
#[derive(Debug)]
struct StdMappedSegment {
    file: File,
    segment: sys::Mapping,
    len: u64,
    /// The mapping has entries for its pages, so that stores through it are no faults.
    prefaulted: AtomicBool,
    /// About how much was written since the last sync began.
    unsynced: AtomicUsize,
}

/// So many bytes go by a system call where each page would be a fault.
const FAULTS_BYTES: usize = 64 << 10;
/// The first so many bytes behind a sync go by system calls. A store through the mapping makes all of its folio dirty, and large
/// writes leave folios of a MiB in the page cache: each record that is synced would be a MiB for the disk. By a call it is the
/// blocks that it lies in. Where much comes between two syncs most is stored, and there the difference is small.
const CALLS_BYTES: usize = 64 << 10;

impl StdMappedSegment {
    /// True if `len` bytes are to be written by a system call rather than stored.
    #[inline]
    fn goes_by_call(&self, len: usize) -> bool {
        // Not one step: a count that misses a write sends another one by the other way.
        let unsynced = self.unsynced.load(Ordering::Relaxed);
        self.unsynced.store(unsynced.saturating_add(len), Ordering::Relaxed);
        unsynced < CALLS_BYTES || len >= FAULTS_BYTES && !self.prefaulted.load(Ordering::Relaxed)
    }
}

impl SegmentFile for StdMappedSegment {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        check_range(offset, bytes.len(), self.len)?;
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        if self.goes_by_call(bytes.len()) {
            self.segment.announce(start + bytes.len());
            return sys::write_all_at(&self.file, bytes, offset);
        }
        self.segment.store(start, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.unsynced.store(0, Ordering::Relaxed);
        self.segment.leave();
        self.segment.reach();
        self.file.sync_data()
    }

    fn prefault(&self) {
        self.segment.prefault();
        self.prefaulted.store(true, Ordering::Relaxed);
    }

    fn begin_sync(&self, offset: u64, len: usize) {
        sys::begin_writing(&self.file, offset, len);
    }

    fn len(&self) -> u64 {
        self.len
    }
}

/// The lock belongs to the open file description.
#[derive(Debug)]
struct StdLock {
    file: File,
}

impl FileLock for StdLock {}

impl Drop for StdLock {
    fn drop(&mut self) {
        // Closing alone would leave the lock with a process that another thread is just starting, until that process
        // closes what it inherited. If this fails the close that follows must do.
        drop(sys::unlock(&self.file));
    }
}
