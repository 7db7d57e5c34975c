//! The engine: everything that the handles of one open database share.

use crate::calls::Calls;
use crate::commit::CommitQueue;
use crate::event::Event;
use crate::executor::{Executor, Job, Priority};
use crate::files::Graveyard;
use crate::health::HealthState;
use crate::iter::OpenIterators;
use crate::limiter::Limiter;
use crate::listener::Events;
use crate::memory::MemoryUse;
use crate::metrics::Counters;
use crate::options::Options;
use crate::quiet::QuietClock;
use crate::recover::RecoveryReport;
use crate::reserve::Reserve;
use crate::scrub::Scrub;
use crate::segments::Segments;
use crate::snapshot::Snapshots;
use crate::stall::{Charges, ToldStall};
use crate::tree::Tree;
use base::clock::Clock;
use base::rng::Rng;
use base::sync::atomic::{AtomicU64, Ordering};
use base::sync::{Mutex, RwLock};
use base::{Error, FileNum, KeyspaceId, Result, SeqNo};
use manifest::{Manifest, RunId, State, VersionEdit};
use sstable::TableCache;
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use vfs::{FileLock, Fs};

/// One open database.
///
/// Locks, in the order in which they are taken when several are held:
/// `closed`, `exclusive`, `Segments::preparing`, `Segments::trimming`, `commit`, `manifest`, `trees`, `Tree::compactions`,
/// `Tree::view_lock`, and last, held for moments only, `calls`, `snapshots`, `graveyard`, those of `health` and of `events`. No lock that a writer takes is held over I/O, but for the
/// commit lock while an ingest is installed.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) dir: PathBuf,
    pub(crate) options: Options,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) executor: Arc<dyn Executor>,
    pub(crate) tables: Arc<TableCache>,
    /// True if the block cache came from outside: others use it, its size is not ours to change.
    pub(crate) cache_is_shared: bool,
    pub(crate) trees: RwLock<BTreeMap<KeyspaceId, Arc<Tree>>>,
    pub(crate) commits: CommitQueue,
    pub(crate) segments: Segments,
    pub(crate) manifest: Mutex<Store>,
    pub(crate) snapshots: Snapshots,
    pub(crate) open_iterators: OpenIterators,
    pub(crate) graveyard: Mutex<Graveyard>,
    pub(crate) health: HealthState,
    pub(crate) counters: Counters,
    pub(crate) charges: Charges,
    pub(crate) told_stall: ToldStall,
    pub(crate) memory: MemoryUse,
    pub(crate) reserve: Reserve,
    pub(crate) scrub: Scrub,
    pub(crate) recovery: OnceLock<RecoveryReport>,
    pub(crate) limiter: Limiter,
    pub(crate) quiet: QuietClock,
    /// Notified when a job ends, space comes back, or the database closes.
    pub(crate) event: Event,
    /// What the listener is told.
    pub(crate) events: Arc<Events>,
    pub(crate) next_file: AtomicU64,
    pub(crate) next_run: AtomicU64,
    /// Numbers compactions for the listener.
    pub(crate) next_compaction: AtomicU64,
    pub(crate) rng: Mutex<Rng>,
    /// Set when the database closes: running compactions stop, no new jobs are made.
    pub(crate) closing: std::sync::atomic::AtomicBool,
    /// Held by a close, until the end of which others wait; true after it.
    pub(crate) closed: Mutex<bool>,
    pub(crate) calls: Calls,
    /// Background jobs handed to the executor and not finished.
    pub(crate) jobs: AtomicU64,
    /// Flushes take only memtables frozen at or before this; a checkpoint lowers it for a moment.
    pub(crate) flush_barrier: AtomicU64,
    /// Held by a checkpoint or an ingest, which must not meet each other.
    pub(crate) exclusive: Mutex<()>,
    pub(crate) lock: Mutex<Option<Box<dyn FileLock>>>,
}

/// The manifest and the state that its edits add up to.
#[derive(Debug)]
pub(crate) struct Store {
    /// `None` if the database is open read-only.
    pub(crate) manifest: Option<Manifest>,
    pub(crate) state: State,
}

