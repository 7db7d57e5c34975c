//! A change of one partition: several records, and what the replica has seen, all or nothing.

use super::meta::PartState;
use super::part::{Held, Part};
use super::replica::{Replica, failure_of};
use crate::clock::{RUNS_MAX, RUNS_STORED_MAX};
use crate::codec::message::{Cause, Item};
use crate::layout;
use crate::merkle::Span;
use crate::record::{Record, VERSIONS_MAX};
use crate::transport::{Detail, Failure};
use base::sync::MutexGuard;
use base::{KeyspaceId, Slice, planted};
use lsm::{Durability, Keyspace};
use ring::{NodeId, Partition};
use std::collections::BTreeMap;

/// When an exchange may have closed gaps in what was seen.
const RETRY_AFTER_MICROS: u64 = 1_000_000;

/// What will be written in one batch. Holds its partition until it is committed or dropped.
pub(crate) struct Change<'a> {
    replica: &'a Replica,
    keyspace: Keyspace,
    id: KeyspaceId,
    partition: Partition,
    part: &'a Part,
    held: MutexGuard<'a, Held>,
    /// As it will be stored.
    pub(crate) state: PartState,
    touched: BTreeMap<Slice, Touched>,
    /// A key of another keyspace, and its value, that are stored in the same batch.
    pub(crate) also: Option<(Keyspace, Vec<u8>, Vec<u8>)>,
}

struct Touched {
    before: Option<Record>,
    now: Record,
    /// Written whatever it is: what is stored cannot be read.
    anew: bool,
}

