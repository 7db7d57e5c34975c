//! Reads compared with the model: scans from both ends, cursors walked at random, iterators read on later.

use super::state::{Bounds, Bytes, Map, pairs, shown};
use lsm::{Cursor, Error, Range, Slice};
use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::Arc;
use testkit::rng::Rng;

pub(crate) type Pair = (Bytes, Bytes);

/// Which end of a scan is read next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum End {
    Front,
    Back,
}

/// An iterator and what it still has to yield.
pub(crate) struct HeldIter {
    range: Range,
    rest: VecDeque<Pair>,
    started: [bool; 2],
    over: bool,
}

impl HeldIter {
    pub(crate) fn new(range: Range, map: &Map, bounds: &Bounds) -> Self {
        HeldIter { range, rest: pairs(map, bounds).into(), started: [false; 2], over: false }
    }

    /// Reads one pair; false at the end. `closed` says that the database is, when an end never read from may fail.
    ///
    /// # Errors
    /// That of the range, which has then ended.
    pub(crate) fn read(&mut self, end: End, closed: bool) -> lsm::Result<bool> {
        if self.over {
            assert!(self.range.next().is_none(), "an iterator came back to life");
            assert!(self.range.next_back().is_none(), "an iterator came back to life");
            return Ok(false);
        }
        let (found, expected) = match end {
            End::Front => (self.range.next(), self.rest.pop_front()),
            End::Back => (self.range.next_back(), self.rest.pop_back()),
        };
        let was_started = std::mem::replace(&mut self.started[end as usize], true);
        if closed && !was_started && matches!(found, Some(Err(Error::Closed))) {
            self.over = true;
            return Ok(false);
        }
        let found = found.transpose().inspect_err(|_| self.over = true)?;
        check_pair(end, found.as_ref().map(|(k, v)| (&k[..], &v[..])), expected.as_ref());
        self.over = expected.is_none();
        Ok(!self.over)
    }

    /// Reads a few pairs, or all that is left, from ends chosen by `rng`.
    pub(crate) fn read_some(
        &mut self,
        rng: &mut Rng,
        count: usize,
        closed: bool,
    ) -> lsm::Result<()> {
        let only = *rng.pick(&[Some(End::Front), Some(End::Back), None]);
        for _ in 0..count {
            let end = only.unwrap_or_else(|| *rng.pick(&[End::Front, End::Back]));
            if !self.read(end, closed)? {
                break;
            }
        }
        Ok(())
    }

    pub(crate) fn read_all(&mut self, rng: &mut Rng, closed: bool) -> lsm::Result<()> {
        self.read_some(rng, usize::MAX, closed)
    }
}

fn check_pair(end: End, found: Option<(&[u8], &[u8])>, expected: Option<&Pair>) {
    let show = |pair: Option<(&[u8], &[u8])>| pair.map(|(k, v)| (shown(k), shown(v)));
    let expected = expected.map(|(k, v)| (&k[..], &v[..]));
    assert!(found == expected, "{end:?}: found {:?} instead of {:?}", show(found), show(expected));
}

/// Checks a value read against the one expected.
pub(crate) fn check_value(what: &str, key: &[u8], found: Option<&[u8]>, expected: Option<&Bytes>) {
    let expected = expected.map(|v| &v[..]);
    assert!(
        found == expected,
        "{what} of {}: found {:?} instead of {:?}",
        shown(key),
        found.map(shown),
        expected.map(shown)
    );
}

/// Checks the answer of a multi-get.
pub(crate) fn check_multi(keys: &[Vec<u8>], found: &[Option<Slice>], map: &Map) {
    assert_eq!(keys.len(), found.len(), "answers of a multi-get");
    for (key, value) in keys.iter().zip(found) {
        check_value("multi_get", key, value.as_deref(), map.get(&key[..]));
    }
}

/// A cursor, what it sees, and where it should stand.
pub(crate) struct HeldCursor {
    cursor: Cursor,
    map: Arc<Map>,
    at: Option<Bytes>,
}

impl HeldCursor {
    pub(crate) fn new(cursor: Cursor, map: Arc<Map>) -> Self {
        HeldCursor { cursor, map, at: None }
    }

