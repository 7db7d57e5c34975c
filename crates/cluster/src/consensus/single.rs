//! One copy of the topology, in a database.
//!
//! ```text
//! in keyspace `_topology`:
//! key                     value
//! w                       the topology at some epoch, as `topology` encodes it
//! e, epoch u64 BE         the change that led to this epoch, as `topology` encodes entries
//! ```
//! A change is one batch, synced before its proposer hears of it. Every [`WHOLE_EVERY`] changes the whole is stored in the batch
//! too. Changes before it are kept for nodes that follow, up to [`ENTRIES_MAX`] and a bound in bytes.

use super::queue::{Kept, Proposals, Waiting};
use super::{Consensus, Proposal, ProposeError, Proposed, Read, ReadError, WatchId, Watcher};
use crate::codec::DecodeError;
use crate::runtime::Runtime;
use crate::topology::{ENTRIES_MAX, Entry, Refusal, Topology, Update};
use crate::transport::Detail;
use base::sync::Mutex;
use lsm::{Db, Durability, Keyspace, KeyspaceOptions};
use ring::Epoch;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};

const KEYSPACE: &str = "_topology";
const WHOLE: &[u8] = b"w";
const ENTRY: u8 = b'e';
/// Changes after which the whole is stored again.
const WHOLE_EVERY: u64 = 256;

