//! [`FaultFs`]: fails chosen operations of another file system.

mod plan;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

pub use plan::{Fault, FaultPlan, OpKind};

use crate::rng::Rng;
use crate::{
    FileLock, Fs, MemFs, Metadata, RandomAccessFile, SegmentFile, SyncOutcome, WritableFile,
};
use plan::Armed;

/// Wraps a file system and injects [`Fault`]s into chosen operations. Clones share the plans and the
/// count.
///
/// Every call, reads included, gets the next index, from 0. Each plan is asked in the order of injection;
/// the first that matches fires. A fault that makes no sense for an operation (a short read of a rename)
/// lets it pass and does not count as fired.
#[derive(Debug, Clone)]
pub struct FaultFs {
    inner: Arc<dyn Fs>,
    /// The inner file system again, if it is one that can act out a failed sync.
    mem: Option<MemFs>,
    control: Arc<Mutex<Control>>,
}

#[derive(Debug, Default)]
struct Control {
    ops: u64,
    fired: u64,
    plans: Vec<Armed>,
}

/// What to do with one operation.
enum Verdict {
    Pass,
    /// Fails or bends it; the number is its index, the seed of what is left to chance.
    Hit(Fault, u64),
}

impl FaultFs {
    /// Wraps `inner`. Failed syncs report their error and leave the file to itself; for their
    /// consequences see [`over_mem`](Self::over_mem).
    #[must_use]
    pub fn new(inner: Arc<dyn Fs>) -> Self {
        Self { inner, mem: None, control: Arc::default() }
    }

    /// Wraps a disk in memory, where a failed sync also leaves the file as its [`SyncOutcome`] says.
    #[must_use]
    pub fn over_mem(inner: MemFs) -> Self {
        Self { inner: Arc::new(inner.clone()), mem: Some(inner), control: Arc::default() }
    }

    /// Adds a plan; those already there stay.
    pub fn inject(&self, plan: FaultPlan) {
        self.control.lock().plans.push(Armed::new(plan));
    }

    /// Removes all plans: the disk is healthy again, what faults did to it stays.
    pub fn clear(&self) {
        self.control.lock().plans.clear();
    }

    /// Operations so far, reads and failed ones included: the index of the next one.
    #[must_use]
    pub fn op_count(&self) -> u64 {
        self.control.lock().ops
    }

    /// Faults that were really injected.
    #[must_use]
    pub fn fired(&self) -> u64 {
        self.control.lock().fired
    }

    fn verdict(&self, kind: OpKind, path: &Path) -> Verdict {
        let mut control = self.control.lock();
        let index = control.ops;
        control.ops += 1;
        let Some(fault) = control.plans.iter_mut().find_map(|plan| plan.fire(index, kind, path))
        else {
            return Verdict::Pass;
        };
        control.fired += 1;
        drop(control);
        match fault {
            // Outside of the lock: the hook may wait for other operations.
            Fault::Slow(hook) => {
                hook();
                Verdict::Pass
            }
            fault => Verdict::Hit(fault, index),
        }
    }

    /// For operations that only pass or fail.
    fn admit(&self, kind: OpKind, path: &Path) -> io::Result<()> {
        match self.verdict(kind, path) {
            Verdict::Pass => Ok(()),
            Verdict::Hit(fault, _) => Err(fault.error()),
        }
    }

    fn file(&self, path: &Path) -> FaultFile {
        let ino = self.mem.as_ref().and_then(|mem| mem.ino(path));
        FaultFile { fs: self.clone(), path: path.to_path_buf(), ino }
    }
}

impl Fs for FaultFs {
    fn create(&self, path: &Path) -> io::Result<Box<dyn WritableFile>> {
        self.admit(OpKind::Create, path)?;
        let inner = self.inner.create(path)?;
        Ok(Box::new(FaultWritable { inner, file: self.file(path) }))
    }

