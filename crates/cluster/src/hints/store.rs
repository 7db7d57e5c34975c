//! Hints in two keyspaces of the node's database.
//!
//! ```text
//! `_hints`
//! key     target u64 BE, keyspace u32 BE, partition u32 BE, then the user's key
//! value   record, then the number of the hint varint, 0 if it has no dots
//!
//! `_hint_dots`, one for each write that is in the record of a hint
//! key     number of the hint, actor, counter; each: how many bytes u8, then so many, big endian, the first not 0
//! value   nothing
//! ```
//!
//! No hint of a node has the number of another one, whoever it is for, so a dot needs no more than that: some ten bytes. Keys sort as their
//! numbers do, and no number begins with another one: the dots of a hint are those behind the bytes of its number.
//! So a write to a key that was hinted before reads and writes its record and one dot, however many writes there were.
//! Invariant: a dot is there only together with its hint; `State`'s lock is held by whoever changes either.

use crate::clock::{Actor, Context, Dot};
use crate::codec::DecodeError;
use crate::codec::message::Item;
use crate::codec::wire::{Input, Wire};
use crate::facade::Teller;
use crate::node::{Replica, failure_of};
use crate::record::{Mode, Record};
use crate::transport::Failure;
use base::sync::Mutex;
use base::{KeyspaceId, Slice};
use lsm::{Durability, Keyspace, KeyspaceOptions, Range};
use ring::{NodeId, Partition};
use std::collections::{BTreeMap, BTreeSet};

const KEYSPACE: &str = "_hints";
const DOTS: &str = "_hint_dots";
const PREFIX_LEN: usize = 16;
const DOT_KEY_LEN_MAX: usize = 3 * (1 + size_of::<u64>());
/// Hints that are handed over together, and about how many bytes one request has.
const BATCH_MAX: usize = 64;
pub(super) const BATCH_BYTES_MAX: usize = 1 << 20;
/// When it may be worth to try again to have a hint kept.
const RETRY_AFTER_MICROS: u64 = 1_000_000;

/// What is stored of a hint.
#[derive(Debug, Clone, Default)]
struct Value {
    record: Record,
    /// Under which its dots lie; 0 if it has none.
    number: u64,
}

impl Value {
    fn encode(&self) -> Vec<u8> {
        let mut out = self.record.to_bytes();
        self.number.put(&mut out);
        out
    }

    fn decode(bytes: &[u8]) -> Result<Value, DecodeError> {
        let mut input = Input::new(bytes);
        let value = Value { record: Record::take(&mut input)?, number: u64::take(&mut input)? };
        input.end().map(|()| value)
    }
}

/// What is kept for others.
pub(crate) struct Hints {
    keyspace: Keyspace,
    dots: Keyspace,
    bytes_max: u64,
    total_bytes_max: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Those for whom something is kept.
    targets: BTreeMap<NodeId, Target>,
    waiting: Vec<Waiting>,
    /// The last number that a hint was given.
    given: u64,
}

#[derive(Debug, Default)]
struct Target {
    bytes: u64,
    /// The pass through its hints goes on behind this key.
    next: Vec<u8>,
    /// Passes that handed over all that they found.
    passes: u64,
    /// Something that this pass found was not taken, or could not be read.
    missed: bool,
}

/// Somebody who waits until passes through the hints of all these are over.
struct Waiting {
    teller: Teller<()>,
    /// How many there have to be by then.
    passes: BTreeMap<NodeId, u64>,
}

/// Hints for one partition of one owner.
pub(super) struct Batch {
    pub(super) target: NodeId,
    pub(super) keyspace: KeyspaceId,
    pub(super) partition: Partition,
    pub(super) kept: Vec<Kept>,
}

/// One hint, with what is stored: it is dropped only if it is still that.
pub(super) struct Kept {
    key: Vec<u8>,
    stored: Slice,
    record: Record,
    dots: Vec<Dot>,
}

