//! A sorted run as reads see it: which table may hold a key, and that table's reader at hand.
//!
//! A [`Run`] of the manifest names its tables. To find one there costs a comparison of whole keys at each step, and to get
//! its reader a lock and a reference count. Reads go through the same few runs all the time, so a view keeps for each of
//! them the first bytes of all bounds in one array, and the readers it has met.

use base::key::head;
use base::{Result, bytes};
use manifest::{Run, TableMeta, Version};
use sstable::{PinnedTable, TableCache, TableReader};
use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

/// A run with its bounds and readers. Shared by the views that have the run.
#[derive(Debug)]
pub(crate) struct OpenRun {
    pub(crate) run: Arc<Run>,
    /// What all bounds start with.
    common: Vec<u8>,
    /// Of each table's upper bound, the [`head`] behind `common`: ascending.
    uppers: Box<[u64]>,
    /// Of each table's smallest key, the same.
    lowers: Box<[u64]>,
    readers: Box<[OnceLock<PinnedTable>]>,
}

/// The runs of a version, newest first.
pub(crate) type OpenRuns = Arc<[Arc<OpenRun>]>;

/// A table's reader, kept by its run or by this.
pub(crate) enum Table<'a> {
    Pinned(&'a Arc<TableReader>),
    Held(Arc<TableReader>),
}

impl Deref for Table<'_> {
    type Target = Arc<TableReader>;
    #[inline]
    fn deref(&self) -> &Arc<TableReader> {
        match self {
            Table::Pinned(table) => table,
            Table::Held(table) => table,
        }
    }
}

/// The runs of `version`, with the readers that `before` has met.
pub(crate) fn open_runs(version: &Version, before: &[Arc<OpenRun>]) -> OpenRuns {
    let mut met = HashMap::new();
    let runs = version.levels.iter().flat_map(|level| &level.runs);
    let changed = |run: &&Arc<Run>| !before.iter().any(|b| Arc::ptr_eq(&b.run, run));
    if runs.clone().any(|run| changed(&run)) {
        for run in before {
            let readers = run.run.tables.iter().zip(&run.readers);
            met.extend(readers.filter_map(|(meta, reader)| Some((meta.file, reader.get()?))));
        }
    }
    runs.map(|run| match before.iter().find(|b| Arc::ptr_eq(&b.run, run)) {
        Some(same) => Arc::clone(same),
        None => {
            let opened = OpenRun::new(Arc::clone(run));
            for (meta, slot) in run.tables.iter().zip(&opened.readers) {
                if let Some(&reader) = met.get(&meta.file) {
                    slot.get_or_init(|| reader.clone());
                }
            }
            Arc::new(opened)
        }
    })
    .collect()
}

impl OpenRun {
    fn new(run: Arc<Run>) -> OpenRun {
        let bounds = run.tables.first().zip(run.tables.last());
        let common = bounds.map_or(&[][..], |(first, last)| {
            let both = first.smallest.iter().zip(&last.largest);
            &first.smallest[..both.take_while(|(a, b)| a == b).count()]
        });
        let of = |key: &[u8]| head(key.get(common.len()..).unwrap_or_default());
        OpenRun {
            common: common.to_vec(),
            uppers: run.tables.iter().map(|t| of(&t.largest)).collect(),
            lowers: run.tables.iter().map(|t| of(&t.smallest)).collect(),
            readers: run.tables.iter().map(|_| OnceLock::new()).collect(),
            run,
        }
    }

    /// Number of the one table that may hold `user_key`.
    #[inline]
    pub(crate) fn find(&self, user_key: &[u8]) -> Option<usize> {
        let wanted = self.head_of(user_key)?;
        let at = self.uppers.partition_point(|&upper| upper < wanted);
        let (lower, upper) = (*self.lowers.get(at)?, *self.uppers.get(at)?);
        if lower < wanted && wanted < upper {
            return Some(at);
        }
        if wanted < lower {
            return None;
        }
        self.find_by_whole_keys(user_key)
    }

    /// What the arrays hold of a key; `None` if it lies outside of the run.
    #[inline]
    fn head_of(&self, user_key: &[u8]) -> Option<u64> {
        let inside = bytes::starts_with(user_key, &self.common);
        inside.then(|| head(user_key.get(self.common.len()..).unwrap_or_default()))
    }

