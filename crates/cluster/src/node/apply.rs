//! Writes that this replica makes, and records that others send it.

use super::change::Change;
use super::replica::Replica;
use super::view::Policy;
use crate::clock::{Context, Dot, Stamp};
use crate::codec::message::{Cause, Item, Op, Outcome};
use crate::layout;
use crate::record::{Mode, Record, Refused, Write};
use crate::transport::{Detail, Failure};
use base::{KeyspaceId, planted};
use ring::Partition;

/// A write that is stored and synced here.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    pub(crate) dot: Dot,
    pub(crate) stamp: Stamp,
    /// What it replaced, and itself.
    pub(crate) context: Context,
    /// To be sent to the other owners.
    pub(crate) item: Item,
}

impl Replica {
    /// Carries out writes as an owner, in one synced batch. Each has its own outcome; one that is refused changes nothing.
    pub(crate) fn make(
        &self,
        id: KeyspaceId,
        partition: Partition,
        policy: &Policy,
        ops: &[&Op],
    ) -> Vec<Result<Made, Failure>> {
        let all = |failure: Failure| ops.iter().map(|_| Err(failure.clone())).collect();
        let part = match self.part(id, partition) {
            Ok(part) => part,
            Err(failure) => return all(failure),
        };
        let mut change = match Change::of(self, id, partition, &part) {
            Ok(change) if change.is_complete() => change,
            Ok(_) => return all(Failure::NotReady),
            Err(failure) => return all(failure),
        };
        let made: Vec<_> = ops.iter().map(|op| self.make_one(&mut change, policy, op)).collect();
        match change.commit() {
            Ok(()) => made,
            Err(failure) => made.into_iter().map(|made| made.and(Err(failure.clone()))).collect(),
        }
    }

    /// Carries out a write once more, with a later stamp, unless something else was stored here since it was `made`: that may be the write of
    /// a client which has read this one, and comes after it.
    pub(crate) fn make_again(
        &self,
        id: KeyspaceId,
        partition: Partition,
        policy: &Policy,
        op: &Op,
        made: Dot,
    ) -> Result<Made, Failure> {
        let part = self.part(id, partition)?;
        let mut change = Change::of(self, id, partition, &part)?;
        if !change.is_complete() {
            return Err(Failure::NotReady);
        }
        let stored = change.record(&op.key)?.and_then(|record| record.versions().first());
        match stored {
            Some(stored) if stored.dot == made => {}
            Some(stored) => return Err(Failure::StaleStamp { after: stored.stamp }),
            None => return Err(Failure::StaleStamp { after: change.state.promised }),
        }
        let made = self.make_one(&mut change, policy, op)?;
        change.commit().map(|()| made)
    }

    fn make_one(&self, change: &mut Change<'_>, policy: &Policy, op: &Op) -> Result<Made, Failure> {
        if op.key.len() > layout::KEY_BYTES_MAX {
            let detail =
                format!("key of {} bytes, {} at most", op.key.len(), layout::KEY_BYTES_MAX);
            return Err(Failure::Invalid(Detail::new(detail)));
        }
        if change.is_hole(&op.key) {
            return Err(Failure::Damaged);
        }
        let stored = change.record(&op.key)?.cloned().unwrap_or_default();
        let after = op.after.max(change.state.promised);
        let after =
            if policy.mode == Mode::LastWriterWins { after.max(stored.stamp()) } else { after };
        let dot = Dot::new(change.state.actor, change.state.counter + 1);
        let stamp = self.stamp_after(after)?;
        let write = Write {
            dot,
            stamp,
            value: op.value.clone(),
            expires_micros: op.expires_micros,
            replaces: &op.replaces,
            by_owner: true,
        };
        let record = stored.write(&write, policy.mode, &policy.bounds).map_err(refusal)?;
        change.check_readable(&record)?;
        change.state.counter = dot.counter;
        change.state.seen.insert(dot);
        let mut sent = record.clone();
        change.set(&op.key, record);
        sent.fill(&change.state.floor.dots);
        let mut context = op.replaces.clone();
        context.insert(dot);
        Ok(Made {
            dot,
            stamp,
            context,
            item: Item { key: op.key.clone(), record: sent, made_by: Some(dot) },
        })
    }

