//! Scrub: in the background, slowly, every table is read and checked, so that damage is found while there is still another copy.
//!
//! A tick says how many bytes are due, and a job of low priority reads that many and ends: it never waits, so neither a
//! close nor a compaction waits for it longer than for one step. Where it stands is kept in memory: a pass begins anew at an open.

use crate::engine::Engine;
use crate::executor::Priority;
use crate::metrics::Counters;
use base::sync::Mutex;
use base::sync::atomic::{AtomicBool, Ordering};
use base::{Error, FileNum, KeyspaceId, Result};
use manifest::TableMeta;
use sstable::{TableReader, Verification};
use std::sync::Arc;
// Counters order nothing, so checkers of concurrency need not see them.
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// Fewest bytes in a step: less is left to the next tick.
const STEP_BYTES_MIN: u64 = 64 << 10;
/// What is charged for a block that cannot be read.
const DAMAGED_BLOCK_BYTES: u64 = 4 << 10;

/// The scrub of one database.
#[derive(Debug, Default)]
pub(crate) struct Scrub {
    /// Held by the one step that runs.
    state: Mutex<Position>,
    queued: AtomicBool,
    pub(crate) passes: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) damaged_blocks: AtomicU64,
    /// When the last pass ended, in microseconds by the wall; 0 if none has.
    pub(crate) last_pass_micros: AtomicU64,
}

/// Where the scrub stands.
#[derive(Debug, Default)]
struct Position {
    /// When the pass began, by the monotonic clock.
    began: Option<u64>,
    is_running: bool,
    /// Up to when time has been turned into bytes.
    paid_until: u64,
    /// The pass goes on behind this table.
    behind: Option<(KeyspaceId, FileNum)>,
    /// Tables from here on are newer than the pass.
    end: FileNum,
    table: Option<TableAtHand>,
}

#[derive(Debug)]
struct TableAtHand {
    keyspace: KeyspaceId,
    reader: TableReader,
    verification: Verification,
    is_damaged: bool,
}

impl Position {
    /// The bytes due at `now`; begins a pass if it is time for one.
    fn due(&mut self, now: u64, interval: Duration, rate: u64, end: FileNum) -> u64 {
        let interval = u64::try_from(interval.as_micros()).unwrap_or(u64::MAX);
        if !self.is_running {
            if self.began.is_some_and(|began| now.saturating_sub(began) < interval) {
                return 0;
            }
            *self = Position {
                began: Some(now),
                is_running: true,
                paid_until: now,
                end,
                ..Self::default()
            };
        }
        // Time in which no step could run is not made up for.
        let micros = now.saturating_sub(self.paid_until).min(1_000_000);
        let bytes = u128::from(rate) * u128::from(micros) / 1_000_000;
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        if bytes < STEP_BYTES_MIN.min(rate) {
            return 0;
        }
        self.paid_until = now;
        bytes
    }
}

impl Engine {
    /// Queues the step that is due, if one is.
    pub(crate) fn scrub_if_due(self: &Arc<Self>) {
        let Some(interval) = self.options.scrub_interval else { return };
        if self.is_closing() || self.scrub.queued.load(Ordering::Acquire) {
            return;
        }
        let (now, rate) = (self.clock.monotonic_micros(), self.options.scrub_bytes_per_second);
        let end = FileNum(self.next_file.load(Ordering::Relaxed));
        let bytes = self.scrub.state.lock().due(now, interval, rate, end);
        if bytes > 0 {
            self.scrub.queued.store(true, Ordering::Release);
            self.submit("scrub", Priority::Low, move |engine| {
                engine.scrub_step(bytes);
                engine.scrub.queued.store(false, Ordering::Release);
            });
        }
    }

    /// Reads about `bytes` of tables.
    fn scrub_step(&self, bytes: u64) {
        let mut at = self.scrub.state.lock();
        let mut read = 0;
        while read < bytes && !self.is_closing() {
            let Some(table) = &mut at.table else {
                let Some((keyspace, meta)) = self.next_to_scrub(&at) else {
                    self.end_pass(&mut at);
                    break;
                };
                at.behind = Some((keyspace, meta.file));
                match self.begin_table(&meta) {
                    Ok((reader, verification)) => {
                        read += verification.bytes_read();
                        at.table =
                            Some(TableAtHand { keyspace, reader, verification, is_damaged: false });
                    }
                    Err(e) => {
                        read += DAMAGED_BLOCK_BYTES;
                        self.scrub_met(&e, keyspace);
                    }
                }
                continue;
            };
            let met = if !table.verification.is_done() {
                let step = table.verification.step(&table.reader);
                read += *step.as_ref().unwrap_or(&DAMAGED_BLOCK_BYTES);
                table.is_damaged |= step.is_err();
                step.err().map(|e| (e, table.keyspace))
            } else {
                let ended = at.table.take().filter(|table| !table.is_damaged);
                ended.and_then(|t| t.verification.finish(&t.reader).err().map(|e| (e, t.keyspace)))
            };
            if let Some((e, keyspace)) = met {
                self.scrub_met(&e, keyspace);
            }
        }
        Counters::add(&self.scrub.bytes, read);
    }

    fn next_to_scrub(&self, at: &Position) -> Option<(KeyspaceId, Arc<TableMeta>)> {
        let mut next: Option<(KeyspaceId, Arc<TableMeta>)> = None;
        for tree in self.all_trees() {
            let view = tree.view_full();
            for (_, _, table) in view.version.tables() {
                let place = (tree.id, table.file);
                let is_ahead = at.behind.is_none_or(|behind| place > behind) && table.file < at.end;
                let is_first = next.as_ref().is_none_or(|(id, t)| place < (*id, t.file));
                if is_ahead && is_first {
                    next = Some((tree.id, Arc::clone(table)));
                }
            }
        }
        next
    }

    fn begin_table(&self, meta: &TableMeta) -> Result<(TableReader, Verification)> {
        let reader = self.open_uncached(meta)?;
        let verification = Verification::begin(&reader)?;
        Ok((reader, verification))
    }

    fn scrub_met(&self, e: &Error, keyspace: KeyspaceId) {
        // Everything else may pass: the file was replaced meanwhile, the disk did not answer once.
        if e.is_corruption() {
            Counters::add(&self.scrub.damaged_blocks, 1);
            self.note_damage(e, Some(keyspace));
        }
    }

    fn end_pass(&self, at: &mut Position) {
        at.is_running = false;
        at.behind = None;
        Counters::add(&self.scrub.passes, 1);
        self.scrub.last_pass_micros.store(self.clock.wall_micros(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_with_time_and_passes_with_the_interval() {
        let mut at = Position::default();
        let hour = Duration::from_secs(3600);
        let due = |now: u64, at: &mut Position| at.due(now, hour, 1 << 20, FileNum(9));
        assert_eq!(due(5, &mut at), 0, "a pass begins");
        assert!(at.is_running);
        assert_eq!(due(10_000, &mut at), 0, "too little for a step");
        assert_eq!(due(500_005, &mut at), 1 << 19);
        assert_eq!(due(500_005, &mut at), 0);
        assert_eq!(due(9_000_000, &mut at), 1 << 20, "a second at most");
        at.is_running = false;
        assert_eq!(due(3_600_000_004, &mut at), 0);
        assert!(!at.is_running, "not before the interval");
        due(3_600_000_005, &mut at);
        assert!(at.is_running);
    }
}
