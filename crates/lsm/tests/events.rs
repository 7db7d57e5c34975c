//! What a listener hears, in which order, and that it cannot hurt the engine; what is counted of readers.
#![expect(clippy::unwrap_used, reason = "a test")]

mod support;

use lsm::clock::ManualClock;
use lsm::executor::ManualExecutor;
use lsm::{Db, EngineEvent, Error, Health, Listener, Options, StallReason};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use support::{DIR, small_options};
use vfs::{Fault, FaultFs, FaultPlan, Fs, MemFs, OpKind};

/// Writes down what it hears.
#[derive(Default)]
struct Heard(Mutex<Vec<EngineEvent>>);

impl Listener for Heard {
    fn on_event(&self, event: &EngineEvent) {
        self.0.lock().unwrap().push(event.clone());
    }
}

impl Heard {
    fn take(&self) -> Vec<EngineEvent> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }

    /// What was heard, a word or two each.
    fn words(&self) -> Vec<String> {
        let word = |event: &EngineEvent| event.to_string().split('=').next().unwrap().to_owned();
        self.take().iter().map(|e| word(e).rsplit_once(' ').unwrap().0.to_owned()).collect()
    }
}

struct World {
    db: Db,
    heard: Arc<Heard>,
    executor: Arc<ManualExecutor>,
    clock: Arc<ManualClock>,
}

fn world(fs: Arc<dyn Fs>, options: Options) -> World {
    let (heard, executor) = (Arc::new(Heard::default()), ManualExecutor::new());
    let clock = Arc::new(ManualClock::at(1));
    let builder = Db::builder(DIR).options(options).fs(fs).seed(1).clock(clock.clone());
    let builder = builder.executor(executor.clone()).listener(heard.clone());
    World { db: builder.open().unwrap(), heard, executor, clock }
}

fn fill(db: &Db, from: u32) {
    for i in from..from + 40 {
        db.put(format!("key{i:04}"), [7; 40]).unwrap();
    }
}

#[test]
fn flushes_and_compactions_are_told_from_begin_to_end_and_closed_comes_last() {
    let w = world(Arc::new(MemFs::new()), small_options());
    for round in 0..3 {
        fill(&w.db, round * 20);
        w.db.flush().unwrap();
    }
    w.db.wait_idle().unwrap();
    assert!(w.heard.take().is_empty(), "nothing is told under the locks of a waiting caller");
    w.executor.run_all();
    let events = w.heard.take();
    let (mut flushed, mut flushes, mut open, mut written) = (0, 0, Vec::new(), 0);
    let mut in_flush = false;
    for event in &events {
        match event {
            EngineEvent::FlushBegun { keyspace, memtables, bytes, .. } => {
                assert!(!in_flush && *memtables > 0 && *bytes > 40 * 40, "{event}");
                assert_eq!(keyspace, "default");
                in_flush = true;
            }
            EngineEvent::FlushEnded { tables, bytes, error, .. } => {
                assert!(in_flush && *tables > 0 && error.is_none(), "{event}");
                (in_flush, flushed, flushes) = (false, flushed + bytes, flushes + 1);
            }
            EngineEvent::CompactionBegun { id, inputs, input_bytes, .. } => {
                assert!(*inputs > 0 && *input_bytes > 0, "{event}");
                open.push(*id);
            }
            EngineEvent::CompactionEnded { id, output_bytes, error, .. } => {
                assert!(error.is_none(), "{event}");
                assert_eq!(open.pop(), Some(*id), "{event}");
                written += output_bytes;
            }
            other => panic!("{other}"),
        }
    }
    let metrics = w.db.metrics();
    assert_eq!((flushes, flushed), (metrics.flushes, metrics.flushed_bytes));
    assert_eq!(written, metrics.compaction_bytes_written);
    assert!(flushes >= 3 && written > 0 && !in_flush && open.is_empty());
    w.db.put("more", "1").unwrap();
    w.db.close().unwrap();
    let words = w.heard.words();
    assert_eq!(words, ["flush begun", "flush ended", "health changed"]);
    w.db.close().unwrap();
    assert!(w.heard.take().is_empty());
}

