//! [`Layer`]: a file system over another one.

use crate::{FileLock, Fs, Metadata, RandomAccessFile, SegmentFile, WritableFile};
use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file system that passes on what it does not change: whoever implements this names the [`Fs`] below, writes the methods
/// that differ, and is an [`Fs`] itself.
///
/// ```
/// # use std::{io, path::Path};
/// use vfs::{Fs, Layer, MemFs};
///
/// /// A disk that knows no hard links.
/// #[derive(Debug)]
/// struct NoLinks(MemFs);
///
/// impl Layer for NoLinks {
///     fn below(&self) -> &dyn Fs {
///         &self.0
///     }
///     fn hard_link(&self, _from: &Path, _to: &Path) -> io::Result<()> {
///         Err(io::ErrorKind::Unsupported.into())
///     }
/// }
/// let _fs: &dyn Fs = &NoLinks(MemFs::new());
/// ```
#[expect(missing_docs, reason = "the methods are those of Fs")]
pub trait Layer: Debug + Send + Sync + 'static {
    /// What the other calls are passed on to.
    fn below(&self) -> &dyn Fs;

    fn create(&self, path: &Path) -> io::Result<Box<dyn WritableFile>> {
        self.below().create(path)
    }
    fn open_append(&self, path: &Path) -> io::Result<Box<dyn WritableFile>> {
        self.below().open_append(path)
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn RandomAccessFile>> {
        self.below().open(path)
    }
    fn create_segment(&self, path: &Path, len: u64) -> io::Result<Arc<dyn SegmentFile>> {
        self.below().create_segment(path, len)
    }
    fn open_segment(&self, path: &Path) -> io::Result<Arc<dyn SegmentFile>> {
        self.below().open_segment(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.below().rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.below().remove_file(path)
    }
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.below().hard_link(from, to)
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.below().create_dir_all(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.below().remove_dir(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        self.below().list(dir)
    }
    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        self.below().metadata(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.below().sync_dir(dir)
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn FileLock>> {
        self.below().lock(path)
    }
    fn free_space(&self, dir: &Path) -> io::Result<u64> {
        self.below().free_space(dir)
    }
}

impl<L: Layer> Fs for L {
    fn create(&self, path: &Path) -> io::Result<Box<dyn WritableFile>> {
        Layer::create(self, path)
    }
    fn open_append(&self, path: &Path) -> io::Result<Box<dyn WritableFile>> {
        Layer::open_append(self, path)
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn RandomAccessFile>> {
        Layer::open(self, path)
    }
    fn create_segment(&self, path: &Path, len: u64) -> io::Result<Arc<dyn SegmentFile>> {
        Layer::create_segment(self, path, len)
    }
    fn open_segment(&self, path: &Path) -> io::Result<Arc<dyn SegmentFile>> {
        Layer::open_segment(self, path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Layer::rename(self, from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        Layer::remove_file(self, path)
    }
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        Layer::hard_link(self, from, to)
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        Layer::create_dir_all(self, path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        Layer::remove_dir(self, path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        Layer::list(self, dir)
    }
    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        Layer::metadata(self, path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        Layer::sync_dir(self, dir)
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn FileLock>> {
        Layer::lock(self, path)
    }
    fn free_space(&self, dir: &Path) -> io::Result<u64> {
        Layer::free_space(self, dir)
    }
}
