//! The iterator contract that memtables, tables, runs and merges share.

use crate::{InternalKey, Result, SeqNo, Slice, ValueKind};

/// A cursor over internal entries in [`InternalKey`] order.
///
/// A fresh iterator is not positioned: `valid` is false until a seek. Range tombstones are not part
/// of the sequence; their owners hand them out separately.
///
/// After a call returned an error the iterator is not valid, and stays so until it is positioned anew.
pub trait InternalIterator {
    /// True if the iterator stands on an entry.
    fn valid(&self) -> bool;

    /// The key of the current entry. Only while [`valid`](Self::valid); otherwise unspecified, but no panic
    /// is required of callers that check `valid` first.
    fn key(&self) -> InternalKey<'_>;

    /// The value of the current entry. Only while `valid`.
    fn value(&self) -> &[u8];

    /// The value as an owned [`Slice`], sharing the underlying block where there is one.
    fn value_slice(&self) -> Slice {
        Slice::copy_from(self.value())
    }

    /// Moves to the first entry.
    fn seek_to_first(&mut self) -> Result<()>;

    /// Moves to the last entry.
    fn seek_to_last(&mut self) -> Result<()>;

    /// Moves to the first entry at or after `target`.
    fn seek(&mut self, target: InternalKey<'_>) -> Result<()>;

    /// Moves to the last entry at or before `target`.
    fn seek_for_prev(&mut self, target: InternalKey<'_>) -> Result<()>;

    /// Moves forward by one. Only while `valid`.
    fn next(&mut self) -> Result<()>;

    /// Moves back by one. Only while `valid`.
    fn prev(&mut self) -> Result<()>;
}

impl<I: InternalIterator + ?Sized> InternalIterator for Box<I> {
    fn valid(&self) -> bool {
        (**self).valid()
    }
    fn key(&self) -> InternalKey<'_> {
        (**self).key()
    }
    fn value(&self) -> &[u8] {
        (**self).value()
    }
    fn value_slice(&self) -> Slice {
        (**self).value_slice()
    }
    fn seek_to_first(&mut self) -> Result<()> {
        (**self).seek_to_first()
    }
    fn seek_to_last(&mut self) -> Result<()> {
        (**self).seek_to_last()
    }
    fn seek(&mut self, target: InternalKey<'_>) -> Result<()> {
        (**self).seek(target)
    }
    fn seek_for_prev(&mut self, target: InternalKey<'_>) -> Result<()> {
        (**self).seek_for_prev(target)
    }
    fn next(&mut self) -> Result<()> {
        (**self).next()
    }
    fn prev(&mut self) -> Result<()> {
        (**self).prev()
    }
}

/// An iterator over entries held in a vector: for tests, small merges and sorted side lists.
#[derive(Debug, Clone, Default)]
pub struct VecIterator {
    entries: Vec<(Vec<u8>, SeqNo, ValueKind, Vec<u8>)>,
    /// `entries.len()` when not valid.
    at: usize,
}

impl VecIterator {
    /// Sorts `entries` of user key, sequence number, kind and value.
    pub fn new(entries: impl IntoIterator<Item = (Vec<u8>, SeqNo, ValueKind, Vec<u8>)>) -> Self {
        let mut entries: Vec<_> = entries.into_iter().collect();
        entries.sort_by(|a, b| {
            InternalKey::new(&a.0, a.1, a.2).cmp(&InternalKey::new(&b.0, b.1, b.2))
        });
        let at = entries.len();
        VecIterator { entries, at }
    }

    fn partition(&self, before: impl Fn(InternalKey<'_>) -> bool) -> usize {
        self.entries.partition_point(|e| before(InternalKey::new(&e.0, e.1, e.2)))
    }
}

impl InternalIterator for VecIterator {
    fn valid(&self) -> bool {
        self.at < self.entries.len()
    }
    fn key(&self) -> InternalKey<'_> {
        let (user_key, seq, kind, _) = &self.entries[self.at];
        InternalKey::new(user_key, *seq, *kind)
    }
    fn value(&self) -> &[u8] {
        &self.entries[self.at].3
    }
    fn seek_to_first(&mut self) -> Result<()> {
        self.at = 0;
        Ok(())
    }
    fn seek_to_last(&mut self) -> Result<()> {
        self.at = self.entries.len().saturating_sub(1);
        Ok(())
    }
    fn seek(&mut self, target: InternalKey<'_>) -> Result<()> {
        self.at = self.partition(|k| k < target);
        Ok(())
    }
    fn seek_for_prev(&mut self, target: InternalKey<'_>) -> Result<()> {
        self.at = self.partition(|k| k <= target).checked_sub(1).unwrap_or(self.entries.len());
        Ok(())
    }
    fn next(&mut self) -> Result<()> {
        self.at += 1;
        Ok(())
    }
    fn prev(&mut self) -> Result<()> {
        self.at = self.at.checked_sub(1).unwrap_or(self.entries.len());
        Ok(())
    }
}
