//! One keyspace inside the engine: its memtables and its tables.

use crate::burst::Burst;
use crate::open_run::{OpenRuns, open_runs};
use crate::options::TreeOptions;
use base::sync::Mutex;
use base::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use base::sync::{ArcSwap, Guard};
use base::{KeyspaceId, SeqNo};
use manifest::Version;
use memtable::{Memtable, Spares};
use std::sync::Arc;
use std::sync::OnceLock;
use wal::Lsn;

/// Levels of a tree.
pub(crate) const LEVELS: usize = manifest::LEVELS_MAX;

/// What an entry takes in a memtable, key and value of a hundred bytes and all that is around them.
const USUAL_ENTRY_BYTES: usize = 144;

/// A memtable and the stretch of the log that it holds.
#[derive(Debug)]
pub(crate) struct Mem {
    pub(crate) table: Arc<Memtable>,
    /// Where the record of its first entry starts in the log; `u64::MAX` while it is empty.
    first_lsn: AtomicU64,
    /// Set when it was frozen: the last sequence number and the end of the log at that moment.
    frozen: OnceLock<Frozen>,
}

/// The moment a memtable was frozen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frozen {
    pub(crate) seq: SeqNo,
    pub(crate) end: Lsn,
}

impl Mem {
    /// An empty memtable, for `expected_entries` at once and to be frozen at `bytes_max`.
    pub(crate) fn new(expected_entries: usize, bytes_max: usize, spares: &Arc<Spares>) -> Arc<Mem> {
        let likely = bytes_max / USUAL_ENTRY_BYTES;
        Arc::new(Mem {
            table: Arc::new(Memtable::with_likely(expected_entries, likely, spares)),
            first_lsn: AtomicU64::new(u64::MAX),
            frozen: OnceLock::new(),
        })
    }

    /// Notes that a record starting at `start` has an entry here. Under the commit lock.
    #[inline]
    pub(crate) fn note_record(&self, start: Lsn) {
        if self.first_lsn.load(Ordering::Relaxed) == u64::MAX {
            self.first_lsn.store(start.0, Ordering::Release);
        }
    }

    /// The oldest log position it needs; `None` while empty.
    pub(crate) fn first_lsn(&self) -> Option<Lsn> {
        Some(self.first_lsn.load(Ordering::Acquire)).filter(|&lsn| lsn != u64::MAX).map(Lsn)
    }

    /// When it was frozen, if it was.
    pub(crate) fn frozen(&self) -> Option<Frozen> {
        self.frozen.get().copied()
    }

    pub(crate) fn set_frozen(&self, at: Frozen) {
        // A memtable is frozen once, under the commit lock; a second call would change nothing.
        self.frozen.get_or_init(|| at);
    }
}

/// What a read looks at, newest first: the active memtable, the frozen ones, the tables.
///
/// A view never loses data: whoever holds one can read everything that was in the tree when the view was
/// current, whatever is flushed, compacted or dropped meanwhile.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) active: Arc<Mem>,
    /// Newest first.
    pub(crate) frozen: Vec<Arc<Mem>>,
    pub(crate) version: Arc<Version>,
    /// The runs of the version, for reads.
    pub(crate) runs: OpenRuns,
}

impl View {
    /// The same tables and other memtables.
    fn with_memtables(&self, active: Arc<Mem>, frozen: Vec<Arc<Mem>>) -> View {
        let (version, runs) = (Arc::clone(&self.version), Arc::clone(&self.runs));
        View { active, frozen, version, runs }
    }

    /// Other tables, and of the memtables those in `frozen` beside the active one.
    pub(crate) fn with_version(&self, frozen: Vec<Arc<Mem>>, version: &Arc<Version>) -> View {
        let runs = open_runs(version, &self.runs);
        View { active: Arc::clone(&self.active), frozen, version: Arc::clone(version), runs }
    }

    /// All memtables, newest first.
    pub(crate) fn memtables(&self) -> impl Iterator<Item = &Arc<Mem>> {
        std::iter::once(&self.active).chain(&self.frozen)
    }

    /// The oldest log position that memtables still need.
    pub(crate) fn first_lsn(&self) -> Option<Lsn> {
        if base::planted::is(47) {
            return self.active.first_lsn();
        }
        self.memtables().filter_map(|m| m.first_lsn()).min()
    }
}

