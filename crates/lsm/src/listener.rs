//! What a database tells of itself: events, handed to a listener in the order in which they happened.
//!
//! ```text
//! engine, under any lock   push: into a bounded queue, nothing else
//! executor, aside          deliver: one event after the other, under no lock, panics caught
//! ```

use crate::executor::{Executor, Job, Priority};
use crate::health::Health;
use base::Error;
use base::sync::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Events that wait for a slow listener; what comes beyond is counted and left out.
const QUEUE_MAX: usize = 1024;
/// Places of damage remembered, so that each is told once; more are not told.
const PLACES_MAX: usize = 1024;

/// Hears what happens in a database; given to [`DbBuilder::listener`](crate::DbBuilder::listener).
///
/// Events come one at a time, in the order in which they happened, a little after they did, on a thread that is kept for
/// them. No lock of the database is held, and nothing in it waits for the listener: while one is slow, up to 1,024 events
/// wait, and what comes beyond is left out and told by [`EngineEvent::EventsLost`]. A panic of a listener is caught and
/// counted in [`Metrics::listener_panics`](crate::Metrics::listener_panics); the next event comes all the same.
///
/// A listener may read from the database. It must not close it, nor drop its last handle: a close waits for the listener.
///
/// ```
/// # use lsm::{Db, EngineEvent, Listener};
/// # use std::sync::Arc;
/// # fn main() -> lsm::Result<()> {
/// # let dir = tempfile::tempdir().expect("a directory");
/// let listener = Arc::new(|event: &EngineEvent| println!("{event}"));
/// let db = Db::builder(dir.path().join("data")).listener(listener).open()?;
/// # db.close()
/// # }
/// ```
pub trait Listener: Send + Sync + 'static {
    /// Takes note of `event`. Should return soon: the events behind it wait.
    fn on_event(&self, event: &EngineEvent);
}

impl<F: Fn(&EngineEvent) + Send + Sync + 'static> Listener for F {
    fn on_event(&self, event: &EngineEvent) {
        self(event);
    }
}

/// Something that happened in a database.
///
/// A begin comes before its end; of one keyspace flushes do not overlap, compactions may. [`Health::Closed`] is the last
/// event of a database.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum EngineEvent {
    /// The database can do more or less than before. A failure that repeats itself is told once.
    #[non_exhaustive]
    HealthChanged {
        /// What it was.
        from: Health,
        /// What it is now.
        to: Health,
    },
    /// A flush begins.
    #[non_exhaustive]
    FlushBegun {
        /// Name of the keyspace.
        keyspace: String,
        /// Memtables that it writes.
        memtables: usize,
        /// Their size in memory.
        bytes: u64,
    },
    /// A flush ended.
    #[non_exhaustive]
    FlushEnded {
        /// Name of the keyspace.
        keyspace: String,
        /// Tables written; 0 if it failed.
        tables: usize,
        /// Their bytes.
        bytes: u64,
        /// How long it took.
        time: Duration,
        /// Why it failed, if it did. It is tried again unless the database closes.
        error: Option<Error>,
    },
    /// A compaction begins.
    #[non_exhaustive]
    CompactionBegun {
        /// Number shared by begin and end; counts from 1 in each opening.
        id: u64,
        /// Name of the keyspace.
        keyspace: String,
        /// Tables that it replaces.
        inputs: usize,
        /// Their bytes.
        input_bytes: u64,
        /// The level that it fills.
        output_level: u32,
        /// Why the policy chose it.
        reason: &'static str,
    },
    /// A compaction ended.
    #[non_exhaustive]
    CompactionEnded {
        /// Number shared by begin and end.
        id: u64,
        /// Name of the keyspace.
        keyspace: String,
        /// Tables written; 0 if it only moved or dropped tables, or failed.
        outputs: usize,
        /// Their bytes.
        output_bytes: u64,
        /// How long it took.
        time: Duration,
        /// Why it failed, if it did; [`Error::Closed`] if the database closes.
        error: Option<Error>,
    },
    /// Writes begin to be slowed down, or, told once more, begin to be stopped.
    #[non_exhaustive]
    WriteStallBegun {
        /// What is behind.
        reason: StallReason,
        /// True if writes wait for the debt to fall, false if each is delayed a little.
        stopped: bool,
    },
    /// Writes are no longer held back. Looked for when a flush or compaction ends and at every sync interval.
    #[non_exhaustive]
    WriteStallEnded {
        /// Since they were first slowed down.
        time: Duration,
    },
    /// Stored bytes are wrong. Each place is told once, and of the first 1,024 places only.
    #[non_exhaustive]
    DamageFound {
        /// The damaged file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What was expected and what was found.
        detail: String,
        /// Name of the keyspace, if the file belongs to one.
        keyspace: Option<String>,
    },
    /// The disk or the quota is full: a write or a background job has failed for it.
    #[non_exhaustive]
    OutOfSpace {
        /// [`Error::NoSpace`].
        error: Error,
    },
    /// What had failed for want of space has succeeded.
    SpaceResumed,
    /// A snapshot, or an iterator made from one, is older than
    /// [`Options::snapshot_age_warn`](field@crate::Options::snapshot_age_warn). Told once for each.
    #[non_exhaustive]
    OldSnapshot {
        /// The moment that it sees; see [`Snapshot::sequence`](crate::Snapshot::sequence).
        sequence: u64,
        /// Its age when it was noticed.
        age: Duration,
    },
    /// The listener was so slow that events were left out, here.
    #[non_exhaustive]
    EventsLost {
        /// How many.
        count: u64,
    },
}

