//! The log of a damaged database.
//!
//! Sequence numbers are given out one by one, so a place of damage loses exactly the numbers between the records
//! around it. What of that went to tables before is not lost. A keyspace that misses even one write may differ anywhere: nobody
//! knows what keys the write was about.

use super::catalog::{Catalog, KeyspaceEntry};
use super::report::SalvageReport;
use super::{DURABILITY, Targets};
use crate::batch::WriteBatch;
use crate::db::Db;
use crate::keyspaces::Note;
use base::batch::{Batch, BatchOp};
use base::checksum::key_hash;
use base::limits::{BOUND_BYTES_MAX, KEY_BYTES_MAX};
use base::{Error, FileName, InternalKey, KeyspaceId, RangeTombstone, Result, SeqNo, ValueKind};
use memtable::Memtable;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vfs::Fs;
use wal::RecoveryMode;
use wal::segment::FIRST_RECORD;

/// Bytes of operations that went to tables already and are kept in case the table cannot be read. The oldest are kept.
const OLD_OPERATIONS_MAX: usize = 64 << 20;
/// Bytes in one batch written into the new database.
const BATCH_BYTES: usize = 1 << 20;

/// Sequence numbers that are lost: those above `after` and below `before`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gap {
    after: u64,
    before: u64,
}

/// What the log holds.
#[derive(Debug, Default)]
pub(super) struct LogSurvey {
    pub(super) records: u64,
    /// Where records may be missing.
    pub(super) places: Vec<(PathBuf, u64)>,
    pub(super) gaps: Vec<Gap>,
    /// Something that the manifest should know and does not.
    pub(super) lost_edits: Option<Error>,
    /// Operations that went to tables, by keyspace.
    old: BTreeMap<KeyspaceId, Arc<Memtable>>,
    old_bytes: usize,
    /// Keyspaces that the log speaks of.
    seen: BTreeSet<KeyspaceId>,
    dropped: BTreeSet<KeyspaceId>,
}

/// Records that follow one another in one segment, and whose sequence numbers do.
#[derive(Debug)]
struct Stretch {
    segment: usize,
    first_offset: u64,
    last_offset: u64,
    first_seq: u64,
    last_seq: u64,
}

impl LogSurvey {
    /// Reads the log once.
    ///
    /// # Errors
    /// [`Error::UnsupportedFormat`]; everything else is damage.
    pub(super) fn read(fs: &dyn Fs, dir: &Path, catalog: &Catalog) -> Result<LogSurvey> {
        let mut survey = LogSurvey::default();
        let Some(db_id) = catalog.db_id else {
            survey.nothing_readable(dir, catalog);
            return Ok(survey);
        };
        let mut stretches: Vec<Stretch> = Vec::new();
        let paths: Vec<_> =
            catalog.segments.iter().map(|s| FileName::Segment(s.num).in_dir(dir)).collect();
        let mut order = Order::default();
        let mut out_of_order = Vec::new();
        let listed = &catalog.segments;
        let mode = RecoveryMode::SkipCorrupt;
        let replayed = wal::replay(fs, dir, db_id, listed, mode, &mut |_, path, offset, bytes| {
            let last = order.last;
            let Some(batch) = order.accept(bytes) else {
                out_of_order.push((path.to_path_buf(), offset, last));
                return Ok(());
            };
            survey.records += 1;
            let segment = paths.iter().position(|p| p == path).unwrap_or(0);
            extend(&mut stretches, segment, offset, batch.seq.0, order.last);
            for (seq, op) in batch.ops() {
                survey.operation(catalog, path, offset, seq, &op);
            }
            Ok(())
        });
        let skipped = match replayed {
            Ok(replayed) => replayed.skipped,
            Err(e @ Error::UnsupportedFormat { .. }) => return Err(e),
            Err(_) => vec![(dir.join("log"), 0)],
        };
        for (path, offset, last) in out_of_order {
            survey.gaps.push(Gap { after: last, before: u64::MAX });
            survey.places.push((path, offset));
        }
        for (path, offset) in skipped {
            let gap = match paths.iter().position(|p| *p == path) {
                Some(segment) => gap_at(&stretches, segment, offset),
                None => Gap { after: 0, before: u64::MAX },
            };
            if gap.before - gap.after > 1 {
                survey.gaps.push(gap);
            }
            survey.places.push((path, offset));
        }
        Ok(survey)
    }