    fn open_append(&self, path: &Path) -> io::Result<Box<dyn WritableFile>> {
        self.admit(OpKind::OpenAppend, path)?;
        let inner = self.inner.open_append(path)?;
        Ok(Box::new(FaultWritable { inner, file: self.file(path) }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn RandomAccessFile>> {
        self.admit(OpKind::Open, path)?;
        let inner = self.inner.open(path)?;
        Ok(Arc::new(FaultRandomAccess { inner, file: self.file(path) }))
    }

    fn create_segment(&self, path: &Path, len: u64) -> io::Result<Arc<dyn SegmentFile>> {
        self.admit(OpKind::CreateSegment, path)?;
        let inner = self.inner.create_segment(path, len)?;
        Ok(Arc::new(FaultSegment { inner, file: self.file(path) }))
    }

    fn open_segment(&self, path: &Path) -> io::Result<Arc<dyn SegmentFile>> {
        self.admit(OpKind::OpenSegment, path)?;
        let inner = self.inner.open_segment(path)?;
        Ok(Arc::new(FaultSegment { inner, file: self.file(path) }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.admit(OpKind::Rename, to)?;
        self.inner.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.admit(OpKind::RemoveFile, path)?;
        self.inner.remove_file(path)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.admit(OpKind::HardLink, to)?;
        self.inner.hard_link(from, to)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.admit(OpKind::CreateDirAll, path)?;
        self.inner.create_dir_all(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.admit(OpKind::RemoveDir, path)?;
        self.inner.remove_dir(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        self.admit(OpKind::List, dir)?;
        self.inner.list(dir)
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        self.admit(OpKind::Metadata, path)?;
        self.inner.metadata(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.admit(OpKind::SyncDir, dir)?;
        self.inner.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn FileLock>> {
        self.admit(OpKind::Lock, path)?;
        self.inner.lock(path)
    }

    fn free_space(&self, dir: &Path) -> io::Result<u64> {
        self.admit(OpKind::FreeSpace, dir)?;
        self.inner.free_space(dir)
    }
}

/// What all handles have in common.
#[derive(Debug)]
struct FaultFile {
    fs: FaultFs,
    /// The name at opening; path filters go by it even after a rename.
    path: PathBuf,
    ino: Option<u64>,
}

impl FaultFile {
    fn verdict(&self, kind: OpKind) -> Verdict {
        self.fs.verdict(kind, &self.path)
    }

    /// Runs `sync` unless a fault hits it.
    fn sync(&self, kind: OpKind, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let Verdict::Hit(fault, _) = self.verdict(kind) else { return sync() };
        if let Fault::SyncFailed(outcome) = fault {
            self.act_out(outcome)?;
        }
        Err(fault.error())
    }

    fn act_out(&self, outcome: SyncOutcome) -> io::Result<()> {
        match (&self.fs.mem, self.ino) {
            (Some(mem), Some(ino)) => mem.fail_sync_of(ino, outcome),
            _ => Ok(()),
        }
    }

    /// Runs `write` on all of `bytes`, on half of them and then fails, or not at all.
    fn write(
        &self,
        kind: OpKind,
        bytes: &[u8],
        write: impl FnOnce(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        match self.verdict(kind) {
            Verdict::Pass => write(bytes),
            Verdict::Hit(fault @ Fault::ShortWrite, _) => {
                write(&bytes[..bytes.len() / 2])?;
                Err(fault.error())
            }
            Verdict::Hit(fault, _) => Err(fault.error()),
        }
    }
}

#[derive(Debug)]
struct FaultWritable {
    inner: Box<dyn WritableFile>,
    file: FaultFile,
}

impl WritableFile for FaultWritable {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Self { inner, file } = self;
        file.write(OpKind::Append, bytes, |bytes| inner.append(bytes))
    }

    fn sync(&mut self) -> io::Result<()> {
        let Self { inner, file } = self;
        file.sync(OpKind::Sync, || inner.sync())
    }

    fn len(&self) -> u64 {
        self.inner.len()
    }
}

#[derive(Debug)]
struct FaultRandomAccess {
    inner: Arc<dyn RandomAccessFile>,
    file: FaultFile,
}

impl RandomAccessFile for FaultRandomAccess {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        match self.file.verdict(OpKind::Read) {
            Verdict::Pass => self.inner.read_at(buf, offset),
            Verdict::Hit(Fault::ShortRead, _) => {
                let half = buf.len() / 2;
                self.inner.read_at(&mut buf[..half], offset)
            }
            Verdict::Hit(Fault::BitRot, index) => {
                let count = self.inner.read_at(buf, offset)?;
                flip_some_bit(&mut buf[..count], index);
                Ok(count)
            }
            Verdict::Hit(fault, _) => Err(fault.error()),
        }
    }

    fn len(&self) -> io::Result<u64> {
        match self.file.verdict(OpKind::Len) {
            Verdict::Pass => self.inner.len(),
            Verdict::Hit(fault, _) => Err(fault.error()),
        }
    }
}

fn flip_some_bit(bytes: &mut [u8], seed: u64) {
    let mut rng = Rng::new(seed);
    let at = rng.index(bytes.len());
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << rng.below(8);
    }
}

#[derive(Debug)]
struct FaultSegment {
    inner: Arc<dyn SegmentFile>,
    file: FaultFile,
}

impl SegmentFile for FaultSegment {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write(OpKind::WriteAt, bytes, |bytes| self.inner.write_at(offset, bytes))
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync(OpKind::SegmentSync, || self.inner.sync())
    }

    fn prefault(&self) {
        self.inner.prefault();
    }

    fn begin_sync(&self, offset: u64, len: usize) {
        self.inner.begin_sync(offset, len);
    }

    fn len(&self) -> u64 {
        self.inner.len()
    }
}
