//! A scan over all partitions, in key order.

use super::wait::{Pending, pending};
use super::{ClusterKeyspace, Error, Found};
use crate::coordinator::{PageOf, ScanOptions};
use crate::node::Node;
use crate::record::Record;
use crate::transport::Failure;
use base::Slice;
use base::clock::Clock;
use ring::{NodeId, Partition};
use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::Arc;

/// Entries of a page. Keys are spread over all partitions, so a few of each are many.
const PAGE_ENTRIES: u32 = 64;

/// Keys and what is stored under them, in order. Ends with the first error.
///
/// Holds a page of each partition: as many keys as partitions, times 64, at most.
#[derive(Debug)]
pub struct ClusterRange {
    keyspace: ClusterKeyspace,
    backward: bool,
    /// The range that was asked for, while nothing was read.
    begin: Option<(Slice, Option<Slice>)>,
    parts: Vec<Part>,
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
        let begin = Some((Slice::from(start), end.map(Slice::from)));
        ClusterRange {
            keyspace: keyspace.clone(),
            backward,
            begin,
            parts: Vec::new(),
            failed: false,
        }
    }

    fn next_pair(&mut self) -> Result<Option<(Slice, Found)>, Error> {
        let node = self.keyspace.shared.taker(self.keyspace.via)?;
        if let Some(whole) = self.begin.take() {
            let part = |partition| Part {
                partition,
                records: VecDeque::new(),
                served_by: Vec::new(),
                rest: Some(whole.clone()),
            };
            self.parts = node.view().ring().iter().map(part).collect();
        }
        let now = self.keyspace.shared.runtime.wall_micros();
        loop {
            self.fill(&node)?;
            let first = |part: &Part| part.records.front().map(|(key, _)| key.clone());
            let heads = self.parts.iter_mut().filter(|part| !part.records.is_empty());
            let next = match self.backward {
                true => heads.max_by_key(|part| first(part)),
                false => heads.min_by_key(|part| first(part)),
            };
            let Some(part) = next else { return Ok(None) };
            let Some((key, record)) = part.records.pop_front() else { return Ok(None) };
            let served_by = part.served_by.clone();
            let found = Found::new(self.keyspace.id, &key, &record, served_by, now);
            // What is deleted is read, too, so that it is not taken for alive.
            if found.value().is_some() {
                return Ok(Some((key, found)));
            }
        }
    }

    /// Reads on where a partition has nothing left to give: only then is it known which key comes next.
    fn fill(&mut self, node: &Arc<Node>) -> Result<(), Error> {
        let owners_min = self.keyspace.majority(node)?;
        let timeout_micros = self.keyspace.shared.plan.timeout_micros;
        loop {
            let mut asked: Vec<(usize, Pending<Result<PageOf, Failure>>)> = Vec::new();
            for (at, part) in self.parts.iter_mut().enumerate() {
                if !part.records.is_empty() {
                    continue;
                }
                let Some((start, end)) = part.rest.take() else { continue };
                let options = ScanOptions {
                    keyspace: self.keyspace.id,
                    partition: part.partition,
                    start,
                    end,
                    backward: self.backward,
                    entries_max: PAGE_ENTRIES,
                    owners_min,
                    timeout_micros,
                };
                let (teller, page) = pending(timeout_micros);
                node.scan(options, move |page| teller.tell(page));
                asked.push((at, page));
            }
            if asked.is_empty() {
                return Ok(());
            }
            for (at, page) in asked {
                let page = page.wait()??;
                let part = &mut self.parts[at];
                part.records = page.records.into();
                (part.rest, part.served_by) = (page.rest, page.served_by);
            }
        }
    }
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
