//! Walks one block, both ways.

use super::{Block, Raw, entry};
use base::{InternalKey, SeqNo, Slice, ValueKind};

/// A place in a block. Its methods return `None` if the block is broken, and are then not valid.
#[derive(Debug)]
pub(crate) struct Cursor {
    block: Block,
    /// The current entry; `block.len()` if not valid.
    at: u32,
    raw: Raw,
    /// The current user key, if it shares a prefix with its restart key; another lies whole in the block.
    key: Vec<u8>,
    /// Bytes at the front of `key` known to be those of the restart key.
    from_restart: usize,
    /// The group that `restart` and `from_restart` belong to; empty before the first shared prefix.
    group_start: u32,
    group_end: u32,
    /// Where the restart key of the group lies.
    restart: (usize, usize),
    /// The first entry of the block is known to be the newest version of its key.
    head: bool,
    /// Number of tags of the block.
    tags: u32,
}

impl Cursor {
    /// Stands nowhere.
    pub(crate) fn new() -> Cursor {
        Cursor {
            block: Block::empty(),
            at: 0,
            raw: Raw::NONE,
            key: Vec::new(),
            from_restart: 0,
            group_start: 0,
            group_end: 0,
            restart: (0, 0),
            head: false,
            tags: 0,
        }
    }

    #[inline]
    pub(crate) fn valid(&self) -> bool {
        self.at < self.block.len()
    }

    /// Stands nowhere, and lets the block go.
    pub(crate) fn leave(&mut self) {
        self.block = Block::empty();
        self.at = 0;
        self.tags = 0;
        self.group_end = 0;
    }

    /// Moves to entry `at` of `block`; not valid if there is no such entry. With `head` its first entry is the newest version of
    /// its key.
    pub(crate) fn enter(&mut self, block: Block, at: u32, head: bool) -> Option<()> {
        self.tags = if block.is_tagged() { block.len() } else { 0 };
        self.block = block;
        self.head = head;
        self.group_start = 0;
        self.group_end = 0;
        self.move_to(at)
    }

    #[inline]
    pub(crate) fn block(&self) -> &Block {
        &self.block
    }

    #[inline]
    pub(crate) fn at(&self) -> u32 {
        self.at
    }

