//! All tables of a keyspace as one stream: of each key the newest version that can be read.
//!
//! Tables whose key ranges do not meet share a *lane* and are read one after the other, so that as few as possible
//! are open at once. A lane steps over what it cannot read, and notes it, before it stands behind it: so when a key
//! comes up, every loss that may concern it is known.

use super::catalog::{KeyspaceEntry, TableEntry};
use super::report::{Losses, SalvageProgress};
use base::{
    Error, FileName, Fragments, InternalIterator, InternalKey, IoContext, RangeTombstone, Result,
    SeqNo, ValueKind,
};
use memtable::{Memtable, MemtableIterator};
use sstable::{LostBlocks, TableRemains};
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vfs::Fs;

/// What all lanes share.
struct Source<'a> {
    fs: &'a dyn Fs,
    dir: &'a Path,
    losses: &'a mut Losses,
    progress: &'a mut dyn FnMut(&SalvageProgress<'_>),
    tables_begun: u64,
    tables_total: u64,
    entries: u64,
    /// A table of a newer version: it is not for this one to guess what its bytes mean.
    unsupported: Option<Error>,
}

/// Tables with ranges that do not meet, in key order.
#[derive(Default)]
struct Lane {
    waiting: VecDeque<TableEntry>,
    /// The table at hand, and what its entries have that were written without a sequence number.
    table: Option<(TableRemains, TableEntry)>,
}

/// The newest readable version of each key of a keyspace, ascending, without what is deleted.
pub(super) struct Merge<'a> {
    source: Source<'a>,
    lanes: Vec<Lane>,
    tombstones: Fragments,
    old_log: Option<OldLog>,
    /// True if operations of the log that went to tables count for every key, not only for lost ones.
    old_log_everywhere: bool,
    key: Vec<u8>,
    value: Vec<u8>,
    error: Option<Error>,
}

/// Operations of the log that went to tables: they matter where those tables cannot be read.
struct OldLog {
    entries: MemtableIterator,
    tombstones: Arc<Fragments>,
}

impl<'a> Merge<'a> {
    pub(super) fn new(
        fs: &'a dyn Fs,
        dir: &'a Path,
        keyspace: &KeyspaceEntry,
        old_log: Option<Arc<Memtable>>,
        old_log_everywhere: bool,
        losses: &'a mut Losses,
        progress: &'a mut dyn FnMut(&SalvageProgress<'_>),
    ) -> Merge<'a> {
        let tables_total = keyspace.tables.len() as u64;
        let mut source = Source {
            fs,
            dir,
            losses,
            progress,
            tables_begun: 0,
            tables_total,
            entries: 0,
            unsupported: None,
        };
        let tombstones = source.gather_tombstones(&keyspace.tables);
        let mut lanes = lanes_of(&keyspace.tables);
        lanes.iter_mut().for_each(|lane| lane.advance(&mut source));
        let mut error = None;
        let old_log = old_log.map(|table| {
            let mut entries = table.iter();
            // Memory does not fail to be read.
            error = entries.seek_to_first().err();
            OldLog { entries, tombstones: table.range_tombstones() }
        });
        let (key, value) = (Vec::new(), Vec::new());
        Merge { source, lanes, tombstones, old_log, old_log_everywhere, key, value, error }
    }

    /// What ended the merge that is not damage.
    pub(super) fn failure(&mut self) -> Option<Error> {
        self.error.take().or(self.source.unsupported.take())
    }

    /// Takes the next user key and the newest version of it; `None` at the end.
    fn next_key(&mut self) -> Option<Newest> {
        let heads = self.lanes.iter().filter_map(Lane::user_key);
        let old = self.old_log.as_ref().filter(|log| log.entries.valid());
        let smallest = heads.chain(old.map(|log| log.entries.key().user_key)).min()?;
        self.key.clear();
        self.key.extend_from_slice(smallest);
        let mut newest = Newest::default();
        for lane in &mut self.lanes {
            while lane.user_key() == Some(&self.key[..]) {
                if let Some((key, value)) = lane.head()
                    && newest.accept(key)
                {
                    self.value.clear();
                    self.value.extend_from_slice(value);
                }
                lane.advance(&mut self.source);
            }
        }
        // Lanes have gone past the key: every loss that may concern it is known now.
        let counts = self.old_log_everywhere || self.source.losses.keys.contains(&self.key);
        newest.tombstone = self.tombstones.newest_covering(&self.key, SeqNo::MAX);
        let Some(log) = &mut self.old_log else { return Some(newest) };
        if counts {
            newest.tombstone =
                newest.tombstone.max(log.tombstones.newest_covering(&self.key, SeqNo::MAX));
        }
        while log.entries.valid() && log.entries.key().user_key == &self.key[..] {
            if counts && newest.accept(log.entries.key()) {
                self.value.clear();
                self.value.extend_from_slice(log.entries.value());
            }
            if let Err(e) = log.entries.next() {
                self.error = Some(e);
                return None;
            }
        }
        Some(newest)
    }
}

impl Iterator for &mut Merge<'_> {
    type Item = (Vec<u8>, Vec<u8>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let newest = self.next_key()?;
            if newest.is_alive() {
                self.source.entries += 1;
                return Some((std::mem::take(&mut self.key), std::mem::take(&mut self.value)));
            }
        }
    }
}

/// The newest version of one key so far.
#[derive(Default)]
struct Newest {
    version: Option<(SeqNo, ValueKind)>,
    tombstone: Option<SeqNo>,
}

impl Newest {
    /// Notes a version; true if it is the newest so far.
    fn accept(&mut self, key: InternalKey<'_>) -> bool {
        let is_newer = self.version.is_none_or(|(seq, _)| key.seq > seq);
        if is_newer {
            self.version = Some((key.seq, key.kind));
        }
        is_newer
    }

