//! About how many bytes a message takes in memory: what bounds of queues count.

use super::message::{Coordinated, Item, Op, Page, RangeDigest, Records, Request, Stored, Written};
use crate::clock::{Context, Run};
use crate::record::{Record, Version};
use crate::topology::{Advance, Change, Cleaned};
use crate::transport::Failure;
use base::Slice;
use ring::NodeId;

/// What holds any message, in bytes.
const BASE: usize = 256;
/// What holds one key of a list.
const ENTRY: usize = size_of::<Slice>();

/// Bytes of the bounds of a range.
fn between(start: &Slice, end: Option<&Slice>) -> usize {
    start.len() + end.map_or(0, |end| end.len())
}

impl Context {
    pub(crate) fn weight(&self) -> usize {
        size_of_val::<[Run]>(self.runs())
    }
}

impl Record {
    pub(crate) fn weight(&self) -> usize {
        let versions = size_of_val::<[Version]>(self.versions());
        size_of::<Record>() + versions + self.value_bytes() + self.context().weight()
    }
}

impl Item {
    pub(crate) fn weight(&self) -> usize {
        size_of::<Item>() + self.key.len() + self.record.weight()
    }
}

impl Op {
    pub(crate) fn weight(&self) -> usize {
        let value = self.value.as_ref().map_or(0, |value| value.len());
        size_of::<Op>() + self.key.len() + value + self.replaces.weight()
    }
}

impl Request {
    pub(crate) fn weight(&self) -> usize {
        let keys = |keys: &[Slice]| keys.iter().map(|key| ENTRY + key.len()).sum::<usize>();
        let items = |items: &[Item]| items.iter().map(Item::weight).sum::<usize>();
        BASE + match self {
            Request::Gossip(gossip) => gossip.payload.len(),
            Request::Coordinate(call) => call.ops.iter().map(Op::weight).sum(),
            Request::Apply(apply) => items(&apply.items),
            Request::StoreHint(hint) => items(&hint.items),
            Request::Read(read) => keys(&read.keys),
            Request::Digests(digests) => {
                let one = |range: &RangeDigest| {
                    size_of::<RangeDigest>() + between(&range.span.start, range.span.end.as_ref())
                };
                digests.ranges.iter().map(one).sum()
            }
            Request::Scan(scan) => between(&scan.start, scan.end.as_ref()),
            Request::Transfer(asked) => {
                let known = asked.beyond.as_ref().map_or(0, Context::weight);
                between(&asked.start, asked.end.as_ref()) + known
            }
            Request::SetFloor(set) => set.floor.dots.weight(),
            // A few numbers.
            _ => 0,
        }
    }
}

impl Records {
    pub(crate) fn weight(&self) -> usize {
        self.records.iter().map(Stored::weight).sum()
    }
}

impl Coordinated {
    pub(crate) fn weight(&self) -> usize {
        let one = |result: &Result<Written, Failure>| {
            let written = result.as_ref().map_or(0, |written| {
                let nodes = written.owners.len() + written.hinted.len();
                written.context.weight() + nodes * size_of::<NodeId>()
            });
            size_of::<Result<Written, Failure>>() + written
        };
        self.results.iter().map(one).sum()
    }
}

impl Stored {
    pub(crate) fn weight(&self) -> usize {
        size_of::<Stored>()
            + match self {
                Stored::Whole(record) => record.weight(),
                Stored::Absent | Stored::Digest(_) | Stored::Failed(_) => 0,
            }
    }
}

impl Page {
    pub(crate) fn weight(&self) -> usize {
        self.items.iter().map(Item::weight).sum()
    }
}

impl Change {
    pub(crate) fn weight(&self) -> usize {
        size_of::<Change>()
            + match self {
                Change::AddMember { address, zone, .. }
                | Change::SetMember { address, zone, .. } => address.len() + zone.len(),
                Change::CreateKeyspace { name, placement, .. } => {
                    name.len() + placement.as_deref().map_or(0, placed)
                }
                Change::StartJob { targets, .. } => {
                    targets.iter().map(|target| placed(target)).sum()
                }
                Change::AdvanceJob { steps, .. } => size_of_val::<[Advance]>(steps),
                Change::Clean { copies } => size_of_val::<[Cleaned]>(copies),
                // A few numbers.
                _ => 0,
            }
    }
}

/// Bytes of the owners of all partitions.
fn placed(topology: &ring::Topology) -> usize {
    topology.ring().partitions() as usize * topology.replicas() * size_of::<NodeId>()
}
