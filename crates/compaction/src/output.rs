//! The tables that a merge or a flush writes.

use crate::runner::Job;
use crate::tree::NEXT_LEVEL_OVERLAP_TARGETS_MAX;
use base::{FileName, FileNum, Fragments, InternalKey, IoContext, Result};
use manifest::TableMeta;
use sstable::{TableSummary, TableWriter};
use std::path::PathBuf;
use std::sync::Arc;

/// Writes a sorted sequence into tables, cut between user keys.
///
/// Invariant: the range of an output, range tombstones included, ends before the first key of the
/// next one. Tombstones are clipped to `start..first key of the next`, and a cut never falls between
/// two versions of a key; otherwise a tombstone would hide keys of its neighbour, or the versions of
/// one key would change their order.
#[derive(Debug)]
pub(crate) struct Outputs<'j> {
    job: &'j Job<'j>,
    tombstones: Fragments,
    next_level: NextLevel<'j>,
    current: Option<(FileNum, TableWriter)>,
    /// Where the current output starts; `None` for the first one, which starts before every key.
    start: Option<Vec<u8>>,
    created: Vec<PathBuf>,
    finished: Vec<TableMeta>,
    finished_bytes: u64,
}

impl<'j> Outputs<'j> {
    /// `tombstones` are those to be written, `next_level` the tables below that bound an output's overlap.
    pub(crate) fn new(
        job: &'j Job<'j>,
        tombstones: Fragments,
        next_level: &'j [Arc<TableMeta>],
    ) -> Self {
        let bytes_max = job.target_table_bytes.saturating_mul(NEXT_LEVEL_OVERLAP_TARGETS_MAX);
        Outputs {
            job,
            tombstones,
            next_level: NextLevel { tables: next_level, bytes: 0, bytes_max },
            current: None,
            start: None,
            created: Vec::new(),
            finished: Vec::new(),
            finished_bytes: 0,
        }
    }

    /// Appends an entry; `first` says whether it is the first of its user key.
    #[inline]
    pub(crate) fn add(&mut self, key: InternalKey<'_>, value: &[u8], first: bool) -> Result<()> {
        if first && self.is_full(key.user_key) {
            self.close(Some(key.user_key))?;
            if base::planted::is(50) {
                return Ok(());
            }
        }
        if let Some((_, writer)) = &mut self.current {
            return writer.add(key, value);
        }
        let (file, mut writer) = self.create()?;
        writer.add(key, value)?;
        self.current = Some((file, writer));
        Ok(())
    }

    /// Bytes written so far, about.
    pub(crate) fn bytes(&self) -> u64 {
        let current = self.current.as_ref().map_or(0, |(_, writer)| writer.file_size_estimate());
        self.finished_bytes + current
    }

    /// Closes the last table and makes names durable.
    pub(crate) fn finish(&mut self) -> Result<Vec<TableMeta>> {
        self.close(None)?;
        if self.created.is_empty() {
            base::probe!("merge without output");
        } else if !base::planted::is(11) {
            self.job.fs.sync_dir(self.job.dir).context("sync_dir", self.job.dir)?;
        }
        Ok(std::mem::take(&mut self.finished))
    }

    /// Removes everything that was written. What cannot be removed is left to the next open.
    pub(crate) fn discard(&mut self) {
        self.current = None;
        for path in self.created.drain(..) {
            base::probe!("output of a failed merge removed");
            self.job.fs.remove_file(&path).ok();
        }
    }

    #[inline]
    fn is_full(&mut self, user_key: &[u8]) -> bool {
        let heavy_below = self.next_level.passes_limit(user_key);
        let Some((_, writer)) = &self.current else { return false };
        if heavy_below {
            base::probe!("output cut by the level below");
        }
        heavy_below || writer.file_size_estimate() >= self.job.target_table_bytes
    }

    /// Ends the current output, if there is one or a tombstone asks for one, before the key `end`.
    fn close(&mut self, end: Option<&[u8]>) -> Result<()> {
        self.next_level.bytes = 0;
        let tombstones = match self.tombstones.is_empty() {
            true => Fragments::default(),
            false if base::planted::is(23) => self.tombstones.clone(),
            false => self.tombstones.clip(self.start.as_deref(), end),
        };
        let (file, mut writer) = match self.current.take() {
            Some(open) => open,
            None if tombstones.is_empty() => return Ok(()),
            None => {
                base::probe!("output of range tombstones alone");
                self.create()?
            }
        };
        if !tombstones.is_empty() {
            if end.is_some() || self.start.is_some() {
                base::probe!("range tombstones clipped at a cut");
            }
            writer.add_range_tombstones(&tombstones)?;
        }
        let table = table_meta(file, writer.finish()?, self.job.now_micros);
        self.finished_bytes += table.size_bytes;
        self.finished.push(table);
        self.start = end.map(<[u8]>::to_vec);
        Ok(())
    }

    fn create(&mut self) -> Result<(FileNum, TableWriter)> {
        let (job, file) = (self.job, (self.job.next_file)());
        let path = FileName::Table(file).in_dir(job.dir);
        // Noted first: a failed create may leave a file too.
        self.created.push(path.clone());
        let writer = TableWriter::create(job.fs, &path, (job.table_id)(), job.options.clone())?;
        Ok((file, writer.counted_in(job.tables.usage())))
    }
}

/// What a manifest lists of a table that was written to `file`.
#[must_use]
pub fn table_meta(file: FileNum, summary: TableSummary, created_micros: u64) -> TableMeta {
    TableMeta {
        file,
        table_id: summary.table_id,
        size_bytes: summary.size_bytes,
        entries: summary.entries,
        deletes: summary.deletes,
        range_tombstones: summary.range_tombstones,
        raw_bytes: summary.raw_bytes,
        smallest: summary.smallest,
        largest: summary.largest,
        largest_exclusive: summary.largest_exclusive,
        seq_min: summary.seq_min,
        seq_max: summary.seq_max,
        created_micros,
    }
}

/// Counts the bytes of the next level that the current output already lies over.
#[derive(Debug)]
struct NextLevel<'j> {
    /// Those at or behind the current key.
    tables: &'j [Arc<TableMeta>],
    bytes: u64,
    bytes_max: u64,
}

impl NextLevel<'_> {
    #[inline]
    fn passes_limit(&mut self, user_key: &[u8]) -> bool {
        while let Some((table, rest)) = self.tables.split_first() {
            if table.upper().admits(user_key) {
                break;
            }
            self.bytes = self.bytes.saturating_add(table.size_bytes);
            self.tables = rest;
        }
        self.bytes > self.bytes_max
    }
}
