//! One merge, from tables to tables.

use crate::drop_rules::{DropRules, OlderData, kept_tombstones};
use crate::output::Outputs;
use crate::run_iter::TableRunIterator;
use crate::task::{Task, TaskKind};
use base::{
    Error, FileName, FileNum, Fragments, InternalIterator, MergingIterator, RangeTombstone, Result,
    SeqNo,
};
use manifest::TableMeta;
use sstable::{TableCache, TableOptions};
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// After this many bytes of entries a merge looks whether it is cancelled or has to slow down.
const CHECK_BYTES: usize = 256 << 10;

/// Everything a merge needs from the engine.
#[derive(Clone)]
pub struct Job<'a> {
    /// Where outputs are written.
    pub fs: &'a dyn vfs::Fs,
    /// The directory of the tables.
    pub dir: &'a Path,
    /// The readers of the inputs.
    pub tables: &'a TableCache,
    /// The number of the next output file; never one that was used before.
    pub next_file: &'a dyn Fn() -> FileNum,
    /// The identity of the next output table.
    pub table_id: &'a dyn Fn() -> u64,
    /// How outputs are written.
    pub options: TableOptions,
    /// Outputs are closed past this size: the task's, or the policy's for a flush.
    pub target_table_bytes: u64,
    /// The sequence numbers that must stay readable, ascending; see [`drop_rules`](crate::drop_rules).
    pub snapshots: Vec<SeqNo>,
    /// The time by the wall that outputs are stamped with, in microseconds since 1970.
    pub now_micros: u64,
    /// Set to end the job early with [`Error::Closed`].
    pub cancel: &'a AtomicBool,
    /// Called after every 256 KiB of entries with the bytes written since the last call; may wait.
    pub throttle: &'a dyn Fn(u64),
}

impl fmt::Debug for Job<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut job = f.debug_struct("Job");
        job.field("dir", &self.dir).field("snapshots", &self.snapshots);
        job.field("target_table_bytes", &self.target_table_bytes).finish_non_exhaustive()
    }
}

/// Merges the inputs of `task` into new tables, which are on disk with their names when this returns.
///
/// No output at all is a normal result: everything was dropped.
///
/// # Errors
/// Any error of an input or output; [`Error::Closed`] if cancelled; [`Error::InvalidArgument`] for a
/// task that is no [`TaskKind::Merge`]. Outputs written until then are removed, the inputs are as before.
pub fn run(task: &Task, job: &Job<'_>) -> Result<Vec<TableMeta>> {
    if task.kind != TaskKind::Merge {
        return Err(Error::invalid("task", "only a merge is run; apply its changes instead"));
    }
    let tombstones = input_tombstones(task, job)?;
    let older = OlderData::within(&task.older);
    let sources = task.inputs.iter().map(|run| TableRunIterator::new(job.tables, &run.tables));
    let mut merged = MergingIterator::new(sources.collect());
    let mut outputs =
        Outputs::new(job, kept_tombstones(&tombstones, &job.snapshots, &older), &task.next_level);
    let done = copy(&mut merged, &tombstones, &older, job, &mut outputs)
        .and_then(|entries| check_count(task, job, entries))
        .and_then(|()| outputs.finish());
    if done.is_err() {
        base::probe!("merge failed");
        outputs.discard();
    }
    done
}

/// Writes what `iter` and `tombstones` hold into new tables by the same rules: a flush.
///
/// # Errors
/// As [`run`].
pub fn write_tables<I: InternalIterator + ?Sized>(
    iter: &mut I,
    tombstones: &Fragments,
    older: &OlderData,
    job: &Job<'_>,
) -> Result<Vec<TableMeta>> {
    let kept = kept_tombstones(tombstones, &job.snapshots, older);
    let mut outputs = Outputs::new(job, kept, &[]);
    let done = copy(iter, tombstones, older, job, &mut outputs).and_then(|_| outputs.finish());
    if done.is_err() {
        outputs.discard();
    }
    done
}

/// Copies the entries that the drop rules keep. Returns how many were read.
fn copy<I: InternalIterator + ?Sized>(
    iter: &mut I,
    tombstones: &Fragments,
    older: &OlderData,
    job: &Job<'_>,
    outputs: &mut Outputs<'_>,
) -> Result<u64> {
    let mut rules = DropRules::new(&job.snapshots, tombstones, older);
    let (mut entries, mut unchecked, mut throttled) = (0, 0, 0);
    check_cancel(job)?;
    iter.seek_to_first()?;
    while iter.valid() {
        let (key, value) = (iter.key(), iter.value());
        entries += 1;
        unchecked += key.user_key.len() + value.len();
        rules.push(key, value, &mut |key, value, first| outputs.add(key, value, first))?;
        if unchecked >= CHECK_BYTES {
            unchecked = 0;
            check_cancel(job)?;
            let written = outputs.bytes();
            (job.throttle)(written.saturating_sub(throttled));
            throttled = written.max(throttled);
        }
        iter.next()?;
    }
    rules.finish(&mut |key, value, first| outputs.add(key, value, first))?;
    Ok(entries)
}

fn check_cancel(job: &Job<'_>) -> Result<()> {
    if job.cancel.load(Ordering::Relaxed) {
        base::probe!("merge cancelled by a close");
        return Err(Error::Closed);
    }
    Ok(())
}

/// All range tombstones of the inputs.
fn input_tombstones(task: &Task, job: &Job<'_>) -> Result<Fragments> {
    let mut all: Vec<RangeTombstone> = Vec::new();
    for table in task.tables().filter(|t| t.range_tombstones > 0) {
        let reader = job.tables.get(table.file, table.table_id, table.seq_max)?;
        all.extend(reader.range_tombstones().tombstones());
    }
    Ok(Fragments::new(all))
}

/// The merge must have read what the inputs were written with: a read that ends early without an
/// error would otherwise lose data for good.
fn check_count(task: &Task, job: &Job<'_>, read: u64) -> Result<()> {
    let written = task.tables().map(|t| t.entries).fold(0, u64::saturating_add);
    if read == written || base::planted::is(32) {
        return Ok(());
    }
    let first: Option<&Arc<TableMeta>> = task.tables().next();
    let path = FileName::Table(first.map_or(FileNum(0), |t| t.file)).in_dir(job.dir);
    let detail = format!("inputs of the merge have {read} entries, {written} were written");
    Err(Error::corruption(&path, 0, detail))
}
