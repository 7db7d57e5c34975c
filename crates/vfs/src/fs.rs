//! The [`Fs`] trait: what the engine may ask of a file system, and what it may believe afterwards.
//!
//! The promises are those of POSIX on a careful file system, no more:
//!
//! - bytes written are durable only after [`WritableFile::sync`] or [`SegmentFile::sync`] returned `Ok`;
//! - a name (created, renamed, linked, removed) is durable only after [`Fs::sync_dir`] of its directory;
//! - a rename replaces its target in one step: after a crash there is the old file or the new one;
//! - after a failed sync nothing is known about the file: the caller must not write to it again.

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a directory entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
}

/// Size and kind of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    /// File or directory.
    pub kind: FileKind,
    /// Length in bytes; 0 for directories.
    pub len: u64,
}

/// A file system. Shared as `Arc<dyn Fs>`; every method may be called from any thread.
///
/// # Errors
/// Every method returns the [`io::Error`] of the operation as it came. A full disk is
/// [`io::ErrorKind::StorageFull`], a used-up quota [`io::ErrorKind::QuotaExceeded`].
pub trait Fs: Debug + Send + Sync + 'static {
    /// Creates or truncates the file at `path` for appending. The name survives a crash only after
    /// `sync_dir(parent)`.
    fn create(&self, path: &Path) -> io::Result<Box<dyn WritableFile>>;

    /// Opens the existing file at `path` for appending at its end.
    fn open_append(&self, path: &Path) -> io::Result<Box<dyn WritableFile>>;

    /// Opens the existing file at `path` for positional reads.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn RandomAccessFile>>;

    /// Creates or truncates a log segment of exactly `len` bytes, all zero, whose blocks are
    /// allocated, so that later writes inside it can neither fail for lack of space nor change
    /// file metadata.
    fn create_segment(&self, path: &Path, len: u64) -> io::Result<Arc<dyn SegmentFile>>;

    /// Opens an existing segment for writing in place; its length is kept, its bytes are not touched.
    fn open_segment(&self, path: &Path) -> io::Result<Arc<dyn SegmentFile>>;

    /// Replaces `to` by `from` in one step: after a crash readers see the old file or the new one.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes the file at `path`.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Gives the file `from` a second name `to`; fails with `AlreadyExists` if `to` exists, and
    /// with `Unsupported` or `CrossesDevices` where the file system cannot.
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Creates the directory `path` and its missing parents. An existing directory is fine.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Removes the empty directory `path`.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;

    /// File names in `dir`, sorted, without `.` and `..`.
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>>;

    /// Kind and length of what is at `path`; `NotFound` if there is nothing.
    fn metadata(&self, path: &Path) -> io::Result<Metadata>;

    /// Makes the names in `dir` durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Takes the exclusive lock file `path`, creating it if missing. `WouldBlock` if another holder,
    /// in this process or another, has it. A lock left by a dead process does not block.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn FileLock>>;

    /// Bytes that could still be written below `dir`.
    fn free_space(&self, dir: &Path) -> io::Result<u64>;
}

/// A file written front to back.
pub trait WritableFile: Debug + Send + 'static {
    /// Appends all of `bytes` at the end. On an error an unknown prefix may have been written.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes the bytes and the length of the file durable (`fdatasync`).
    fn sync(&mut self) -> io::Result<()>;

    /// Bytes in the file, those of failed appends included.
    fn len(&self) -> u64;

    /// True if nothing has been written.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A file read at any offset by any number of threads.
#[expect(clippy::len_without_is_empty, reason = "the length is a system call that can fail")]
pub trait RandomAccessFile: Debug + Send + Sync + 'static {
    /// Reads up to `buf.len()` bytes at `offset`; fewer only at the end of the file. Returns the count.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Fills `buf` from `offset` or fails with `UnexpectedEof`.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        match self.read_at(buf, offset)? {
            n if n == buf.len() => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// A preallocated file written in place: the log's segment.
///
/// Writers never overlap: the log hands out disjoint ranges.
pub trait SegmentFile: Debug + Send + Sync + 'static {
    /// Stores `bytes` at `offset`. When this returns `Ok` the bytes survive a SIGKILL of the process.
    /// Fails with `InvalidInput` if the range leaves the file.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes all bytes written before the call durable.
    fn sync(&self) -> io::Result<()>;

    /// Has the system make ready what a store would have to wait for. Takes as long as it takes to fill the file's memory with
    /// zeros, so it is for a thread that nobody waits for. Only a hint: nothing can be told of it.
    fn prefault(&self) {}

    /// Has the system begin to write these bytes to the disk, so that a [`sync`](SegmentFile::sync) that follows waits less. Only a hint:
    /// nothing can be told of it, and nothing is durable by it.
    fn begin_sync(&self, _offset: u64, _len: usize) {}

    /// Length in bytes, fixed at creation.
    fn len(&self) -> u64;

    /// True for a segment of length 0.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Held as long as the lock is wanted; dropping it releases the lock.
pub trait FileLock: Debug + Send + Sync + 'static {}