    /// Without an id no record can be told from any other bytes.
    fn nothing_readable(&mut self, dir: &Path, catalog: &Catalog) {
        for segment in &catalog.segments {
            self.places.push((FileName::Segment(segment.num).in_dir(dir), 0));
            self.gaps.push(Gap { after: 0, before: u64::MAX });
        }
    }

    fn operation(
        &mut self,
        catalog: &Catalog,
        path: &Path,
        offset: u64,
        seq: SeqNo,
        op: &BatchOp<'_>,
    ) {
        let note = Note::of(op);
        let known = catalog.keyspaces.get(&op.keyspace);
        let lost_edit = match (note, known) {
            (Some(Note::Dropped), Some(_)) => true,
            (_, None) => op.keyspace >= catalog.next_keyspace,
            _ => false,
        };
        if lost_edit {
            let detail = format!("the manifest has lost edits about keyspace #{}", op.keyspace);
            self.lost_edits.get_or_insert_with(|| Error::corruption(path, offset, detail));
        }
        if note == Some(Note::Dropped) {
            self.dropped.insert(op.keyspace);
        }
        self.seen.insert(op.keyspace);
        if note.is_none() && known.is_some_and(|keyspace| seq <= keyspace.flushed) {
            self.keep(seq, op);
        }
    }

    fn keep(&mut self, seq: SeqNo, op: &BatchOp<'_>) {
        let fits = op.key.len() <= KEY_BYTES_MAX
            && (op.kind != ValueKind::RangeDelete || op.value.len() <= BOUND_BYTES_MAX);
        if !fits || self.old_bytes > OLD_OPERATIONS_MAX {
            return;
        }
        self.old_bytes += op.key.len() + op.value.len() + 64;
        let table = self.old.entry(op.keyspace).or_insert_with(|| Arc::new(Memtable::new(0)));
        if op.kind == ValueKind::RangeDelete {
            let (start, end) = (op.key.to_vec(), op.value.to_vec());
            table.insert_range_tombstone(RangeTombstone { start, end, seq });
        } else {
            table.insert(key_hash(op.key), InternalKey::new(op.key, seq, op.kind), op.value);
        }
    }

    /// Operations of `keyspace` that went to tables.
    pub(super) fn old_operations(&self, keyspace: KeyspaceId) -> Option<Arc<Memtable>> {
        self.old.get(&keyspace).cloned()
    }

    /// True if a write may be lost that a keyspace with tables up to `flushed` does not have in them.
    pub(super) fn lost_for(&self, flushed: SeqNo) -> bool {
        self.gaps.iter().any(|gap| gap.before - 1 > flushed.0)
    }

    /// Adds the keyspaces that only the log knows, and takes out those that it says were dropped, if the manifest cannot
    /// be relied on.
    pub(super) fn add_keyspaces(&self, catalog: &mut Catalog) {
        if catalog.is_complete {
            return;
        }
        for id in &self.seen {
            catalog.keyspace(*id, "");
        }
        for id in self.dropped.iter().filter(|id| **id != KeyspaceId::DEFAULT) {
            catalog.keyspaces.remove(id);
        }
    }
}

/// Sequence numbers ascend; what does not is a leftover of an earlier life of the log.
#[derive(Debug, Default)]
struct Order {
    last: u64,
}

impl Order {
    /// The batch in `bytes`, if it is one and comes after those before it.
    fn accept<'b>(&mut self, bytes: &'b [u8]) -> Option<Batch<'b>> {
        let batch = Batch::decode(bytes).ok().filter(|batch| batch.seq.0 > self.last)?;
        self.last = batch.seq.0 + u64::from(batch.count).saturating_sub(1);
        Some(batch)
    }
}

fn extend(stretches: &mut Vec<Stretch>, segment: usize, offset: u64, first: u64, last: u64) {
    match stretches.last_mut() {
        Some(s) if s.segment == segment && s.last_seq + 1 == first => {
            (s.last_offset, s.last_seq) = (offset, last);
        }
        _ => stretches.push(Stretch {
            segment,
            first_offset: offset,
            last_offset: offset,
            first_seq: first,
            last_seq: last,
        }),
    }
}

