//! Handoff: records that are kept for an owner until it can be reached again.
//!
//! The owner that makes a write keeps it for other owners that did not take it, so that they have it soon after they are back; the
//! exchange would bring it too, later. With a sloppy quorum a stand-in keeps it, synced, before the write is answered. Hints are bounded
//! in bytes for each owner; one that finds no room is dropped, and the exchange remains.

mod store;
#[cfg(test)]
mod tests;

pub(crate) use store::Hints;
use store::{BATCH_BYTES_MAX, Batch, Kept};

use crate::codec::message::{Answer, Apply, Cause, HintStored, Item, StoreHint};
use crate::facade::{Pending, pending};
use crate::node::{Node, View};
use crate::transport::{Detail, Failure};
use base::{KeyspaceId, Slice};
use lsm::Durability;
use ring::{Epoch, NodeId, Partition};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// Where there is nothing to hand over, the pause is so many times as long.
const IDLE: u64 = 10;

impl Node {
    /// Keeps a write for an owner that did not take it, if there is room.
    pub(crate) fn keep_hint(
        &self,
        target: NodeId,
        keyspace: KeyspaceId,
        partition: Partition,
        items: &[Item],
    ) {
        // The write itself is synced at its owners: this one only saves the exchange the way.
        let durability = Durability::Buffered;
        let Ok(mode) = self.view().policy(keyspace).map(|policy| policy.mode) else { return };
        let (hints, keyspace) = (self.hints(), (keyspace, mode));
        // Without room the exchange brings it.
        drop(hints.keep(self.replica(), target, keyspace, partition, items, durability));
    }

    /// Keeps records as a stand-in.
    pub(crate) fn store_hint(&self, epoch: Epoch, hint: &StoreHint) -> Result<HintStored, Failure> {
        let StoreHint { target, keyspace, partition, items } = hint;
        self.fenced(*keyspace, *partition, epoch, |view| {
            if *target == self.id() || !view.takes(*target, *keyspace, *partition) {
                let detail = format!("{target} does not own {partition} of keyspace {keyspace}");
                return Err(Failure::Invalid(Detail::new(detail)));
            }
            let (hints, replica, durability) = (self.hints(), self.replica(), Durability::Sync);
            let keyspace = (*keyspace, view.policy(*keyspace)?.mode);
            let bytes = hints.keep(replica, *target, keyspace, *partition, items, durability)?;
            Ok(HintStored { bytes })
        })
    }

    /// Bytes of hints that this node keeps for others.
    #[must_use]
    pub fn hint_bytes(&self) -> u64 {
        self.hints().bytes()
    }

    /// Ends when all hints that this node keeps now are handed over, or need not be any more. Waits as long as an owner is away.
    pub fn when_hints_delivered(&self, patience_micros: u64) -> Pending<()> {
        let (teller, pending) = pending(patience_micros);
        self.hints().when_delivered(teller);
        pending
    }

    /// Hands hints over, again and again.
    pub(crate) fn hand_over(self: &Arc<Self>) {
        self.hand_over_in(self.hint_micros());
    }

    fn hand_over_in(self: &Arc<Self>, micros: u64) {
        self.later(micros, |node| node.work_in_background(Node::hand_over_some));
    }

    fn hand_over_some(self: &Arc<Self>) {
        let targets = self.by_promise(&self.hints().targets());
        let mut reachable = targets.into_iter().filter(|target| !self.is_silent(*target));
        // Where a pass is over it is the next one's turn.
        match reachable.find_map(|target| self.hints().next_batch(target)) {
            Some(batch) => self.send_hints(batch),
            None => self.hand_over_in(IDLE * self.hint_micros()),
        }
    }

    fn send_hints(self: &Arc<Self>, batch: Batch) {
        let Batch { target, keyspace, partition, kept } = &batch;
        let view = self.view();
        let items: VecDeque<Item> = kept.iter().flat_map(Kept::items).collect();
        if !view.takes(*target, *keyspace, *partition) {
            return self.redirect(&view, &batch, items.into());
        }
        self.send_pieces(view.epoch(), batch, items, BTreeSet::new());
    }

    /// Sends what is left of a batch, as much at a time as one request holds. `refused` are keys that the owner did not take.
    fn send_pieces(
        self: &Arc<Self>,
        epoch: Epoch,
        batch: Batch,
        mut left: VecDeque<Item>,
        mut refused: BTreeSet<Slice>,
    ) {
        if left.is_empty() {
            self.hints().drop_delivered(self.replica(), &batch, &refused);
            return self.hand_over();
        }
        let (keyspace, partition, cause) = (batch.keyspace, batch.partition, Cause::Hint);
        let items = Item::take_piece(&mut left, self.page_bytes(BATCH_BYTES_MAX as u32) as usize);
        let keys: Vec<Slice> = items.iter().map(|item| item.key.clone()).collect();
        let apply = Apply { keyspace, partition, cause, items };
        self.ask_at(epoch, batch.target, self.patience(), apply, move |node, ended| match ended {
            Ok(Answer::Applied(applied)) if applied.results.len() == keys.len() => {
                let results = keys.into_iter().zip(applied.results);
                refused.extend(results.filter(|(_, result)| result.is_err()).map(|(key, _)| key));
                node.send_pieces(epoch, batch, left, refused);
            }
            _ => {
                node.hints().give_up_pass(batch.target);
                node.hand_over();
            }
        });
    }

    /// The hints are for a node that does not own the partition any more: they are for those who do.
    fn redirect(self: &Arc<Self>, view: &View, batch: &Batch, items: Vec<Item>) {
        let (keyspace, partition, cause) = (batch.keyspace, batch.partition, Cause::Hint);
        let apply = Apply { keyspace, partition, cause, items };
        // A keyspace that is gone has no owners, and its hints go with it.
        let owners = view.owners(keyspace, partition);
        let (hints, replica) = (self.hints(), self.replica());
        let kept = owners.iter().try_for_each(|owner| match *owner == self.id() {
            true => {
                let merged = self.merge(view.epoch(), &apply)?;
                merged.results.into_iter().try_for_each(|result| result.map(drop))
            }
            false => {
                let keyspace = (keyspace, view.policy(keyspace)?.mode);
                let (items, durability) = (&apply.items, Durability::Sync);
                hints.keep(replica, *owner, keyspace, partition, items, durability).map(drop)
            }
        });
        match kept {
            Ok(()) => hints.drop_delivered(replica, batch, &BTreeSet::new()),
            // No room, or other owners by now: later.
            Err(_) => hints.give_up_pass(batch.target),
        }
        self.hand_over_in(if kept.is_ok() { 1 } else { IDLE } * self.hint_micros());
    }
}
