//! Fetching what moves to this node: page after page, until there is enough to be stored at once.
//!
//! Pages are merged with what is stored here. Where that is nothing, as it mostly is at a receiver, the records go into table files and
//! pass neither log nor memtable; see [`Change::write_tables`].

use super::hands::key_of;
use super::{Change, Node, Replica};
use crate::codec::message::{Answer, Cause, Item, Transfer, Transferred};
use crate::rebalance::{Cursor, MoveRecord, MoverEvent, Moving, Ticket};
use crate::record::Mode;
use crate::topology::JobId;
use crate::transport::Failure;
use base::{KeyspaceId, Slice};
use lsm::Keyspace;
use ring::{Epoch, NodeId, Partition};
use std::sync::Arc;

/// Bytes of a page.
const PAGE_BYTES: u32 = 1 << 20;

/// Pages of one keyspace that are to be stored at once, and where they come from.
struct Fetching {
    ticket: Ticket,
    from: NodeId,
    moving: Moving,
    record: MoveRecord,
    /// What the topology was when the first page was asked for.
    epoch: Epoch,
    keyspace: KeyspaceId,
    mode: Mode,
    /// Where to go on behind this keyspace.
    following: Option<Cursor>,
    /// No further page is asked for once there are so many bytes.
    bytes_max: u64,
    bytes: u64,
    items: Vec<Item>,
}

impl Node {
    /// Brings pages to this node, as [`MoverEffect::Fetch`](crate::rebalance::MoverEffect::Fetch) says.
    pub(super) fn fetch(
        self: &Arc<Self>,
        ticket: Ticket,
        from: NodeId,
        moving: Moving,
        record: MoveRecord,
        bytes_max: u64,
    ) {
        let (epoch, keyspaces) = (self.epoch(), self.moved_keyspaces(moving));
        let at = record.cursor.clone();
        let at = at.unwrap_or(Cursor { keyspace: KeyspaceId(0), key: Slice::default() });
        let mut ahead = keyspaces.into_iter().filter(move |(id, _)| *id >= at.keyspace);
        let Some((keyspace, mode)) = ahead.next() else {
            return self.move_on(MoverEvent::Fetched(ticket, Ok((0, None))));
        };
        let following = ahead.next().map(|(id, _)| Cursor { keyspace: id, key: Slice::default() });
        let start = if keyspace == at.keyspace { at.key } else { Slice::default() };
        let (bytes, items) = (0, Vec::new());
        let fetching = Fetching {
            ticket,
            from,
            moving,
            record,
            epoch,
            keyspace,
            mode,
            following,
            bytes_max,
            bytes,
            items,
        };
        self.fetch_page(Box::new(fetching), start);
    }

    fn fetch_page(self: &Arc<Self>, mut fetching: Box<Fetching>, start: Slice) {
        let transfer = Transfer {
            keyspace: fetching.keyspace,
            partition: fetching.moving.partition,
            start: start.clone(),
            end: None,
            beyond: None,
            bytes_max: PAGE_BYTES,
            // The exchange at the end brings what the source has then, whatever it is by now.
            of_start: 0,
        };
        let (epoch, from) = (fetching.epoch, fetching.from);
        self.ask_at(epoch, from, self.patience(), transfer, move |node, ended| match ended {
            Ok(Answer::Transferred(Transferred { items, next })) => {
                fetching.take(items);
                match next {
                    Some(next) if fetching.bytes < fetching.bytes_max => {
                        node.fetch_page(fetching, next);
                    }
                    next => node.store_fetched(*fetching, next),
                }
            }
            // What has come is kept.
            _ if fetching.bytes > 0 => node.store_fetched(*fetching, Some(start)),
            _ => node.move_on(MoverEvent::Fetched(fetching.ticket, Err(()))),
        });
    }

    /// Stores what was fetched, up to `next`, and how far that is.
    fn store_fetched(self: &Arc<Self>, fetching: Fetching, next: Option<Slice>) {
        let Fetching { ticket, moving, record, keyspace, bytes, .. } = fetching;
        let (partition, job) = (moving.partition, record.job);
        let next = next.map(|key| Cursor { keyspace, key }).or(fetching.following);
        let record = MoveRecord { cursor: next.clone(), bytes: record.bytes + bytes, ..record };
        let also = (self.jobs.keyspace.clone(), key_of(moving), record.encode());
        let by_tables = bytes >= self.options.tables_from_bytes;
        let stored = self.fenced(keyspace, partition, fetching.epoch, |view| {
            if !view.takes(self.id, keyspace, partition) {
                return Err(Failure::NotReady);
            }
            let place = (keyspace, partition, fetching.mode);
            self.replica.take_pages(place, &fetching.items, by_tables, also)
        });
        let ended = stored.map_err(drop).map(|()| {
            self.count_fetched(job, bytes);
            (bytes, next)
        });
        self.move_on(MoverEvent::Fetched(ticket, ended));
    }

    fn count_fetched(&self, job: JobId, bytes: u64) {
        let mut fetched = self.fetched.lock();
        let before = if fetched.0 == job { fetched.1 } else { 0 };
        *fetched = (job, before + bytes);
    }

    /// Bytes that this node has fetched for `job` since it was started.
    #[must_use]
    pub fn bytes_fetched(&self, job: JobId) -> u64 {
        let fetched = self.fetched.lock();
        if fetched.0 == job { fetched.1 } else { 0 }
    }
}