/// A place at which stored bytes are wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DamagedPlace {
    /// The damaged file.
    pub path: PathBuf,
    /// Where in it.
    pub offset: u64,
    /// What was expected and what was found.
    pub detail: String,
    /// Name of the keyspace, if the file belongs to one.
    pub keyspace: Option<String>,
}

/// What writes are held back for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StallReason {
    /// Memtables of all keyspaces come near to what they may take together.
    Memory,
    /// Memtables of a keyspace wait for their flush.
    FrozenMemtables,
    /// Runs in level 0 wait for their compaction.
    LevelZeroRuns,
}

impl fmt::Display for StallReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StallReason::Memory => "memory",
            StallReason::FrozenMemtables => "memtables wait for their flush",
            StallReason::LevelZeroRuns => "level 0 waits for its compaction",
        })
    }
}

/// One line, lower case, values last.
impl fmt::Display for EngineEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = |error: &Option<Error>| match error {
            None => String::new(),
            Some(e) => format!(" error={e}"),
        };
        match self {
            EngineEvent::HealthChanged { from, to } => {
                write!(f, "health changed from={from} to={to}")
            }
            EngineEvent::FlushBegun { keyspace, memtables, bytes } => {
                write!(f, "flush begun keyspace={keyspace} memtables={memtables} bytes={bytes}")
            }
            EngineEvent::FlushEnded { keyspace, tables, bytes, time, error } => write!(
                f,
                "flush ended keyspace={keyspace} tables={tables} bytes={bytes} time={time:?}{}",
                outcome(error)
            ),
            EngineEvent::CompactionBegun {
                id,
                keyspace,
                inputs,
                input_bytes,
                output_level,
                reason,
            } => write!(
                f,
                "compaction begun id={id} keyspace={keyspace} inputs={inputs} bytes={input_bytes} \
                 output_level={output_level} reason={reason:?}"
            ),
            EngineEvent::CompactionEnded { id, keyspace, outputs, output_bytes, time, error } => {
                write!(
                    f,
                    "compaction ended id={id} keyspace={keyspace} outputs={outputs} bytes={output_bytes} \
                 time={time:?}{}",
                    outcome(error)
                )
            }
            EngineEvent::WriteStallBegun { reason, stopped } => {
                let what = if *stopped { "stopped" } else { "slowed down" };
                write!(f, "writes {what} reason={reason}")
            }
            EngineEvent::WriteStallEnded { time } => write!(f, "writes resumed time={time:?}"),
            EngineEvent::DamageFound { path, offset, detail, keyspace } => write!(
                f,
                "damage found: {detail} path={} offset={offset} keyspace={}",
                path.display(),
                keyspace.as_deref().unwrap_or("-")
            ),
            EngineEvent::OutOfSpace { error } => write!(f, "out of space: {error}"),
            EngineEvent::SpaceResumed => f.write_str("space resumed"),
            EngineEvent::OldSnapshot { sequence, age } => {
                write!(f, "old snapshot sequence={sequence} age={age:?}")
            }
            EngineEvent::EventsLost { count } => write!(f, "events lost count={count}"),
        }
    }
}

/// The way of events from where they happen to the listener. Without a listener they go nowhere.
pub(crate) struct Events {
    sink: Option<Sink>,
    damage: Mutex<BTreeMap<(PathBuf, u64), DamagedPlace>>,
    pub(crate) panics: AtomicU64,
    pub(crate) lost: AtomicU64,
}

