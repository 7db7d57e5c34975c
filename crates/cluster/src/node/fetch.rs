//! Fetching what moves to this node: page after page, until there is enough to be stored at once.
//!
//! Pages are merged with what is stored here. Where that is nothing, as it mostly is at a receiver, the records go into table files and
//! pass neither log nor memtable; see [`Change::write_tables`].
//!
//! Before the first page of a keyspace the source says what it has seen, and its floor. The floor is taken over with the first pages: what it
//! says is stored with no record, so nothing has to be written again later. What the source had seen is seen here once all
//! its pages are: each of these dots is stored, or was replaced by what is. So the exchange at the end does not bring anew what was
//! replaced. If the source starts again, or another one goes on, that is not known; then the exchange brings it.

use super::hands::key_of;
use super::{Change, Node, Replica};
use crate::clock::{Context, Stamp};
use crate::codec::message::{Answer, Cause, Item, Seen, Transfer, Transferred};
use crate::rebalance::{Cursor, MoveRecord, MoverEvent, Moving, Ticket};
use crate::record::{Floor, Mode};
use crate::topology::JobId;
use crate::transport::Failure;
use base::{KeyspaceId, Slice};
use lsm::Keyspace;
use ring::{Epoch, NodeId};
use std::sync::Arc;

/// Bytes of a page.
const PAGE_BYTES: u32 = 1 << 20;
/// For less a page more is not asked for.
const PAGE_BYTES_MIN: u64 = PAGE_BYTES as u64 / 4;