impl Kept {
    /// As they are sent: one for each write in the record.
    pub(super) fn items(&self) -> Vec<Item> {
        let item = |made_by| Item {
            key: self.key[PREFIX_LEN..].into(),
            record: self.record.clone(),
            made_by,
        };
        match &self.dots[..] {
            [] => vec![item(None)],
            dots => dots.iter().map(|dot| item(Some(*dot))).collect(),
        }
    }
}

impl Hints {
    /// What the database holds. Reads all of it, which is bounded: by `bytes_max` for each target, and `total_bytes_max` for all.
    ///
    /// # Errors
    /// Those of the database.
    pub(crate) fn open(db: &lsm::Db, bytes_max: u64, total_bytes_max: u64) -> lsm::Result<Hints> {
        let keyspace = db.keyspace(KEYSPACE, KeyspaceOptions::default())?;
        let dots = db.keyspace(DOTS, KeyspaceOptions::default())?;
        let mut state = State::default();
        let mut numbers: BTreeMap<u64, NodeId> = BTreeMap::new();
        for pair in keyspace.iter() {
            let (key, value) = pair?;
            let Some((target, ..)) = split(&key) else { continue };
            state.count(target, key.len() + value.len());
            let number = Value::decode(&value).map_or(0, |value| value.number);
            state.given = state.given.max(number);
            numbers.insert(number, target);
        }
        let mut left_over = db.batch();
        for pair in dots.iter() {
            let (key, _) = pair?;
            let number = dot_of(&key).map_or(0, |(number, _)| number);
            match numbers.get(&number) {
                Some(target) if number > 0 => state.count(*target, key.len()),
                // Of a hint that could not be read. Its number is not given again: if this delete is lost, they are not those of another.
                _ => {
                    state.given = state.given.max(number);
                    left_over.delete_in(&dots, &key);
                }
            }
        }
        left_over.commit_with(Durability::Buffered)?;
        Ok(Hints { keyspace, dots, bytes_max, total_bytes_max, state: Mutex::new(state) })
    }

    pub(super) fn bytes(&self) -> u64 {
        self.state.lock().bytes()
    }

    pub(super) fn targets(&self) -> Vec<NodeId> {
        self.state.lock().targets.keys().copied().collect()
    }

    /// Merges records into what is kept for `target`; how many bytes that is now.
    ///
    /// # Errors
    /// [`Failure::Overloaded`] if there is no room for all of them: then none is kept; those of the database.
    pub(super) fn keep(
        &self,
        replica: &Replica,
        target: NodeId,
        (keyspace, mode): (KeyspaceId, Mode),
        partition: Partition,
        items: &[Item],
        durability: Durability,
    ) -> Result<u64, Failure> {
        let mut state = self.state.lock();
        let mut batch = replica.db().batch();
        let mut values: BTreeMap<Vec<u8>, Value> = BTreeMap::new();
        let mut dots: BTreeSet<Vec<u8>> = BTreeSet::new();
        let held = state.targets.get(&target).map_or(0, |target| target.bytes);
        let (mut added, mut removed, mut given) = (0, 0, state.given);
        for item in items {
            let key = key_of(target, keyspace, partition, &item.key);
            if !values.contains_key(&key) {
                let stored = self.keyspace.get(&key).map_err(|error| failure_of(&error))?;
                removed += stored.as_ref().map_or(0, |stored| key.len() + stored.len());
                let stored = stored.and_then(|stored| Value::decode(&stored).ok());
                values.insert(key.clone(), stored.unwrap_or_default());
            }
            let Some(value) = values.get_mut(&key) else { continue };
            value.record = value.record.merge(&item.record, mode).record;
            if let Some(dot) = item.made_by {
                if value.number == 0 {
                    given += 1;
                    value.number = given;
                }
                dots.insert(dot_key(value.number, dot));
            }
        }
        let full = Failure::Overloaded { retry_after_micros: RETRY_AFTER_MICROS };
        for key in &dots {
            if self.dots.get(key).map_err(|error| failure_of(&error))?.is_none() {
                added += key.len();
                batch.put_in(&self.dots, key, b"");
            }
        }
        for (key, value) in &values {
            let bytes = value.encode();
            added += key.len() + bytes.len();
            batch.put_in(&self.keyspace, key, bytes);
        }
        let bytes = (held + added as u64).saturating_sub(removed as u64);
        let others = state.bytes() - held;
        if bytes > self.bytes_max || others + bytes > self.total_bytes_max {
            return Err(full);
        }
        batch.commit_with(durability).map_err(|error| failure_of(&error))?;
        state.given = given;
        state.targets.entry(target).or_default().bytes = bytes;
        Ok(bytes)
    }