impl<'a> Change<'a> {
    pub(crate) fn of(
        replica: &'a Replica,
        id: KeyspaceId,
        partition: Partition,
        part: &'a Part,
    ) -> Result<Change<'a>, Failure> {
        let keyspace = replica.keyspace(id)?;
        let held = part.hold();
        let state = held.state.clone();
        let (touched, also) = (BTreeMap::new(), None);
        Ok(Change { replica, keyspace, id, partition, part, held, state, touched, also })
    }

    /// True if the replica may make dots here and be read.
    pub(crate) fn is_complete(&self) -> bool {
        self.state.actor == self.replica.actor()
    }

    /// The partition was compared with `peer`. Once it was with all other owners, it is complete: all that any of them has is here.
    pub(crate) fn note_peer(&mut self, peer: NodeId, owners: &[NodeId]) {
        if self.is_complete() {
            return;
        }
        self.held.compared.insert(peer);
        let own = self.replica.id();
        if owners.iter().all(|owner| *owner == own || self.held.compared.contains(owner)) {
            self.become_complete();
        }
    }

    /// All that was ever acknowledged is here. Dots go on behind those that this actor made in the partition before it left and came
    /// back.
    pub(crate) fn become_complete(&mut self) {
        let actor = self.replica.actor();
        self.state.actor = actor;
        self.state.counter = self.state.counter.max(self.state.seen.newest(actor));
        self.held.compared.clear();
    }

    /// Joins leaves of the tree that searches cut small, or deletes left empty, once there are many of them.
    pub(crate) fn tidy_tree(&mut self) {
        self.held.tree.tidy_if_cut_up();
    }

    pub(crate) fn has_holes(&self) -> bool {
        !self.held.holes.is_empty()
    }

    /// A record that the floor lets go is written as none.
    pub(crate) fn drop_if_it_can_go(&mut self, key: &Slice) {
        let floor = &self.state.floor;
        if let Some(touched) = self.touched.get_mut(key).filter(|one| one.now.can_go(floor)) {
            touched.now = Record::default();
        }
    }

    pub(crate) fn is_hole(&self, key: &[u8]) -> bool {
        self.held.is_hole(key)
    }

    /// The record of `key` as this change leaves it; `None` if there is none.
    ///
    /// # Errors
    /// [`Failure::Damaged`]; the key is out of service from then on.
    pub(crate) fn record(&mut self, key: &Slice) -> Result<Option<&Record>, Failure> {
        if !self.touched.contains_key(key) {
            let stored = self.replica.stored(&self.keyspace, self.partition, key);
            if matches!(stored, Err(Failure::Damaged)) {
                self.held.quarantine(key);
                self.part.show(&self.held);
            }
            let before = stored?;
            let now = before.clone().unwrap_or_default();
            self.touched.insert(key.clone(), Touched { before, now, anew: false });
        }
        let touched = self.touched.get(key);
        Ok(touched.map(|touched| &touched.now).filter(|now| **now != Record::default()))
    }

    /// What is left of the record of `key` in a hole; nothing if it cannot be read, then it is written anew.
    ///
    /// # Errors
    /// Those of the database.
    pub(crate) fn left(&mut self, key: &Slice) -> Result<Record, Failure> {
        match self.record(key) {
            Ok(record) => Ok(record.cloned().unwrap_or_default()),
            Err(Failure::Damaged) => {
                let touched = Touched { before: None, now: Record::default(), anew: true };
                self.touched.insert(key.clone(), touched);
                Ok(Record::default())
            }
            Err(failure) => Err(failure),
        }
    }

    /// Whether a record can be stored and sent: with more versions, or beyond so many gaps in what it accounts for, nobody could read it
    /// again.
    ///
    /// # Errors
    /// [`Failure::TooManySiblings`], [`Failure::Invalid`].
    pub(crate) fn check_readable(&self, record: &Record) -> Result<(), Failure> {
        if record.versions().len() > VERSIONS_MAX {
            return Err(Failure::TooManySiblings { max: VERSIONS_MAX as u64 });
        }
        let runs = record.context().runs().len();
        if runs <= RUNS_STORED_MAX {
            return Ok(());
        }
        match record.context().difference(&self.state.floor.dots).runs().len() {
            0..=RUNS_STORED_MAX => Ok(()),
            runs => Err(Failure::Invalid(Detail::new(format!(
                "the key would account for {runs} runs of writes, {RUNS_STORED_MAX} at most; write with a token of this key that a read returned"
            )))),
        }
    }

    /// Whether dots can be added to what was seen. What others hand out finds room below half of what can be read again; exchanges, which
    /// close the gaps, go beyond.
    ///
    /// # Errors
    /// [`Failure::Overloaded`]: the exchange brings them.
    pub(crate) fn check_seen(&self, cause: Cause, item: &Item) -> Result<(), Failure> {
        let max = match cause {
            Cause::Exchange | Cause::Move => RUNS_MAX,
            Cause::Write | Cause::ReadRepair | Cause::Hint => RUNS_STORED_MAX,
        };
        let seen = &self.state.seen;
        if seen.runs().len() + item.record.versions().len() < max {
            return Ok(());
        }
        let versions = item.record.versions().iter().map(|version| version.dot);
        let known = |dot| seen.contains(dot);
        match versions.chain(item.made_by).all(known) {
            true => Ok(()),
            false => Err(Failure::Overloaded { retry_after_micros: RETRY_AFTER_MICROS }),
        }
    }

    /// Sets the record of a key that was looked at by [`record`](Self::record); says whether that changes it. What the floor says
    /// is taken out.
    pub(crate) fn set(&mut self, key: &Slice, mut record: Record) -> bool {
        record.strip(&self.state.floor.dots);
        let Some(touched) = self.touched.get_mut(key) else { return false };
        let changes = touched.now != record;
        touched.now = record;
        changes
    }

    /// Writes and syncs it, if there is anything to write.
    ///
    /// # Errors
    /// What the database says; the partition is as it was in memory. With [`Failure::Internal`] it is not known what is stored.
    pub(crate) fn commit(mut self) -> Result<(), Failure> {
        self.keep_what_changes();
        let floor = self.state.floor.clone();
        let is_stored = |record: &Record| !record.can_go(&floor);
        if self.touched.is_empty() && self.state == self.held.state && self.also.is_none() {
            return Ok(());
        }
        self.replica.note_write();
        let mut batch = self.replica.db().batch();
        for (key, touched) in &self.touched {
            let stored_key = layout::stored_key(self.partition, key);
            if is_stored(&touched.now) {
                batch.put_in(&self.keyspace, stored_key, touched.now.encode());
            } else {
                batch.delete_in(&self.keyspace, stored_key);
            }
        }
        if let Some((keyspace, key, value)) = self.also.take() {
            batch.put_in(&keyspace, key, value);
        }
        if !planted::is(86) {
            self.replica.meta().put_part(&mut batch, self.id, self.partition, &self.state);
        }
        let durability = if planted::is(83) { Durability::Buffered } else { Durability::Sync };
        batch.commit_with(durability).map_err(|error| failure_of(&error))?;
        for (key, touched) in std::mem::take(&mut self.touched) {
            let old = touched.before.and_then(|before| before.fingerprint(&key));
            let new = Some(touched.now).filter(is_stored).and_then(|now| now.fingerprint(&key));
            self.held.tree.update(&key, old, new);
        }
        self.held.state = self.state;
        self.part.show(&self.held);
        Ok(())
    }

    /// Writes records of keys of which nothing is stored into tables, past log and memtable, if they are most of all. To be called right
    /// before [`commit`](Self::commit), which writes what is left.
    ///
    /// What is ingested is newer to the database than all that it holds. It hides nothing: the partition is held, so nobody has
    /// written one of these keys since this change looked and found none. The tables are there before the batch that says that
    /// their dots were seen: after a crash in between records are stored and not seen, so they come again and merge with themselves.
    ///
    /// # Errors
    /// As for [`commit`](Self::commit); some of the records may be stored.
    pub(super) fn write_tables(&mut self) -> Result<(), Failure> {
        self.keep_what_changes();
        let floor = &self.state.floor;
        let is_new = |one: &Touched| one.before.is_none() && !one.anew && !one.now.can_go(floor);
        let (new, others): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut self.touched).into_iter().partition(|(_, one)| is_new(one));
        self.touched = others;
        if new.len() <= self.touched.len() {
            self.touched.extend(new);
            return Ok(());
        }
        self.replica.note_write();
        self.store_first_state()?;
        self.ingest(new)
    }

    /// A start takes a partition without a state for empty: no record is stored before one is.
    fn store_first_state(&self) -> Result<(), Failure> {
        let meta = self.replica.meta();
        let stored = meta.part(self.id, self.partition).map_err(|error| failure_of(&error))?;
        if stored.is_some() {
            return Ok(());
        }
        let mut batch = self.replica.db().batch();
        meta.put_part(&mut batch, self.id, self.partition, &self.held.state);
        batch.commit_with(Durability::Sync).map_err(|error| failure_of(&error))
    }

    /// Drops what is written as it was, or says nothing and was not there: that is as good as no record.
    fn keep_what_changes(&mut self) {
        let floor = &self.state.floor;
        self.touched.retain(|_, touched| {
            let is_new = touched.before.is_none();
            let changes = touched.before.as_ref() != Some(&touched.now);
            touched.anew || (changes && !(is_new && touched.now.can_go(floor)))
        });
    }

    /// Writes records into tables, which are synced then.
    fn ingest(&mut self, new: BTreeMap<Slice, Touched>) -> Result<(), Failure> {
        let pairs = new
            .iter()
            .map(|(key, touched)| (layout::stored_key(self.partition, key), touched.now.encode()));
        if let Err(error) = self.keyspace.ingest(pairs) {
            // Nobody knows whether they are there.
            self.held.tree.forget(&Span::all());
            return Err(failure_of(&error));
        }
        for (key, touched) in new {
            self.held.tree.update(&key, None, touched.now.fingerprint(&key));
        }
        Ok(())
    }
}