/// Why a database holds no topology.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The database failed.
    #[error(transparent)]
    Db(#[from] lsm::Error),
    /// What it holds is not what was written. Restore it: going on without it could give an actor twice.
    #[error("stored topology is damaged: {0}")]
    Damaged(#[from] DecodeError),
    /// A stored change does not fit the topology before it.
    #[error("stored changes do not lead anywhere epoch={epoch}: {refusal}")]
    Diverged {
        /// The epoch that the change should lead to.
        epoch: Epoch,
        /// Why it does not.
        refusal: Refusal,
    },
    /// A change is missing, or the whole is.
    #[error("stored changes have a gap epoch={epoch}")]
    Gap {
        /// The first epoch that is missing.
        epoch: Epoch,
    },
}

/// Agreement where there is nobody else to agree with: each change is on the disk of one database before it is known.
///
/// The database must not be restored from an older copy while members of its cluster live: actors that were given since would be
/// given again.
pub struct SingleCopy {
    runtime: Arc<dyn Runtime>,
    db: Db,
    keyspace: Keyspace,
    this: Weak<SingleCopy>,
    state: Mutex<State>,
}

struct State {
    topology: Arc<Topology>,
    kept: Kept,
    /// Epoch of the whole on disk.
    whole: Epoch,
    waiting: Waiting,
    /// A task works on what waits, or will.
    busy: bool,
    watchers: BTreeMap<WatchId, Watching>,
    watches: u64,
    stopped: Option<Detail>,
}

#[derive(Clone)]
struct Watching {
    watcher: Arc<Watcher>,
    /// The last epoch that it was told of. Held during the call, so that epochs ascend.
    told: Arc<Mutex<Epoch>>,
}

impl SingleCopy {
    /// The agreement that `db` holds; where it holds none, one that begins with `first`. Syncs before it returns.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(
        db: Db,
        runtime: Arc<dyn Runtime>,
        first: impl FnOnce() -> Topology,
    ) -> Result<Arc<SingleCopy>, OpenError> {
        let keyspace = db.keyspace(KEYSPACE, KeyspaceOptions::default())?;
        if keyspace.get(WHOLE)?.is_none() {
            keyspace.put_with(WHOLE, first().encode(), Durability::Sync)?;
        }
        let (whole, topology, kept) = load(&keyspace)?;
        let state = State {
            topology: Arc::new(topology),
            kept,
            whole,
            waiting: Waiting::default(),
            busy: false,
            watchers: BTreeMap::new(),
            watches: 0,
            stopped: None,
        };
        let state = Mutex::new(state);
        let make = |this: &Weak<SingleCopy>| SingleCopy {
            runtime,
            db,
            keyspace,
            this: this.clone(),
            state,
        };
        Ok(Arc::new_cyclic(make))
    }

    /// Takes no more proposals; those that wait end with [`ProposeError::Stopped`].
    pub fn stop(&self) {
        self.stop_because(Detail::new("it was closed"));
    }

    /// Bytes of proposals that wait, or are being decided on.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        self.state.lock().waiting.bytes()
    }

    fn stop_because(&self, why: Detail) {
        let waiting = {
            let mut state = self.state.lock();
            state.stopped.get_or_insert_with(|| why.clone());
            state.waiting.take()
        };
        for (_, done) in waiting {
            done(Err(ProposeError::Stopped(why.clone())));
        }
    }

    /// Runs `task` where it may block, unless this is dropped by then.
    fn later(&self, task: impl FnOnce(&SingleCopy) + Send + 'static) {
        let this = self.this.clone();
        self.runtime.run(Box::new(move || {
            if let Some(this) = this.upgrade() {
                task(&this);
            }
        }));
    }

    /// Decides on all that waits, with one sync, until nothing does.
    fn work(&self) {
        loop {
            let (before, whole, kept, waiting) = {
                let mut state = self.state.lock();
                state.waiting.decided();
                let waiting = state.waiting.take();
                if waiting.is_empty() {
                    state.busy = false;
                    return;
                }
                (Arc::clone(&state.topology), state.whole, state.kept.first(), waiting)
            };
            let decided = Decided::of(before, waiting);
            match self.store(&decided, whole, kept) {
                Ok(whole) => self.publish(decided, whole),
                Err(error) => self.fail(decided, &error),
            }
        }
    }

    /// Syncs what was decided; the epoch of the whole on disk then. Where the whole is stored, changes go that are not kept any more.
    fn store(&self, decided: &Decided, whole: Epoch, kept: Option<Epoch>) -> lsm::Result<Epoch> {
        if decided.entries.is_empty() {
            return Ok(whole);
        }
        let mut batch = self.db.batch();
        for entry in &decided.entries {
            batch.put_in(&self.keyspace, entry_key(entry.epoch), entry.encode());
        }
        let newest = decided.topology.epoch();
        let due = newest.0 - whole.0 >= WHOLE_EVERY;
        if due {
            batch.put_in(&self.keyspace, WHOLE, decided.topology.encode());
            let first = decided.entries.first().map_or(newest, |entry| entry.epoch);
            let by_number = Epoch((newest.0 + 1).saturating_sub(ENTRIES_MAX as u64));
            let first = kept.unwrap_or(first).max(by_number);
            batch.delete_range_in(&self.keyspace, entry_key(Epoch(0))..entry_key(first));
        }
        batch.commit_with(Durability::Sync)?;
        Ok(if due { newest } else { whole })
    }

    fn publish(&self, decided: Decided, whole: Epoch) {
        {
            let mut state = self.state.lock();
            state.topology = Arc::clone(&decided.topology);
            state.whole = whole;
            decided.entries.into_iter().for_each(|entry| state.kept.push(entry));
        }
        for (result, done) in decided.ended {
            done(result);
        }
        self.tell_all();
    }

    /// The disk failed: what was decided may be on it or not, so nothing is decided any more.
    fn fail(&self, decided: Decided, error: &lsm::Error) {
        let why = Detail::new(error.to_string());
        self.stop_because(why.clone());
        for (result, done) in decided.ended {
            done(result.and(Err(ProposeError::Unknown(why.clone()))));
        }
    }

    fn tell_all(&self) {
        let watchers: Vec<Watching> = self.state.lock().watchers.values().cloned().collect();
        watchers.iter().for_each(|watching| self.tell(watching));
    }

    fn tell(&self, watching: &Watching) {
        let mut told = watching.told.lock();
        let topology = self.known();
        if topology.epoch() > *told {
            *told = topology.epoch();
            (watching.watcher)(&topology);
        }
    }
}

/// What became of proposals, before it is on disk.
struct Decided {
    topology: Arc<Topology>,
    entries: Vec<Entry>,
    ended: Vec<(Result<Arc<Topology>, ProposeError>, Proposed)>,
}

impl Decided {
    fn of(before: Arc<Topology>, waiting: Proposals) -> Decided {
        let mut decided = Decided { topology: before, entries: Vec::new(), ended: Vec::new() };
        for (proposal, done) in waiting {
            let result = decided.add(proposal);
            decided.ended.push((result, done));
        }
        decided
    }

