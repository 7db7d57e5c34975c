//! Verification: every byte on disk is read and checked against everything else.

use crate::engine::Engine;
use crate::recover::segments_to_replay;
use base::batch::Batch;
use base::{Error, FileName, IoContext, Result};
use manifest::{Manifest, ManifestOptions, TableMeta};
use sstable::{BlockCache, TableReader};
use std::path::PathBuf;
use std::sync::Arc;

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

impl Engine {
    pub(crate) fn verify(&self) -> Result<VerifyReport> {
        self.health.check_open()?;
        let mut report = VerifyReport::default();
        self.verify_manifest_and_log(&mut report).inspect_err(|e| self.note_damage(e, None))?;
        for tree in self.all_trees() {
            let view = tree.view_full();
            for (_, _, table) in view.version.tables() {
                self.verify_table(table, &mut report)
                    .inspect_err(|e| self.note_damage(e, Some(tree.id)))?;
            }
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

    /// Reads a table from its file, past all caches, and compares it with what the manifest says of it.
    fn verify_table(&self, meta: &TableMeta, report: &mut VerifyReport) -> Result<()> {
        let path = FileName::Table(meta.file).in_dir(&self.dir);
        let file = self.fs.open(&path).context("open", &path)?;
        let len = file.len().context("inspect", &path)?;
        if len != meta.size_bytes {
            let detail = format!("table of {len} bytes instead of {}", meta.size_bytes);
            return Err(Error::corruption(&path, len.min(meta.size_bytes), detail));
        }
        let no_cache = Arc::new(BlockCache::new(0));
        let table = TableReader::open(file, &path, meta.table_id, no_cache)?;
        let found = table.verify()?;
        if found.entries != meta.entries {
            let detail = format!("{} entries instead of {}", found.entries, meta.entries);
            return Err(Error::corruption(&path, 0, detail));
        }
        report.tables += 1;
        report.blocks += found.blocks;
        report.table_bytes += found.bytes;
        report.entries += found.entries;
        Ok(())
    }
}