#[test]
fn a_full_disk_is_told_once_and_its_end_too() {
    let fs = FaultFs::over_mem(MemFs::new());
    let w = world(Arc::new(fs.clone()), small_options());
    fill(&w.db, 0);
    let no_space = || FaultPlan::any(Fault::NoSpace).kinds(&[OpKind::Create]).suffix(".sst");
    fs.inject(no_space().times(u64::MAX));
    for _ in 0..3 {
        assert!(w.db.flush().unwrap_err().is_no_space());
    }
    w.executor.run_all();
    let events = w.heard.take();
    let failed = |e: &&EngineEvent| {
        matches!(e, EngineEvent::FlushEnded { error: Some(Error::NoSpace { .. }), tables: 0, .. })
    };
    assert!(events.iter().filter(failed).count() >= 3);
    let is_health = |e: &&EngineEvent| {
        matches!(e, EngineEvent::HealthChanged { .. } | EngineEvent::OutOfSpace { .. })
    };
    let states: Vec<_> = events.iter().filter(is_health).collect();
    assert!(
        matches!(
            states[..],
            [
                EngineEvent::OutOfSpace { error: Error::NoSpace { .. }, .. },
                EngineEvent::HealthChanged {
                    from: Health::Healthy,
                    to: Health::Degraded { .. },
                    ..
                },
            ]
        ),
        "{states:?}"
    );
    assert_eq!(w.db.metrics().health.code(), 1);
    fs.clear();
    w.db.flush().unwrap();
    w.executor.run_all();
    let events = w.heard.take();
    let end = |e: &EngineEvent| {
        matches!(
            e,
            EngineEvent::HealthChanged { from: Health::Degraded { .. }, to: Health::Healthy, .. }
        )
    };
    let at = events.iter().position(end).expect("healthy again");
    assert!(matches!(events[at + 1], EngineEvent::SpaceResumed), "{events:?}");
    assert_eq!(w.db.metrics().health.code(), 0);
}

#[test]
fn a_failed_sync_is_told_as_read_only_and_then_closed() {
    let fs = FaultFs::over_mem(MemFs::new());
    let w = world(Arc::new(fs.clone()), small_options());
    w.db.put("a", "1").unwrap();
    fs.inject(FaultPlan::any(Fault::Eio).kinds(&[OpKind::SegmentSync]).times(1));
    assert!(matches!(w.db.sync(), Err(Error::SyncFailed { .. })));
    w.executor.run_all();
    let events = w.heard.take();
    assert!(
        matches!(
            &events[..],
            [EngineEvent::HealthChanged {
                from: Health::Healthy,
                to: Health::ReadOnly { reason: Error::SyncFailed { .. } },
                ..
            }]
        ),
        "{events:?}"
    );
    assert_eq!(w.db.metrics().health.code(), 2);
    drop(w.db.close());
    let events = w.heard.take();
    assert!(
        matches!(
            &events[..],
            [EngineEvent::HealthChanged { from: Health::ReadOnly { .. }, to: Health::Closed, .. }]
        ),
        "{events:?}"
    );
}

#[test]
fn damage_is_told_once_with_its_keyspace_whoever_meets_it() {
    let fs = MemFs::new();
    let w = world(Arc::new(fs.clone()), small_options().block_cache_bytes(0));
    let users = w.db.keyspace("users", lsm::KeyspaceOptions::default()).unwrap();
    users.put("k", [1; 100]).unwrap();
    users.flush().unwrap();
    let files = fs.files();
    let (path, _) = files.iter().find(|(p, _)| p.extension().is_some_and(|e| e == "sst")).unwrap();
    fs.flip_bit(path, 20, 3).unwrap();
    w.executor.run_all();
    w.heard.take();
    assert!(matches!(users.get("k"), Err(Error::Corruption { .. })));
    assert!(users.get("k").is_err());
    assert!(users.multi_get(["k"]).is_err());
    assert!(users.iter().next().unwrap().is_err());
    assert!(users.cursor().unwrap().seek_to_first().is_err());
    w.executor.run_all();
    let events = w.heard.take();
    let [EngineEvent::DamageFound { path: told, keyspace, .. }] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!((told, keyspace.as_deref()), (path, Some("users")));
    assert_eq!(w.db.metrics().damaged_places, 1);
    assert!(w.db.health().is_healthy());
}

