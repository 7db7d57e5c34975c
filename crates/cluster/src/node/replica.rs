//! The part of a node that stores: partitions in its database.

use super::meta::{Identity, Meta, PartState};
use super::part::{Face, Part};
use crate::clock::{Actor, ClockError, HybridClock, Stamp};
use crate::codec::message::{Item, Page, Scan, Stored, Wanted};
use crate::layout;
use crate::merkle::Tree;
use crate::record::Record;
use crate::transport::{Detail, Failure};
use base::clock::Clock;
use base::sync::Mutex;
use base::sync::atomic::{AtomicBool, Ordering};
use base::{KeyspaceId, Slice, planted};
use lsm::{Db, Error, Keyspace, KeyspaceOptions};
use ring::{NodeId, Partition};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How a replica is opened.
#[derive(Debug, Clone)]
pub(crate) struct ReplicaOptions {
    pub(crate) cluster: u64,
    pub(crate) node: NodeId,
    /// The actor to take if the disk is new.
    pub(crate) actor: Actor,
    /// The node is a new member, so a disk without identity was never written to.
    pub(crate) new_member: bool,
    pub(crate) drift_max_micros: u64,
}

/// Records, and what is known of their partitions, in one database. All calls may block on the disk.
#[derive(Debug)]
pub(crate) struct Replica {
    db: Db,
    meta: Meta,
    clock: Arc<dyn Clock>,
    identity: Mutex<Identity>,
    hybrid: Mutex<HybridClock>,
    keyspaces: Mutex<BTreeMap<KeyspaceId, Keyspace>>,
    parts: Mutex<BTreeMap<(KeyspaceId, Partition), Arc<Part>>>,
    /// Something was written in this session.
    written: AtomicBool,
    /// Somebody knows more of what this node did than it does.
    outdated: AtomicBool,
}

impl Replica {
    /// Opens what `db` holds, or begins it. Each open is a new session.
    ///
    /// # Errors
    /// Those of the database; [`Error::InvalidArgument`] if it belongs to another node or cluster.
    pub(crate) fn open(
        db: Db,
        clock: Arc<dyn Clock>,
        options: &ReplicaOptions,
    ) -> lsm::Result<Replica> {
        let meta = Meta::open(&db)?;
        let found = meta.identity()?;
        let ReplicaOptions { cluster, node, actor, new_member, .. } = *options;
        let mut identity = found.unwrap_or_else(|| Identity::new(cluster, node, actor, new_member));
        if (identity.cluster, identity.node) != (cluster, node) || !identity.is_known() {
            let detail = format!(
                "it belongs to {} of cluster {:x}, format {}",
                identity.node, identity.cluster, identity.format
            );
            return Err(Error::invalid("directory of a node", detail));
        }
        identity.session += 1;
        meta.set_identity(&identity)?;
        let hybrid = HybridClock::new(meta.clock_bound()?, options.drift_max_micros);
        Ok(Replica {
            db,
            meta,
            clock,
            identity: Mutex::new(identity),
            hybrid: Mutex::new(hybrid),
            keyspaces: Mutex::default(),
            parts: Mutex::default(),
            written: AtomicBool::new(false),
            outdated: AtomicBool::new(false),
        })
    }

    pub(crate) fn db(&self) -> &Db {
        &self.db
    }

    pub(crate) fn meta(&self) -> &Meta {
        &self.meta
    }

    pub(crate) fn actor(&self) -> Actor {
        self.identity.lock().actor
    }

    pub(crate) fn id(&self) -> NodeId {
        self.identity.lock().node
    }

    pub(crate) fn session(&self) -> u64 {
        self.identity.lock().session
    }

    /// The disk is older than what others have seen of this node: from now on it is somebody else, and complete in nothing.
    pub(crate) fn renew(&self, actor: Actor, session: u64) -> Result<(), Failure> {
        let mut identity = self.identity.lock();
        let renewed = Identity { actor, session, first: false, ..identity.clone() };
        self.meta.set_identity(&renewed).map_err(|error| failure_of(&error))?;
        *identity = renewed;
        Ok(())
    }

    /// Begins a session, if something was written in the one before.
    pub(crate) fn begin_session(&self) -> Result<bool, Failure> {
        if !self.written.swap(false, Ordering::SeqCst) {
            return Ok(false);
        }
        let mut identity = self.identity.lock();
        let next = Identity { session: identity.session + 1, ..identity.clone() };
        self.meta.set_identity(&next).map_err(|error| failure_of(&error))?;
        *identity = next;
        Ok(true)
    }