/// One keyspace.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) id: KeyspaceId,
    pub(crate) name: String,
    pub(crate) options: TreeOptions,
    view: ArcSwap<View>,
    /// Held while a new view is made from the current one.
    view_lock: Mutex<()>,
    pub(crate) dropped: AtomicBool,
    /// The newest that is in tables; larger than what a read saw means that tables changed since. While this opens: all up to it is.
    pub(crate) flushed_seq: AtomicU64,
    /// Set while an ingest whose keys are in memtables waits for the last of these to be flushed: writers wait.
    pub(crate) gated: AtomicBool,
    /// Frozen memtables, for back-pressure.
    pub(crate) frozen_count: AtomicUsize,
    /// Runs that wait for their first merge, as the policy counts them, for back-pressure.
    pub(crate) l0_runs: AtomicUsize,
    /// Set while the one flush that may run does.
    pub(crate) flushing: AtomicBool,
    pub(crate) flush_queued: AtomicBool,
    /// How many flushes have failed.
    pub(crate) flush_failures: AtomicU64,
    pub(crate) compactions: Mutex<Compactions>,
    pub(crate) burst: Burst,
    /// Memory of flushed memtables for the next one; none is kept in quiet times.
    pub(crate) spares: Arc<Spares>,
}

/// Compactions of one tree.
#[derive(Debug, Default)]
pub(crate) struct Compactions {
    /// Picked and not finished; new ones must not conflict with them.
    pub(crate) running: Vec<compaction::Task>,
    /// Manual compactions under way; while there are any, none is picked in the background.
    pub(crate) manual: usize,
    /// Set while nothing is written and the runs are merged into few.
    pub(crate) quiet: Option<Quiet>,
    /// Set while an ingest is installed where no table was in its way: no compaction may begin whose output might be.
    pub(crate) placing: bool,
}

/// A quiet time of a tree.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quiet {
    /// The newest sequence number when it began: once there is a newer one, it is over.
    pub(crate) seq: SeqNo,
    /// True if a compaction was picked for it.
    pub(crate) begun: bool,
}

impl Tree {
    pub(crate) fn new(
        id: KeyspaceId,
        name: String,
        options: TreeOptions,
        version: Arc<Version>,
        flushed_seq: SeqNo,
        spare_bytes_max: usize,
    ) -> Arc<Tree> {
        let l0_runs = AtomicUsize::new(options.compaction.debt(&version).l0_runs);
        let runs = open_runs(&version, &[]);
        let spares = Arc::new(Spares::new(spare_bytes_max));
        let view = View {
            active: Mem::new(0, options.memtable_size_bytes, &spares),
            frozen: Vec::new(),
            version,
            runs,
        };
        Arc::new(Tree {
            id,
            name,
            options,
            view: ArcSwap::from_pointee(view),
            view_lock: Mutex::default(),
            dropped: AtomicBool::new(false),
            flushed_seq: AtomicU64::new(flushed_seq.0),
            gated: AtomicBool::new(false),
            frozen_count: AtomicUsize::new(0),
            l0_runs,
            flushing: AtomicBool::new(false),
            flush_queued: AtomicBool::new(false),
            flush_failures: AtomicU64::new(0),
            compactions: Mutex::default(),
            burst: Burst::default(),
            spares,
        })
    }

    /// The current view, borrowed for a short read.
    #[inline]
    pub(crate) fn view(&self) -> Guard<Arc<View>> {
        self.view.load()
    }

    /// The current view, to be kept.
    pub(crate) fn view_full(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// Replaces the view by what `change` makes of it.
    pub(crate) fn update_view(&self, change: impl FnOnce(&View) -> View) {
        let _exclusive = self.view_lock.lock();
        let next = Arc::new(change(&self.view.load()));
        self.frozen_count.store(next.frozen.len(), Ordering::Release);
        let l0_runs = self.options.compaction.debt(&next.version).l0_runs;
        self.l0_runs.store(l0_runs, Ordering::Release);
        self.view.store(next);
    }

    /// Freezes the active memtable and puts a fresh one in its place. Under the commit lock.
    pub(crate) fn freeze(&self, at: Frozen) {
        self.update_view(|view| {
            view.active.set_frozen(at);
            let frozen = std::iter::once(&view.active).chain(&view.frozen).cloned().collect();
            let entries = view.active.table.entries();
            let active = Mem::new(entries, self.options.memtable_size_bytes, &self.spares);
            view.with_memtables(active, frozen)
        });
    }

    /// Lets go of the frozen memtables: in recovery, where nobody reads yet.
    pub(crate) fn forget_frozen(&self) {
        self.update_view(|view| view.with_memtables(Arc::clone(&view.active), Vec::new()));
    }

    /// Options of a table of `level`, labelled with this keyspace.
    pub(crate) fn table_options(&self, level: usize) -> sstable::TableOptions {
        let label = sstable::KeyspaceLabel { id: self.id.0, name: self.name.clone() };
        sstable::TableOptions { keyspace: Some(label), ..self.options.table(level) }
    }

    pub(crate) fn is_dropped(&self) -> bool {
        self.dropped.load(Ordering::Acquire)
    }
}
