//! A scan over all partitions, in key order.

use super::wait::{Pending, pending};
use super::{ClusterKeyspace, Error, Found};
use crate::coordinator::{PageOf, ScanOptions};
use crate::layout::KEY_BYTES_MAX;
use crate::node::Node;
use crate::record::Record;
use crate::transport::{Detail, Failure};
use base::Slice;
use base::clock::Clock;
use ring::{NodeId, Partition};
use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

/// Entries of a page. Keys are spread over all partitions, so a few of each are many.
const PAGE_ENTRIES: u32 = 64;
/// Bytes of the pages of all partitions together, about.
const PAGES_BYTES: usize = 64 << 20;
/// Fewest and most bytes of a page.
const PAGE_BYTES_MIN: usize = 4 << 10;
const PAGE_BYTES_MAX: usize = 1 << 20;
/// Partitions that are asked at the same time: what they answer is held by the node that asks.
const ASKED_MAX: usize = 64;

/// A page that comes later.
type PageLater = Pending<Result<PageOf, Failure>>;

/// Keys and what is stored under them, in order. Ends with the first error; a range that ends before it starts yields one,
/// [`Failure::Invalid`].
///
/// Holds a page of each partition: 64 keys and about 64 MiB over the number of partitions each, or one key whatever its size. The next
/// pair is found in `O(log partitions)`.
#[derive(Debug)]
pub struct ClusterRange {
    keyspace: ClusterKeyspace,
    backward: bool,
    /// The range that was asked for, while nothing was read.
    begin: Option<(Slice, Option<Slice>)>,
    /// Its end lies before its start.
    is_inverted: bool,
    parts: Vec<Part>,
    /// The first record of each part that has any.
    heads: BinaryHeap<Head>,
    /// Parts without records, which may have more.
    empty: Vec<usize>,
    failed: bool,
}

/// What was read of one partition and not given yet.
#[derive(Debug)]
struct Part {
    partition: Partition,
    records: VecDeque<(Slice, Record)>,
    served_by: Vec<NodeId>,
    rest: Option<(Slice, Option<Slice>)>,
}

/// The key that a part gives next. The greatest of them is the one to be given first.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    key: Slice,
    part: usize,
    backward: bool,
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> Ordering {
        let order = self.key.cmp(&other.key);
        if self.backward { order } else { order.reverse() }
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl ClusterRange {
    pub(super) fn new(
        keyspace: &ClusterKeyspace,
        bounds: (Bound<&[u8]>, Bound<&[u8]>),
        backward: bool,
    ) -> ClusterRange {
        let behind = |key: &[u8]| [key, &[0]].concat();
        let start = match bounds.0 {
            Bound::Included(start) => start.to_vec(),
            Bound::Excluded(start) => behind(start),
            Bound::Unbounded => Vec::new(),
        };
        let end = match bounds.1 {
            Bound::Included(end) => Some(behind(end)),
            Bound::Excluded(end) => Some(end.to_vec()),
            Bound::Unbounded => None,
        };
        ClusterRange {
            keyspace: keyspace.clone(),
            backward,
            begin: Some((clipped(start), end.map(clipped))),
            is_inverted: is_inverted(bounds),
            parts: Vec::new(),
            heads: BinaryHeap::new(),
            empty: Vec::new(),
            failed: false,
        }
    }

    fn next_pair(&mut self) -> Result<Option<(Slice, Found)>, Error> {
        if let Some(whole) = self.begin.take() {
            self.begin(whole)?;
        }
        let now = self.keyspace.shared.runtime.wall_micros();
        loop {
            self.fill()?;
            let Some(Head { part: at, .. }) = self.heads.pop() else { return Ok(None) };
            let part = &mut self.parts[at];
            let Some((key, record)) = part.records.pop_front() else { continue };
            let served_by = part.served_by.clone();
            self.show(at);
            let found = Found::new(&self.keyspace.subject(&key), &record, served_by, now);
            // What is deleted is read, too, so that it is not taken for alive.
            if found.value().is_some() {
                return Ok(Some((key, found)));
            }
        }
    }

    fn begin(&mut self, whole: (Slice, Option<Slice>)) -> Result<(), Error> {
        if self.is_inverted {
            let detail = Detail::new("the range ends before it starts; swap its bounds");
            return Err(Failure::Invalid(detail).into());
        }
        // Nobody is asked for nothing.
        if whole.1.as_ref().is_some_and(|end| *end <= whole.0) {
            return Ok(());
        }
        let node = self.keyspace.shared.taker(self.keyspace.via)?;
        let part = |partition| Part {
            partition,
            records: VecDeque::new(),
            served_by: Vec::new(),
            rest: Some(whole.clone()),
        };
        self.parts = node.view().ring().iter().map(part).collect();
        self.empty = (0..self.parts.len()).collect();
        Ok(())
    }

    /// Enters what a part gives next, if it has anything or may have.
    fn show(&mut self, at: usize) {
        let (part, backward) = (&self.parts[at], self.backward);
        match part.records.front() {
            Some((key, _)) => self.heads.push(Head { key: key.clone(), part: at, backward }),
            None if part.rest.is_some() => self.empty.push(at),
            None => {}
        }
    }

    /// Reads on where a partition has nothing left to give: only then is it known which key comes next.
    fn fill(&mut self) -> Result<(), Error> {
        while !self.empty.is_empty() {
            let node = self.keyspace.shared.taker(self.keyspace.via)?;
            let some = self.empty.len().saturating_sub(ASKED_MAX);
            let asked = self.empty.split_off(some);
            let pages: Result<Vec<_>, Error> =
                asked.into_iter().map(|at| Ok((at, self.ask(&node, at)?))).collect();
            for (at, page) in pages? {
                let page = page.wait()??;
                let part = &mut self.parts[at];
                part.records = page.records.into();
                (part.rest, part.served_by) = (page.rest, page.served_by);
                self.show(at);
            }
        }
        Ok(())
    }

    fn ask(&mut self, node: &Arc<Node>, at: usize) -> Result<PageLater, Error> {
        let share = PAGES_BYTES / self.parts.len().max(1);
        let part = &mut self.parts[at];
        let (start, end) = part.rest.take().unwrap_or_default();
        let timeout_micros = self.keyspace.shared.plan.timeout_micros;
        let options = ScanOptions {
            keyspace: self.keyspace.id,
            partition: part.partition,
            start,
            end,
            backward: self.backward,
            entries_max: PAGE_ENTRIES,
            bytes_max: share.clamp(PAGE_BYTES_MIN, PAGE_BYTES_MAX) as u32,
            owners_min: self.keyspace.majority(node)?,
            timeout_micros,
        };
        let (teller, page) = pending(timeout_micros);
        node.scan(options, move |page| teller.tell(page));
        Ok(page)
    }
}

fn is_inverted((start, end): (Bound<&[u8]>, Bound<&[u8]>)) -> bool {
    let key = |bound| match bound {
        Bound::Included(key) | Bound::Excluded(key) => Some(key),
        Bound::Unbounded => None,
    };
    key(start).zip(key(end)).is_some_and(|(start, end): (&[u8], &[u8])| end < start)
}

/// A bound that compares with keys as `bound` does, and is not longer than a database takes.
fn clipped(mut bound: Vec<u8>) -> Slice {
    bound.truncate(KEY_BYTES_MAX + 1);
    bound.into()
}

impl Iterator for ClusterRange {
    type Item = Result<(Slice, Found), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.next_pair();
        self.failed = next.is_err();
        next.transpose()
    }
}