#[test]
fn a_stall_is_told_with_its_reason_and_ends_when_the_debt_is_gone() {
    let fs = FaultFs::over_mem(MemFs::new());
    let w = world(Arc::new(fs.clone()), small_options().memtable_size_bytes(1 << 10));
    let stalls = || -> Vec<EngineEvent> {
        let is_stall = |e: &EngineEvent| {
            matches!(e, EngineEvent::WriteStallBegun { .. } | EngineEvent::WriteStallEnded { .. })
        };
        w.heard.take().into_iter().filter(is_stall).collect()
    };
    // No flush succeeds, so the debt only grows.
    let no_tables = FaultPlan::any(Fault::Eio).kinds(&[OpKind::Create]).suffix(".sst");
    fs.inject(no_tables.times(u64::MAX));
    let writes = (0..10_000).map(|i| w.db.put(format!("key{i:06}"), [7; 100]));
    assert!(writes.into_iter().any(|written| written.is_err()), "writes stop at the hard limit");
    w.clock.advance(5_000_000);
    w.executor.tick();
    w.executor.run_all();
    let told = stalls();
    let [
        EngineEvent::WriteStallBegun { reason, stopped: false, .. },
        EngineEvent::WriteStallBegun { stopped: true, .. },
    ] = &told[..]
    else {
        panic!("{told:?}");
    };
    assert!(matches!(reason, StallReason::FrozenMemtables | StallReason::Memory), "{told:?}");
    fs.clear();
    w.db.flush().unwrap();
    w.db.wait_idle().unwrap();
    w.executor.tick();
    w.executor.run_all();
    let told = stalls();
    let [EngineEvent::WriteStallEnded { time, .. }] = &told[..] else { panic!("{told:?}") };
    assert_eq!(*time, Duration::from_secs(5));
    w.db.put("calm", "1").unwrap();
    w.executor.tick();
    w.executor.run_all();
    assert!(stalls().is_empty());
}

#[test]
fn a_listener_that_panics_is_counted_and_hears_on() {
    let fs: Arc<dyn Fs> = Arc::new(MemFs::new());
    let (calls, executor) = (Arc::new(AtomicUsize::new(0)), ManualExecutor::new());
    let seen = calls.clone();
    let panics = move |_: &EngineEvent| {
        seen.fetch_add(1, Ordering::Relaxed);
        std::panic::resume_unwind(Box::new("a bad listener"));
    };
    let builder = Db::builder(DIR).options(small_options()).fs(fs).executor(executor.clone());
    let db = builder.listener(Arc::new(panics)).open().unwrap();
    fill(&db, 0);
    db.flush().unwrap();
    executor.run_all();
    assert!(calls.load(Ordering::Relaxed) >= 2);
    assert_eq!(db.metrics().listener_panics, calls.load(Ordering::Relaxed) as u64);
    assert!(db.health().is_healthy());
    db.put("still", "here").unwrap();
    db.close().unwrap();
}

#[test]
fn a_slow_listener_loses_events_and_is_told_how_many() {
    let w = world(Arc::new(MemFs::new()), small_options());
    // Two events each, and nobody runs the listener.
    for i in 0..600u32 {
        w.db.put(i.to_le_bytes(), "v").unwrap();
        w.db.flush().unwrap();
    }
    let lost = w.db.metrics().events_lost;
    assert!(lost >= 176, "{lost}");
    // Compactions run behind the delivery, and find room.
    w.executor.run_all();
    let events = w.heard.take();
    let is_loss = |e: &EngineEvent| matches!(e, EngineEvent::EventsLost { .. });
    assert_eq!(events.iter().position(is_loss), Some(1024));
    let EngineEvent::EventsLost { count, .. } = &events[1024] else { panic!("{events:?}") };
    assert_eq!(*count, lost);
    assert_eq!(events.iter().filter(|e| is_loss(e)).count(), 1);
    assert!(events.len() > 1025);
}