impl Engine {
    /// The newest sequence number that reads see.
    #[inline]
    pub(crate) fn visible(&self) -> SeqNo {
        self.commits.visible()
    }

    /// A file number that was never used.
    pub(crate) fn new_file(&self) -> FileNum {
        FileNum(self.next_file.fetch_add(1, Ordering::Relaxed))
    }

    /// A run id larger than all before.
    pub(crate) fn new_run(&self) -> RunId {
        let next = self.next_run.fetch_add(1, Ordering::Relaxed);
        RunId(if base::planted::is(36) { (1 << 40) - next } else { next })
    }

    /// An identity for a table, which its checksums are bound to.
    pub(crate) fn new_table_id(&self) -> u64 {
        self.rng.lock().next_u64()
    }

    /// All trees that are not dropped.
    pub(crate) fn all_trees(&self) -> Vec<Arc<Tree>> {
        self.trees.read().values().cloned().collect()
    }

    /// Writes `edit` to the manifest, then runs `install` on the new state, before any later edit.
    ///
    /// # Errors
    /// If the manifest cannot be written nothing has changed. A sync failure stops all writes.
    pub(crate) fn apply_edit(
        &self,
        edit: &VersionEdit,
        install: impl FnOnce(&State),
    ) -> Result<()> {
        let mut store = self.manifest.lock();
        // A job may end after its keyspace was dropped.
        if let Some(gone) =
            edit.tables.iter().find(|t| !store.state.keyspaces.contains_key(&t.keyspace))
        {
            base::probe!("job ended after its keyspace was dropped");
            return Err(Error::KeyspaceNotFound { name: format!("#{}", gone.keyspace) });
        }
        let mut next = store.state.clone();
        next.apply(edit).map_err(|detail| self.poison(format!("edit refused: {detail}")))?;
        // A rotation of the manifest takes its file number from the same counter as tables.
        next.next_file = next.next_file.max(FileNum(self.next_file.load(Ordering::Relaxed)));
        let manifest = store.manifest.as_mut().ok_or(Error::ReadOnly)?;
        let mut number = || self.new_file();
        if let Err(e) = manifest.append(&next, edit, &mut number) {
            if !e.is_no_space() && !matches!(e, Error::Io { .. }) {
                self.health.stop_writes(&e);
            }
            return Err(e);
        }
        install(&next);
        store.state = next;
        Ok(())
    }

    /// Stops writes because something that must hold did not.
    pub(crate) fn poison(&self, detail: String) -> Error {
        let error = Error::Poisoned { detail };
        self.health.stop_writes(&error);
        self.event.notify();
        error
    }

    /// Tells of damage, if that is what a read of keyspace `id` met.
    #[cold]
    pub(crate) fn note_damage(&self, e: &Error, id: Option<KeyspaceId>) {
        let tree = id.and_then(|id| self.trees.read().get(&id).cloned());
        self.events.damage(e, tree.as_ref().map(|tree| &tree.name[..]));
    }

    /// Hands `work` to the executor. A panic in it stops writes; the process goes on.
    pub(crate) fn submit(
        self: &Arc<Self>,
        name: &'static str,
        priority: Priority,
        work: impl FnOnce(&Arc<Engine>) + Send + 'static,
    ) {
        self.jobs.fetch_add(1, Ordering::AcqRel);
        let engine = Arc::clone(self);
        let ticket = JobTicket(Arc::clone(self));
        let run = Box::new(move || {
            let _ticket = ticket;
            let result = std::panic::catch_unwind(AssertUnwindSafe(|| work(&engine)));
            if let Err(panic) = result {
                let what = panic.downcast_ref::<&str>().map(ToString::to_string);
                let what = what.or_else(|| panic.downcast_ref::<String>().cloned());
                engine.poison(format!("{name} panicked: {}", what.unwrap_or_default()));
            }
        });
        self.executor.submit(Job { name, priority, run });
    }

    /// True once the database closes.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }
}

/// Counts a job as finished when it ran, panicked or was dropped unrun.
struct JobTicket(Arc<Engine>);

impl Drop for JobTicket {
    fn drop(&mut self) {
        self.0.jobs.fetch_sub(1, Ordering::AcqRel);
        self.0.event.notify();
    }
}
