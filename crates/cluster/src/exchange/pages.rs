//! Pages of what a partition stores: for a node that receives it, and for one that catches up.
//!
//! Digests tell what is stored, not what was replaced: a tombstone counts as much as nothing. So a replica that takes over what
//! another has *seen* must be brought, too, what that one knows to be replaced, else it would know of a delete without being able to
//! speak for it. [`Transfer::beyond`] asks for exactly that.

use super::{Ended, Exchange};
use crate::clock::Context;
use crate::codec::message::{Answer, Cause, Item, Transfer, Transferred};
use crate::layout;
use crate::merkle::{Search, Span};
use crate::node::{Node, Replica, failure_of};
use crate::record::Record;
use crate::transport::Failure;
use base::{KeyspaceId, Slice};
use ring::Partition;
use std::sync::Arc;

/// Records that are looked at for one page, at most.
const LOOKED_AT_MAX: usize = 4096;
/// Bytes of a page for an exchange.
const PAGE_BYTES: u32 = 256 << 10;

impl Exchange {
    /// Brings what the peer knows to be replaced and this replica, which has seen `known`, may not, page by page; then compares once
    /// more: what was stored meanwhile is found by that.
    pub(super) fn bring(mut self: Box<Self>, node: &Arc<Node>, known: Context, start: Slice) {
        let transfer = Transfer {
            keyspace: self.keyspace,
            partition: self.partition,
            start,
            end: None,
            beyond: Some(known.clone()),
            bytes_max: PAGE_BYTES,
            of_start: self.start,
        };
        node.ask_at(self.epoch, self.peer, node.patience(), transfer, move |node, ended| {
            let Ok(Answer::Transferred(page)) = ended else {
                return self.end(node, Ended::Partial);
            };
            if !self.take_page(node, page.items) {
                return self.end(node, Ended::Partial);
            }
            match page.next {
                Some(next) => self.bring(node, known, next),
                None => {
                    self.search = Search::new(Span::all());
                    self.go(node);
                }
            }
        });
    }

    /// Merges a page; false if some of it could not be.
    fn take_page(&self, node: &Arc<Node>, items: Vec<Item>) -> bool {
        let (keyspace, partition) = (self.keyspace, self.partition);
        let merged = node.fenced(keyspace, partition, self.epoch, |_| {
            Ok(node.replica().apply(keyspace, partition, self.mode, Cause::Exchange, &items))
        });
        node.renew_if_outdated();
        merged.is_ok_and(|merged| merged.iter().all(Result::is_ok))
    }
}

impl Replica {
    /// The next page, with what the floor says, so that each record speaks for itself.
    ///
    /// # Errors
    /// [`Failure::Damaged`] if something of it cannot be read.
    pub(crate) fn transfer(&self, asked: &Transfer) -> Result<Transferred, Failure> {
        let part = self.part(asked.keyspace, asked.partition)?;
        loop {
            let face = part.face();
            let span = Span { start: asked.start.clone(), end: asked.end.clone() };
            if face.holes.iter().any(|hole| hole.within(&span).is_some()) {
                return Err(Failure::Damaged);
            }
            let page = self.transfer_at(asked, &face.floor.dots)?;
            // Records are stripped of the floor of their moment: only with that one may they be filled.
            if part.face().is_of_the_floor_of(&face) {
                return Ok(page);
            }
        }
    }

    fn transfer_at(&self, asked: &Transfer, floor: &Context) -> Result<Transferred, Failure> {
        let keyspace = self.keyspace(asked.keyspace)?;
        let start = layout::stored_key(asked.partition, &asked.start);
        let end = match &asked.end {
            Some(end) => layout::stored_key(asked.partition, end),
            None => layout::range_of(asked.partition).end,
        };
        if start >= end {
            return Ok(Transferred { items: Vec::new(), next: None });
        }
        let (mut items, mut bytes) = (Vec::new(), 0);
        for (looked_at, pair) in keyspace.range(start..end).enumerate() {
            let (stored_key, value) = pair.map_err(|error| failure_of(&error))?;
            let (_, key) = layout::split(&stored_key).ok_or(Failure::Damaged)?;
            let len = key.len() + value.len();
            let is_full = bytes + len > asked.bytes_max as usize && !items.is_empty();
            if is_full || looked_at == LOOKED_AT_MAX {
                return Ok(Transferred { items, next: Some(Slice::copy_from(key)) });
            }
            let mut record = Record::decode(&value).map_err(|_| Failure::Damaged)?;
            if asked.beyond.as_ref().is_some_and(|known| known.covers(record.context())) {
                continue;
            }
            record.fill(floor);
            bytes += len;
            items.push(Item { key: Slice::copy_from(key), record, made_by: None });
        }
        Ok(Transferred { items, next: None })
    }

    /// What this replica has seen of a partition, if `theirs` has more.
    pub(super) fn seen_less_than(
        &self,
        id: KeyspaceId,
        partition: Partition,
        theirs: &Context,
    ) -> Result<Option<Context>, Failure> {
        let part = self.part(id, partition)?;
        let seen = &part.hold().state.seen;
        Ok((!seen.covers(theirs)).then(|| seen.clone()))
    }
}
