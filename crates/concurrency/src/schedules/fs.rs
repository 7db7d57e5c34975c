//! [`SteppedFs`]: the file system in memory, with a point at which another thread may go on before each operation that
//! changes something.
//!
//! Reads have none: table readers hold locks of their own over them.

use base::sync::atomic::{AtomicU64, Ordering};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use vfs::{FileLock, Fs, MemFs, Metadata, RandomAccessFile, SegmentFile, WritableFile};

#[derive(Debug, Clone)]
pub(crate) struct SteppedFs {
    inner: MemFs,
    steps: Arc<AtomicU64>,
    closed: Arc<AtomicBool>,
}

impl SteppedFs {
    pub(crate) fn new(inner: MemFs) -> Self {
        SteppedFs { inner, steps: Arc::default(), closed: Arc::default() }
    }

    /// The database that uses it says that it is closed: from now on no name may change.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    fn change(&self) -> &MemFs {
        let inner = self.step();
        assert!(!self.closed.load(Ordering::Acquire), "a closed database changes names");
        inner
    }

    fn step(&self) -> &MemFs {
        self.steps.fetch_add(1, Ordering::Relaxed);
        &self.inner
    }

    fn segment(&self, inner: Arc<dyn SegmentFile>) -> Arc<dyn SegmentFile> {
        Arc::new(Segment { inner, steps: Arc::clone(&self.steps) })
    }

    fn writable(&self, inner: Box<dyn WritableFile>) -> Box<dyn WritableFile> {
        Box::new(Writable { inner, steps: Arc::clone(&self.steps) })
    }
}

impl Fs for SteppedFs {
    fn create(&self, path: &Path) -> io::Result<Box<dyn WritableFile>> {
        Ok(self.writable(self.change().create(path)?))
    }

    fn open_append(&self, path: &Path) -> io::Result<Box<dyn WritableFile>> {
        Ok(self.writable(self.change().open_append(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn RandomAccessFile>> {
        self.step().open(path)
    }

    fn create_segment(&self, path: &Path, len: u64) -> io::Result<Arc<dyn SegmentFile>> {
        Ok(self.segment(self.change().create_segment(path, len)?))
    }

    fn open_segment(&self, path: &Path) -> io::Result<Arc<dyn SegmentFile>> {
        Ok(self.segment(self.change().open_segment(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change().rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.change().remove_file(path)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change().hard_link(from, to)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.change().create_dir_all(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.change().remove_dir(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        self.step().list(dir)
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        self.step().metadata(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.change().sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn FileLock>> {
        self.step().lock(path)
    }

    fn free_space(&self, dir: &Path) -> io::Result<u64> {
        self.inner.free_space(dir)
    }
}

#[derive(Debug)]
struct Segment {
    inner: Arc<dyn SegmentFile>,
    steps: Arc<AtomicU64>,
}

impl SegmentFile for Segment {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.steps.fetch_add(1, Ordering::Relaxed);
        self.inner.write_at(offset, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.steps.fetch_add(1, Ordering::Relaxed);
        self.inner.sync()
    }

    fn len(&self) -> u64 {
        self.inner.len()
    }
}

#[derive(Debug)]
struct Writable {
    inner: Box<dyn WritableFile>,
    steps: Arc<AtomicU64>,
}

impl WritableFile for Writable {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.inner.append(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.steps.fetch_add(1, Ordering::Relaxed);
        self.inner.sync()
    }

    fn len(&self) -> u64 {
        self.inner.len()
    }
}
