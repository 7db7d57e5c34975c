//! Taking out of service what cannot be read.

use crate::layout;
use crate::merkle::Span;
use crate::node::{Node, failure_of};
use crate::transport::Failure;
use base::{KeyspaceId, Slice, planted};
use ring::Partition;
use std::ops::RangeInclusive;

/// A part of a partition that is out of service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hole {
    pub(super) keyspace: KeyspaceId,
    pub(super) partition: Partition,
    pub(super) span: Span,
}

impl Node {
    /// Makes holes of the keys that damage may concern, and cuts the damage out.
    pub(super) fn take_out_damage(&self) -> Result<(), Failure> {
        let view = self.view();
        for (id, _) in view.keyspaces() {
            let keyspace = self.replica().keyspace(id)?;
            let lost = keyspace.damaged_ranges().map_err(|error| failure_of(&error))?;
            for hole in lost.iter().flat_map(|range| holes_of(id, view.ring().partitions(), range))
            {
                // What does not belong here is of no use to anybody.
                if view.takes(self.id(), id, hole.partition) && !planted::is(98) {
                    self.replica().open_hole(id, hole.partition, hole.span)?;
                }
            }
            if !lost.is_empty() {
                keyspace.cut_damage(&lost).map_err(|error| failure_of(&error))?;
            }
        }
        Ok(())
    }

    /// A hole to be filled: of those there are, another one each time.
    pub(super) fn next_hole(&self) -> Option<Hole> {
        let view = self.view();
        let mut holes = self.replica().holes();
        holes.retain(|(id, partition, _)| view.takes(self.id(), *id, *partition));
        let turn = self.next_turn() % holes.len().max(1) as u64;
        let (keyspace, partition, span) = holes.into_iter().nth(turn as usize)?;
        Some(Hole { keyspace, partition, span })
    }
}

/// A range of stored keys, partition by partition.
fn holes_of(id: KeyspaceId, partitions: u32, lost: &RangeInclusive<Slice>) -> Vec<Hole> {
    let (first, last) = (layout::split(lost.start()), layout::split(lost.end()));
    // A bound that is too short to be a stored key lies before all keys of its partition.
    let from = first.map_or(0, |(partition, _)| partition.0);
    let to = last.map_or(partitions - 1, |(partition, _)| partition.0).min(partitions - 1);
    let hole = |p: u32| {
        let start = first.filter(|(partition, _)| partition.0 == p).map(|(_, key)| key);
        let end = last.filter(|(partition, _)| partition.0 == p).map(|(_, key)| key);
        let span = Span {
            start: Slice::copy_from(start.unwrap_or_default()),
            end: end.map(|key| [key, &[0]].concat().into()),
        };
        Hole { keyspace: id, partition: Partition(p), span }
    };
    (from..=to).map(hole).collect()
}
