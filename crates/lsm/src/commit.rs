//! The write path: one order for all keyspaces, log before memtable, visible only when the log step succeeded.
//!
//! ```text
//! under the commit lock          sequence range, log record (a store into the mapped segment), memtables
//! outside, for Durability::Sync  one sync for all that wait
//! publish                        `visible` moves past the write, in commit order
//! ```
//! A write becomes readable only after its log step has succeeded, so nobody reads a write that later fails. Since
//! writes are published in order, one that follows an unsynced `Sync` write waits for that sync too.

use crate::engine::Engine;
use crate::executor::Priority;
use crate::options::Durability;
use crate::tree::{Frozen, Mem, Tree, View};
use base::batch::{BatchBuilder, BatchOp};
use base::checksum::key_hash;
use base::sync::atomic::{AtomicU64, Ordering};
use base::sync::{Guard, Mutex, MutexGuard};
use base::{Error, InternalKey, RangeTombstone, Result, SeqNo, ValueKind};
use std::collections::VecDeque;
use std::sync::Arc;
use wal::Lsn;

/// A larger write leaves no scratch memory behind.
const SCRATCH_MAX: usize = 1 << 20;

/// The order of commits, and how far it is visible.
#[derive(Debug)]
pub(crate) struct CommitQueue {
    state: Mutex<CommitState>,
    visible: AtomicU64,
    unpublished: Mutex<VecDeque<Unpublished>>,
}

/// What the commit lock guards.
#[derive(Debug)]
pub(crate) struct CommitState {
    /// The last sequence number given out.
    pub(crate) last_seq: SeqNo,
    /// End of the last record whose writer asked for a sync.
    sync_wanted: Lsn,
    /// End of the last record that the background sync is for.
    sync_due: Lsn,
    /// Log position at which the memory of all memtables is looked at again.
    memory_check: Lsn,
    /// Reused for writes of a single operation.
    scratch: BatchBuilder,
}

/// A write that waits for a sync before it may be seen.
#[derive(Debug, Clone, Copy)]
struct Unpublished {
    synced: Lsn,
    last_seq: SeqNo,
}

impl CommitQueue {
    pub(crate) fn new(last_seq: SeqNo) -> Self {
        CommitQueue {
            state: Mutex::new(CommitState {
                last_seq,
                sync_wanted: Lsn(0),
                sync_due: Lsn(0),
                memory_check: Lsn(0),
                scratch: BatchBuilder::new(),
            }),
            visible: AtomicU64::new(last_seq.0),
            unpublished: Mutex::default(),
        }
    }

    /// Sets the last sequence number, before there are readers or writers.
    pub(crate) fn start_at(&self, last_seq: SeqNo) {
        self.state.lock().last_seq = last_seq;
        self.visible.store(last_seq.0, Ordering::Release);
    }

    #[inline]
    pub(crate) fn visible(&self) -> SeqNo {
        SeqNo(self.visible.load(Ordering::Acquire))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, CommitState> {
        self.state.lock()
    }

    /// Makes `last_seq` visible, now or once the log is synced to `synced`. Under the commit lock, so that the
    /// queue is in commit order.
    #[inline]
    fn enqueue(&self, write: Unpublished, durable: Lsn) {
        let mut waiting = self.unpublished.lock();
        if (waiting.is_empty() && write.synced <= durable) || base::planted::is(38) {
            self.visible.store(write.last_seq.0, Ordering::Release);
        } else {
            waiting.push_back(write);
        }
    }

    /// Makes visible all writes at the front of the queue that waited for no more than `durable`.
    fn publish(&self, durable: Lsn) {
        let mut waiting = self.unpublished.lock();
        if waiting.len() > 1 {
            base::probe!("several writes wait to be visible");
        }
        while let Some(write) = waiting.front().filter(|w| w.synced <= durable) {
            self.visible.store(write.last_seq.0, Ordering::Release);
            waiting.pop_front();
        }
    }

    /// Publishes a sequence number that has no log record: that of an ingest. Under the commit lock, with nothing
    /// unpublished.
    pub(crate) fn publish_direct(&self, seq: SeqNo) {
        self.visible.store(seq.0, Ordering::Release);
    }
}

#[cfg(loom)]
impl CommitQueue {
    /// The steps of [`Engine::append`] that concern the order, with a log in which every record has length 1.
    /// Returns the sequence number, and the position to sync if the write has to wait for that.
    pub(crate) fn commit_for_model(&self, sync: bool, synced: impl Fn() -> Lsn) -> (SeqNo, Lsn) {
        let mut commit = self.lock();
        let last = commit.last_seq.plus(1);
        commit.last_seq = last;
        if sync {
            commit.sync_wanted = Lsn(last.0);
        }
        let (wanted, durable) = (commit.sync_wanted, synced());
        self.enqueue(Unpublished { synced: wanted, last_seq: last }, durable);
        drop(commit);
        (last, wanted)
    }