struct Sink {
    listener: Arc<dyn Listener>,
    executor: Arc<dyn Executor>,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<EngineEvent>,
    /// Left out since the last event that found room.
    lost: u64,
    /// A delivery was asked for and has not begun.
    asked: bool,
    /// Somebody delivers, and will look again before he leaves.
    delivering: bool,
    /// The last event was pushed.
    ended: bool,
}

impl Events {
    pub(crate) fn new(
        listener: Option<Arc<dyn Listener>>,
        executor: &Arc<dyn Executor>,
    ) -> Arc<Self> {
        let sink = listener.map(|listener| Sink {
            listener,
            executor: Arc::clone(executor),
            queue: Mutex::default(),
        });
        Arc::new(Events {
            sink,
            damage: Mutex::default(),
            panics: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        })
    }

    /// True if somebody listens: an event is worth making.
    #[inline]
    pub(crate) fn wanted(&self) -> bool {
        self.sink.is_some()
    }

    /// Queues what `event` makes, under whatever locks, and asks for its delivery elsewhere.
    pub(crate) fn push(self: &Arc<Self>, event: impl FnOnce() -> EngineEvent) {
        let Some(sink) = &self.sink else { return };
        if sink.enqueue(event(), &self.lost) {
            let events = Arc::clone(self);
            let run = Box::new(move || events.deliver());
            sink.executor.submit(Job { name: "listener", priority: Priority::Aside, run });
        }
    }

    /// Hands what waits to the listener, unless somebody is at it. Under no lock.
    fn deliver(&self) {
        let Some(sink) = &self.sink else { return };
        if !sink.begin() {
            return;
        }
        while let Some(event) = sink.take() {
            let told = AssertUnwindSafe(|| sink.listener.on_event(&event));
            if std::panic::catch_unwind(told).is_err() {
                self.panics.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Tells the last event, on this thread, once the executor has ended.
    pub(crate) fn end(self: &Arc<Self>, from: Health) {
        let Some(sink) = &self.sink else { return };
        sink.enqueue(EngineEvent::HealthChanged { from, to: Health::Closed }, &self.lost);
        sink.queue.lock().ended = true;
        self.deliver();
    }

    /// Tells of damage, if `e` is that and was not told before.
    #[cold]
    pub(crate) fn damage(self: &Arc<Self>, e: &Error, keyspace: Option<&str>) {
        let Error::Corruption { path, offset, detail } = e else { return };
        let place = DamagedPlace {
            path: path.clone(),
            offset: *offset,
            detail: detail.clone(),
            keyspace: keyspace.map(Into::into),
        };
        if self.is_new_place(place) {
            self.push(|| EngineEvent::DamageFound {
                path: path.clone(),
                offset: *offset,
                detail: detail.clone(),
                keyspace: keyspace.map(Into::into),
            });
        }
    }

    fn is_new_place(&self, place: DamagedPlace) -> bool {
        let mut places = self.damage.lock();
        let key = (place.path.clone(), place.offset);
        if places.len() >= PLACES_MAX || places.contains_key(&key) {
            return false;
        }
        places.insert(key, place).is_none()
    }

    /// The places of damage met so far.
    pub(crate) fn places(&self) -> Vec<DamagedPlace> {
        self.damage.lock().values().cloned().collect()
    }

    /// Places of damage met so far.
    pub(crate) fn damaged_places(&self) -> usize {
        self.damage.lock().len()
    }
}

impl Sink {
    /// True if a delivery has to be asked for.
    fn enqueue(&self, event: EngineEvent, lost: &AtomicU64) -> bool {
        let mut queue = self.queue.lock();
        if queue.ended {
            return false;
        }
        if queue.waiting.len() >= QUEUE_MAX {
            queue.lost += 1;
            lost.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        if queue.lost > 0 {
            let count = std::mem::take(&mut queue.lost);
            queue.waiting.push_back(EngineEvent::EventsLost { count });
        }
        queue.waiting.push_back(event);
        let ask = !queue.asked && !queue.delivering;
        queue.asked |= ask;
        ask
    }

    /// False if somebody delivers already: he takes what there is.
    fn begin(&self) -> bool {
        let mut queue = self.queue.lock();
        queue.asked = false;
        !std::mem::replace(&mut queue.delivering, true)
    }

    /// The next event to tell; `None` ends the delivery.
    fn take(&self) -> Option<EngineEvent> {
        let mut queue = self.queue.lock();
        let event = queue.waiting.pop_front();
        queue.delivering = event.is_some();
        event
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("wanted", &self.wanted()).finish_non_exhaustive()
    }
}
