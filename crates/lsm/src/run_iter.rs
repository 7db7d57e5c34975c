//! An iterator over one sorted run: its tables one after the other, each opened when it is reached.

use crate::open_run::OpenRun;
use base::{InternalIterator, InternalKey, Result, SeqNo, Slice};
use memtable::{Memtable, MemtableIterator};
use sstable::{CacheHint, TableCache, TableIterator};
use std::sync::Arc;

/// Walks the tables of a run in key order.
#[derive(Debug)]
pub(crate) struct RunIterator {
    run: Arc<OpenRun>,
    tables: Arc<TableCache>,
    hint: CacheHint,
    /// Index of the table that `current` walks.
    at: usize,
    current: Option<TableIterator>,
}

impl RunIterator {
    pub(crate) fn new(run: Arc<OpenRun>, tables: Arc<TableCache>, hint: CacheHint) -> Self {
        RunIterator { run, tables, hint, at: 0, current: None }
    }

    /// True if everything from the current table up to `end` is older than `seq`.
    fn is_older(&self, seq: SeqNo, end: &[u8]) -> bool {
        let ahead = self.run.run.tables.get(self.at..).unwrap_or_default();
        ahead.iter().take_while(|t| &t.smallest[..] < end).all(|t| t.seq_max < seq)
    }

    /// True if everything from the current table back to `start` is older than `seq`.
    fn is_older_back_to(&self, seq: SeqNo, start: &[u8]) -> bool {
        let back = self.run.run.tables.get(..=self.at).unwrap_or_default();
        let mut back = back.iter().rev().take_while(|t| t.upper().admits(start));
        back.all(|t| t.seq_max < seq)
    }

    /// Opens table `at`, unless it is open already; past the end there is no current table.
    fn open(&mut self, at: usize) -> Result<Option<&mut TableIterator>> {
        if self.current.is_none() || self.at != at {
            self.current = None;
            self.at = at;
            let Some(table) = self.run.table(at, &self.tables)? else { return Ok(None) };
            self.current = Some(table.iter(self.hint));
        }
        Ok(self.current.as_mut())
    }

    /// Moves on to the next tables while the current one is exhausted.
    fn settle_forward(&mut self) -> Result<()> {
        while self.current.as_ref().is_some_and(|t| !t.valid()) {
            if let Some(table) = self.open(self.at + 1)? {
                table.seek_to_first()?;
            }
        }
        Ok(())
    }

    /// Moves back to earlier tables while the current one is exhausted.
    fn settle_backward(&mut self) -> Result<()> {
        while self.current.as_ref().is_some_and(|t| !t.valid()) {
            let Some(at) = self.at.checked_sub(1) else {
                self.current = None;
                return Ok(());
            };
            if let Some(table) = self.open(at)? {
                table.seek_to_last()?;
            }
        }
        Ok(())
    }

    /// Moves to the first version of the next user key. Past the end it does nothing.
    #[inline]
    pub(crate) fn next_key(&mut self) -> Result<()> {
        let Some(table) = &mut self.current else { return Ok(()) };
        // Two tables of a run share no user key.
        match table.next_key() {
            Ok(()) if table.valid() => Ok(()),
            Ok(()) => self.guarded(Self::settle_forward),
            Err(e) => self.guarded(|_| Err(e)),
        }
    }

    /// True if the entry it stands on is known to be the newest version of its user key.
    #[inline]
    pub(crate) fn is_newest(&self) -> bool {
        self.current.as_ref().is_some_and(TableIterator::is_newest)
    }

    /// As [`TableIterator::next_put`].
    #[inline(always)]
    pub(crate) fn next_put(&mut self, snapshot: SeqNo) -> bool {
        self.current.as_mut().is_some_and(|table| table.next_put(snapshot))
    }

    /// As [`TableIterator::prev_put`].
    #[inline(always)]
    pub(crate) fn prev_put(&mut self, snapshot: SeqNo) -> bool {
        self.current.as_mut().is_some_and(|table| table.prev_put(snapshot))
    }

    /// Runs `step`; after an error the iterator is not valid.
    fn guarded(&mut self, step: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let done = step(self);
        if done.is_err() {
            self.current = None;
        }
        done
    }
}

impl InternalIterator for RunIterator {
    #[inline]
    fn valid(&self) -> bool {
        self.current.as_ref().is_some_and(|t| t.valid())
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
        self.current.as_ref().map_or(&[], |t| t.value())
    }

    fn value_slice(&self) -> Slice {
        self.current.as_ref().map_or_else(Slice::default, |t| t.value_slice())
    }