    pub(crate) fn publish_for_model(&self, durable: Lsn) {
        self.publish(durable);
    }
}

/// What a write puts into the log.
pub(crate) enum Payload<'a> {
    One(BatchOp<'a>),
    Many(&'a mut BatchBuilder),
}

/// Looked at under the commit lock; a write goes ahead only if it returns true.
pub(crate) type Condition<'a> = &'a dyn Fn(&CommitState) -> bool;

impl Engine {
    /// Commits `payload` to `trees`, which are all those it names. Returns false, and changes nothing, if `condition`
    /// does not hold.
    ///
    /// # Errors
    /// Unless it is [`Error::SyncFailed`] the write is not there and never will be.
    pub(crate) fn write(
        self: &Arc<Self>,
        payload: Payload<'_>,
        trees: &[Arc<Tree>],
        durability: Durability,
        condition: Option<Condition<'_>>,
    ) -> Result<bool> {
        self.health.check_writable()?;
        self.begin_writing()?;
        self.admit(&payload, trees)?;
        let Some(wait_for) = self.append(payload, trees, durability, condition)? else {
            return Ok(false);
        };
        if let Some((lsn, last)) = wait_for {
            self.segments.log()?.sync(lsn).map_err(|e| self.sync_failed(e))?;
            // One of those that a sync served publishes for all; not the one that synced, which wakes the others first.
            if self.visible() < last {
                self.commits.publish(self.segments.log()?.synced());
            }
        }
        Ok(true)
    }

    /// Appends to log and memtables. Returns the log position whose sync makes the write visible, and its last sequence number, if it has
    /// to wait for one; the outer `None` if the condition does not hold.
    #[expect(clippy::option_option, reason = "refused, done, done but for a sync")]
    fn append(
        self: &Arc<Self>,
        mut payload: Payload<'_>,
        trees: &[Arc<Tree>],
        durability: Durability,
        condition: Option<Condition<'_>>,
    ) -> Result<Option<Option<(Lsn, SeqNo)>>> {
        loop {
            let mut commit = self.commits.lock();
            self.health.check_writable()?;
            if let Some(gated) = self.first_obstacle(trees)? {
                base::probe!("write waited for an ingest");
                drop(commit);
                self.wait_for_gate(&gated)?;
                continue;
            }
            if condition.is_some_and(|holds| !holds(&commit)) {
                return Ok(None);
            }
            self.freeze_full(&commit, trees);
            let near = Near::the_place_of(&payload, trees);
            let start = self.segments.log()?.end();
            let end = match self.log_payload(&mut commit, &mut payload)? {
                Ok(end) => end,
                Err(need) => {
                    drop(commit);
                    self.provide_segment(need.min_len)?;
                    continue;
                }
            };
            let first = commit.last_seq.plus(1);
            if base::planted::is(37) {
                self.commits.publish_direct(first);
            }
            let last = insert(&payload, &commit, first, start, trees, near);
            commit.last_seq = last;
            match durability {
                Durability::Sync => commit.sync_wanted = end,
                Durability::Buffered => commit.sync_due = end,
                Durability::Memory => {}
            }
            let (synced, durable) = (commit.sync_wanted, self.segments.log()?.synced());
            if durability != Durability::Sync && synced > durable {
                base::probe!("write behind one that waits for its sync");
            }
            if base::planted::is(55) {
                self.freeze_full(&commit, trees);
            }
            self.commits.enqueue(Unpublished { synced, last_seq: last }, durable);
            // After that: a flush that finds this write must find it published, or it would drop versions for it that
            // the next snapshot reads.
            if end >= commit.memory_check {
                commit.memory_check = Lsn(end.0 + self.memory_stride());
                self.check_memory(&commit);
            }
            drop(commit);
            if self.segments.wants_spare() {
                self.queue_spare();
            }
            return Ok(Some((self.visible() < last).then_some((synced, last))));
        }
    }

    /// A tree of the write that is closed for a moment.
    fn first_obstacle(&self, trees: &[Arc<Tree>]) -> Result<Option<Arc<Tree>>> {
        for tree in trees {
            if tree.is_dropped() {
                base::probe!("write to a dropped keyspace");
                return Err(Error::KeyspaceNotFound { name: tree.name.clone() });
            }
            if tree.gated.load(Ordering::Acquire) {
                return Ok(Some(Arc::clone(tree)));
            }
        }
        Ok(None)
    }

    fn wait_for_gate(&self, tree: &Tree) -> Result<()> {
        self.event.wait(&*self.executor, || {
            let open = !tree.gated.load(Ordering::Acquire) || self.health.is_stopped();
            open.then_some(())
        });
        self.health.check_writable()
    }

    fn log_payload(
        &self,
        commit: &mut CommitState,
        payload: &mut Payload<'_>,
    ) -> Result<std::result::Result<Lsn, wal::NeedSegment>> {
        let seq = commit.last_seq.plus(1);
        let bytes = match payload {
            Payload::One(op) => {
                if commit.scratch.len() > SCRATCH_MAX {
                    commit.scratch = BatchBuilder::new();
                }
                commit.scratch.clear();
                commit.scratch.push(*op);
                commit.scratch.seal(seq)
            }
            Payload::Many(batch) => batch.seal(seq),
        };
        if seq.plus(bytes.len() as u64) == SeqNo::MAX {
            return Err(self.poison("sequence numbers are used up".into()));
        }
        self.counters.log_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        match self.segments.log()?.append(bytes) {
            Ok(done) => Ok(done.map(|appended| appended.end)),
            Err(e) => Err(self.log_failed(e)),
        }
    }

    /// After a failed append the log says whether it can go on.
    fn log_failed(&self, e: Error) -> Error {
        match &e {
            Error::Io { .. } | Error::NoSpace { .. } => {
                base::probe!("append failed and the log goes on");
                self.health.degrade(&e);
            }
            _ => self.health.stop_writes(&e),
        }
        self.event.notify();
        e
    }

    /// Makes everything up to `lsn` durable and publishes what waited for it.
    pub(crate) fn sync_log(&self, lsn: Lsn) -> Result<()> {
        let log = self.segments.log()?;
        log.sync(lsn).map_err(|e| self.sync_failed(e))?;
        self.commits.publish(log.synced());
        Ok(())
    }

    fn sync_failed(&self, e: Error) -> Error {
        self.health.stop_writes(&e);
        self.event.notify();
        e
    }

    /// Makes durable every write acknowledged before the call.
    pub(crate) fn sync(&self) -> Result<()> {
        self.health.check_writable()?;
        match self.segments.log() {
            Ok(log) => self.sync_log(log.end()),
            // Nothing was written since the database was closed.
            Err(_) => Ok(()),
        }
    }

    /// A write without operations: with [`Durability::Sync`] it still makes all earlier writes durable.
    pub(crate) fn write_nothing(&self, durability: Durability) -> Result<()> {
        match durability {
            Durability::Sync => self.sync(),
            Durability::Buffered | Durability::Memory => self.health.check_writable(),
        }
    }

    /// The background sync: for `Buffered` writes since the last one.
    pub(crate) fn sync_if_due(&self) -> Result<()> {
        let due = self.commits.lock().sync_due;
        if base::planted::is(41) {
            return Ok(());
        }
        match self.segments.log() {
            Ok(log) if log.synced() < due => self.sync_log(due),
            _ => Ok(()),
        }
    }

    /// Makes visible what waits for a sync, if anything does.
    pub(crate) fn sync_if_waiting(&self) -> Result<()> {
        let wanted = self.commits.lock().sync_wanted;
        self.sync_log(wanted)
    }

    fn freeze_full(self: &Arc<Self>, commit: &CommitState, trees: &[Arc<Tree>]) {
        for tree in trees {
            if tree.view().active.table.size_bytes() >= tree.options.memtable_size_bytes {
                base::probe!("memtable frozen for its size");
                self.freeze(commit, tree);
            }
        }
    }

    /// Freezes the active memtable of `tree`, unless it is empty, and asks for a flush.
    pub(crate) fn freeze(self: &Arc<Self>, commit: &CommitState, tree: &Arc<Tree>) {
        let Ok(log) = self.segments.log() else { return };
        if !tree.view().active.table.is_empty() {
            let bytes = tree.view().active.table.size_bytes() as u64;
            tree.burst.add(bytes, self.clock.monotonic_micros());
            tree.freeze(Frozen { seq: commit.last_seq, end: log.end() });
        }
        self.queue_flush(tree);
    }

    /// Queues the preparation of a spare log segment.
    fn queue_spare(self: &Arc<Self>) {
        if !self.segments.spare_queued.swap(true, Ordering::AcqRel) {
            self.submit("spare segment", Priority::High, |engine| {
                engine.segments.spare_queued.store(false, Ordering::Release);
                if let Err(e) = engine.provide_segment(0) {
                    engine.background_failed(&e);
                }
                engine.segments.prefault();
                engine.queue_reserve();
                // The log has grown by a segment; no memtable need be near its limit.
                engine.bound_log();
            });
        }
    }
}

/// Inserts the operations of `payload`, logged at `start`, into the memtables; returns the last sequence number.
#[inline]
fn insert(
    payload: &Payload<'_>,
    commit: &CommitState,
    first: SeqNo,
    start: Lsn,
    trees: &[Arc<Tree>],
    near: Option<Near>,
) -> SeqNo {
    match payload {
        Payload::One(op) => {
            if let Some(Near { view, hash }) = near {
                insert_into(&view.active, hash, op, first, start);
            }
            first
        }
        Payload::Many(batch) => {
            let views: Vec<_> = trees.iter().map(|tree| (tree.id, tree.view())).collect();
            let place_of = |op: &BatchOp<'_>| {
                let (_, view) = views.iter().find(|(id, _)| *id == op.keyspace)?;
                let hash = key_hash(op.key);
                Some((&view.active, hash))
            };
            let prefetch = |op: BatchOp<'_>| {
                place_of(&op).inspect(|(active, hash)| active.table.prefetch(*hash));
            };
            let (mut last, mut ahead) = (commit.last_seq, batch.ops());
            ahead.by_ref().take(PREFETCHED).for_each(prefetch);
            for op in batch.ops() {
                ahead.next().map(prefetch);
                last = last.plus(1);
                if let Some((active, hash)) = place_of(&op) {
                    insert_into(active, hash, &op, last, start);
                }
            }
            last
        }
    }
}

