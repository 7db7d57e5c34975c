//! Holes: ranges of a partition that are out of service until they are filled again. What they are is said in `repair`.

use super::change::Change;
use super::replica::{Replica, failure_of};
use crate::clock::Context;
use crate::codec::message::Item;
use crate::layout;
use crate::merkle::Span;
use crate::record::Mode;
use crate::transport::Failure;
use base::{KeyspaceId, Slice};
use ring::Partition;

impl Replica {
    /// Takes a range out of service, also for later starts.
    pub(crate) fn open_hole(
        &self,
        id: KeyspaceId,
        partition: Partition,
        span: Span,
    ) -> Result<(), Failure> {
        let part = self.part(id, partition)?;
        let mut held = part.hold();
        held.open_hole(span);
        part.show(&held);
        let stored = self.meta().set_holes(id, partition, &held.holes);
        stored.map_err(|error| failure_of(&error))
    }

    /// Serves a range again that was filled; not if the hole is another one by now.
    pub(crate) fn close_hole(
        &self,
        id: KeyspaceId,
        partition: Partition,
        span: &Span,
    ) -> Result<(), Failure> {
        let part = self.part(id, partition)?;
        let mut held = part.hold();
        let left: Vec<Span> = held.holes.iter().filter(|hole| *hole != span).cloned().collect();
        self.meta().set_holes(id, partition, &left).map_err(|error| failure_of(&error))?;
        held.holes = left;
        held.tree.forget(span);
        part.show(&held);
        Ok(())
    }

    /// All holes of partitions that were used since the start.
    pub(crate) fn holes(&self) -> Vec<(KeyspaceId, Partition, Span)> {
        let mut all = Vec::new();
        for ((id, partition), part) in self.parts_used() {
            let holes = part.face().holes;
            all.extend(holes.iter().map(|hole| (id, partition, hole.clone())));
        }
        all
    }

    /// Takes in what another owner stores in `span` of a hole, `items`, and drops what it has seen, as `theirs` says, and stores no more.
    pub(crate) fn fill_page(
        &self,
        id: KeyspaceId,
        partition: Partition,
        mode: Mode,
        span: &Span,
        theirs: &Context,
        items: &[Item],
    ) -> Result<(), Failure> {
        let part = self.part(id, partition)?;
        let keys = self.keys_in(id, partition, span)?;
        let mut change = Change::of(self, id, partition, &part)?;
        for key in keys {
            if items.binary_search_by(|item| item.key.cmp(&key)).is_err() {
                let mut record = change.left(&key)?;
                record.drop_late(None, theirs);
                change.set(&key, record);
            }
        }
        for item in items.iter().filter(|item| span.contains(&item.key)) {
            let mut record = change.left(&item.key)?;
            record.drop_late(Some(&item.record), theirs);
            for version in item.record.versions() {
                change.state.seen.insert(version.dot);
                self.follow(version.stamp);
            }
            change.set(&item.key, record.merge(&item.record, mode).record);
        }
        change.commit()
    }

    /// Keys that are stored in a range, whatever their records say.
    fn keys_in(
        &self,
        id: KeyspaceId,
        partition: Partition,
        span: &Span,
    ) -> Result<Vec<Slice>, Failure> {
        let start = layout::stored_key(partition, &span.start);
        let end = match &span.end {
            Some(end) => layout::stored_key(partition, end),
            None => layout::range_of(partition).end,
        };
        let key_of = |pair: lsm::Result<(Slice, Slice)>| {
            let (stored_key, _) = pair.map_err(|error| failure_of(&error))?;
            let (_, key) = layout::split(&stored_key).ok_or(Failure::Damaged)?;
            Ok(Slice::copy_from(key))
        };
        self.keyspace(id)?.range(start..end).map(key_of).collect()
    }
}