    /// The next hints for `target`, in the order of partitions; `None` if there are none, or a pass through them is over.
    pub(super) fn next_batch(&self, target: NodeId) -> Option<Batch> {
        let mut state = self.state.lock();
        let at = state.targets.get_mut(&target)?;
        let prefix = target.0.to_be_bytes();
        let start = at.next.clone().max(prefix.to_vec());
        let mut batch: Option<Batch> = None;
        let mut bytes = 0;
        for pair in self.keyspace.range(start..end_of(target)) {
            let Ok((key, stored)) = pair else {
                at.missed = true;
                break;
            };
            let (Some((_, keyspace, partition)), Ok(value)) = (split(&key), Value::decode(&stored))
            else {
                // Nobody could read it: the exchange brings what it said.
                drop(self.keyspace.delete(&key));
                continue;
            };
            let Ok(dots) = self.dots_of(&value) else {
                at.missed = true;
                break;
            };
            let batch =
                batch.get_or_insert(Batch { target, keyspace, partition, kept: Vec::new() });
            // Each of its writes is sent with the record.
            bytes += dots.len().max(1) * stored.len();
            let fits = batch.kept.len() < BATCH_MAX && bytes <= BATCH_BYTES_MAX;
            let same = (batch.keyspace, batch.partition) == (keyspace, partition);
            if !same || (!fits && !batch.kept.is_empty()) {
                break;
            }
            at.next = [&key[..], &[0]].concat();
            batch.kept.push(Kept { key: key.to_vec(), stored, record: value.record, dots });
        }
        if batch.is_none() {
            state.end_pass(target);
        }
        batch
    }

    /// The dots of what is kept for owners of a partition, whoever they are, at one moment: a hint that goes from one owner's to another's
    /// is in it.
    ///
    /// # Errors
    /// Those of the database.
    pub(crate) fn dots_for(
        &self,
        replica: &Replica,
        keyspace: KeyspaceId,
        partition: Partition,
    ) -> Result<Context, Failure> {
        let (targets, now) = {
            let state = self.state.lock();
            let targets: Vec<NodeId> = state.targets.keys().copied().collect();
            (targets, replica.db().snapshot())
        };
        let (hints, kept) = (now.keyspace(&self.keyspace), now.keyspace(&self.dots));
        let mut dots = Context::new();
        for target in targets {
            let start = key_of(target, keyspace, partition, b"");
            let end = key_of(target, keyspace, Partition(partition.0 + 1), b"");
            for pair in hints.range(start..end) {
                let (_, value) = pair.map_err(|error| failure_of(&error))?;
                let Ok(value) = Value::decode(&value) else { continue };
                let versions = value.record.versions().iter().map(|version| version.dot);
                versions.for_each(|dot| dots.insert(dot));
                let all = dots_of(&value, |number| kept.prefix(number))?;
                all.into_iter().for_each(|dot| dots.insert(dot));
            }
        }
        Ok(dots)
    }

    /// The dots of what is kept in a hint now.
    fn dots_of(&self, value: &Value) -> Result<Vec<Dot>, Failure> {
        dots_of(value, |number| self.dots.prefix(number))
    }