    pub(crate) fn note_write(&self) {
        if !self.written.load(Ordering::Relaxed) {
            self.written.store(true, Ordering::SeqCst);
        }
    }

    pub(crate) fn note_outdated(&self) {
        self.outdated.store(true, Ordering::SeqCst);
    }

    pub(crate) fn take_outdated(&self) -> bool {
        self.outdated.swap(false, Ordering::SeqCst)
    }

    pub(crate) fn keyspace(&self, id: KeyspaceId) -> Result<Keyspace, Failure> {
        let mut keyspaces = self.keyspaces.lock();
        if let Some(keyspace) = keyspaces.get(&id) {
            return Ok(keyspace.clone());
        }
        let name = format!("k-{id}");
        let opened = self.db.keyspace(name, KeyspaceOptions::default());
        let keyspace = opened.map_err(|error| failure_of(&error))?;
        keyspaces.insert(id, keyspace.clone());
        Ok(keyspace)
    }

    /// The partition in memory, read from disk when it is needed first.
    pub(crate) fn part(&self, id: KeyspaceId, partition: Partition) -> Result<Arc<Part>, Failure> {
        let mut parts = self.parts.lock();
        if let Some(part) = parts.get(&(id, partition)) {
            return Ok(Arc::clone(part));
        }
        let stored = self.meta.part(id, partition).map_err(|error| failure_of(&error))?;
        let holes = self.meta.holes(id, partition).map_err(|error| failure_of(&error))?;
        let part = match stored {
            Some(mut state) => {
                if planted::is(81) {
                    state.counter = state.counter.saturating_sub(3);
                }
                Part::new(state, Tree::uncounted(), holes)
            }
            None => {
                let identity = self.identity.lock();
                // No actor makes dots under number 0: such a replica is complete for nobody.
                let actor = if identity.first { identity.actor } else { Actor(0) };
                Part::new(PartState::empty(actor), Tree::empty(), holes)
            }
        };
        let part = Arc::new(part);
        parts.insert((id, partition), Arc::clone(&part));
        Ok(part)
    }

    /// Partitions that were used since the start.
    pub(super) fn parts_used(&self) -> Vec<((KeyspaceId, Partition), Arc<Part>)> {
        let parts = self.parts.lock();
        parts.iter().map(|(place, part)| (*place, Arc::clone(part))).collect()
    }

    /// True if all that the node ever took in is in the partition, as far as it knows.
    pub(crate) fn is_complete(&self, id: KeyspaceId, partition: Partition) -> bool {
        self.part(id, partition).is_ok_and(|part| part.face().actor == self.actor())
    }

    // ---- stamps ----

    /// A stamp after `seen`.
    pub(crate) fn stamp_after(&self, seen: Stamp) -> Result<Stamp, Failure> {
        let mut hybrid = self.hybrid.lock();
        let wall = self.clock.wall_micros();
        loop {
            match hybrid.stamp_after(seen, wall) {
                Ok(stamp) => return Ok(stamp),
                Err(ClockError::Reserve { until }) => {
                    self.meta.set_clock_bound(until).map_err(|error| failure_of(&error))?;
                    hybrid.reserved(until);
                }
                Err(error) => return Err(Failure::Internal(Detail::new(error.to_string()))),
            }
        }
    }

    /// Takes notice of a stamp of a peer; false if it lies too far ahead to be followed.
    pub(crate) fn follow(&self, seen: Stamp) -> bool {
        self.hybrid.lock().follow(seen, self.clock.wall_micros()).is_ok()
    }

    // ---- reading ----

    /// The record of `key` as it is stored: without what the floor says.
    pub(crate) fn stored(
        &self,
        keyspace: &Keyspace,
        partition: Partition,
        key: &[u8],
    ) -> Result<Option<Record>, Failure> {
        let stored_key = layout::stored_key(partition, key);
        let read = keyspace.get_with(stored_key, Record::decode);
        let record = read.map_err(|error| failure_of(&error))?;
        // A checksum held, and yet it is no record: damaged all the same.
        record.transpose().map_err(|_| Failure::Damaged)
    }

    /// What an owner says of a key: with what the floor says, so that it speaks for itself.
    pub(crate) fn read(
        &self,
        id: KeyspaceId,
        partition: Partition,
        key: &[u8],
        wanted: Wanted,
    ) -> Stored {
        let read = match wanted {
            Wanted::Incomplete => self.read_any(id, partition, key),
            _ => self.read_filled(id, partition, key),
        };
        match read {
            Ok(None) => Stored::Absent,
            Ok(Some(record)) if wanted == Wanted::Digest => Stored::Digest(record.digest()),
            Ok(Some(record)) => Stored::Whole(record),
            Err(failure) => Stored::Failed(failure),
        }
    }

