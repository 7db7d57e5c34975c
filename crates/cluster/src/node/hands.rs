//! What a mover wants done, done to the database of its node.
//!
//! ```text
//! in keyspace `_jobs`:
//! key                                       value
//! replicas u8, partition u32 BE             how far the move has come, as `rebalance` encodes it
//! ```
//! Everything here is done under a fence: what comes late, when the node neither owns nor receives the partition any more, changes nothing.

use super::meta::PartState;
use super::{Change, Node, Replica, failure_of};
use crate::clock::Actor;
use crate::codec::message::{Answer, Cause, Item, Transfer, Transferred};
use crate::exchange::Ended;
use crate::layout;
use crate::merkle::Tree;
use crate::rebalance::{Cursor, MoveRecord, MoverEffect, MoverEvent, Moving, Ticket};
use crate::record::Mode;
use crate::topology::{JobId, Role};
use crate::transport::{Detail, Failure};
use base::{KeyspaceId, Slice, planted};
use lsm::{Db, Durability, Keyspace, KeyspaceOptions};
use ring::{NodeId, Partition};
use std::collections::BTreeMap;
use std::sync::Arc;

const KEYSPACE: &str = "_jobs";
/// Bytes of a page.
const PAGE_BYTES: u32 = 1 << 20;

/// How far moves have come, on disk.
#[derive(Debug)]
pub(super) struct Jobs {
    keyspace: Keyspace,
}

impl Jobs {
    pub(super) fn open(db: &Db) -> lsm::Result<Jobs> {
        Ok(Jobs { keyspace: db.keyspace(KEYSPACE, KeyspaceOptions::default())? })
    }

    /// What was stored. A record that cannot be read counts as none: its move begins again.
    pub(super) fn records(&self) -> lsm::Result<BTreeMap<Moving, MoveRecord>> {
        let mut records = BTreeMap::new();
        for pair in self.keyspace.iter() {
            let (key, value) = pair?;
            if let (Some(moving), Ok(record)) = (moving_of(&key), MoveRecord::decode(&value)) {
                records.insert(moving, record);
            }
        }
        Ok(records)
    }

    fn put(&self, moving: Moving, record: &MoveRecord) -> lsm::Result<()> {
        self.keyspace.put_with(key_of(moving), record.encode(), Durability::Sync)
    }
}

fn key_of(moving: Moving) -> Vec<u8> {
    [&[moving.replicas][..], &moving.partition.0.to_be_bytes()].concat()
}

fn moving_of(key: &[u8]) -> Option<Moving> {
    let (&replicas, partition) = key.split_first()?;
    let partition = Partition(u32::from_be_bytes(partition.try_into().ok()?));
    Some(Moving { replicas, partition })
}

impl Node {
    /// Does what the mover wants done in the database, and tells it how that ended.
    pub(super) fn carry_out(self: &Arc<Self>, effect: MoverEffect) {
        let told = |ended: Result<(), Failure>| ended.map_err(drop);
        match effect {
            MoverEffect::Fetch { ticket, from, moving, record } => {
                self.fetch(ticket, from, moving, record);
            }
            MoverEffect::CatchUp { ticket, with, moving } => {
                self.catch_up(ticket, with, moving, self.moved_keyspaces(moving));
            }
            MoverEffect::Store { ticket, moving, record } => {
                let stored = self.store_move(moving, &record);
                self.move_on(MoverEvent::Done(ticket, told(stored)));
            }
            MoverEffect::Drop { ticket, moving } => {
                let dropped = self.drop_copy(moving);
                self.move_on(MoverEvent::Done(ticket, told(dropped)));
            }
            // A record of a job that is over counts for nothing.
            MoverEffect::Forget { moving } => drop(self.jobs.keyspace.delete(key_of(moving))),
            MoverEffect::AskEpoch { .. } | MoverEffect::Wake { .. } => {}
        }
    }

    /// Keyspaces that move together, ascending.
    fn moved_keyspaces(&self, moving: Moving) -> Vec<(KeyspaceId, Mode)> {
        let view = self.view();
        let moved = view.keyspaces().filter(|(_, p)| p.replicas == usize::from(moving.replicas));
        moved.map(|(id, policy)| (id, policy.mode)).collect()
    }

    fn fetch(self: &Arc<Self>, ticket: Ticket, from: NodeId, moving: Moving, record: MoveRecord) {
        let (epoch, keyspaces, job) = (self.epoch(), self.moved_keyspaces(moving), record.job);
        let at = record.cursor.clone();
        let at = at.unwrap_or(Cursor { keyspace: KeyspaceId(0), key: Slice::default() });
        let mut ahead = keyspaces.into_iter().filter(move |(id, _)| *id >= at.keyspace);
        let Some((keyspace, mode)) = ahead.next() else {
            return self.move_on(MoverEvent::Fetched(ticket, Ok((0, None))));
        };
        let following = ahead.next().map(|(id, _)| Cursor { keyspace: id, key: Slice::default() });
        let start = if keyspace == at.keyspace { at.key } else { Slice::default() };
        let (partition, bytes_max) = (moving.partition, PAGE_BYTES);
        let transfer = Transfer { keyspace, partition, start, end: None, beyond: None, bytes_max };
        self.ask_at(epoch, from, self.patience(), transfer, move |node, ended| {
            let taken = match ended {
                Ok(Answer::Transferred(Transferred { items, next })) => {
                    let next = next.map(|key| Cursor { keyspace, key }).or(following);
                    let len = |item: &Item| item.key.len() + item.record.encode().len();
                    let bytes = items.iter().map(len).sum::<usize>() as u64;
                    let record =
                        MoveRecord { cursor: next.clone(), bytes: record.bytes + bytes, ..record };
                    let also = (node.jobs.keyspace.clone(), key_of(moving), record.encode());
                    let taken = node.fenced(keyspace, partition, epoch, |view| {
                        if !view.takes(node.id(), keyspace, partition) {
                            return Err(Failure::NotReady);
                        }
                        node.replica.take_page(keyspace, partition, mode, &items, also)
                    });
                    taken.map(|()| {
                        node.count_fetched(job, bytes);
                        (bytes, next)
                    })
                }
                Ok(_) => Err(Failure::Internal(Detail::new("no answer to this"))),
                Err(failure) => Err(failure),
            };
            node.move_on(MoverEvent::Fetched(ticket, taken.map_err(drop)));
        });
    }

