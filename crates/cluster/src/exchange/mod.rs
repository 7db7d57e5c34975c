//! Anti-entropy: two owners of a partition find what they do not store alike, and tell each other.
//!
//! Always on, in small steps: a node compares one partition after the other with one owner after the other, one exchange at a time. When
//! one is complete, all that the peer had seen at its start is seen here; so a replica whose disk was lost is complete again once it
//! has compared a partition with all its other owners.
//!
//! Digests count what is stored, so they say nothing of deletes. Where the peer has seen dots that were not seen here, what it knows to be
//! replaced is [brought](pages) before all is compared. So this holds at every owner: a dot that it has seen is stored, or the context of
//! the key's record has it, or the floor. Else a replica could know by hearsay of a delete that it does not speak for, a third one could learn
//! of it from this one and still store what was deleted, and a round would take that for the proof that nobody does.

mod compare;
mod pages;
#[cfg(test)]
mod tests;

use crate::clock::Context;
use crate::codec::message::{
    Answer, Apply, Cause, Compared, Digests, Item, RangeDigest, Read, Seen, Stored, Wanted,
};
use crate::merkle::{Search, Span};
use crate::node::{Node, View};
use crate::record::{Floor, Mode, Record};
use crate::transport::{Detail, Failure};
use base::{KeyspaceId, Slice};
use ring::{Epoch, NodeId, Partition};
use std::collections::VecDeque;
use std::sync::Arc;

/// Records that are fetched in one request, at first; fewer where they are large.
const FETCH_MAX: usize = 64;
/// Bytes of records that are told in one request, unless one of them has more.
const TELL_BYTES: usize = 256 << 10;

/// Told how an exchange ended.
type Done = Box<dyn FnOnce(&Arc<Node>, Ended) + Send>;

/// How an exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// All was compared, and what differed was told.
    Complete {
        /// Keys that differed.
        differing: u64,
    },
    /// Some of it was not: the peer did not answer, or one of the two cannot read something.
    Partial,
}

/// One exchange, handed from step to step.
struct Exchange {
    /// Of the topology that it is carried out under.
    epoch: Epoch,
    keyspace: KeyspaceId,
    partition: Partition,
    mode: Mode,
    peer: NodeId,
    /// What the peer had seen at the start.
    theirs: Context,
    /// Its floor then.
    floor: Floor,
    /// The start that it was in. Whatever another one stores says nothing of what the peer had seen: its disk may be lost.
    start: u64,
    search: Search,
    /// Keys that differ and were not told yet.
    differing: VecDeque<Slice>,
    fetch_max: usize,
    told: u64,
    /// A key could not be told.
    incomplete: bool,
    /// What was replaced was brought, and everything is compared after that.
    brought: bool,
    done: Done,
}

impl Node {
    /// Compares a partition that this node owns, or is to own, with an owner of it. Ends early where the owners change meanwhile: nothing is
    /// merged or noted under other ones.
    pub(crate) fn exchange(
        self: &Arc<Self>,
        keyspace: KeyspaceId,
        partition: Partition,
        peer: NodeId,
        done: impl FnOnce(&Arc<Node>, Ended) + Send + 'static,
    ) {
        let view = self.view();
        let epoch = view.epoch();
        let Ok(mode) = view.policy(keyspace).map(|policy| policy.mode) else {
            return done(self, Ended::Partial);
        };
        let mut exchange = Box::new(Exchange {
            epoch,
            keyspace,
            partition,
            mode,
            peer,
            theirs: Context::new(),
            floor: Floor::default(),
            start: 0,
            search: Search::new(Span::all()),
            differing: VecDeque::new(),
            fetch_max: FETCH_MAX,
            told: 0,
            incomplete: false,
            brought: false,
            done: Box::new(done),
        });
        let seen = Seen { keyspace, partition, round: 0, stamp: crate::clock::Stamp::ZERO };
        self.ask_at(epoch, peer, self.patience(), seen, move |node, ended| match ended {
            Ok(Answer::SeenIs(seen)) => {
                exchange.start = seen.start;
                (exchange.theirs, exchange.floor) = (seen.seen, seen.floor);
                exchange.go(node);
            }
            _ => exchange.end(node, Ended::Partial),
        });
    }
}