    fn read_filled(
        &self,
        id: KeyspaceId,
        partition: Partition,
        key: &[u8],
    ) -> Result<Option<Record>, Failure> {
        let part = self.part(id, partition)?;
        self.served(&part)?;
        self.read_any(id, partition, key)
    }

    /// The same, also of a replica that is not complete: to tell another owner.
    pub(crate) fn read_any(
        &self,
        id: KeyspaceId,
        partition: Partition,
        key: &[u8],
    ) -> Result<Option<Record>, Failure> {
        let (keyspace, part) = (self.keyspace(id)?, self.part(id, partition)?);
        let mut face = part.face();
        loop {
            if face.is_hole(key) {
                return Err(Failure::Damaged);
            }
            let stored = self.stored(&keyspace, partition, key);
            if matches!(stored, Err(Failure::Damaged)) {
                let mut held = part.hold();
                held.quarantine(key);
                part.show(&held);
            }
            // No record says nothing: if it was lost here, that must not delete it elsewhere.
            let Some(mut record) = stored? else { return Ok(None) };
            // The record was stripped of the floor of its moment: only with that one may it be filled.
            let now = part.face();
            if now.is_of_the_floor_of(&face) {
                if !planted::is(93) {
                    record.fill(&face.floor.dots);
                }
                return Ok(Some(record));
            }
            face = now;
        }
    }

    /// What readers of a partition have to know, if they may read it.
    fn served(&self, part: &Part) -> Result<Face, Failure> {
        let face = part.face();
        if face.actor == self.actor() || planted::is(90) {
            Ok(face)
        } else {
            Err(Failure::NotReady)
        }
    }

    /// One page of a partition; `complete` if it has to be.
    pub(crate) fn scan(&self, scan: &Scan, complete: bool) -> Result<Page, Failure> {
        let (keyspace, part) =
            (self.keyspace(scan.keyspace)?, self.part(scan.keyspace, scan.partition)?);
        loop {
            let face = if complete { self.served(&part)? } else { part.face() };
            let overlaps = |hole: &crate::merkle::Span| {
                let before = scan.end.as_ref().is_some_and(|end| *end <= hole.start);
                let behind = hole.end.as_ref().is_some_and(|end| *end <= scan.start);
                !before && !behind
            };
            if face.holes.iter().any(overlaps) {
                return Err(Failure::Damaged);
            }
            let page = self.page(&keyspace, scan, &face)?;
            if part.face().is_of_the_floor_of(&face) {
                return Ok(page);
            }
        }
    }

    fn page(&self, keyspace: &Keyspace, scan: &Scan, face: &Face) -> Result<Page, Failure> {
        let start = layout::stored_key(scan.partition, &scan.start);
        let end = match &scan.end {
            Some(end) => layout::stored_key(scan.partition, end),
            None => layout::range_of(scan.partition).end,
        };
        if start >= end {
            return Ok(Page { items: Vec::new(), more: false });
        }
        let mut range = keyspace.range(start..end);
        let (mut items, mut bytes) = (Vec::new(), 0);
        loop {
            let next = if scan.backward { range.next_back() } else { range.next() };
            let Some(next) = next else { return Ok(Page { items, more: false }) };
            let (stored_key, value) = next.map_err(|error| failure_of(&error))?;
            let (_, key) = layout::split(&stored_key).ok_or(Failure::Damaged)?;
            let mut record = Record::decode(&value).map_err(|_| Failure::Damaged)?;
            let len = key.len() + value.len();
            let is_full = items.len() >= scan.entries_max.max(1) as usize
                || bytes + len > scan.bytes_max as usize;
            if is_full && !items.is_empty() {
                return Ok(Page { items, more: true });
            }
            bytes += len;
            record.fill(&face.floor.dots);
            items.push(Item { key: Slice::copy_from(key), record, made_by: None });
        }
    }
}

/// What an error of the database is to who asked from elsewhere.
pub(crate) fn failure_of(error: &Error) -> Failure {
    match error {
        Error::NoSpace { .. } => Failure::NoSpace,
        Error::Corruption { .. } => Failure::Damaged,
        Error::Closed => Failure::Closed,
        Error::Overloaded { .. } => Failure::Overloaded { retry_after_micros: 10_000 },
        Error::InvalidArgument { .. } => Failure::Invalid(Detail::new(error.to_string())),
        _ => Failure::Internal(Detail::new(error.to_string())),
    }
}
