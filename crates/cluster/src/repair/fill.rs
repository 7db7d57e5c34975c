//! Filling a hole from the other owners, page after page.

use super::find::Hole;
use crate::clock::{Context, Stamp};
use crate::codec::message::{Answer, Seen, Transfer, Transferred};
use crate::merkle::Span;
use crate::node::Node;
use crate::transport::Failure;
use base::Slice;
use ring::{Epoch, NodeId};
use std::sync::Arc;

/// Bytes of a page.
const PAGE_BYTES: u32 = 256 << 10;

/// A hole that is being filled.
struct Fill {
    epoch: Epoch,
    hole: Hole,
    /// Owners that were not asked yet.
    left: Vec<NodeId>,
    /// The start that the owner which is asked was in when it said what it has seen.
    start: u64,
    /// One of those that were asked was whole there.
    is_told: bool,
}

impl Node {
    /// Fills a hole, if the other owners can be asked; goes on looking for damage after that.
    pub(super) fn fill(self: &Arc<Self>, hole: Hole) {
        let view = self.view();
        let mut left = view.owners_alive(hole.keyspace, hole.partition);
        left.retain(|owner| *owner != self.id());
        let fill = Fill { epoch: view.epoch(), hole, left, start: 0, is_told: false };
        Box::new(fill).go(self);
    }
}

impl Fill {
    /// The next owner: what it has seen, then all that it stores.
    fn go(mut self: Box<Self>, node: &Arc<Node>) {
        let Some(peer) = self.left.pop() else { return self.end(node) };
        let (keyspace, partition) = (self.hole.keyspace, self.hole.partition);
        let seen = Seen { keyspace, partition, round: 0, stamp: Stamp::ZERO };
        node.ask_at(self.epoch, peer, node.patience(), seen, move |node, ended| match ended {
            Ok(Answer::SeenIs(theirs)) => {
                let start = self.hole.span.start.clone();
                self.start = theirs.start;
                self.fetch(node, peer, theirs.seen, start);
            }
            _ => node.mend(),
        });
    }

    fn fetch(mut self: Box<Self>, node: &Arc<Node>, peer: NodeId, theirs: Context, start: Slice) {
        let transfer = Transfer {
            keyspace: self.hole.keyspace,
            partition: self.hole.partition,
            start: start.clone(),
            end: self.hole.span.end.clone(),
            beyond: None,
            bytes_max: PAGE_BYTES,
            of_start: self.start,
        };
        node.ask_at(self.epoch, peer, node.patience(), transfer, move |node, ended| match ended {
            Ok(Answer::Transferred(page)) => {
                let next = page.next.clone();
                let span = Span { start, end: next.clone().or(self.hole.span.end.clone()) };
                if self.take(node, &span, &theirs, page).is_err() {
                    return node.mend();
                }
                match next {
                    Some(next) => self.fetch(node, peer, theirs, next),
                    None => {
                        self.is_told = true;
                        self.go(node);
                    }
                }
            }
            // Damaged in the same place: it has nothing to tell, and waits for others itself.
            Err(Failure::Damaged) => self.go(node),
            _ => node.mend(),
        });
    }

    fn take(
        &self,
        node: &Node,
        span: &Span,
        theirs: &Context,
        page: Transferred,
    ) -> Result<(), Failure> {
        let Hole { keyspace, partition, .. } = self.hole;
        node.fenced(keyspace, partition, self.epoch, |view| {
            let mode = view.policy(keyspace)?.mode;
            node.replica().fill_page(keyspace, partition, mode, span, theirs, &page.items)
        })
    }

    /// All were asked.
    fn end(self, node: &Arc<Node>) {
        if self.is_told {
            let Hole { keyspace, partition, span } = &self.hole;
            // If that cannot be stored the hole is filled once more.
            drop(node.replica().close_hole(*keyspace, *partition, span));
        }
        node.mend();
    }
}
