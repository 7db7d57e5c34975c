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
use crate::exchange::Ended;
use crate::layout;
use crate::merkle::Tree;
use crate::rebalance::{MoveRecord, MoverEffect, MoverEvent, Moving, Ticket};
use crate::record::Mode;
use crate::topology::Role;
use crate::transport::Failure;
use base::{KeyspaceId, planted};
use lsm::{Db, Durability, Keyspace, KeyspaceOptions};
use ring::{NodeId, Partition};
use std::collections::BTreeMap;
use std::sync::Arc;

const KEYSPACE: &str = "_jobs";

/// How far moves have come, on disk.
#[derive(Debug)]
pub(super) struct Jobs {
    pub(super) keyspace: Keyspace,
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

pub(super) fn key_of(moving: Moving) -> Vec<u8> {
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
            MoverEffect::Fetch { ticket, from, moving, record, bytes_max } => {
                self.fetch(ticket, from, moving, record, bytes_max);
            }
            MoverEffect::CatchUp { ticket, with, moving } => {
                self.catch_up(ticket, with, moving, self.moved_keyspaces(moving));
            }
            MoverEffect::Store { ticket, moving, record } => {
                let stored = self.store_move(moving, &record);
                self.move_on(MoverEvent::Done(ticket, told(stored)));
            }
            MoverEffect::Drop { ticket, moving } => {
                self.told.lock().remove(&moving);
                let dropped = self.drop_copy(moving);
                self.move_on(MoverEvent::Done(ticket, told(dropped)));
            }
            // A record of a job that is over counts for nothing.
            MoverEffect::Forget { moving } => {
                self.told.lock().remove(&moving);
                drop(self.jobs.keyspace.delete(key_of(moving)));
            }
            MoverEffect::AskEpoch { .. } | MoverEffect::Wake { .. } => {}
        }
    }

    /// Keyspaces that move together, ascending.
    pub(super) fn moved_keyspaces(&self, moving: Moving) -> Vec<(KeyspaceId, Mode)> {
        let view = self.view();
        let moved = view.keyspaces().filter(|(_, p)| p.replicas == usize::from(moving.replicas));
        moved.map(|(id, policy)| (id, policy.mode)).collect()
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