impl Exchange {
    /// The next step: tells what differs, or looks further.
    fn go(mut self: Box<Self>, node: &Arc<Node>) {
        if !self.differing.is_empty() {
            return self.fetch(node);
        }
        match node.replica().search_next(self.keyspace, self.partition, &mut self.search) {
            Ok(Some(ranges)) => self.compare(node, ranges),
            Ok(None) => self.searched(node),
            Err(_) => self.end(node, Ended::Partial),
        }
    }

    fn compare(mut self: Box<Self>, node: &Arc<Node>, ranges: Vec<RangeDigest>) {
        let (keyspace, partition, of_start) = (self.keyspace, self.partition, self.start);
        let digests = Digests { keyspace, partition, ranges, of_start };
        node.ask_at(self.epoch, self.peer, node.patience(), digests, move |node, ended| {
            let taken = match ended {
                Ok(Answer::Digested(digested)) => self.take(node, digested.ranges),
                Err(Failure::AnswerTooLarge { .. }) if self.search.ask_less() => Ok(()),
                Ok(_) => Err(Failure::Internal(Detail::new("no answer to this"))),
                Err(failure) => Err(failure),
            };
            match taken {
                Ok(()) => self.go(node),
                Err(_) => self.end(node, Ended::Partial),
            }
        });
    }

    fn take(&mut self, node: &Node, answers: Vec<Compared>) -> Result<(), Failure> {
        let (keyspace, partition) = (self.keyspace, self.partition);
        node.replica().search_take(keyspace, partition, &mut self.search, answers)?;
        self.differing.extend(self.search.found().into_iter().map(|difference| difference.key));
        Ok(())
    }

    /// Asks for what the peer has of keys that differ.
    fn fetch(mut self: Box<Self>, node: &Arc<Node>) {
        let count = self.differing.len().min(self.fetch_max);
        let keys: Vec<Slice> = self.differing.drain(..count).collect();
        let read = Read {
            keyspace: self.keyspace,
            wanted: Wanted::Incomplete,
            keys: keys.clone(),
            of_start: self.start,
        };
        node.ask_at(self.epoch, self.peer, node.patience(), read, move |node, ended| match ended {
            Ok(Answer::Records(records)) if records.records.len() == keys.len() => {
                self.exchange_records(node, &keys, records.records);
            }
            Err(Failure::AnswerTooLarge { .. }) if keys.len() > 1 => {
                self.fetch_max = keys.len() / 2;
                keys.into_iter().rev().for_each(|key| self.differing.push_front(key));
                self.fetch(node);
            }
            _ => self.end(node, Ended::Partial),
        });
    }

    /// Merges what the peer has, and sends it what came of that.
    fn exchange_records(
        mut self: Box<Self>,
        node: &Arc<Node>,
        keys: &[Slice],
        theirs: Vec<Stored>,
    ) {
        let (keyspace, partition) = (self.keyspace, self.partition);
        self.told += keys.len() as u64;
        let mut items = Vec::new();
        for (key, stored) in keys.iter().zip(theirs) {
            let mut record = match stored {
                Stored::Whole(record) => record,
                Stored::Absent => Record::default(),
                // Damaged there: it is told what is here, and what it had is not known.
                _ => {
                    self.incomplete = true;
                    continue;
                }
            };
            if !node.replica().is_complete(keyspace, partition) {
                // What came late to a new disk is told from what is new by the peer: it has seen it, and has it no more.
                record.fill(&self.theirs);
                let dropped = node.fenced(keyspace, partition, self.epoch, |_| {
                    node.replica().drop_gone(keyspace, partition, key, &record)
                });
                self.incomplete |= dropped.is_err();
            }
            items.push(Item { key: key.clone(), record, made_by: None });
        }
        let merged = node.fenced(keyspace, partition, self.epoch, |_| {
            Ok(node.replica().apply(keyspace, partition, self.mode, Cause::Exchange, &items))
        });
        self.incomplete |= merged.map_or(true, |merged| merged.iter().any(Result::is_err));
        node.renew_if_outdated();
        let ours = keys.iter().filter_map(|key| {
            match node.replica().read_any(keyspace, partition, key) {
                Ok(record) => record,
                Err(_) => {
                    self.incomplete = true;
                    None
                }
            }
            .map(|record| Item { key: key.clone(), record, made_by: None })
        });
        let items = ours.collect();
        self.tell(node, items);
    }

