//! The side of a replica: its tree, and the records under it.

use crate::clock::Context;
use crate::codec::message::{Compared, Digests, EntryDigest, RangeDigest};
use crate::layout;
use crate::merkle::{LEAF_ENTRIES_MAX, Search, Source, Span};
use crate::node::{Change, Replica, failure_of};
use crate::record::{Floor, Record};
use crate::transport::Failure;
use base::{KeyspaceId, Slice};
use lsm::Keyspace;
use ring::{NodeId, Partition};

/// Entries that are counted at a time.
const STEP_ENTRIES: usize = LEAF_ENTRIES_MAX as usize;
/// Steps for one request, at most: the rest is not ready yet.
const STEPS_MAX: usize = 16;

/// What a partition stores, as its tree sees it.
struct Scanned<'a> {
    keyspace: &'a Keyspace,
    partition: Partition,
}

impl Scanned<'_> {
    /// The entries of `span`, at most `max`; and the key behind the last of them if there are more.
    fn some(&self, span: &Span, max: usize) -> Result<(Vec<EntryDigest>, Option<Slice>), Failure> {
        let start = layout::stored_key(self.partition, &span.start);
        let end = match &span.end {
            Some(end) => layout::stored_key(self.partition, end),
            None => layout::range_of(self.partition).end,
        };
        let (mut entries, mut read) = (Vec::new(), 0);
        for pair in self.keyspace.range(start..end) {
            let (stored_key, value) = pair.map_err(|error| failure_of(&error))?;
            let (_, key) = layout::split(&stored_key).ok_or(Failure::Damaged)?;
            if read == max {
                return Ok((entries, Some(Slice::copy_from(key))));
            }
            read += 1;
            let record = Record::decode(&value).map_err(|_| Failure::Damaged)?;
            if let Some(fingerprint) = record.fingerprint(key) {
                entries.push(EntryDigest { key: Slice::copy_from(key), fingerprint });
            }
        }
        Ok((entries, None))
    }
}

impl Source for Scanned<'_> {
    fn entries(&mut self, span: &Span) -> Result<Vec<EntryDigest>, Failure> {
        self.some(span, usize::MAX).map(|(entries, _)| entries)
    }
}

impl Replica {
    /// Answers a step of an exchange.
    pub(crate) fn compare(&self, digests: &Digests) -> Result<Vec<Compared>, Failure> {
        self.count(digests.keyspace, digests.partition)?;
        let keyspace = self.keyspace(digests.keyspace)?;
        let part = self.part(digests.keyspace, digests.partition)?;
        let mut source = Scanned { keyspace: &keyspace, partition: digests.partition };
        part.hold().tree.answer(&digests.ranges, &mut source)
    }

    /// The next step of a search.
    pub(super) fn search_next(
        &self,
        id: KeyspaceId,
        partition: Partition,
        search: &mut Search,
    ) -> Result<Option<Vec<RangeDigest>>, Failure> {
        self.count(id, partition)?;
        let (keyspace, part) = (self.keyspace(id)?, self.part(id, partition)?);
        let mut source = Scanned { keyspace: &keyspace, partition };
        search.next(&mut part.hold().tree, &mut source)
    }

    /// Takes the answer to a step.
    pub(super) fn search_take(
        &self,
        id: KeyspaceId,
        partition: Partition,
        search: &mut Search,
        answers: Vec<Compared>,
    ) -> Result<(), Failure> {
        let (keyspace, part) = (self.keyspace(id)?, self.part(id, partition)?);
        let mut source = Scanned { keyspace: &keyspace, partition };
        search.take(answers, &mut part.hold().tree, &mut source)
    }

    /// Counts what is not counted, some of it: writes go on between two steps.
    fn count(&self, id: KeyspaceId, partition: Partition) -> Result<(), Failure> {
        let (keyspace, part) = (self.keyspace(id)?, self.part(id, partition)?);
        let source = Scanned { keyspace: &keyspace, partition };
        for _ in 0..STEPS_MAX {
            let mut held = part.hold();
            let Some(leaf) = held.next_to_count() else { break };
            let (entries, more) = source.some(&leaf, STEP_ENTRIES)?;
            let span = Span { start: leaf.start, end: more.or(leaf.end) };
            held.tree.count(&span, &entries);
        }
        Ok(())
    }

    /// Drops the versions of a key that a peer has seen and has no more, as its filled record says. Only while this replica is not
    /// complete: it cannot know by itself what comes late.
    pub(super) fn drop_gone(
        &self,
        id: KeyspaceId,
        partition: Partition,
        key: &Slice,
        theirs: &Record,
    ) -> Result<(), Failure> {
        let part = self.part(id, partition)?;
        let mut change = Change::of(self, id, partition, &part)?;
        let Some(mut record) = change.record(key)?.cloned() else { return Ok(()) };
        record.drop_late(Some(theirs), theirs.context());
        change.set(key, record);
        change.commit()
    }

    /// All that the peer had seen at the start of a complete exchange is seen here. An owner that was compared with all other `owners` is
    /// complete. True if the peer's floor was taken over: a replica that is not complete does so, and one that is none of the owners.
    pub(super) fn note_exchange(
        &self,
        id: KeyspaceId,
        partition: Partition,
        told: &Told<'_>,
        owners: Option<&[NodeId]>,
    ) -> Result<bool, Failure> {
        let part = self.part(id, partition)?;
        let mut change = Change::of(self, id, partition, &part)?;
        change.state.seen = change.state.seen.union(told.seen);
        let behind = owners.is_none() || !change.is_complete();
        let adopted = behind && Replica::adopt_floor(&mut change, told.floor);
        if let Some(owners) = owners {
            change.note_peer(told.peer, owners);
        }
        change.tidy_tree();
        change.commit()?;
        Ok(adopted)
    }
}

/// What a peer said of itself at the start of an exchange.
#[derive(Debug)]
pub(super) struct Told<'a> {
    pub(super) peer: NodeId,
    pub(super) seen: &'a Context,
    pub(super) floor: &'a Floor,
}
