//! Walks a whole table, both ways.

use crate::CacheHint;
use crate::block::{Block, Cursor};
use crate::envelope::Handle;
use crate::reader::TableReader;
use base::{InternalIterator, InternalKey, IoContext, Result, SeqNo, Slice, ValueKind};
use std::sync::Arc;

/// First and largest size of a read ahead.
const WINDOW_MIN: u64 = 16 << 10;
const WINDOW_MAX: u64 = 256 << 10;

/// Cache lines of the block to come that are fetched while one is walked: where a walk into it begins, beyond which the processor
/// sees by itself where it goes. More of them come in the way of what is needed first.
const LINE_BYTES: usize = 64;
const LINES_FORWARD: usize = 2;
const LINES_BACK: (usize, usize) = (3, 8);

/// A cursor over the entries of one table. Owns its table, so it outlives the removal of the file.
///
/// Holds one block, and with [`CacheHint::NoFill`] up to 256 KiB read ahead. A step decodes one entry
/// and allocates nothing.
#[derive(Debug)]
pub struct TableIterator {
    table: Arc<TableReader>,
    hint: CacheHint,
    /// What the entries have for their stored sequence numbers, see [`TableReader::with_sequence`].
    sequence: Option<SeqNo>,
    /// Number of the block that `cursor` is in.
    block: usize,
    cursor: Cursor,
    window: Window,
    /// Bytes counted for it in [`TableUsage::pinned_bytes`](crate::TableUsage::pinned_bytes).
    pinned: usize,
}

/// Stored bytes of several blocks, read at once.
#[derive(Debug, Default)]
struct Window {
    bytes: Vec<u8>,
    start: u64,
    /// Size of the next read.
    next_len: u64,
}

impl TableIterator {
    pub(crate) fn new(table: Arc<TableReader>, hint: CacheHint) -> TableIterator {
        let (sequence, cursor, window) = (table.sequence(), Cursor::new(), Window::default());
        TableIterator { table, hint, sequence, block: 0, cursor, window, pinned: 0 }
    }

    /// The table that this walks.
    #[must_use]
    pub fn table(&self) -> &Arc<TableReader> {
        &self.table
    }