    /// Sends records to the peer, as many at a time as one request holds.
    fn tell(self: Box<Self>, node: &Arc<Node>, mut items: VecDeque<Item>) {
        if items.is_empty() {
            return self.go(node);
        }
        let (keyspace, partition) = (self.keyspace, self.partition);
        let piece = Item::take_piece(&mut items, TELL_BYTES);
        let apply = Apply { keyspace, partition, cause: Cause::Exchange, items: piece };
        node.ask_at(
            self.epoch,
            self.peer,
            node.patience(),
            apply,
            move |node, ended| match ended {
                Ok(Answer::Applied(_)) => self.tell(node, items),
                _ => self.end(node, Ended::Partial),
            },
        );
    }

    /// All was compared. If the peer has seen more, and what it did not see stored may have been replaced, that is brought first.
    fn searched(mut self: Box<Self>, node: &Arc<Node>) {
        let whole = !self.incomplete && self.search.skipped().is_empty();
        if !whole {
            return self.end(node, Ended::Partial);
        }
        // Where the last writer wins a delete is stored like a value, and compared like one.
        if self.brought || self.mode == Mode::LastWriterWins {
            return self.finish(node);
        }
        self.brought = true;
        match node.replica().seen_less_than(self.keyspace, self.partition, &self.theirs) {
            Ok(None) => self.finish(node),
            Ok(Some(known)) => self.bring(node, known, Slice::default()),
            Err(_) => self.end(node, Ended::Partial),
        }
    }

    fn finish(self: Box<Self>, node: &Arc<Node>) {
        let (keyspace, partition) = (self.keyspace, self.partition);
        let note = |view: &View| {
            // A receiver is complete once its mover says so: it has to know who it brings everything from.
            let owner = view.is_owner(node.id(), keyspace, partition);
            let owners = owner.then(|| view.owners_alive(keyspace, partition));
            let told = compare::Told { peer: self.peer, seen: &self.theirs, floor: &self.floor };
            node.replica().note_exchange(keyspace, partition, &told, owners.as_deref())
        };
        let noted = node.fenced(keyspace, partition, self.epoch, note);
        if noted == Ok(true) {
            node.sweep(keyspace, partition);
        }
        let noted = noted.is_ok();
        let differing = self.told;
        self.end(node, if noted { Ended::Complete { differing } } else { Ended::Partial });
    }

    fn end(self: Box<Self>, node: &Arc<Node>, ended: Ended) {
        (self.done)(node, ended);
    }
}

/// Where the endless walk through partitions and peers is.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    waiting: VecDeque<(KeyspaceId, Partition, NodeId)>,
    /// Exchanges that were complete, and those that were not.
    pub(crate) complete: u64,
    pub(crate) partial: u64,
}

impl Node {
    /// Goes through all partitions that this node owns, and their other owners, again and again.
    pub(crate) fn walk(self: &Arc<Self>) {
        let interval = self.exchange_micros();
        self.later(interval, |node| node.work_in_background(Node::walk_on));
    }

    fn walk_on(self: &Arc<Self>) {
        let Some((keyspace, partition, peer)) = self.next_exchange() else { return self.walk() };
        self.exchange(keyspace, partition, peer, |node, ended| {
            let mut walk = node.walking().lock();
            match ended {
                Ended::Complete { .. } => walk.complete += 1,
                Ended::Partial => walk.partial += 1,
            }
            drop(walk);
            node.walk();
        });
    }

    fn next_exchange(&self) -> Option<(KeyspaceId, Partition, NodeId)> {
        let view = self.view();
        let mut walk = self.walking().lock();
        if walk.waiting.is_empty() {
            for (keyspace, _) in view.keyspaces() {
                for partition in view.ring().iter() {
                    let owners = view.owners(keyspace, partition);
                    if !owners.contains(&self.id()) {
                        continue;
                    }
                    let others = owners.iter().filter(|owner| **owner != self.id());
                    walk.waiting.extend(others.map(|owner| (keyspace, partition, *owner)));
                }
            }
        }
        let next = walk.waiting.pop_front()?;
        // The owners may be others by now.
        let (owners, own) = (view.owners(next.0, next.1), self.id());
        (owners.contains(&next.2) && owners.contains(&own)).then_some(next)
    }
}
