//! Dropping what a floor lets go: tombstones, and dots in contexts.

use crate::layout;
use crate::node::{Change, Node, Replica, failure_of};
use crate::record::Record;
use crate::transport::Failure;
use base::{KeyspaceId, Slice};
use ring::Partition;
use std::sync::Arc;

/// Records that are looked at in one step.
const STEP_MAX: usize = 256;
/// Pause between two steps, in microseconds: writes have the partition in between.
const PAUSE_MICROS: u64 = 5_000;

impl Node {
    /// Goes through a partition in small steps.
    pub(crate) fn sweep(self: &Arc<Self>, keyspace: KeyspaceId, partition: Partition) {
        self.sweep_from(keyspace, partition, Slice::default());
    }

    fn sweep_from(self: &Arc<Self>, keyspace: KeyspaceId, partition: Partition, start: Slice) {
        self.later(PAUSE_MICROS, move |node| {
            node.work(move |node| {
                // What cannot be read now stays until the next floor.
                if let Ok(Some(next)) = node.replica().sweep_step(keyspace, partition, &start) {
                    node.sweep_from(keyspace, partition, next);
                }
            });
        });
    }
}

impl Replica {
    /// Looks at some records from `start` on; where to go on, if there are more.
    fn sweep_step(
        &self,
        id: KeyspaceId,
        partition: Partition,
        start: &Slice,
    ) -> Result<Option<Slice>, Failure> {
        let part = self.part(id, partition)?;
        let keyspace = self.keyspace(id)?;
        let mut change = Change::of(self, id, partition, &part)?;
        let from = layout::stored_key(partition, start);
        let end = layout::range_of(partition).end;
        let (mut touched, mut next) = (Vec::new(), None);
        for (read, pair) in keyspace.range(from..end).enumerate() {
            let (stored_key, value) = pair.map_err(|error| failure_of(&error))?;
            let (_, key) = layout::split(&stored_key).ok_or(Failure::Damaged)?;
            if read == STEP_MAX {
                next = Some(Slice::copy_from(key));
                break;
            }
            if change.is_hole(key) {
                continue;
            }
            let record = Record::decode(&value).map_err(|_| Failure::Damaged)?;
            let mut stripped = record.clone();
            stripped.strip(&change.state.floor.dots);
            if stripped != record || record.can_go(&change.state.floor) {
                touched.push((Slice::copy_from(key), record));
            }
        }
        for (key, record) in touched {
            change.record(&key)?;
            change.set(&key, record);
            change.drop_if_it_can_go(&key);
        }
        change.commit().map(|()| next)
    }
}