    fn is_alive(&self) -> bool {
        let covered = |seq| self.tombstone.is_some_and(|tombstone| tombstone > seq);
        matches!(self.version, Some((seq, ValueKind::Put)) if !covered(seq))
    }
}

/// Gives each table to the first lane whose last table ends before it begins.
fn lanes_of(tables: &[TableEntry]) -> Vec<Lane> {
    let mut sorted: Vec<&TableEntry> = tables.iter().collect();
    sorted.sort_by(|a, b| a.smallest.cmp(&b.smallest));
    let mut lanes: Vec<Lane> = Vec::new();
    for table in sorted {
        let ends_before = |lane: &&mut Lane| {
            let last = lane.waiting.back().and_then(|t| t.largest.as_ref());
            last.is_some_and(|largest| *largest < table.smallest)
        };
        match lanes.iter_mut().find(ends_before) {
            Some(lane) => lane.waiting.push_back(table.clone()),
            None => lanes.push(Lane { waiting: [table.clone()].into(), table: None }),
        }
    }
    lanes
}

impl Lane {
    fn user_key(&self) -> Option<&[u8]> {
        self.head().map(|(key, _)| key.user_key)
    }

    fn head(&self) -> Option<(InternalKey<'_>, &[u8])> {
        let (table, entry) = self.table.as_ref().filter(|(table, _)| table.valid())?;
        let key = table.key();
        // Only what was written without a number has number 0.
        let seq = if key.seq == SeqNo(0) { entry.sequence } else { key.seq };
        Some((InternalKey { seq, ..key }, table.value()))
    }

    /// Goes to the next entry that can be read, in this table or a later one.
    fn advance(&mut self, source: &mut Source<'_>) {
        loop {
            if let Some((table, entry)) = &mut self.table {
                let was_lost = source.losses.stretches_lost;
                let path = source.path(entry);
                table.advance(&mut |lost| source.lose_blocks(&path, entry, &lost));
                if source.losses.stretches_lost > was_lost && table.damage().is_none() {
                    // Counted once: tables with other damage were counted when they were opened.
                    source.losses.tables_damaged += u64::from(!entry.is_counted);
                    entry.is_counted = true;
                }
                if table.valid() {
                    return;
                }
            }
            self.table = None;
            let Some(entry) = self.waiting.pop_front() else { return };
            self.table = source.open(entry);
        }
    }
}

impl Source<'_> {
    fn path(&self, entry: &TableEntry) -> PathBuf {
        FileName::Table(entry.file).in_dir(self.dir)
    }

    /// Opens a table to be read; `None` if it cannot be, which is noted.
    fn open(&mut self, entry: TableEntry) -> Option<(TableRemains, TableEntry)> {
        self.tables_begun += 1;
        (self.progress)(&SalvageProgress {
            keyspace: &self.losses.name,
            tables: self.tables_begun,
            tables_total: self.tables_total,
            entries: self.entries,
        });
        let path = self.path(&entry);
        let opened = match self.look(&entry) {
            Ok(opened) => opened,
            Err(e) => {
                let is_missing = matches!(&e, Error::Io { source, .. } if source.kind() == io::ErrorKind::NotFound);
                match is_missing {
                    true => self.losses.tables_missing += 1,
                    false => self.losses.tables_damaged += 1,
                }
                self.losses.note(&path, 0, &e);
                self.losses.stretches_lost += 1;
                self.losses.keys.add(&entry.smallest, entry.largest.as_deref());
                return None;
            }
        };
        self.losses.tables_read += 1;
        let mut entry = entry;
        if let Some(e) = opened.damage() {
            if matches!(e, Error::UnsupportedFormat { .. }) {
                self.unsupported.get_or_insert_with(|| e.clone());
                return None;
            }
            self.losses.note(&path, 0, e);
            self.losses.tables_damaged += 1;
            entry.is_counted = true;
        }
        Some((opened, entry))
    }

    fn look(&self, entry: &TableEntry) -> Result<TableRemains> {
        let path = self.path(entry);
        let file = self.fs.open(&path).context("open", &path)?;
        Ok(TableRemains::open(file, &path, entry.table_id, entry.entries))
    }

    fn lose_blocks(&mut self, path: &Path, entry: &TableEntry, lost: &LostBlocks) {
        let first = lost.lower.as_deref().unwrap_or(&entry.smallest);
        let last = lost.upper.as_deref().or(entry.largest.as_deref());
        // Separators may reach beyond the keys of the table.
        let first = first.max(&entry.smallest);
        let last = match (last, entry.largest.as_deref()) {
            (Some(last), Some(largest)) => Some(last.min(largest)),
            (last, _) => last,
        };
        self.losses.note(path, lost.offset, &lost.error);
        self.losses.stretches_lost += 1;
        self.losses.keys.add(first, last);
    }

    /// The range tombstones of all tables. Those that cannot be read may have covered all of their table.
    fn gather_tombstones(&mut self, tables: &[TableEntry]) -> Fragments {
        let mut all: Vec<RangeTombstone> = Vec::new();
        for entry in tables.iter().filter(|table| table.may_have_tombstones) {
            // A table that cannot be opened is noted when its turn comes.
            let Ok(remains) = self.look(entry) else {
                self.losses.keys.add(&entry.smallest, entry.largest.as_deref());
                continue;
            };
            match remains.range_tombstones() {
                Some(found) => all.extend(found.tombstones()),
                None => self.losses.keys.add(&entry.smallest, entry.largest.as_deref()),
            }
        }
        Fragments::new(all)
    }
}