impl Fetching {
    fn take(&mut self, items: Vec<Item>) {
        let len = |item: &Item| item.key.len() + item.record.encode().len();
        self.bytes += items.iter().map(len).sum::<usize>() as u64;
        self.items.extend(items);
    }
}

impl Replica {
    /// Merges pages, and stores one thing more in the same batch. After a crash some of the records may be there, and nothing else.
    fn take_pages(
        &self,
        (id, partition, mode): (KeyspaceId, Partition, Mode),
        items: &[Item],
        by_tables: bool,
        also: (Keyspace, Vec<u8>, Vec<u8>),
    ) -> Result<(), Failure> {
        let part = self.part(id, partition)?;
        let mut change = Change::of(self, id, partition, &part)?;
        for item in items {
            self.apply_one(&mut change, mode, Cause::Move, item)?;
        }
        change.also = Some(also);
        if by_tables {
            change.write_tables()?;
        }
        change.commit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Context;
    use crate::merkle::Sum;
    use crate::simulation::{SIBLINGS, Sim};

    const KEYS: usize = 40;

    fn key(n: usize) -> String {
        format!("key{n:02}")
    }

    /// All that node `n` stores.
    fn page_of(sim: &Sim, n: u64) -> Vec<Item> {
        let (keyspace, partition) = (SIBLINGS, sim.partition_of("key"));
        let (start, bytes_max) = (Slice::default(), PAGE_BYTES);
        let of_start = 0;
        let asked =
            Transfer { keyspace, partition, start, end: None, beyond: None, bytes_max, of_start };
        sim.node(n).replica().transfer(&asked).expect("healthy").items
    }

    fn take(sim: &Sim, n: u64, items: &[Item]) {
        let node = sim.node(n);
        let also = (node.jobs.keyspace.clone(), b"job".to_vec(), b"cursor".to_vec());
        let place = (SIBLINGS, sim.partition_of("key"), Mode::Siblings);
        node.replica().take_pages(place, items, true, also).expect("a healthy disk");
    }

    fn sum(sim: &Sim, n: u64) -> Option<Sum> {
        let part = sim.node(n).replica().part(SIBLINGS, sim.partition_of("key"));
        part.expect("healthy").hold().tree.total()
    }

    fn ingested(sim: &Sim, n: u64) -> u64 {
        sim.node(n).db().metrics().ingested_bytes
    }

    #[test]
    fn tables_hide_nothing_that_came_before_their_pages() {
        let mut sim = Sim::new(3, 1);
        sim.connect(&[&[1], &[2], &[3]]);
        let put = |n| sim.write(1, &key(n), Some("old"), &Context::new(), 1).expect("one owner");
        let written: Vec<_> = (0..KEYS).map(put).collect();
        let old = page_of(&sim, 1);
        // What replaces two of them reaches the receiver first.
        sim.write(1, &key(7), Some("new"), &written[7].context, 1).expect("one owner");
        sim.write(1, &key(8), None, &written[8].context, 1).expect("one owner");
        let new = [page_of(&sim, 1).swap_remove(7), page_of(&sim, 1).swap_remove(8)];
        let (partition, replica) = (sim.partition_of("key"), sim.node(3).replica());
        let applied = replica.apply(SIBLINGS, partition, Mode::Siblings, Cause::Write, &new);
        assert!(applied.iter().all(Result::is_ok), "{applied:?}");

        take(&sim, 3, &old);
        let check = |sim: &Sim| {
            for n in 0..KEYS {
                assert_eq!(sim.held(3, &key(n)), sim.held(1, &key(n)), "{}", key(n));
            }
        };
        check(&sim);
        assert!(sim.held(3, &key(8)).expect("a tombstone").is_deleted());
        assert!(ingested(&sim, 3) > 0 && sum(&sim, 3).is_some());
        assert_eq!(sum(&sim, 3), sum(&sim, 1));

        // All of it lasts, and is merged when it comes again.
        sim.restart(3, false);
        check(&sim);
        take(&sim, 3, &old);
        check(&sim);
        assert_eq!(ingested(&sim, 3), 0);
    }

    #[test]
    fn a_crash_between_tables_and_what_was_seen_costs_a_count() {
        let mut sim = Sim::new(3, 1);
        sim.connect(&[&[1], &[2], &[3]]);
        for n in 0..KEYS {
            sim.write(1, &key(n), Some("value"), &Context::new(), 1).expect("one owner");
        }
        let items = page_of(&sim, 1);
        {
            let (replica, partition) = (sim.node(3).replica(), sim.partition_of("key"));
            let part = replica.part(SIBLINGS, partition).expect("healthy");
            let mut change = Change::of(replica, SIBLINGS, partition, &part).expect("healthy");
            for item in &items {
                replica.apply_one(&mut change, Mode::Siblings, Cause::Move, item).expect("merged");
            }
            change.write_tables().expect("a healthy disk");
        }
        sim.restart(3, false);
        assert_eq!(sim.held(3, &key(7)), sim.held(1, &key(7)));
        assert_eq!(sum(&sim, 3), None, "the partition is not taken for empty");
        take(&sim, 3, &items);
        sim.connect(&[&[1, 2, 3]]);
        sim.runtime.run_for(1_000_000);
        let ended = sim.exchange(3, 1, "key");
        assert!(matches!(ended, crate::exchange::Ended::Complete { .. }), "{ended:?}");
        assert_eq!(page_of(&sim, 3), page_of(&sim, 1));
    }
}
