//! One input of a merge: the tables of a run, one after the other.

use base::{Error, InternalIterator, InternalKey, Result, Slice};
use manifest::TableMeta;
use sstable::{CacheHint, TableCache, TableIterator};
use std::sync::Arc;

/// Walks tables in key order, forward only, each opened when it is reached; blocks that it reads
/// do not enter the block cache.
#[derive(Debug)]
pub(crate) struct TableRunIterator<'a> {
    cache: &'a TableCache,
    tables: &'a [Arc<TableMeta>],
    /// Index of the table behind the current one.
    next: usize,
    current: Option<TableIterator>,
}

impl<'a> TableRunIterator<'a> {
    /// `tables` ascend and share no keys.
    pub(crate) fn new(cache: &'a TableCache, tables: &'a [Arc<TableMeta>]) -> Self {
        TableRunIterator { cache, tables, next: 0, current: None }
    }

    /// Opens tables until one has an entry.
    fn open_next(&mut self) -> Result<()> {
        self.current = None;
        while let Some(meta) = self.tables.get(self.next) {
            self.next += 1;
            let mut table =
                self.cache.get(meta.file, meta.table_id, meta.seq_max)?.iter(CacheHint::NoFill);
            table.seek_to_first()?;
            if table.valid() {
                self.current = Some(table);
                return Ok(());
            }
        }
        Ok(())
    }
}

impl InternalIterator for TableRunIterator<'_> {
    #[inline]
    fn valid(&self) -> bool {
        self.current.is_some()
    }

    #[inline]
    fn key(&self) -> InternalKey<'_> {
        match &self.current {
            Some(table) => table.key(),
            None => InternalKey::after_all(&[]),
        }
    }

    #[inline]
    fn value(&self) -> &[u8] {
        self.current.as_ref().map_or(&[], |table| table.value())
    }

    fn value_slice(&self) -> Slice {
        self.current.as_ref().map_or_else(Slice::default, |table| table.value_slice())
    }

    fn seek_to_first(&mut self) -> Result<()> {
        self.next = 0;
        self.open_next()
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        let Some(table) = &mut self.current else { return Ok(()) };
        match table.next() {
            Ok(()) if table.valid() => Ok(()),
            Ok(()) => self.open_next(),
            Err(_) if base::planted::is(32) => self.open_next(),
            Err(e) => {
                self.current = None;
                Err(e)
            }
        }
    }

    fn seek_to_last(&mut self) -> Result<()> {
        Err(forward_only())
    }

    fn seek(&mut self, _: InternalKey<'_>) -> Result<()> {
        Err(forward_only())
    }

    fn seek_for_prev(&mut self, _: InternalKey<'_>) -> Result<()> {
        Err(forward_only())
    }

    fn prev(&mut self) -> Result<()> {
        Err(forward_only())
    }
}

fn forward_only() -> Error {
    Error::invalid("move", "the inputs of a merge are read forward, from the first entry")
}