    fn add(&mut self, proposal: Proposal) -> Result<Arc<Topology>, ProposeError> {
        let Proposal { id, expected, change } = proposal;
        let current = self.topology.epoch();
        if expected != current {
            return Err(ProposeError::Conflict { current });
        }
        self.topology = Arc::new(self.topology.apply(&change)?);
        self.entries.push(Entry { epoch: self.topology.epoch(), id, change });
        Ok(Arc::clone(&self.topology))
    }
}

fn entry_key(epoch: Epoch) -> Vec<u8> {
    [&[ENTRY][..], &epoch.0.to_be_bytes()].concat()
}

/// Epoch of the whole, the topology after all changes, and the last of these.
fn load(keyspace: &Keyspace) -> Result<(Epoch, Topology, Kept), OpenError> {
    let whole = keyspace.get(WHOLE)?.ok_or(OpenError::Gap { epoch: Epoch::FIRST })?;
    let mut topology = Topology::decode(&whole)?;
    let (whole, mut kept, mut last) = (topology.epoch(), Kept::new(), None);
    for stored in keyspace.prefix([ENTRY]) {
        let (_, value) = stored?;
        let entry = Entry::decode(&value)?;
        let next = last.map_or(entry.epoch, |last: Epoch| Epoch(last.0 + 1));
        if entry.epoch != next || entry.epoch.0 > topology.epoch().0 + 1 {
            return Err(OpenError::Gap { epoch: next.min(Epoch(topology.epoch().0 + 1)) });
        }
        if entry.epoch > topology.epoch() {
            let epoch = entry.epoch;
            let diverged = |refusal| OpenError::Diverged { epoch, refusal };
            topology = topology.apply(&entry.change).map_err(diverged)?;
        }
        last = Some(entry.epoch);
        kept.push(entry);
    }
    Ok((whole, topology, kept))
}

impl Consensus for SingleCopy {
    fn propose(&self, proposal: Proposal, done: Proposed) {
        let refused = {
            let mut state = self.state.lock();
            if let Some(why) = &state.stopped {
                Some((ProposeError::Stopped(why.clone()), done))
            } else if let Err(done) = state.waiting.push(proposal, done) {
                Some((ProposeError::Overloaded, done))
            } else {
                if !std::mem::replace(&mut state.busy, true) {
                    self.later(SingleCopy::work);
                }
                None
            }
        };
        if let Some((error, done)) = refused {
            done(Err(error));
        }
    }

    fn read(&self, done: Read) {
        let read = {
            let state = self.state.lock();
            match &state.stopped {
                Some(why) => Err(ReadError::Stopped(why.clone())),
                None => Ok(Arc::clone(&state.topology)),
            }
        };
        done(read);
    }

    fn known(&self) -> Arc<Topology> {
        Arc::clone(&self.state.lock().topology)
    }

    fn since(&self, from: Epoch) -> Option<Update> {
        let state = self.state.lock();
        if from >= state.topology.epoch() {
            return None;
        }
        let whole = || Update::Whole(Arc::clone(&state.topology));
        Some(state.kept.since(from).unwrap_or_else(whole))
    }

    fn watch(&self, watcher: Watcher) -> WatchId {
        let watching =
            Watching { watcher: Arc::new(watcher), told: Arc::new(Mutex::new(Epoch(0))) };
        let id = {
            let mut state = self.state.lock();
            state.watches += 1;
            let id = WatchId(state.watches);
            state.watchers.insert(id, watching.clone());
            id
        };
        self.later(move |this| {
            if this.state.lock().watchers.contains_key(&id) {
                this.tell(&watching);
            }
        });
        id
    }

    fn unwatch(&self, watch: WatchId) {
        let dropped = self.state.lock().watchers.remove(&watch);
        // Outside the lock: what a watcher holds may call back when it is dropped.
        drop(dropped);
    }
}

impl fmt::Debug for SingleCopy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        f.debug_struct("SingleCopy")
            .field("epoch", &state.topology.epoch())
            .field("waiting", &state.waiting.len())
            .field("stopped", &state.stopped)
            .finish()
    }
}
