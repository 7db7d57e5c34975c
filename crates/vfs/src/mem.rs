//! [`MemFs`]: a disk in memory that can show what any crash would leave of it.

mod content;
mod crash;
mod disk;
mod file;
mod history;
mod tools;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::{FileKind, FileLock, Fs, Metadata, RandomAccessFile, SegmentFile, WritableFile};
use disk::{Disk, Ino};
use history::Moment;

pub use crash::CrashProfile;
pub use file::SyncOutcome;
pub use history::{OpInfo, Snapshot};

/// A file system in memory, for tests. Clones share the disk.
///
/// It keeps apart what readers see, what was synced, and the changes in between, so that
/// [`crash`](Self::crash) can build a disk as a power cut at this moment might leave it. A file's bytes
/// and length become durable by its own sync; a name by `sync_dir` of its directory, directories in
/// their parents included. Memory is shared copy-on-write in pages of 4 KiB, holes cost nothing.
///
/// The root directory exists and is durable; a relative path starts there too; `..` is resolved
/// lexically. Directories are not made on demand.
#[derive(Debug, Clone)]
pub struct MemFs {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    moment: Moment,
    /// Handles by inode; an inode with handles outlives its names.
    open: BTreeMap<Ino, usize>,
    locked: BTreeSet<Ino>,
    ops: u64,
    history: Option<Vec<Snapshot>>,
}

impl Default for MemFs {
    fn default() -> Self {
        Self::new()
    }
}

impl MemFs {
    /// An empty disk of 1 TiB.
    #[must_use]
    pub fn new() -> Self {
        Self::from_disk(Disk::new())
    }

    /// A running system on `disk`; everything on it counts as durable, nothing is open.
    fn from_disk(disk: Disk) -> Self {
        Self::from_moment(Moment::start(disk))
    }

    /// A running system at `moment`; nothing is open.
    fn from_moment(moment: Moment) -> Self {
        let state =
            State { moment, open: BTreeMap::new(), locked: BTreeSet::new(), ops: 0, history: None };
        Self { shared: Arc::new(Shared { state: Mutex::new(state) }) }
    }

    /// A disk as a power cut at this moment might leave it: each change since the last relevant sync is
    /// drawn by `seed` as `profile` allows. The result is independent of this one and all of it is
    /// durable; no locks are held on it.
    #[must_use]
    pub fn crash(&self, profile: CrashProfile, seed: u64) -> MemFs {
        let moment = self.shared.state.lock().moment.clone();
        MemFs::from_disk(moment.crash(profile, seed))
    }

    /// Mutating operations tried so far, failed ones included: create, append, `write_at`, sync, rename,
    /// remove, link, mkdir, `sync_dir`, segment creation, and the creation of a lock file.
    #[must_use]
    pub fn op_count(&self) -> u64 {
        self.shared.state.lock().ops
    }

    /// Leaves `path` as a sync that failed with `outcome` would. Reporting the error is up to the caller; [`FaultFs`](crate::FaultFs) does both.
    ///
    /// # Errors
    /// `NotFound` or `IsADirectory` if `path` names no file.
    pub fn fail_sync(&self, path: &Path, outcome: SyncOutcome) -> io::Result<()> {
        let mut state = self.shared.state.lock();
        let ino = state.disk().lookup_file(path)?;
        state.disk_mut().edit(ino, |file| file.fail_sync(outcome))
    }

    pub(crate) fn fail_sync_of(&self, ino: Ino, outcome: SyncOutcome) -> io::Result<()> {
        self.shared.state.lock().disk_mut().edit(ino, |file| file.fail_sync(outcome))
    }

    /// The file at `path` by number, which stays the same across renames.
    pub(crate) fn ino(&self, path: &Path) -> Option<Ino> {
        self.shared.state.lock().disk().lookup_file(path).ok()
    }

    fn read<T>(&self, f: impl FnOnce(&Disk) -> io::Result<T>) -> io::Result<T> {
        f(self.shared.state.lock().disk())
    }

    fn open_by(&self, find: impl FnOnce(&mut State) -> io::Result<Ino>) -> io::Result<Handle> {
        let mut state = self.shared.state.lock();
        let ino = find(&mut state)?;
        *state.open.entry(ino).or_default() += 1;
        Ok(Handle { fs: self.clone(), ino })
    }
}

impl State {
    fn disk(&self) -> &Disk {
        &self.moment.disk
    }

    fn disk_mut(&mut self) -> &mut Disk {
        &mut self.moment.disk
    }

    /// Runs one mutating operation, counts it, and records the disk after it if somebody asked.
    fn mutate<T>(
        &mut self,
        name: &'static str,
        target: impl FnOnce() -> PathBuf,
        change: impl FnOnce(&mut Disk) -> io::Result<T>,
    ) -> io::Result<T> {
        let result = change(&mut self.moment.disk);
        let index = self.ops;
        self.ops += 1;
        if let Some(history) = &mut self.history {
            let op = OpInfo { index, name, path: target() };
            history.push(Snapshot::new(op, self.moment.clone()));
        }
        result
    }
}

impl Fs for MemFs {
    fn create(&self, path: &Path) -> io::Result<Box<dyn WritableFile>> {
        let handle = self.open_by(|state| {
            state.mutate("create", || path.to_path_buf(), |disk| disk.create(path))
        })?;
        Ok(Box::new(MemWritable::new(handle, path)))
    }