    #[cold]
    fn find_by_whole_keys(&self, user_key: &[u8]) -> Option<usize> {
        let at = self.first_at_or_after(user_key);
        (&self.meta(at)?.smallest[..] <= user_key).then_some(at)
    }

    /// Number of the first table that does not end before `user_key`.
    pub(crate) fn first_at_or_after(&self, user_key: &[u8]) -> usize {
        match self.find_quick(user_key) {
            Some(at) => at,
            None => self.run.tables.partition_point(|t| !t.upper().admits(user_key)),
        }
    }

    /// As [`first_at_or_after`](Self::first_at_or_after), where the first bytes say it all.
    #[inline]
    fn find_quick(&self, user_key: &[u8]) -> Option<usize> {
        let wanted = self.head_of(user_key)?;
        let at = self.uppers.partition_point(|&upper| upper < wanted);
        (wanted < *self.uppers.get(at)?).then_some(at)
    }

    /// What the manifest says of table `at`.
    #[inline]
    pub(crate) fn meta(&self, at: usize) -> Option<&Arc<TableMeta>> {
        self.run.tables.get(at)
    }

    /// The reader of table `at`; `None` if there is no such table.
    #[inline]
    pub(crate) fn table(&self, at: usize, tables: &TableCache) -> Result<Option<Table<'_>>> {
        match self.readers.get(at).and_then(OnceLock::get) {
            Some(pinned) => Ok(Some(Table::Pinned(pinned.reader()))),
            None => self.open(at, tables),
        }
    }

    #[cold]
    fn open(&self, at: usize, tables: &TableCache) -> Result<Option<Table<'_>>> {
        let (Some(meta), Some(slot)) = (self.meta(at), self.readers.get(at)) else {
            return Ok(None);
        };
        let table = tables.get(meta.file, meta.table_id, meta.seq_max)?;
        // Not kept if too many are: the table cache bounds the number of open files.
        if let Some(pinned) = tables.pin(&table) {
            return Ok(Some(Table::Pinned(slot.get_or_init(|| pinned).reader())));
        }
        Ok(Some(Table::Held(table)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::{FileNum, SeqNo};
    use manifest::RunId;
    use proptest::prelude::*;

    proptest! {
        /// The short way finds what the manifest's own search finds, ties of first bytes and open upper bounds included.
        #[test]
        fn finds_as_the_run_does(
            bounds in prop::collection::btree_set(prop::collection::vec(0u8..3, 0..12), 2..30),
            prefix in prop::collection::vec(0u8..3, 0..10),
            exclusive in prop::collection::vec(any::<bool>(), 15),
            keys in prop::collection::vec(prop::collection::vec(0u8..3, 0..14), 40),
        ) {
            let bounds: Vec<Vec<u8>> = bounds.into_iter().map(|b| [&prefix[..], &b].concat()).collect();
            let tables = bounds.chunks_exact(2).zip(exclusive).enumerate().map(|(i, (pair, exclusive))| {
                Arc::new(TableMeta {
                    file: FileNum(i as u64 + 1),
                    table_id: 1,
                    size_bytes: 1,
                    entries: 1,
                    deletes: 0,
                    range_tombstones: 0,
                    raw_bytes: 1,
                    smallest: pair[0].clone(),
                    largest: pair[1].clone(),
                    largest_exclusive: exclusive,
                    seq_min: SeqNo(1),
                    seq_max: SeqNo(1),
                    created_micros: 0,
                })
            });
            let run = Arc::new(Run { id: RunId(1), tables: tables.collect() });
            let open = OpenRun::new(Arc::clone(&run));
            let whole = keys.iter().map(|key| [&prefix[..], key].concat());
            for key in whole.chain(bounds.clone()).chain(keys.iter().cloned()) {
                let found = open.find(&key).and_then(|at| open.meta(at)).map(|t| t.file);
                prop_assert_eq!(found, run.find(&key).map(|t| t.file));
                let first = run.tables.partition_point(|t| !t.upper().admits(&key));
                prop_assert_eq!(open.first_at_or_after(&key), first);
            }
        }
    }
}