    /// The target in terms of stored sequence numbers: before or behind the one stored entry of the user key, as
    /// `lies_ahead` says of what that entry stands for.
    #[inline]
    fn stored_target<'k>(
        &self,
        target: InternalKey<'k>,
        lies_ahead: impl FnOnce(InternalKey<'k>) -> bool,
    ) -> InternalKey<'k> {
        let Some(seq) = self.sequence else { return target };
        base::probe!("seek in an ingested table");
        match lies_ahead(InternalKey::new(target.user_key, seq, ValueKind::Put)) {
            true => InternalKey::before_all(target.user_key),
            false => InternalKey::after_all(target.user_key),
        }
    }

    /// Enters block `number` at the entry that `place` picks in it; leaves the table if there is no such block.
    fn enter(
        &mut self,
        number: usize,
        forward: bool,
        place: impl FnOnce(&Block) -> Option<u32>,
    ) -> Result<()> {
        // Not valid unless all of this works out.
        let same = number == self.block && self.cursor.block().len() > 0;
        let index = self.table.index()?;
        let Some(handle) = index.handle(number) else {
            self.cursor.leave();
            return Ok(());
        };
        let head = index.parts_keys(number);
        let block = if same {
            self.cursor.block().clone()
        } else {
            self.cursor.leave();
            self.load(number, handle, forward)?
        };
        self.block = number;
        if !same {
            let bytes = block.data().len() + self.window.bytes.capacity();
            self.pinned = self.table.usage().pin(self.pinned, bytes);
        }
        let entered = place(&block).and_then(|at| self.cursor.enter(block, at, head));
        self.check(entered)
    }

    /// Turns a broken block into an error, after which the iterator is not valid.
    #[inline]
    fn check(&mut self, step: Option<()>) -> Result<()> {
        match step {
            Some(()) => Ok(()),
            None => self.fail(),
        }
    }

    #[cold]
    fn fail(&mut self) -> Result<()> {
        self.cursor.leave();
        let handle = self.table.index()?.handle(self.block).unwrap_or_default();
        Err(self.table.broken(handle))
    }

    fn load(&mut self, number: usize, handle: Handle, forward: bool) -> Result<Block> {
        if self.hint == CacheHint::Fill {
            return Ok(self.table.block(number, CacheHint::Fill)?.unwrap_or_else(Block::empty));
        }
        if let Some(block) = self.table.peek_block(number) {
            return Ok(block);
        }
        if self.window.stored(handle).is_none() && !self.fill_window(handle, forward)? {
            return self.table.read_block(handle);
        }
        match self.window.stored(handle) {
            Some(stored) => self.table.open_block(stored, handle),
            None => self.table.read_block(handle),
        }
    }

    /// Reads the block at `handle` and those that will follow it; false if it is better read alone.
    fn fill_window(&mut self, handle: Handle, forward: bool) -> Result<bool> {
        let data_end = self.table.index()?.data_end();
        let len = self.window.grow();
        if handle.stored_len() > len || handle.end() > data_end {
            return Ok(false);
        }
        let start = if forward { handle.offset } else { handle.end().saturating_sub(len) };
        let end = start.saturating_add(len).min(data_end);
        self.window.start = start;
        self.window.bytes.clear();
        self.window.bytes.resize((end - start) as usize, 0);
        let got = self.table.file().read_at(&mut self.window.bytes, start);
        let got =
            got.inspect_err(|_| self.window.bytes.clear()).context("read", self.table.path())?;
        self.window.bytes.truncate(got);
        Ok(true)
    }

    /// Moves to the first stored version of the next user key. Past the end it does nothing.
    ///
    /// # Errors
    /// As [`next`](InternalIterator::next).
    #[inline]
    pub fn next_key(&mut self) -> Result<()> {
        let step = self.cursor.next_key();
        if step.is_some() && self.cursor.valid() {
            return Ok(());
        }
        self.check(step)?;
        self.next_key_in_next_block()
    }

    #[cold]
    fn next_key_in_next_block(&mut self) -> Result<()> {
        let last = self.cursor.user_key().to_vec();
        self.next_block()?;
        while self.valid() && self.cursor.user_key() == &last[..] {
            self.next()?;
        }
        Ok(())
    }

    /// True if the entry it stands on is known to be the newest version of its user key.
    #[inline]
    #[must_use]
    pub fn is_newest(&self) -> bool {
        self.cursor.is_newest()
    }

    /// The cheap step to the next entry: taken if that is in the same block, a put that a read at `snapshot` sees, and the newest
    /// version of another user key. Otherwise nothing happens and the answer is `false`.
    #[inline(always)]
    pub fn next_put(&mut self, snapshot: SeqNo) -> bool {
        self.stored_snapshot(snapshot).is_some_and(|snapshot| self.cursor.next_put(snapshot))
    }

    /// The cheap step back: taken if the entry before is in the same block, a put that a read at `snapshot` sees, and the only version
    /// of another user key. Otherwise nothing happens and the answer is `false`.
    #[inline(always)]
    pub fn prev_put(&mut self, snapshot: SeqNo) -> bool {
        self.stored_snapshot(snapshot).is_some_and(|snapshot| self.cursor.prev_put(snapshot))
    }

    /// `snapshot` in terms of stored sequence numbers; `None` if it sees nothing.
    #[inline(always)]
    fn stored_snapshot(&self, snapshot: SeqNo) -> Option<SeqNo> {
        match self.sequence {
            None => Some(snapshot),
            Some(seq) => (seq <= snapshot).then_some(SeqNo::MAX),
        }
    }

    /// To the start of the next block.
    #[cold]
    fn next_block(&mut self) -> Result<()> {
        if self.cursor.block().len() == 0 {
            return Ok(());
        }
        self.enter(self.block.saturating_add(1), true, |_| Some(0))?;
        self.fetch_next_block();
        Ok(())
    }

    /// To the end of the previous block.
    #[cold]
    fn prev_block(&mut self) -> Result<()> {
        let stands = self.cursor.block().len() > 0;
        match self.block.checked_sub(1) {
            Some(number) if stands => {
                self.enter(number, false, last_entry)?;
                self.fetch_prev_block();
                Ok(())
            }
            _ => {
                self.cursor.leave();
                Ok(())
            }
        }
    }

    /// Has the start of the next block brought near.
    fn fetch_next_block(&self) {
        let front = (0..LINES_FORWARD).map(|line| line * LINE_BYTES);
        self.table.fetch_block(self.block.saturating_add(1), front);
    }

    /// Has the arrays and the end of the previous block brought near, which ends about where this one does.
    // Not inlined: 1 ns a pair backward where blocks lie in reverse order, which is what this is for.
    #[inline(never)]
    fn fetch_prev_block(&self) {
        let (front, back) = LINES_BACK;
        let (front, len) =
            ((0..front).map(|line| line * LINE_BYTES), self.cursor.block().data().len());
        let back = (0..back).map(|line| len.saturating_sub(line * LINE_BYTES));
        if let Some(number) = self.block.checked_sub(1) {
            self.table.fetch_block(number, front.chain(back));
        }
    }
}

