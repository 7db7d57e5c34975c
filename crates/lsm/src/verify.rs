//! Verification: every byte on disk is read and checked against everything else.

use crate::engine::Engine;
use crate::recover::segments_to_replay;
use base::batch::Batch;
use base::{Error, FileName, IoContext, Result};
use manifest::{Manifest, ManifestOptions, TableMeta};
use sstable::{BlockCache, TableReader, Verification};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What a verification read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyReport {
    /// Table files.
    pub tables: u64,
    /// Blocks of tables, of all kinds.
    pub blocks: u64,
    /// Bytes of tables.
    pub table_bytes: u64,
    /// Entries of tables, older versions and tombstones included.
    pub entries: u64,
    /// Records of the log.
    pub log_records: u64,
    /// Bytes of the payloads of these records.
    pub log_bytes: u64,
}

/// How to verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct VerifyOptions {
    /// Bytes a second that are read; `None`, the default, is no limit.
    pub bytes_per_second: Option<u64>,
}

impl VerifyOptions {
    /// No limit.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the bytes a second that are read; 0 counts as 1.
    #[must_use]
    pub fn bytes_per_second(mut self, bytes: u64) -> Self {
        self.bytes_per_second = Some(bytes);
        self
    }
}

/// How far a verification is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyProgress {
    /// Tables verified.
    pub tables: u64,
    /// Tables there were at the start.
    pub tables_total: u64,
    /// Bytes of tables read.
    pub bytes: u64,
    /// Bytes of tables there were at the start.
    pub bytes_total: u64,
}

/// A verification under way: how far it is, and when it may go on.
struct Walk<'a> {
    engine: &'a Engine,
    rate: Option<u64>,
    /// When all that was read is paid for, by the monotonic clock.
    due: u64,
    at: VerifyProgress,
    progress: &'a mut dyn FnMut(&VerifyProgress),
}

impl Walk<'_> {
    /// Notes that `bytes` were read, and waits until they are paid for. A close ends the wait.
    fn pay(&mut self, bytes: u64) -> Result<()> {
        let engine = self.engine;
        engine.health.check_open()?;
        let Some(rate) = self.rate else { return Ok(()) };
        let mut now = engine.clock.monotonic_micros();
        let cost = u128::from(bytes) * 1_000_000 / u128::from(rate.max(1));
        let cost = u64::try_from(cost).unwrap_or(u64::MAX);
        self.due = self.due.max(now).saturating_add(cost);
        while now < self.due {
            engine.event.pause(&*engine.executor, Duration::from_micros(self.due - now));
            engine.health.check_open()?;
            now = engine.clock.monotonic_micros();
        }
        Ok(())
    }

    fn table_bytes(&mut self, bytes: u64) -> Result<()> {
        self.at.bytes += bytes;
        (self.progress)(&self.at);
        self.pay(bytes)
    }
}

impl Engine {
    pub(crate) fn verify(
        &self,
        options: &VerifyOptions,
        progress: &mut dyn FnMut(&VerifyProgress),
    ) -> Result<VerifyReport> {
        self.health.check_open()?;
        let mut report = VerifyReport::default();
        self.verify_manifest_and_log(&mut report).inspect_err(|e| self.note_damage(e, None))?;
        let views: Vec<_> = self.all_trees().iter().map(|t| (t.id, t.view_full())).collect();
        let tables =
            || views.iter().flat_map(|(id, v)| v.version.tables().map(move |t| (*id, t.2)));
        let at = VerifyProgress {
            tables_total: tables().count() as u64,
            bytes_total: tables().map(|(_, table)| table.size_bytes).sum(),
            ..VerifyProgress::default()
        };
        let mut walk = Walk { engine: self, rate: options.bytes_per_second, due: 0, at, progress };
        walk.pay(report.log_bytes)?;
        for (id, table) in tables() {
            let verified = self.verify_table(table, &mut walk, &mut report);
            // Files may go at any moment once the database is closed.
            let verified = self.health.check_open().and(verified);
            verified.inspect_err(|e| self.note_damage(e, Some(id)))?;
        }
        Ok(report)
    }

    /// Compares the manifest on disk with the state in memory, and reads the log it lists. No edit is made meanwhile.
    fn verify_manifest_and_log(&self, report: &mut VerifyReport) -> Result<()> {
        let store = self.manifest.lock();
        let options = ManifestOptions { read_only: true, ..ManifestOptions::default() };
        let (manifest, on_disk) = Manifest::recover(Arc::clone(&self.fs), &self.dir, options)?;
        if on_disk.keyspaces != store.state.keyspaces || on_disk.segments != store.state.segments {
            let path = FileName::Manifest(manifest.file()).in_dir(&self.dir);
            return Err(Error::corruption(&path, 0, "manifest on disk is not the one in use"));
        }
        let end = self.segments.log().map(wal::Log::end).ok();
        let listed = segments_to_replay(&store.state);
        let mode = self.options.recovery_mode;
        let log = wal::replay(
            &*self.fs,
            &self.dir,
            on_disk.db_id,
            &listed,
            mode,
            &mut |_, path, at, bytes| {
                Batch::decode(bytes).map(drop).map_err(|e| Error::corruption(path, at, e.detail))
            },
        )?;
        if let Some(end) = end.filter(|&end| log.end < end && log.records > 0) {
            let (path, offset) = log.torn.map_or((PathBuf::from("log"), 0), |t| (t.path, t.offset));
            let detail = format!("log ends at {} instead of {}", log.end.0, end.0);
            return Err(Error::corruption(&path, offset, detail));
        }
        (report.log_records, report.log_bytes) = (log.records, log.payload_bytes);
        Ok(())
    }

    /// Opens a table past all caches.
    pub(crate) fn open_uncached(&self, meta: &TableMeta) -> Result<TableReader> {
        let path = FileName::Table(meta.file).in_dir(&self.dir);
        let file = self.fs.open(&path).context("open", &path)?;
        let len = file.len().context("inspect", &path)?;
        if len != meta.size_bytes {
            let detail = format!("table of {len} bytes instead of {}", meta.size_bytes);
            return Err(Error::corruption(&path, len.min(meta.size_bytes), detail));
        }
        TableReader::open(file, &path, meta.table_id, Arc::new(BlockCache::new(0)))
    }

    /// Reads a table from its file, past all caches, and compares it with what the manifest says of it.
    fn verify_table(
        &self,
        meta: &TableMeta,
        walk: &mut Walk<'_>,
        report: &mut VerifyReport,
    ) -> Result<()> {
        let table = self.open_uncached(meta)?;
        let mut verification = Verification::begin(&table)?;
        walk.table_bytes(verification.bytes_read())?;
        while !verification.is_done() {
            let read = verification.step(&table)?;
            walk.table_bytes(read)?;
        }
        let found = verification.finish(&table)?;
        let path = table.path();
        if found.entries != meta.entries {
            let detail = format!("{} entries instead of {}", found.entries, meta.entries);
            return Err(Error::corruption(path, 0, detail));
        }
        report.tables += 1;
        walk.at.tables += 1;
        report.blocks += found.blocks;
        report.table_bytes += found.bytes;
        report.entries += found.entries;
        Ok(())
    }
}