    /// Merges records into those of this replica, in one synced batch.
    pub(crate) fn apply(
        &self,
        id: KeyspaceId,
        partition: Partition,
        mode: Mode,
        cause: Cause,
        items: &[Item],
    ) -> Vec<Result<Outcome, Failure>> {
        let all = |failure: Failure| items.iter().map(|_| Err(failure.clone())).collect();
        let part = match self.part(id, partition) {
            Ok(part) => part,
            Err(failure) => return all(failure),
        };
        let mut change = match Change::of(self, id, partition, &part) {
            Ok(change) => change,
            Err(failure) => return all(failure),
        };
        let applied: Vec<_> =
            items.iter().map(|item| self.apply_one(&mut change, mode, cause, item)).collect();
        match change.commit() {
            Ok(()) => applied,
            Err(failure) => applied.into_iter().map(|one| one.and(Err(failure.clone()))).collect(),
        }
    }

    pub(super) fn apply_one(
        &self,
        change: &mut Change<'_>,
        mode: Mode,
        cause: Cause,
        item: &Item,
    ) -> Result<Outcome, Failure> {
        if change.is_hole(&item.key) {
            return Err(Failure::Damaged);
        }
        self.check_own_dots(change, item)?;
        change.check_seen(cause, item)?;
        let stored = change.record(&item.key)?.cloned();
        let mut incoming = item.record.clone();
        // Before what comes late is dropped: an exchange may have brought the write earlier, and it lost.
        if mode == Mode::LastWriterWins && cause == Cause::Write {
            check_not_lost(stored.as_ref(), &incoming, change.state.promised)?;
        }
        if !planted::is(84) {
            incoming.drop_late(stored.as_ref(), &change.state.seen);
        }
        let merged = stored.unwrap_or_default().merge(&incoming, mode);
        change.check_readable(&merged.record)?;
        for version in item.record.versions() {
            change.state.seen.insert(version.dot);
            self.follow(version.stamp);
        }
        if let Some(dot) = item.made_by {
            change.state.seen.insert(dot);
        }
        let changes = change.set(&item.key, merged.record);
        Ok(if changes { Outcome::Stored } else { Outcome::Known })
    }

    /// Nobody can have seen a dot of this node that it has not made: if somebody has, the disk has lost some.
    fn check_own_dots(&self, change: &Change<'_>, item: &Item) -> Result<(), Failure> {
        let own = change.state.actor;
        let versions = item.record.versions().iter().map(|version| version.dot);
        let dots = versions.chain(item.made_by).filter(|dot| dot.actor == own);
        let newest = dots.map(|dot| dot.counter).max().unwrap_or(0);
        let newest = newest.max(item.record.context().newest(own));
        if newest <= change.state.counter || !change.is_complete() {
            return Ok(());
        }
        self.note_outdated();
        Err(Failure::NotReady)
    }
}

/// A write must be seen by who reads after it: one that would lose to what is stored is to be stamped again.
fn check_not_lost(
    stored: Option<&Record>,
    incoming: &Record,
    promised: Stamp,
) -> Result<(), Failure> {
    let Some(version) = incoming.versions().first() else { return Ok(()) };
    let stored = stored.and_then(|stored| stored.versions().first());
    match stored {
        Some(stored) if stored.dot == version.dot => Ok(()),
        Some(stored) if (stored.stamp, stored.dot) > (version.stamp, version.dot) => {
            Err(Failure::StaleStamp { after: stored.stamp })
        }
        _ if version.stamp <= promised => Err(Failure::StaleStamp { after: promised }),
        _ => Ok(()),
    }
}

/// What a client is told of a write that the record does not take.
fn refusal(refused: Refused) -> Failure {
    match refused {
        Refused::TooManySiblings { max } => Failure::TooManySiblings { max: max as u64 },
        Refused::TooManyBytes { .. } => Failure::Invalid(Detail::new(refused.to_string())),
        Refused::StampTooOld { stored } => Failure::StaleStamp { after: stored },
        // Somebody knows more of this node's writes than it does itself.
        Refused::DotKnown { .. } => Failure::NotReady,
    }
}