    /// Moves at random and compares after each move.
    ///
    /// # Errors
    /// That of the cursor, which then stays in it.
    pub(crate) fn walk(&mut self, rng: &mut Rng) -> lsm::Result<()> {
        self.check("fresh");
        let forward = rng.next_f64();
        for _ in 0..rng.range(1..40) {
            match rng.below(12) {
                0 => self.seek(rng),
                1 => self.seek_for_prev(rng),
                2 if rng.chance(0.5) => self.seek_to_first(),
                3 if rng.chance(0.5) => self.seek_to_last(),
                _ if rng.chance(forward) => self.next(),
                _ => self.prev(),
            }?;
        }
        Ok(())
    }

    /// A key that is there, or one just beside.
    fn target(&self, rng: &mut Rng) -> Vec<u8> {
        if self.map.is_empty() || rng.chance(0.1) {
            let len = rng.index(4);
            return rng.bytes(len);
        }
        let key = self.map.keys().nth(rng.index(self.map.len()));
        let mut key = key.map(|k| k.to_vec()).unwrap_or_default();
        match rng.below(4) {
            0 => key.push(0),
            1 => drop(key.pop()),
            _ => {}
        }
        key.truncate(65_535);
        key
    }

    fn seek(&mut self, rng: &mut Rng) -> lsm::Result<()> {
        let target = self.target(rng);
        self.cursor.seek(&target)?;
        let from = (Bound::Included(&target[..]), Bound::Unbounded);
        self.at = self.map.range::<[u8], _>(from).next().map(|(k, _)| k.clone());
        self.check("seek");
        Ok(())
    }

    fn seek_for_prev(&mut self, rng: &mut Rng) -> lsm::Result<()> {
        let target = self.target(rng);
        self.cursor.seek_for_prev(&target)?;
        let to = (Bound::Unbounded, Bound::Included(&target[..]));
        self.at = self.map.range::<[u8], _>(to).next_back().map(|(k, _)| k.clone());
        self.check("seek_for_prev");
        Ok(())
    }

    fn seek_to_first(&mut self) -> lsm::Result<()> {
        self.cursor.seek_to_first()?;
        self.at = self.map.keys().next().cloned();
        self.check("seek_to_first");
        Ok(())
    }

    fn seek_to_last(&mut self) -> lsm::Result<()> {
        self.cursor.seek_to_last()?;
        self.at = self.map.keys().next_back().cloned();
        self.check("seek_to_last");
        Ok(())
    }

    fn next(&mut self) -> lsm::Result<()> {
        self.cursor.next()?;
        let behind = |k: &Bytes| {
            let from = (Bound::Excluded(&k[..]), Bound::Unbounded);
            self.map.range::<[u8], _>(from).next().map(|(k, _)| k.clone())
        };
        self.at = self.at.as_ref().and_then(behind);
        self.check("next");
        Ok(())
    }

    fn prev(&mut self) -> lsm::Result<()> {
        self.cursor.prev()?;
        let before = |k: &Bytes| {
            let to = (Bound::Unbounded, Bound::Excluded(&k[..]));
            self.map.range::<[u8], _>(to).next_back().map(|(k, _)| k.clone())
        };
        self.at = self.at.as_ref().and_then(before);
        self.check("prev");
        Ok(())
    }

    fn check(&self, what: &str) {
        let cursor = &self.cursor;
        let expected = self.at.as_ref();
        assert!(
            cursor.valid() == expected.is_some(),
            "cursor after {what}: valid is {} at {}, expected {:?}",
            cursor.valid(),
            shown(cursor.key()),
            expected.map(|k| shown(k))
        );
        let Some(key) = expected else {
            assert!(cursor.key().is_empty() && cursor.value().is_empty());
            return;
        };
        assert!(
            cursor.key() == &key[..],
            "cursor after {what}: at {} instead of {}",
            shown(cursor.key()),
            shown(key)
        );
        check_value("cursor", key, Some(cursor.value()), self.map.get(key));
        assert!(cursor.value_slice() == *cursor.value(), "the two values of a cursor differ");
    }
}
