//! From internal entries to what a user sees: the sources of a scan, and the cheapest way to walk them.

use crate::run_iter::{RunIterator, Source};
use crate::run_scan::RunScan;
use crate::scan_tombstones::ScanTombstones;
use crate::tree::View;
use crate::visible::{Bounds, MergedScan};
use base::{Result, SeqNo, Slice};
use manifest::Run;
use sstable::{CacheHint, TableCache};
use std::ops::Bound;
use std::sync::Arc;

/// Walks the keys of a view that are visible at one sequence number, both ways, inside bounds.
///
/// Holds its view, so whatever happens to the tree it sees the same data.
#[derive(Debug)]
pub(crate) struct VisibleIterator {
    scan: Scan,
    /// Keeps files and memtables alive.
    _view: Arc<View>,
}

#[derive(Debug)]
enum Scan {
    /// All lies in one run, and no range tombstones hide any of it.
    Run(RunScan),
    Merged(MergedScan),
}

macro_rules! each {
    ($self:ident, $it:ident => $call:expr) => {
        match &$self.scan {
            Scan::Run($it) => $call,
            Scan::Merged($it) => $call,
        }
    };
    (mut $self:ident, $it:ident => $call:expr) => {
        match &mut $self.scan {
            Scan::Run($it) => $call,
            Scan::Merged($it) => $call,
        }
    };
}

impl VisibleIterator {
    /// An iterator over `view` as of `seq`; not positioned.
    ///
    /// # Errors
    /// Those of reading the range tombstones of tables inside the bounds.
    #[inline]
    pub(crate) fn new(
        view: Arc<View>,
        seq: SeqNo,
        bounds: Bounds,
        tables: &Arc<TableCache>,
        hint: CacheHint,
    ) -> Result<Self> {
        let (mut sources, tombstones) = sources_of(&view, &bounds, tables, hint)?;
        let scan = match sources.pop() {
            Some(Source::Run(run)) if sources.is_empty() && tombstones.is_empty() => {
                Scan::Run(RunScan::new(run, seq, bounds))
            }
            last => {
                sources.extend(last);
                Scan::Merged(MergedScan::new(sources, tombstones, seq, bounds))
            }
        };
        Ok(VisibleIterator { scan, _view: view })
    }

    #[inline]
    pub(crate) fn valid(&self) -> bool {
        each!(self, scan => scan.valid())
    }

    /// The current user key; empty while not valid.
    #[inline(always)]
    pub(crate) fn key(&self) -> &[u8] {
        each!(self, scan => scan.key())
    }

    /// The current value; empty while not valid.
    #[inline(always)]
    pub(crate) fn value(&self) -> &[u8] {
        each!(self, scan => scan.value())
    }

    /// The current value, sharing the block it lies in.
    pub(crate) fn value_slice(&self) -> Slice {
        each!(self, scan => scan.value_slice())
    }

    pub(crate) fn seek_to_first(&mut self) -> Result<()> {
        each!(mut self, scan => scan.seek_to_first())
    }

    pub(crate) fn seek_to_last(&mut self) -> Result<()> {
        each!(mut self, scan => scan.seek_to_last())
    }

    /// Moves to the first key at or after `target`.
    pub(crate) fn seek(&mut self, target: &[u8]) -> Result<()> {
        each!(mut self, scan => scan.seek(target))
    }

    /// Moves to the last key at or before `target`.
    pub(crate) fn seek_for_prev(&mut self, target: &[u8]) -> Result<()> {
        each!(mut self, scan => scan.seek_for_prev(target))
    }

    /// Moves forward by one. Past the end, and before the first seek, it does nothing.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<()> {
        each!(mut self, scan => scan.next())
    }

    /// Moves back by one. Past the end, and before the first seek, it does nothing.
    #[inline]
    pub(crate) fn prev(&mut self) -> Result<()> {
        each!(mut self, scan => scan.prev())
    }
}

/// The memtables and runs of `view` that may hold keys inside `bounds`, and all range tombstones in them.
fn sources_of(
    view: &View,
    bounds: &Bounds,
    tables: &Arc<TableCache>,
    hint: CacheHint,
) -> Result<(Vec<Source>, ScanTombstones)> {
    let (mut sources, mut tombstones) = (Vec::new(), ScanTombstones::default());
    for mem in view.memtables().filter(|m| !m.table.is_empty()) {
        sources.push(Source::memtable(&mem.table));
        tombstones.add([mem.table.range_tombstones()]);
    }
    for run in &view.runs[..] {
        let inside = tables_inside(&run.run, bounds);
        let mut parts = Vec::new();
        for at in inside.clone() {
            if run.meta(at).is_some_and(|t| t.range_tombstones > 0)
                && let Some(table) = run.table(at, tables)?
            {
                parts.push(Arc::clone(table.range_tombstones()));
            }
        }
        tombstones.add(parts);
        if !inside.is_empty() {
            let run = RunIterator::new(Arc::clone(run), Arc::clone(tables), hint);
            sources.push(Source::Run(run));
        }
    }
    Ok((sources, tombstones))
}

/// Which tables of `run` may hold keys inside `bounds`.
fn tables_inside(run: &Run, bounds: &Bounds) -> std::ops::Range<usize> {
    let tables = &run.tables[..];
    let from = match &bounds.0 {
        Bound::Unbounded => 0,
        Bound::Included(key) | Bound::Excluded(key) => {
            tables.partition_point(|t| !t.upper().admits(key))
        }
    };
    let to = match &bounds.1 {
        Bound::Unbounded => tables.len(),
        Bound::Included(key) => tables.partition_point(|t| &t.smallest <= key),
        Bound::Excluded(key) => tables.partition_point(|t| &t.smallest < key),
    };
    from..to.max(from)
}
