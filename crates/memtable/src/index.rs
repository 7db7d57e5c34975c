//! Hash index: from a user key to its newest record. One writer, any number of readers without locks.
//!
//! Open addressing with linear probes. A slot's place is the top bits of its tag, which is the top half of
//! the key's hash, so a table is nearly sorted by tag: growing reads and writes both tables in order and
//! touches no record. A larger table is published by storing its size; smaller ones stay until the
//! index is dropped, since readers may be in them.

use crate::account::Account;
use crate::arena::{Ref, Slot, Slots, Spares, prefetch_slot};
use base::sync::leaf::atomic::{AtomicU32, Ordering};
use std::fmt;
use std::sync::{Arc, OnceLock};

/// Under the checker every new key makes the table grow, for a while.
const BITS_MIN: u32 = if cfg!(loom) { 1 } else { 5 };
const BITS_MAX: u32 = 31;
/// An index of this size belongs to a table that will be filled: the steps to its likely size would each hold up a writer
/// for as long as all slots take to move, the last one for tens of milliseconds.
const JUMP_BITS: u32 = 12;

pub(crate) struct Index {
    /// The current table is `tables[bits]`, with `1 << bits` slots; 0 before the first insert.
    bits: AtomicU32,
    tables: [OnceLock<Slots>; BITS_MAX as usize + 1],
    /// What it grows to in one step once it has come to `JUMP_BITS`.
    likely_bits: u32,
    account: Arc<Account>,
    spares: Arc<Spares>,
}

impl Drop for Index {
    fn drop(&mut self) {
        if let Some(table) = self.tables[self.bits.load(Ordering::Relaxed) as usize].take() {
            self.spares.keep_table(table);
        }
    }
}

/// Where a key is, or where it would go.
pub(crate) enum Place {
    Found(usize, Ref),
    Vacant(usize),
}

/// The half of a key's hash that the index goes by.
#[inline]
pub(crate) fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32
}

impl Index {
    pub(crate) fn new(
        expected_keys: usize,
        likely_keys: usize,
        account: Arc<Account>,
        spares: Arc<Spares>,
    ) -> Index {
        let tables = [const { OnceLock::new() }; BITS_MAX as usize + 1];
        let likely_bits = bits_for(likely_keys);
        let index = Index { bits: AtomicU32::new(0), tables, likely_bits, account, spares };
        if expected_keys > 0 {
            index.publish(bits_for(expected_keys));
        }
        index
    }

    /// The slot of the key with `tag` for which `is_key` is true.
    #[inline]
    pub(crate) fn get(&self, tag: u32, mut is_key: impl FnMut(Ref) -> bool) -> Option<Ref> {
        let (bits, table) = self.current()?;
        match probe(table, bits, tag, &mut is_key) {
            Place::Found(_, record) => Some(record),
            Place::Vacant(_) => None,
        }
    }

    /// Has the slot of `tag` brought near. Only a hint.
    #[inline]
    pub(crate) fn prefetch(&self, tag: u32) {
        let Some((bits, table)) = self.current() else { return };
        if let Some(slot) = table.get(home(tag, bits)) {
            prefetch_slot(slot);
        }
    }

    /// As [`get`](Self::get), for the writer: makes room for one more key first.
    #[inline]
    pub(crate) fn place(
        &self,
        keys: usize,
        tag: u32,
        mut is_key: impl FnMut(Ref) -> bool,
    ) -> Place {
        let (bits, table) = match self.current() {
            Some((bits, table)) if keys < keys_max(bits) || bits == BITS_MAX => (bits, table),
            _ => self.grow(),
        };
        probe(table, bits, tag, &mut is_key)
    }

    /// Publishes `record` at a slot that [`place`](Self::place) has just named. Only the writer.
    #[inline]
    pub(crate) fn store(&self, slot: usize, tag: u32, record: Ref) {
        if let Some((_, table)) = self.current() {
            table[slot].store(tag, record);
        }
    }

    #[inline]
    fn current(&self) -> Option<(u32, &[Slot])> {
        let bits = self.bits.load(Ordering::Acquire);
        Some((bits, self.tables[bits as usize].get()?))
    }

    #[cold]
    fn grow(&self) -> (u32, &[Slot]) {
        let Some((bits, old)) = self.current() else { return self.publish(BITS_MIN) };
        base::probe!("hash index of a memtable grew");
        let next = if bits == JUMP_BITS { self.likely_bits.max(bits + 1) } else { bits + 1 };
        let table = self.table(next);
        for (tag, record) in old.iter().filter_map(Slot::load) {
            if let Place::Vacant(slot) = probe(table, next, tag, &mut |_| false) {
                table[slot].store(tag, record);
            }
        }
        self.publish(next)
    }

    fn publish(&self, bits: u32) -> (u32, &[Slot]) {
        let table = self.table(bits);
        self.bits.store(bits, Ordering::Release);
        (bits, table)
    }

    fn table(&self, bits: u32) -> &[Slot] {
        self.tables[bits as usize].get_or_init(|| {
            self.account.add(size_of::<Slot>() << bits);
            self.spares.take_table(1 << bits).unwrap_or_else(|| Slots::vacant(1 << bits))
        })
    }

    #[cfg(test)]
    pub(crate) fn recount(&self) -> usize {
        self.tables.iter().filter_map(OnceLock::get).map(|t| size_of_val(&t[..])).sum()
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index").field("bits", &self.bits).finish_non_exhaustive()
    }
}

/// The smallest table for so many keys.
fn bits_for(keys: usize) -> u32 {
    (BITS_MIN..BITS_MAX).find(|&bits| keys_max(bits) >= keys).unwrap_or(BITS_MAX)
}

/// Keys that a table may hold: five eighths, so that a vacant slot is never far.
fn keys_max(bits: u32) -> usize {
    (1usize << bits) / 8 * 5
}

/// The first slot that is looked at for `tag`.
#[inline]
fn home(tag: u32, bits: u32) -> usize {
    (tag >> (32 - bits)) as usize
}

#[inline]
fn probe(table: &[Slot], bits: u32, tag: u32, is_key: &mut impl FnMut(Ref) -> bool) -> Place {
    let mask = table.len() - 1;
    let mut at = home(tag, bits) & mask;
    loop {
        match table[at].load() {
            None => return Place::Vacant(at),
            Some((t, record)) if t == tag && is_key(record) => return Place::Found(at, record),
            Some((t, _)) => {
                if t == tag {
                    base::probe!("two keys of a memtable share a tag");
                }
                at = (at + 1) & mask;
            }
        }
    }
}