/// What a source said of itself before the first page of a keyspace.
#[derive(Debug)]
pub(super) struct Told {
    from: NodeId,
    keyspace: KeyspaceId,
    /// The start that it is in: what another one stores says nothing of what this one had seen.
    start: u64,
    seen: Context,
    floor: Floor,
}

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
    /// What the source said before the first page; unknown if that was another one, or if it or this node started again.
    told: Option<Arc<Told>>,
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
        let (bytes, items, told) = (0, Vec::new(), self.told_by(moving, from, keyspace));
        let fetching = Box::new(Fetching {
            ticket,
            from,
            moving,
            record,
            epoch,
            keyspace,
            mode,
            told,
            following,
            bytes_max,
            bytes,
            items,
        });
        if start.is_empty() { self.ask_source(fetching) } else { self.fetch_page(fetching, start) }
    }

    /// What the source of the pages so far said before them, if it is this one; else that is forgotten.
    fn told_by(&self, moving: Moving, from: NodeId, keyspace: KeyspaceId) -> Option<Arc<Told>> {
        let mut told = self.told.lock();
        let by = told.get(&moving).filter(|by| (by.from, by.keyspace) == (from, keyspace)).cloned();
        if by.is_none() {
            told.remove(&moving);
        }
        by
    }

    /// Asks what the source has seen of a keyspace, then for its first page.
    fn ask_source(self: &Arc<Self>, mut fetching: Box<Fetching>) {
        let (epoch, from, moving) = (fetching.epoch, fetching.from, fetching.moving);
        let (keyspace, partition) = (fetching.keyspace, moving.partition);
        let seen = Seen { keyspace, partition, round: 0, stamp: Stamp::ZERO };
        self.ask_at(epoch, from, self.patience(), seen, move |node, ended| {
            fetching.told = match ended {
                Ok(Answer::SeenIs(is)) => {
                    let (start, seen, floor) = (is.start, is.seen, is.floor);
                    Some(Arc::new(Told { from, keyspace, start, seen, floor }))
                }
                // It is not complete, so what it has seen is not all there; what is there helps all the same.
                Err(Failure::NotReady) => None,
                _ => return node.move_on(MoverEvent::Fetched(fetching.ticket, Err(()))),
            };
            match fetching.told.clone() {
                Some(told) => drop(node.told.lock().insert(moving, told)),
                None => drop(node.told.lock().remove(&moving)),
            }
            node.fetch_page(fetching, Slice::default());
        });
    }

    fn fetch_page(self: &Arc<Self>, mut fetching: Box<Fetching>, start: Slice) {
        let transfer = Transfer {
            keyspace: fetching.keyspace,
            partition: fetching.moving.partition,
            start: start.clone(),
            end: None,
            beyond: None,
            bytes_max: PAGE_BYTES,
            // Where nothing is known of the source, the exchange at the end brings all that it has then, whatever it is by now.
            of_start: fetching.told.as_ref().map_or(0, |told| told.start),
        };
        let (epoch, from, moving) = (fetching.epoch, fetching.from, fetching.moving);
        self.ask_at(epoch, from, self.patience(), transfer, move |node, ended| match ended {
            Ok(Answer::Transferred(Transferred { items, next })) => {
                fetching.take(items);
                match next {
                    Some(next) if fetching.bytes + PAGE_BYTES_MIN <= fetching.bytes_max => {
                        node.fetch_page(fetching, next);
                    }
                    next => node.store_fetched(*fetching, next),
                }
            }
            ended => {
                if matches!(ended, Err(Failure::OtherStart { .. })) {
                    node.told.lock().remove(&moving);
                }
                match fetching.bytes {
                    0 => node.move_on(MoverEvent::Fetched(fetching.ticket, Err(()))),
                    // What has come is kept.
                    _ => node.store_fetched(*fetching, Some(start)),
                }
            }
        });
    }

    /// Stores what was fetched, up to `next`, and how far that is.
    fn store_fetched(self: &Arc<Self>, fetching: Fetching, next: Option<Slice>) {
        let Fetching { ticket, moving, ref record, keyspace, bytes, .. } = fetching;
        let job = record.job;
        let at_end = next.is_none();
        let next = next.map(|key| Cursor { keyspace, key }).or(fetching.following.clone());
        let record =
            MoveRecord { cursor: next.clone(), bytes: record.bytes + bytes, ..record.clone() };
        let also = (self.jobs.keyspace.clone(), key_of(moving), record.encode());
        let stored = self.store_pages(&fetching, at_end, also);
        let ended = stored.map_err(drop).map(|()| {
            self.count_fetched(job, bytes);
            (bytes, next)
        });
        self.move_on(MoverEvent::Fetched(ticket, ended));
    }

    /// Nothing is stored unless this node takes the partition in. It is held from that look on, and who would delete it waits for that; so a
    /// newer topology, for which the whole node would have to wait, may come into force meanwhile.
    fn store_pages(&self, fetching: &Fetching, at_end: bool, also: Also) -> Result<(), Failure> {
        let (keyspace, partition) = (fetching.keyspace, fetching.moving.partition);
        let part = self.replica.part(keyspace, partition)?;
        let change = self.fenced(keyspace, partition, fetching.epoch, |view| {
            match view.takes(self.id, keyspace, partition) {
                true => Change::of(&self.replica, keyspace, partition, &part),
                false => Err(Failure::NotReady),
            }
        })?;
        let pages = Pages {
            mode: fetching.mode,
            items: &fetching.items,
            told: fetching.told.as_deref(),
            at_end,
            by_tables: fetching.is_for_tables(at_end, self.options.tables_from_bytes),
        };
        self.replica.take_pages(change, &pages, also)
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
    /// What is left at the end of a move goes where the rest went, unless it is next to nothing: through the log it would come into a table
    /// with what is left of other partitions, and all between these would have to be compacted with it.
    fn is_for_tables(&self, at_end: bool, from: u64) -> bool {
        let is_rest = at_end && self.record.bytes >= from;
        self.bytes >= if is_rest { from / 64 } else { from }
    }

    fn take(&mut self, items: Vec<Item>) {
        let len = |item: &Item| item.key.len() + item.record.encode().len();
        self.bytes += items.iter().map(len).sum::<usize>() as u64;
        self.items.extend(items);
    }
}