    /// What is left of this pass through the hints of `target` is left for the next one: other owners come first.
    pub(super) fn give_up_pass(&self, target: NodeId) {
        let mut state = self.state.lock();
        if let Some(one) = state.targets.get_mut(&target) {
            one.next = end_of(target);
            one.missed = true;
        }
    }

    /// Drops hints that were handed over, unless they have changed since, or their keys are among `refused`: those are tried again.
    pub(super) fn drop_delivered(
        &self,
        replica: &Replica,
        batch: &Batch,
        refused: &BTreeSet<Slice>,
    ) {
        let mut state = self.state.lock();
        let mut gone = replica.db().batch();
        let mut bytes = 0;
        for kept in &batch.kept {
            if refused.contains(&kept.key[PREFIX_LEN..]) {
                continue;
            }
            let now = self.keyspace.get(&kept.key);
            if !now.is_ok_and(|now| now.as_ref() == Some(&kept.stored)) {
                continue;
            }
            let Ok(value) = Value::decode(&kept.stored) else { continue };
            // One that came since, of a write that changed nothing, was not handed over.
            if self.dots_of(&value).is_ok_and(|dots| dots == kept.dots) {
                gone.delete_in(&self.keyspace, &kept.key);
                bytes += (kept.key.len() + kept.stored.len()) as u64;
                for dot in &kept.dots {
                    let key = dot_key(value.number, *dot);
                    bytes += key.len() as u64;
                    gone.delete_in(&self.dots, key);
                }
            }
        }
        // If it fails they are handed over once more, which changes nothing.
        if gone.commit_with(Durability::Buffered).is_ok()
            && let Some(target) = state.targets.get_mut(&batch.target)
        {
            target.bytes = target.bytes.saturating_sub(bytes);
            target.missed |= !refused.is_empty();
        }
    }

    /// Tells `teller` when what is kept now has been handed over.
    pub(super) fn when_delivered(&self, teller: Teller<()>) {
        let mut state = self.state.lock();
        // The pass that goes on now may have left behind what came after it: the next one counts.
        let passes = state.targets.iter().map(|(id, target)| (*id, target.passes + 2)).collect();
        state.waiting.retain(|waiting| waiting.teller.is_awaited());
        state.waiting.push(Waiting { teller, passes });
        state.tell();
    }
}

impl State {
    fn bytes(&self) -> u64 {
        self.targets.values().map(|target| target.bytes).sum()
    }

    /// Counts what is stored for a target.
    fn count(&mut self, target: NodeId, bytes: usize) {
        self.targets.entry(target).or_default().bytes += bytes as u64;
    }

    /// A pass through the hints of `target` is over. It counts if all that it found were handed over.
    fn end_pass(&mut self, target: NodeId) {
        let Some(one) = self.targets.get_mut(&target) else { return };
        if std::mem::take(&mut one.missed) {
            return one.next.clear();
        }
        one.passes += 1;
        if one.next.is_empty() {
            // It found nothing from its beginning on.
            self.targets.remove(&target);
        } else {
            one.next.clear();
        }
        self.tell();
    }

    fn tell(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        for mut one in waiting {
            one.passes.retain(|target, passes| {
                self.targets.get(target).is_some_and(|target| target.passes < *passes)
            });
            if one.passes.is_empty() {
                one.teller.tell(());
            } else {
                self.waiting.push(one);
            }
        }
    }
}

fn key_of(target: NodeId, keyspace: KeyspaceId, partition: Partition, key: &[u8]) -> Vec<u8> {
    let (target, keyspace) = (target.0.to_be_bytes(), keyspace.0.to_be_bytes());
    [&target[..], &keyspace, &partition.0.to_be_bytes(), key].concat()
}

/// Behind all hints for `target`.
fn end_of(target: NodeId) -> Vec<u8> {
    let next = target.0.checked_add(1).map(|next| next.to_be_bytes().to_vec());
    next.unwrap_or_else(|| vec![0xff; PREFIX_LEN + 1])
}

