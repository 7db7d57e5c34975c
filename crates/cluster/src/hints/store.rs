//! Hints in two keyspaces of the node's database.
//!
//! ```text
//! `_hints`
//! key     target u64 BE, keyspace u32 BE, partition u32 BE, then the user's key
//! value   record, then dots that lie here since an earlier version (none today), then the number of the hint varint
//!
//! `_hint_dots`, one for each write that is in the record of a hint
//! key     target u64 BE, keyspace u32 BE, partition u32 BE, number of the hint u64 BE, actor u64 BE, counter u64 BE
//! value   nothing
//! ```
//!
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
use lsm::{Durability, Keyspace, KeyspaceOptions};
use ring::{NodeId, Partition};
use std::collections::{BTreeMap, BTreeSet};

const KEYSPACE: &str = "_hints";
const DOTS: &str = "_hint_dots";
const PREFIX_LEN: usize = 16;
/// Hints that are handed over together, and about how many bytes one request has.
const BATCH_MAX: usize = 64;
pub(super) const BATCH_BYTES_MAX: usize = 1 << 20;
/// When it may be worth to try again to have a hint kept.
const RETRY_AFTER_MICROS: u64 = 1_000_000;

/// What is stored of a hint.
#[derive(Debug, Clone, Default)]
struct Value {
    record: Record,
    dots: Vec<Dot>,
    /// Under which its other dots lie; 0 if it has none of these.
    number: u64,
}

impl Value {
    fn encode(&self) -> Vec<u8> {
        let mut out = self.record.to_bytes();
        self.dots.put(&mut out);
        self.number.put(&mut out);
        out
    }

    fn decode(bytes: &[u8]) -> Result<Value, DecodeError> {
        let mut input = Input::new(bytes);
        let (record, dots) = (Record::take(&mut input)?, Vec::take(&mut input)?);
        let number = if input.rest() == 0 { 0 } else { u64::take(&mut input)? };
        input.end()?;
        Ok(Value { record, dots, number })
    }
}

/// What is kept for others.
pub(crate) struct Hints {
    keyspace: Keyspace,
    dots: Keyspace,
    bytes_max: u64,
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
    /// What the database holds. Reads all of it, which is bounded.
    ///
    /// # Errors
    /// Those of the database.
    pub(crate) fn open(db: &lsm::Db, bytes_max: u64) -> lsm::Result<Hints> {
        let keyspace = db.keyspace(KEYSPACE, KeyspaceOptions::default())?;
        let dots = db.keyspace(DOTS, KeyspaceOptions::default())?;
        let mut state = State::default();
        for pair in keyspace.iter() {
            let (key, value) = pair?;
            state.count(&key, value.len());
            state.given = state.given.max(Value::decode(&value).map_or(0, |value| value.number));
        }
        for pair in dots.iter() {
            let (key, value) = pair?;
            state.count(&key, value.len());
            // Also of a hint that could not be read and was dropped: its number is not given again.
            state.given = state.given.max(dot_of(&key).map_or(0, |(number, _)| number));
        }
        Ok(Hints { keyspace, dots, bytes_max, state: Mutex::new(state) })
    }

    pub(super) fn bytes(&self) -> u64 {
        self.state.lock().targets.values().map(|target| target.bytes).sum()
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
                dots.insert(dot_key(&key, value.number, dot));
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
        if bytes > self.bytes_max {
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
            let Ok(dots) = self.dots_of(&key, &value) else {
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

    /// The dots of what is kept for owners of a partition, whoever they are.
    ///
    /// # Errors
    /// Those of the database.
    pub(crate) fn dots_for(
        &self,
        keyspace: KeyspaceId,
        partition: Partition,
    ) -> Result<Context, Failure> {
        let mut dots = Context::new();
        for target in self.targets() {
            let start = key_of(target, keyspace, partition, b"");
            let end = key_of(target, keyspace, Partition(partition.0 + 1), b"");
            for pair in self.keyspace.range(&start[..]..&end[..]) {
                let (_, value) = pair.map_err(|error| failure_of(&error))?;
                let Ok(value) = Value::decode(&value) else { continue };
                let versions = value.record.versions().iter().map(|version| version.dot);
                versions.chain(value.dots).for_each(|dot| dots.insert(dot));
            }
            for pair in self.dots.range(start..end) {
                let (key, _) = pair.map_err(|error| failure_of(&error))?;
                dot_of(&key).into_iter().for_each(|(_, dot)| dots.insert(dot));
            }
        }
        Ok(dots)
    }

    /// The dots of what is kept under a key.
    fn dots_of(&self, key: &[u8], value: &Value) -> Result<Vec<Dot>, Failure> {
        let mut dots = value.dots.clone();
        if value.number == 0 {
            return Ok(dots);
        }
        let start = number_key(key, value.number);
        let end = number_key(key, value.number + 1);
        for pair in self.dots.range(start..end) {
            let (key, _) = pair.map_err(|error| failure_of(&error))?;
            dots.extend(dot_of(&key).map(|(_, dot)| dot));
        }
        Ok(dots)
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
            if self.dots_of(&kept.key, &value).is_ok_and(|dots| dots == kept.dots) {
                gone.delete_in(&self.keyspace, &kept.key);
                bytes += (kept.key.len() + kept.stored.len()) as u64;
                for dot in &kept.dots[value.dots.len()..] {
                    let key = dot_key(&kept.key, value.number, *dot);
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
        state.waiting.push(Waiting { teller, passes });
        state.tell();
    }
}

impl State {
    /// Counts what is stored for a target.
    fn count(&mut self, key: &[u8], value_len: usize) {
        if let Some((target, ..)) = split(key) {
            self.targets.entry(target).or_default().bytes += (key.len() + value_len) as u64;
        }
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

/// Where dots of the hint under `key` begin.
fn number_key(key: &[u8], number: u64) -> Vec<u8> {
    [&key[..PREFIX_LEN], &number.to_be_bytes()].concat()
}

fn dot_key(key: &[u8], number: u64, dot: Dot) -> Vec<u8> {
    let (actor, counter) = (dot.actor.0.to_be_bytes(), dot.counter.to_be_bytes());
    [&number_key(key, number)[..], &actor, &counter].concat()
}

/// The number and the dot in a key of `_hint_dots`.
fn dot_of(key: &[u8]) -> Option<(u64, Dot)> {
    let fields: &[u8; 24] = key.get(PREFIX_LEN..)?.try_into().ok()?;
    let (fields, _) = fields.as_chunks::<8>();
    let [number, actor, counter] = [0, 1, 2].map(|at| u64::from_be_bytes(fields[at]));
    Some((number, Dot::new(Actor(actor), counter)))
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