/// One thing more to be stored.
type Also = (Keyspace, Vec<u8>, Vec<u8>);

/// What is to be stored at once.
struct Pages<'a> {
    mode: Mode,
    items: &'a [Item],
    told: Option<&'a Told>,
    /// The last ones of their keyspace.
    at_end: bool,
    by_tables: bool,
}

impl Replica {
    /// Merges pages, and stores one thing more in the same batch. After a crash some of the records may be there, and nothing else.
    fn take_pages(
        &self,
        mut change: Change<'_>,
        pages: &Pages<'_>,
        also: Also,
    ) -> Result<(), Failure> {
        if let Some(told) = pages.told {
            Replica::adopt_floor(&mut change, &told.floor);
        }
        for item in pages.items {
            self.apply_one(&mut change, pages.mode, Cause::Move, item)?;
        }
        if let Some(told) = pages.told.filter(|_| pages.at_end && !change.has_holes()) {
            change.state.seen = change.state.seen.union(&told.seen);
        }
        change.also = Some(also);
        if pages.by_tables {
            change.write_tables()?;
        }
        change.commit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
        take_of(sim, n, items, None);
    }

    /// As the last pages of a source, which said so much of itself.
    fn take_of(sim: &Sim, n: u64, items: &[Item], told: Option<&Told>) {
        let node = sim.node(n);
        let also = (node.jobs.keyspace.clone(), b"job".to_vec(), b"cursor".to_vec());
        let (replica, partition) = (node.replica(), sim.partition_of("key"));
        let part = replica.part(SIBLINGS, partition).expect("healthy");
        let change = Change::of(replica, SIBLINGS, partition, &part).expect("healthy");
        let pages = Pages { mode: Mode::Siblings, items, told, at_end: true, by_tables: true };
        replica.take_pages(change, &pages, also).expect("a healthy disk");
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
    fn the_floor_is_stored_with_no_record_and_what_was_replaced_is_seen() {
        let sim = Sim::new(3, 1);
        sim.connect(&[&[1], &[2], &[3]]);
        let put = |n: usize, value| {
            let written = sim.write(1, &key(n), value, &Context::new(), 1).expect("one owner");
            sim.write(1, &key(n), Some("again"), &written.context, 1).expect("one owner")
        };
        let dots: Context = (0..KEYS)
            .map(|n| put(n, Some("value")).context)
            .fold(Context::new(), |all, one| all.union(&one));
        let items = page_of(&sim, 1);
        assert_eq!(items.len(), KEYS);
        let state = |sim: &Sim, n: u64| {
            let part = sim.node(n).replica().part(SIBLINGS, sim.partition_of("key"));
            part.expect("healthy").hold().state.clone()
        };
        let seen = state(&sim, 1).seen;
        assert!(seen.covers(&dots));
        let floor = Floor { dots: seen.clone(), stamp: Stamp::ZERO, round: 1 };
        let (from, keyspace, start) = (NodeId(1), SIBLINGS, 1);
        let told = Told { from, keyspace, start, seen: seen.clone(), floor: floor.clone() };
        take_of(&sim, 3, &items, Some(&told));

        assert_eq!(state(&sim, 3).floor, floor);
        assert!(state(&sim, 3).seen.covers(&seen), "an exchange has nothing to bring");
        for n in 0..KEYS {
            let (replica, key) = (sim.node(3).replica(), Slice::from(key(n).as_str()));
            let part = replica.part(SIBLINGS, sim.partition_of("key")).expect("healthy");
            let mut change =
                Change::of(replica, SIBLINGS, sim.partition_of("key"), &part).expect("healthy");
            let record = change.record(&key).expect("healthy").expect("it was brought").clone();
            assert_eq!(record.versions()[0].value, Some("again".into()));
            assert_eq!(record.context(), &Context::new(), "a sweep has nothing to do");
        }
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
