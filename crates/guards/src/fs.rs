//! [`GuardFs`]: files in memory, and log segments that cost what mapped ones cost.
//!
//! `MemFs` keeps a history of every write for its power cuts, which would be most of the instructions of a put; a real
//! disk may or may not map its segments, which would make the count depend on the disk.

use base::sync::Mutex;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vfs::{FileLock, Fs, MemFs, Metadata, RandomAccessFile, SegmentFile, WritableFile};

/// A `MemFs`, but that what is written to a fresh segment is never read again.
#[derive(Debug, Default)]
pub(crate) struct GuardFs(MemFs);

/// Bytes behind a lock, as the mapped segment of `StdFs` has them.
#[derive(Debug)]
struct Segment {
    bytes: Mutex<Box<[u8]>>,
    len: u64,
}

impl SegmentFile for Segment {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut all = self.bytes.lock();
        let place = all.get_mut(start..).and_then(|rest| rest.get_mut(..bytes.len()));
        place.ok_or(io::ErrorKind::InvalidInput)?.copy_from_slice(bytes);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> u64 {
        self.len
    }
}

impl Fs for GuardFs {
    fn create_segment(&self, path: &Path, len: u64) -> io::Result<Arc<dyn SegmentFile>> {
        self.0.create_segment(path, len)?;
        let room = usize::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?;
        Ok(Arc::new(Segment { bytes: Mutex::new(vec![0; room].into()), len }))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn WritableFile>> {
        self.0.create(path)
    }

    fn open_append(&self, path: &Path) -> io::Result<Box<dyn WritableFile>> {
        self.0.open_append(path)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn RandomAccessFile>> {
        self.0.open(path)
    }

    fn open_segment(&self, path: &Path) -> io::Result<Arc<dyn SegmentFile>> {
        self.0.open_segment(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.0.remove_file(path)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.hard_link(from, to)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.0.create_dir_all(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.0.remove_dir(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        self.0.list(dir)
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        self.0.metadata(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn FileLock>> {
        self.0.lock(path)
    }

    fn free_space(&self, dir: &Path) -> io::Result<u64> {
        self.0.free_space(dir)
    }
}