    fn count_fetched(&self, job: JobId, bytes: u64) {
        let mut fetched = self.fetched.lock();
        let before = if fetched.0 == job { fetched.1 } else { 0 };
        *fetched = (job, before + bytes);
    }

    /// Bytes that this node has fetched for `job` since it was started.
    #[must_use]
    pub fn bytes_fetched(&self, job: JobId) -> u64 {
        let fetched = self.fetched.lock();
        if fetched.0 == job { fetched.1 } else { 0 }
    }

    /// Exchanges one keyspace after the other, the last one first.
    fn catch_up(
        self: &Arc<Self>,
        ticket: Ticket,
        with: NodeId,
        moving: Moving,
        mut left: Vec<(KeyspaceId, Mode)>,
    ) {
        let Some((keyspace, _)) = left.pop() else {
            return self.move_on(MoverEvent::Done(ticket, Ok(())));
        };
        self.exchange(keyspace, moving.partition, with, move |node, ended| match ended {
            Ended::Complete { .. } => node.catch_up(ticket, with, moving, left),
            Ended::Partial => node.move_on(MoverEvent::Done(ticket, Err(()))),
        });
    }

    /// Stores how far a move has come. A receiver that has caught up holds all that was ever acknowledged: it is complete.
    fn store_move(&self, moving: Moving, record: &MoveRecord) -> Result<(), Failure> {
        if let Some(since) = record.caught_up {
            for (keyspace, _) in self.moved_keyspaces(moving) {
                self.fenced(keyspace, moving.partition, since, |view| {
                    let role = view.placed(keyspace, moving.partition)?.role(self.id);
                    match role {
                        Some(Role::Receiver) => self.replica.complete(keyspace, moving.partition),
                        _ => Ok(()),
                    }
                })?;
            }
        }
        self.jobs.put(moving, record).map_err(|error| failure_of(&error))
    }

    /// Deletes what is stored of a partition that this node does not own any more.
    fn drop_copy(&self, moving: Moving) -> Result<(), Failure> {
        for (keyspace, _) in self.moved_keyspaces(moving) {
            self.fenced(keyspace, moving.partition, self.epoch(), |view| {
                if view.takes(self.id, keyspace, moving.partition) && !planted::is(95) {
                    return Err(Failure::NotReady);
                }
                self.replica.drop_part(keyspace, moving.partition)
            })?;
        }
        let forgotten = self.jobs.keyspace.delete_with(key_of(moving), Durability::Sync);
        forgotten.map_err(|error| failure_of(&error))
    }
}

impl Replica {
    /// Merges a page, and stores one thing more in the same batch. All of it or nothing.
    fn take_page(
        &self,
        id: KeyspaceId,
        partition: Partition,
        mode: Mode,
        items: &[Item],
        also: (Keyspace, Vec<u8>, Vec<u8>),
    ) -> Result<(), Failure> {
        let part = self.part(id, partition)?;
        let mut change = Change::of(self, id, partition, &part)?;
        for item in items {
            self.apply_one(&mut change, mode, Cause::Move, item)?;
        }
        change.also = Some(also);
        change.commit()
    }

    /// All that was ever acknowledged is here.
    fn complete(&self, id: KeyspaceId, partition: Partition) -> Result<(), Failure> {
        let part = self.part(id, partition)?;
        let mut change = Change::of(self, id, partition, &part)?;
        change.become_complete();
        change.commit()
    }

    /// Deletes all of a partition, synced. What is left is how many dots were made in it: none of them is made again.
    fn drop_part(&self, id: KeyspaceId, partition: Partition) -> Result<(), Failure> {
        let (keyspace, part) = (self.keyspace(id)?, self.part(id, partition)?);
        let mut held = part.hold();
        let counter = held.state.counter;
        // No actor makes dots under number 0: the replica is complete for nobody.
        let state = PartState { counter, ..PartState::empty(Actor(0)) };
        let mut batch = self.db().batch();
        batch.delete_range_in(&keyspace, layout::range_of(partition));
        self.meta().put_part(&mut batch, id, partition, &state);
        self.meta().forget_holes(&mut batch, id, partition);
        batch.commit_with(Durability::Sync).map_err(|error| failure_of(&error))?;
        (held.state, held.tree) = (state, Tree::empty());
        held.holes.clear();
        held.compared.clear();
        part.show(&held);
        Ok(())
    }
}