    #[inline]
    pub(crate) fn key(&self) -> InternalKey<'_> {
        InternalKey { user_key: self.user_key(), seq: self.raw.seq, kind: self.raw.kind }
    }

    /// The user key of the entry it stands on, or stood on before it left the block at an end.
    #[inline]
    pub(crate) fn user_key(&self) -> &[u8] {
        if self.raw.shared == 0 {
            self.block.data().get(self.raw.suffix..self.raw.value).unwrap_or_default()
        } else {
            &self.key
        }
    }

    #[inline]
    pub(crate) fn value(&self) -> &[u8] {
        self.block.value(&self.raw)
    }

    pub(crate) fn value_slice(&self) -> Slice {
        let (start, len) = (self.raw.value, self.raw.end - self.raw.value);
        Slice::from_shared(self.block.data(), start, len).unwrap_or_default()
    }

    /// To the next entry of the block, or out of it.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<()> {
        let at = self.at + 1;
        if at >= self.block.len() {
            self.at = self.block.len();
            return Some(());
        }
        let raw = entry::decode(self.block.data(), self.raw.end);
        self.stand_on(at, raw)
    }

    /// To the first version of the next user key of the block, or out of it. The first key of the next block may be the same.
    #[inline]
    pub(crate) fn next_key(&mut self) -> Option<()> {
        if !self.block.is_tagged() {
            return self.next_key_compared();
        }
        loop {
            self.next()?;
            if !self.valid() || *self.block.data().get(self.at as usize)? != 0 {
                return Some(());
            }
        }
    }

    #[cold]
    fn next_key_compared(&mut self) -> Option<()> {
        let key = self.user_key().to_vec();
        loop {
            self.next()?;
            if !self.valid() || self.user_key() != &key[..] {
                return Some(());
            }
        }
    }

    /// True if entry `at` is known to be the first version of its key in this block.
    #[inline(always)]
    fn starts_key(&self, at: u32) -> bool {
        at < self.tags && self.block.data().get(at as usize).is_some_and(|&tag| tag != 0)
    }

    /// True if the entry it stands on is known to be the newest version of its key.
    #[inline]
    pub(crate) fn is_newest(&self) -> bool {
        self.starts_key(self.at) && (self.at > 0 || self.head)
    }

    /// To the next entry, if that is a put in this block that a read at `snapshot` sees, and the newest version of another key, as
    /// nearly all are. Otherwise it does nothing and answers `false`.
    #[inline(always)]
    pub(crate) fn next_put(&mut self, snapshot: SeqNo) -> bool {
        let at = self.at.saturating_add(1);
        self.starts_key(at) && self.take_put(at, self.raw.end, snapshot)
    }

    /// To the entry before, if that is a put in this block that a read at `snapshot` sees, and the only version of another key, as
    /// nearly all are. Otherwise it does nothing and answers `false`.
    #[inline(always)]
    pub(crate) fn prev_put(&mut self, snapshot: SeqNo) -> bool {
        let Some(at) = self.at.checked_sub(1) else { return false };
        if !self.starts_key(self.at) || !self.starts_key(at) || !(at > 0 || self.head) {
            return false;
        }
        self.block.offset(at).is_some_and(|offset| self.take_put(at, offset, snapshot))
    }

    /// Takes entry `at`, which starts at `offset`, if it is a put at or below `snapshot`.
    #[inline(always)]
    fn take_put(&mut self, at: u32, offset: usize, snapshot: SeqNo) -> bool {
        let Some(raw) = entry::decode(self.block.data(), offset) else { return false };
        if raw.kind != ValueKind::Put || raw.seq > snapshot {
            return false;
        }
        if raw.shared > 0 && self.build_key(at, raw).is_none() {
            return false;
        }
        self.raw = raw;
        self.at = at;
        true
    }

    /// To the previous entry of the block, or out of it.
    #[inline]
    pub(crate) fn prev(&mut self) -> Option<()> {
        match self.at.checked_sub(1) {
            Some(at) => self.move_to(at),
            None => {
                self.at = self.block.len();
                Some(())
            }
        }
    }

    /// To entry `at`, or out of the block if there is no such entry.
    #[inline]
    pub(crate) fn move_to(&mut self, at: u32) -> Option<()> {
        if at >= self.block.len() {
            self.at = self.block.len();
            return Some(());
        }
        let raw = self.block.raw(at);
        self.stand_on(at, raw)
    }

    /// Learns the restart key of the group of entry `at`.
    fn enter_group(&mut self, at: u32) {
        let interval = self.block.interval();
        self.group_start = at - at % interval;
        self.group_end = self.group_start.saturating_add(interval);
        self.restart =
            self.block.raw(self.group_start).map_or((0, 0), |raw| (raw.suffix, raw.value));
        self.from_restart = 0;
    }

    /// Takes the entry `raw`, which is number `at`.
    #[inline(always)]
    fn stand_on(&mut self, at: u32, raw: Option<Raw>) -> Option<()> {
        // Not valid unless all of this works out.
        self.at = self.block.len();
        let raw = raw?;
        if raw.shared > 0 {
            self.build_key(at, raw)?;
        }
        self.raw = raw;
        self.at = at;
        Some(())
    }

    /// Puts the key of an entry together from its restart key and its own bytes.
    // Not inlined, and `raw` by value: an entry that has no place in memory is taken apart in registers.
    #[inline(never)]
    fn build_key(&mut self, at: u32, raw: Raw) -> Option<()> {
        if at < self.group_start || at >= self.group_end {
            self.enter_group(at);
        }
        let data = &self.block.data()[..];
        if raw.shared <= self.from_restart {
            self.key.truncate(raw.shared);
        } else {
            self.key.truncate(self.from_restart);
            let missing = self.restart.0 + self.from_restart..self.restart.0 + raw.shared;
            self.key.extend_from_slice(data.get(missing)?);
        }
        self.from_restart = raw.shared;
        self.key.extend_from_slice(data.get(raw.suffix..raw.value)?);
        Some(())
    }
}