    fn seek_to_first(&mut self) -> Result<()> {
        self.guarded(|it| {
            if let Some(table) = it.open(0)? {
                table.seek_to_first()?;
            }
            it.settle_forward()
        })
    }

    fn seek_to_last(&mut self) -> Result<()> {
        self.guarded(|it| {
            if let Some(table) = it.open(it.run.run.tables.len().saturating_sub(1))? {
                table.seek_to_last()?;
            }
            it.settle_backward()
        })
    }

    fn seek(&mut self, target: InternalKey<'_>) -> Result<()> {
        self.guarded(|it| {
            let at = it.run.first_at_or_after(target.user_key);
            if let Some(table) = it.open(at)? {
                table.seek(target)?;
            }
            it.settle_forward()
        })
    }

    fn seek_for_prev(&mut self, target: InternalKey<'_>) -> Result<()> {
        self.guarded(|it| {
            let behind = it.run.run.tables.partition_point(|t| &t.smallest[..] <= target.user_key);
            let Some(at) = behind.checked_sub(1) else {
                it.current = None;
                return Ok(());
            };
            if let Some(table) = it.open(at)? {
                table.seek_for_prev(target)?;
            }
            it.settle_backward()
        })
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        let Some(table) = &mut self.current else { return Ok(()) };
        match table.next() {
            Ok(()) if table.valid() => Ok(()),
            Ok(()) => self.guarded(Self::settle_forward),
            Err(_) if base::planted::is(29) => {
                self.at += 1;
                self.current = None;
                self.guarded(|it| match it.open(it.at)? {
                    Some(table) => table.seek_to_first(),
                    None => Ok(()),
                })
            }
            Err(e) => self.guarded(|_| Err(e)),
        }
    }

    #[inline]
    fn prev(&mut self) -> Result<()> {
        let Some(table) = &mut self.current else { return Ok(()) };
        match table.prev() {
            Ok(()) if table.valid() => Ok(()),
            Ok(()) => self.guarded(Self::settle_backward),
            Err(e) => self.guarded(|_| Err(e)),
        }
    }
}

/// One sorted source of a read: a memtable or a run of tables.
#[derive(Debug)]
pub(crate) enum Source {
    /// With the newest sequence number at the time it was made; what came later no scan at that time sees.
    Mem(MemtableIterator, SeqNo),
    Run(RunIterator),
}

impl Source {
    /// Walks a memtable.
    pub(crate) fn memtable(table: &Arc<Memtable>) -> Source {
        let newest = table.seq_range().map_or(SeqNo(0), |(_, newest)| newest);
        Source::Mem(table.iter(), newest)
    }

    /// True if all that the source holds from where it stands up to `end` is known to be older than `seq`.
    pub(crate) fn is_older(&self, seq: SeqNo, end: &[u8]) -> bool {
        match self {
            Source::Mem(_, newest) => *newest < seq,
            Source::Run(run) => run.is_older(seq, end),
        }
    }

    /// True if all that the source holds from where it stands back to `start` is known to be older than `seq`.
    pub(crate) fn is_older_back_to(&self, seq: SeqNo, start: &[u8]) -> bool {
        match self {
            Source::Mem(_, newest) => *newest < seq,
            Source::Run(run) => run.is_older_back_to(seq, start),
        }
    }
}

macro_rules! each {
    ($self:ident, $it:ident => $call:expr) => {
        match $self {
            Source::Mem($it, _) => $call,
            Source::Run($it) => $call,
        }
    };
}

impl InternalIterator for Source {
    #[inline]
    fn valid(&self) -> bool {
        each!(self, it => it.valid())
    }
    #[inline]
    fn key(&self) -> InternalKey<'_> {
        each!(self, it => it.key())
    }
    #[inline]
    fn value(&self) -> &[u8] {
        each!(self, it => it.value())
    }
    fn value_slice(&self) -> Slice {
        each!(self, it => it.value_slice())
    }
    fn seek_to_first(&mut self) -> Result<()> {
        each!(self, it => it.seek_to_first())
    }
    fn seek_to_last(&mut self) -> Result<()> {
        each!(self, it => it.seek_to_last())
    }
    fn seek(&mut self, target: InternalKey<'_>) -> Result<()> {
        each!(self, it => it.seek(target))
    }
    fn seek_for_prev(&mut self, target: InternalKey<'_>) -> Result<()> {
        each!(self, it => it.seek_for_prev(target))
    }
    #[inline]
    fn next(&mut self) -> Result<()> {
        each!(self, it => it.next())
    }
    #[inline]
    fn prev(&mut self) -> Result<()> {
        each!(self, it => it.prev())
    }
}