impl Drop for TableIterator {
    fn drop(&mut self) {
        self.table.usage().pin(self.pinned, 0);
    }
}

fn last_entry(block: &Block) -> Option<u32> {
    block.len().checked_sub(1)
}

impl Window {
    /// The stored bytes of a block, if they are all here.
    fn stored(&self, handle: Handle) -> Option<&[u8]> {
        let at = usize::try_from(handle.offset.checked_sub(self.start)?).ok()?;
        let len = usize::try_from(handle.stored_len()).ok()?;
        self.bytes.get(at..at.checked_add(len)?)
    }

    /// The size of this read; the next one is twice as large.
    fn grow(&mut self) -> u64 {
        let len = self.next_len.clamp(WINDOW_MIN, WINDOW_MAX);
        self.next_len = len * 2;
        len
    }
}

impl InternalIterator for TableIterator {
    #[inline]
    fn valid(&self) -> bool {
        self.cursor.valid()
    }

    #[inline]
    fn key(&self) -> InternalKey<'_> {
        let key = self.cursor.key();
        match self.sequence {
            None => key,
            Some(seq) => InternalKey { seq, ..key },
        }
    }

    #[inline]
    fn value(&self) -> &[u8] {
        self.cursor.value()
    }

    fn value_slice(&self) -> Slice {
        self.cursor.value_slice()
    }

    fn seek_to_first(&mut self) -> Result<()> {
        self.cursor.leave();
        self.enter(0, true, |_| Some(0))
    }

    fn seek_to_last(&mut self) -> Result<()> {
        self.cursor.leave();
        match self.table.index()?.len().checked_sub(1) {
            Some(number) => self.enter(number, false, last_entry),
            None => Ok(()),
        }
    }

    fn seek(&mut self, target: InternalKey<'_>) -> Result<()> {
        let target = self.stored_target(target, |entry| entry >= target);
        let number = match self.table.index() {
            Ok(index) => index.find(target),
            Err(e) => {
                self.cursor.leave();
                return Err(e);
            }
        };
        self.enter(number, true, |block| block.seek(target))?;
        if self.cursor.block().len() == 0 {
            return Ok(());
        }
        // The target may lie between the last entry of its block and the separator.
        if self.valid() {
            return Ok(());
        }
        base::probe!("seek between a block and its separator");
        self.next_block()
    }

    fn seek_for_prev(&mut self, target: InternalKey<'_>) -> Result<()> {
        self.cursor.leave();
        let target = self.stored_target(target, |entry| entry > target);
        let index = self.table.index()?;
        let number = index.find(target);
        if number == index.len() {
            return self.seek_to_last();
        }
        let mut before = 0;
        self.enter(number, false, |block| {
            before = block.upper_bound(target)?;
            Some(before.saturating_sub(1))
        })?;
        if before > 0 {
            return Ok(());
        }
        base::probe!("backward seek before the first entry of a block");
        self.prev_block()
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        let step = self.cursor.next();
        if step.is_some() && self.cursor.valid() {
            return Ok(());
        }
        self.check(step)?;
        self.next_block()
    }

    #[inline]
    fn prev(&mut self) -> Result<()> {
        let step = self.cursor.prev();
        if step.is_some() && self.cursor.valid() {
            return Ok(());
        }
        self.check(step)?;
        self.prev_block()
    }
}