/// Operations of a batch whose places in memtables are fetched ahead of them.
const PREFETCHED: usize = 12;

/// The view whose active memtable an operation goes to, its place in which is being fetched: it is rarely in the cache, and near by
/// the time that the record is in the log.
struct Near {
    view: Guard<Arc<View>>,
    hash: u64,
}

impl Near {
    /// For a write of one operation. Under the commit lock, which keeps the memtable active.
    #[inline]
    fn the_place_of(payload: &Payload<'_>, trees: &[Arc<Tree>]) -> Option<Near> {
        let (Payload::One(op), Some(tree)) = (payload, trees.first()) else { return None };
        let (view, hash) = (tree.view(), key_hash(op.key));
        view.active.table.prefetch(hash);
        Some(Near { view, hash })
    }
}

/// Inserts one logged operation into an active memtable. Under the commit lock.
#[inline]
fn insert_into(active: &Mem, hash: u64, op: &BatchOp<'_>, seq: SeqNo, start: Lsn) {
    active.note_record(start);
    match op.kind {
        ValueKind::Put | ValueKind::Delete => {
            active.table.insert(hash, InternalKey::new(op.key, seq, op.kind), op.value);
        }
        ValueKind::RangeDelete => active.table.insert_range_tombstone(RangeTombstone {
            start: op.key.to_vec(),
            end: op.value.to_vec(),
            seq,
        }),
    }
}