/// On threads: reads in the listener, while the engine goes on below it.
#[test]
fn a_listener_may_read_the_database_and_blocks_nobody() {
    struct Reader {
        db: OnceLock<Mutex<Option<Db>>>,
        hold: Mutex<()>,
        read: AtomicUsize,
    }
    impl Listener for Reader {
        fn on_event(&self, _: &EngineEvent) {
            drop(self.hold.lock());
            let Some(db) = self.db.get() else { return };
            // Held to the end: the test takes it away before it closes the database.
            let db = db.lock().unwrap();
            let Some(db) = &*db else { return };
            assert!(db.get("key0000").unwrap().is_some() && db.iter().count() >= 40);
            assert!(db.metrics().flushes > 0 && db.health().is_healthy());
            self.read.fetch_add(1, Ordering::Relaxed);
        }
    }
    let reader =
        Arc::new(Reader { db: OnceLock::new(), hold: Mutex::default(), read: AtomicUsize::new(0) });
    let builder = Db::builder(DIR).options(small_options()).fs(Arc::new(MemFs::new()));
    // Before the first event: one that comes while there is nothing to read must wait too.
    let held = reader.hold.lock().unwrap();
    let db = builder.listener(reader.clone()).open().unwrap();
    reader.db.get_or_init(|| Mutex::new(Some(db.clone())));
    for round in 0..5 {
        fill(&db, round * 40);
        db.flush().unwrap();
    }
    db.wait_idle().unwrap();
    drop(held);
    while reader.read.load(Ordering::Relaxed) == 0 {
        std::thread::yield_now();
    }
    drop(reader.db.get().unwrap().lock().unwrap().take());
    db.close().unwrap();
    assert_eq!(db.metrics().listener_panics, 0);
}

#[test]
fn old_snapshots_are_told_once_on_the_clock_of_the_database() {
    let options = small_options().snapshot_age_warn(Duration::from_secs(60)).idle_compaction(None);
    let w = world(Arc::new(MemFs::new()), options);
    w.db.put("a", "1").unwrap();
    let old = w.db.snapshot();
    w.clock.advance(60_000_000);
    w.db.put("a", "2").unwrap();
    let young = w.db.snapshot();
    let tick = || {
        w.executor.tick();
        w.executor.run_all();
        w.heard.take()
    };
    assert!(tick().is_empty(), "as old as that is not older");
    w.clock.advance(1);
    let metrics = w.db.metrics();
    assert_eq!((metrics.snapshots_open, metrics.oldest_snapshot_micros), (2, 60_000_001));
    let events = tick();
    let [EngineEvent::OldSnapshot { sequence, age, .. }] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!((*sequence, *age), (old.sequence(), Duration::from_micros(60_000_001)));
    assert!(tick().is_empty(), "once");
    w.clock.advance(60_000_000);
    let events = tick();
    let [EngineEvent::OldSnapshot { sequence, .. }] = &events[..] else { panic!("{events:?}") };
    assert_eq!(*sequence, young.sequence());
    // An iterator keeps the moment of its snapshot open.
    let iterator = old.iter();
    drop((old, young));
    assert_eq!(w.db.metrics().snapshots_open, 1);
    drop(iterator);
    let metrics = w.db.metrics();
    assert_eq!((metrics.snapshots_open, metrics.oldest_snapshot_micros), (0, 0));
}

#[test]
fn open_iterators_are_counted_and_bounded() {
    let options = small_options().open_iterators_max(2usize);
    let (db, _executor) = support::open(Arc::new(MemFs::new()), DIR, &options, 1).unwrap();
    db.put("a", "1").unwrap();
    let open = || db.metrics().iterators_open;
    let (range, cursor) = (db.iter(), db.cursor().unwrap());
    assert_eq!(open(), 2);
    let refused = db.cursor().unwrap_err();
    assert!(matches!(refused, Error::Overloaded { max: 2, .. }), "{refused}");
    assert_eq!(refused.kind(), lsm::ErrorKind::Retry);
    let mut refused = db.range("a"..);
    assert!(matches!(refused.next(), Some(Err(Error::Overloaded { .. }))));
    assert!(refused.next().is_none() && refused.next_back().is_none());
    assert_eq!(open(), 2, "those that were refused do not count");
    assert!(db.get("a").unwrap().is_some() && db.snapshot().get("a").unwrap().is_some());
    drop(cursor);
    assert_eq!(db.snapshot().iter().count(), 1);
    assert_eq!((range.count(), open()), (1, 0));
    let inverted = db.range("b".."a");
    assert_eq!(open(), 0);
    drop(inverted);
    assert_eq!(open(), 0);
}