/// The numbers lost at `offset` of a segment.
fn gap_at(stretches: &[Stretch], segment: usize, offset: u64) -> Gap {
    let place = (segment, offset);
    let within =
        |s: &Stretch| s.segment == segment && s.first_offset < offset && offset <= s.last_offset;
    if offset >= FIRST_RECORD as u64
        && let Some(whole) = stretches.iter().find(|s| within(s))
    {
        return Gap { after: whole.first_seq, before: whole.first_seq + 1 };
    }
    let behind = stretches.iter().find(|s| (s.segment, s.first_offset) >= place);
    let before = behind.map_or(u64::MAX, |s| s.first_seq);
    let mut earlier = stretches.iter().rev().filter(|s| (s.segment, s.last_offset) < place);
    let after = if offset < FIRST_RECORD as u64 {
        // Header or link are damaged. The link says where the segment before it ends, so records that were given up may
        // have been read at its end.
        let previous = earlier.next().map(|s| s.segment);
        earlier.find(|s| Some(s.segment) != previous).map_or(0, |s| s.last_seq)
    } else {
        earlier.next().map_or(0, |s| s.last_seq)
    };
    Gap { after: after.min(before - 1), before }
}

/// Writes what the log holds beyond the tables into the new database, in its order. Batches stay whole.
pub(super) fn write_new_operations(
    fs: &dyn Fs,
    dir: &Path,
    catalog: &Catalog,
    targets: &Targets,
    db: &Db,
    report: &mut SalvageReport,
) -> Result<()> {
    let Some(db_id) = catalog.db_id else { return Ok(()) };
    let mut order = Order::default();
    let mut writer = Writer { catalog, targets, db, batch: db.batch(), report, failed: None };
    let mode = RecoveryMode::SkipCorrupt;
    let replayed = wal::replay(fs, dir, db_id, &catalog.segments, mode, &mut |_, _, _, bytes| {
        let Some(batch) = order.accept(bytes) else { return Ok(()) };
        let written = batch.ops().try_for_each(|(seq, op)| writer.write(seq, &op));
        written.and_then(|()| writer.commit(BATCH_BYTES)).inspect_err(|e| {
            writer.failed = Some(e.clone());
        })
    });
    match (writer.failed.take(), replayed) {
        // What cannot be read was told by the survey.
        (None, _) => writer.commit(0),
        (Some(e), _) => Err(e),
    }
}

struct Writer<'a> {
    catalog: &'a Catalog,
    targets: &'a Targets,
    db: &'a Db,
    batch: WriteBatch,
    report: &'a mut SalvageReport,
    failed: Option<Error>,
}

impl Writer<'_> {
    fn write(&mut self, seq: SeqNo, op: &BatchOp<'_>) -> Result<()> {
        let known: Option<&KeyspaceEntry> = self.catalog.keyspaces.get(&op.keyspace);
        let (Some(known), Some(target)) = (known, self.targets.get(&op.keyspace)) else {
            return Ok(());
        };
        if seq <= known.flushed || Note::of(op).is_some() {
            return Ok(());
        }
        match op.kind {
            ValueKind::Put => self.batch.put_in(target, op.key, op.value),
            ValueKind::Delete => self.batch.delete_in(target, op.key),
            ValueKind::RangeDelete if op.key < op.value => {
                self.batch.delete_range_in(target, op.key..op.value);
            }
            ValueKind::RangeDelete => return Ok(()),
        }
        self.report.count_log_operation(&known.name);
        Ok(())
    }

    /// Commits the batch once it has `bytes`.
    fn commit(&mut self, bytes: usize) -> Result<()> {
        if self.batch.is_empty() || self.batch.size_bytes() < bytes {
            return Ok(());
        }
        let batch = std::mem::replace(&mut self.batch, self.db.batch());
        batch.commit_with(DURABILITY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stretch(segment: usize, offsets: (u64, u64), seqs: (u64, u64)) -> Stretch {
        Stretch {
            segment,
            first_offset: offsets.0,
            last_offset: offsets.1,
            first_seq: seqs.0,
            last_seq: seqs.1,
        }
    }

    #[test]
    fn a_gap_is_what_lies_between_the_records_around_it() {
        let log = [
            stretch(0, (104, 300), (1, 9)),
            stretch(0, (500, 600), (12, 15)),
            stretch(1, (104, 400), (16, 30)),
        ];
        assert_eq!(gap_at(&log, 0, 400), Gap { after: 9, before: 12 });
        assert_eq!(gap_at(&log, 0, 700), Gap { after: 15, before: 16 });
        assert_eq!(gap_at(&log, 1, 500), Gap { after: 30, before: u64::MAX });
        let nothing = gap_at(&log, 1, 200);
        assert_eq!(nothing.before - nothing.after, 1);
        // Without the link of segment 1 the end of segment 0 is not known.
        assert_eq!(gap_at(&log, 1, 56), Gap { after: 0, before: 16 });
        assert_eq!(gap_at(&log, 2, 0), Gap { after: 15, before: u64::MAX });
    }
}