    fn open_append(&self, path: &Path) -> io::Result<Box<dyn WritableFile>> {
        let handle = self.open_by(|state| state.disk().lookup_file(path))?;
        Ok(Box::new(MemWritable::new(handle, path)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn RandomAccessFile>> {
        Ok(Arc::new(MemRandomAccess {
            handle: self.open_by(|state| state.disk().lookup_file(path))?,
        }))
    }

    fn create_segment(&self, path: &Path, len: u64) -> io::Result<Arc<dyn SegmentFile>> {
        let handle = self.open_by(|state| {
            state.mutate(
                "create_segment",
                || path.to_path_buf(),
                |disk| disk.create_segment(path, len),
            )
        })?;
        Ok(Arc::new(MemSegment { handle, path: path.to_path_buf(), len }))
    }

    fn open_segment(&self, path: &Path) -> io::Result<Arc<dyn SegmentFile>> {
        let handle = self.open_by(|state| state.disk().lookup_file(path))?;
        let len = handle.fs.read(|disk| Ok(disk.file(handle.ino)?.current.len))?;
        Ok(Arc::new(MemSegment { handle, path: path.to_path_buf(), len }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.shared.state.lock();
        state.mutate("rename", || to.to_path_buf(), |disk| disk.rename(from, to))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.shared.state.lock();
        state.mutate("remove_file", || path.to_path_buf(), |disk| disk.remove_file(path))
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.shared.state.lock();
        state.mutate("hard_link", || to.to_path_buf(), |disk| disk.hard_link(from, to))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.shared.state.lock();
        state.mutate("create_dir_all", || path.to_path_buf(), |disk| disk.create_dir_all(path))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.shared.state.lock();
        state.mutate("remove_dir", || path.to_path_buf(), |disk| disk.remove_dir(path))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        self.read(|disk| {
            Ok(disk.dir(disk.lookup(dir)?)?.current.keys().map(PathBuf::from).collect())
        })
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        self.read(|disk| {
            let ino = disk.lookup(path)?;
            Ok(match disk.file(ino) {
                Ok(file) => Metadata { kind: FileKind::File, len: file.current.len },
                Err(_) => Metadata { kind: FileKind::Dir, len: 0 },
            })
        })
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.shared.state.lock();
        let before = state.disk().clone();
        state.mutate("sync_dir", || dir.to_path_buf(), |disk| disk.sync_dir(dir))?;
        state.moment.remember(before);
        let State { moment, open, .. } = &mut *state;
        moment.disk.collect(open);
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn FileLock>> {
        let handle = self.open_by(|state| {
            let ino = match state.disk().lookup(path) {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    state.mutate("lock", || path.to_path_buf(), |disk| disk.open_or_create(path))?
                }
                found => found.and_then(|ino| state.disk().file(ino).map(|_| ino))?,
            };
            if state.locked.insert(ino) { Ok(ino) } else { Err(ErrorKind::WouldBlock.into()) }
        })?;
        Ok(Box::new(MemLock { handle }))
    }

    fn free_space(&self, dir: &Path) -> io::Result<u64> {
        self.read(|disk| disk.lookup(dir).map(|_| disk.free()))
    }
}

/// Keeps an inode alive while it is open.
#[derive(Debug)]
struct Handle {
    fs: MemFs,
    ino: Ino,
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut state = self.fs.shared.state.lock();
        if let Some(count) = state.open.get_mut(&self.ino) {
            *count -= 1;
            if *count == 0 {
                state.open.remove(&self.ino);
            }
        }
    }
}

impl Handle {
    fn mutate<T>(
        &self,
        name: &'static str,
        path: &Path,
        change: impl FnOnce(&mut Disk, Ino) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut state = self.fs.shared.state.lock();
        state.mutate(name, || path.to_path_buf(), |disk| change(disk, self.ino))
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        let mut state = self.fs.shared.state.lock();
        let before = state.disk().clone();
        state.mutate("sync", || path.to_path_buf(), |disk| disk.sync_file(self.ino))?;
        state.moment.remember(before);
        Ok(())
    }

    fn len(&self) -> u64 {
        self.fs.read(|disk| Ok(disk.file(self.ino)?.current.len)).unwrap_or(0)
    }
}

#[derive(Debug)]
struct MemWritable {
    handle: Handle,
    /// The name at opening, for the history.
    path: PathBuf,
}

impl MemWritable {
    fn new(handle: Handle, path: &Path) -> Self {
        Self { handle, path: path.to_path_buf() }
    }
}

impl WritableFile for MemWritable {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.handle.mutate("append", &self.path, |disk, ino| disk.append(ino, bytes))
    }

    fn sync(&mut self) -> io::Result<()> {
        self.handle.sync(&self.path)
    }

    fn len(&self) -> u64 {
        self.handle.len()
    }
}

#[derive(Debug)]
struct MemRandomAccess {
    handle: Handle,
}

impl RandomAccessFile for MemRandomAccess {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        // The clone is two words; the copy of the bytes then needs no lock.
        let content =
            self.handle.fs.read(|disk| Ok(disk.file(self.handle.ino)?.current.clone()))?;
        Ok(content.read_at(buf, offset))
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.handle.len())
    }
}

#[derive(Debug)]
struct MemSegment {
    handle: Handle,
    path: PathBuf,
    len: u64,
}

impl SegmentFile for MemSegment {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if offset.checked_add(bytes.len() as u64).is_none_or(|end| end > self.len) {
            return Err(ErrorKind::InvalidInput.into());
        }
        self.handle.mutate("write_at", &self.path, |disk, ino| {
            disk.edit(ino, |file| file.write_at(offset, bytes))
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.handle.sync(&self.path)
    }

    fn len(&self) -> u64 {
        self.len
    }
}

#[derive(Debug)]
struct MemLock {
    handle: Handle,
}

impl FileLock for MemLock {}

impl Drop for MemLock {
    fn drop(&mut self) {
        self.handle.fs.shared.state.lock().locked.remove(&self.handle.ino);
    }
}