/// The dots of a hint, ascending: those that `kept` finds behind its number.
fn dots_of(value: &Value, kept: impl FnOnce(Vec<u8>) -> Range) -> Result<Vec<Dot>, Failure> {
    let mut dots = Vec::new();
    if value.number == 0 {
        return Ok(dots);
    }
    for pair in kept(number_key(value.number)) {
        let (key, _) = pair.map_err(|error| failure_of(&error))?;
        dots.extend(dot_of(&key).map(|(_, dot)| dot));
    }
    Ok(dots)
}

/// What the keys of all dots of a hint begin with.
fn number_key(number: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(DOT_KEY_LEN_MAX);
    put_ordered(&mut key, number);
    key
}

fn dot_key(number: u64, dot: Dot) -> Vec<u8> {
    let mut key = number_key(number);
    put_ordered(&mut key, dot.actor.0);
    put_ordered(&mut key, dot.counter);
    key
}

/// The number and the dot in a key of `_hint_dots`.
fn dot_of(key: &[u8]) -> Option<(u64, Dot)> {
    let (number, rest) = take_ordered(key)?;
    let (actor, rest) = take_ordered(rest)?;
    let (counter, rest) = take_ordered(rest)?;
    rest.is_empty().then(|| (number, Dot::new(Actor(actor), counter)))
}

fn put_ordered(key: &mut Vec<u8>, number: u64) {
    let bytes = number.to_be_bytes();
    let zeros = number.leading_zeros() as usize / 8;
    key.push((bytes.len() - zeros) as u8);
    key.extend_from_slice(&bytes[zeros..]);
}

fn take_ordered(key: &[u8]) -> Option<(u64, &[u8])> {
    let (len, rest) = key.split_first()?;
    let (bytes, rest) = rest.split_at_checked(usize::from(*len))?;
    let fits = bytes.len() <= size_of::<u64>() && bytes.first() != Some(&0);
    fits.then(|| (bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)), rest))
}

fn split(key: &[u8]) -> Option<(NodeId, KeyspaceId, Partition)> {
    let (target, rest) = key.split_first_chunk::<8>()?;
    let (keyspace, rest) = rest.split_first_chunk::<4>()?;
    let partition = rest.first_chunk::<4>()?;
    let number = u32::from_be_bytes;
    Some((
        NodeId(u64::from_be_bytes(*target)),
        KeyspaceId(number(*keyspace)),
        Partition(number(*partition)),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn golden_keys() {
        assert_eq!(dot_key(1, Dot::new(Actor(3), 1)), [1, 1, 1, 3, 1, 1]);
        let long = dot_key(300, Dot::new(Actor(0x0102_0304_0506), u64::MAX));
        let golden = [&[2, 1, 44, 6, 1, 2, 3, 4, 5, 6, 8][..], &[0xff; 8]].concat();
        assert_eq!(long, golden);
    }

    proptest! {
        #[test]
        fn keys_of_dots_sort_as_they_do(
            a in (1u64.., any::<u64>(), 1u64..), b in (1u64.., any::<u64>(), 1u64..), down in 0u32..60,
        ) {
            let at = |(n, actor, counter): (u64, u64, u64)| {
                let (n, actor, counter) = (n >> down, actor >> down, (counter >> down).max(1));
                (n, Dot::new(Actor(actor), counter))
            };
            let (a, b) = (at(a), at(b));
            let (left, right) = (dot_key(a.0, a.1), dot_key(b.0, b.1));
            prop_assert_eq!(left.cmp(&right), a.cmp(&b));
            prop_assert!(left.len() <= DOT_KEY_LEN_MAX);
            prop_assert_eq!(dot_of(&left), Some(a));
            prop_assert_eq!(left.starts_with(&number_key(b.0)), a.0 == b.0);
            prop_assert_eq!(dot_of(&left[..left.len() - 1]), None);
        }
    }
}
