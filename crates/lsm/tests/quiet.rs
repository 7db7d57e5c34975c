//! Quiet times: runs are merged into one when nothing is written, and only then.
#![expect(clippy::unwrap_used, reason = "a test")]

use lsm::clock::ManualClock;
use lsm::executor::ManualExecutor;
use lsm::{Db, Options};
use std::sync::Arc;
use std::time::Duration;
use vfs::{CrashProfile, MemFs};

struct World {
    db: Db,
    clock: Arc<ManualClock>,
    executor: Arc<ManualExecutor>,
}

fn world(options: Options) -> World {
    let (clock, executor) = (Arc::new(ManualClock::at(1)), ManualExecutor::new());
    let builder = Db::builder("/db").options(options).fs(Arc::new(MemFs::new()));
    let db = builder.clock(clock.clone()).executor(executor.clone()).open().unwrap();
    World { db, clock, executor }
}

impl World {
    /// Writes `keys` and flushes them into a run of their own.
    fn run_of(&self, keys: std::ops::Range<u32>, value: &str) {
        keys.for_each(|n| self.db.put(n.to_be_bytes(), value).unwrap());
        self.db.flush().unwrap();
    }

    fn runs(&self) -> usize {
        self.db.metrics().keyspaces[0].levels.iter().map(|level| level.runs).sum()
    }

    /// Lets time pass, with a tick before and after it, and the jobs that follow.
    fn pass(&self, millis: u64) {
        self.executor.tick();
        self.executor.run_all();
        self.clock.advance(millis * 1000);
        self.executor.tick();
        self.executor.run_all();
    }
}

#[test]
fn after_a_second_without_writes_there_is_one_run() {
    let w = world(Options::default());
    w.run_of(0..1000, "old");
    w.run_of(500..1500, "new");
    w.run_of(1000..2000, "newest");
    assert_eq!(w.runs(), 3);
    w.pass(900);
    assert_eq!(w.runs(), 3, "too early");
    w.pass(100);
    assert_eq!(w.runs(), 1);
    let all: Vec<_> = w.db.iter().map(|pair| pair.unwrap().1).collect();
    assert_eq!(all.len(), 2000);
    let of = |value: &str| all.iter().filter(|v| *v == value).count();
    assert_eq!((of("old"), of("new"), of("newest")), (500, 500, 1000));
    // Once: nothing is rewritten again while nothing is written.
    let before = w.db.metrics().compactions;
    w.pass(5000);
    w.pass(5000);
    assert_eq!(w.db.metrics().compactions, before);
}

#[test]
fn a_little_on_top_of_much_is_left_alone() {
    let w = world(Options::default());
    w.run_of(0..20_000, "much");
    w.pass(2000);
    w.run_of(5..6, "little");
    w.pass(2000);
    assert_eq!(w.runs(), 2, "not worth rewriting the large run");
    w.run_of(0..10_000, "more");
    w.pass(2000);
    assert_eq!(w.runs(), 1);
    assert_eq!(w.db.get(5u32.to_be_bytes()).unwrap().unwrap(), "more");
}

#[test]
fn writes_put_it_off_and_the_option_turns_it_off() {
    let w = world(Options::default());
    w.run_of(0..1000, "a");
    w.run_of(0..1000, "b");
    for n in 0..20u32 {
        w.pass(600);
        w.db.put((n + 5000).to_be_bytes(), "still writing").unwrap();
    }
    assert_eq!(w.runs(), 2);
    let off = world(Options::default().idle_compaction(None));
    off.run_of(0..1000, "a");
    off.run_of(0..1000, "b");
    off.pass(100_000);
    off.db.wait_idle().unwrap();
    assert_eq!(off.runs(), 2);
}

#[test]
fn to_wait_until_idle_is_to_be_merged() {
    let w = world(Options::default().idle_compaction(Some(Duration::from_secs(3600))));
    w.run_of(0..1000, "a");
    w.run_of(0..1000, "b");
    // Large enough to be worth a flush.
    (0..20_000u32).for_each(|n| w.db.put(n.to_be_bytes(), [7; 100]).unwrap());
    w.db.wait_idle().unwrap();
    assert_eq!(w.runs(), 1);
    assert_eq!(w.db.metrics().keyspaces[0].memtable_bytes, w.db.metrics().memtable_bytes);
    assert_eq!(w.db.iter().count(), 20_000);
}

#[test]
fn a_snapshot_keeps_what_it_sees_through_a_quiet_time() {
    let w = world(Options::default());
    w.run_of(0..100, "before");
    let snapshot = w.db.snapshot();
    w.run_of(0..100, "after");
    w.db.delete_range(0u32.to_be_bytes()..50u32.to_be_bytes()).unwrap();
    w.db.flush().unwrap();
    w.pass(2000);
    assert_eq!(w.runs(), 1);
    assert_eq!(snapshot.iter().count(), 100);
    assert!(snapshot.iter().all(|pair| pair.unwrap().1 == "before"));
    assert_eq!(w.db.iter().count(), 50);
}

/// Files of a name, and their bytes.
fn files(mem: &MemFs, ending: &str) -> (usize, u64) {
    let files = mem.files();
    let lens = files.iter().filter(|(path, _)| path.to_string_lossy().ends_with(ending));
    lens.fold((0, 0), |(count, bytes), (_, len)| (count + 1, bytes + len))
}

/// At rest a short segment is left of the log, and no reserve; the first write asks for both, and all is there after a crash.
#[test]
fn space_kept_for_writes_is_given_back() {
    let mem = MemFs::new();
    let (clock, executor) = (Arc::new(ManualClock::at(1)), ManualExecutor::new());
    let options = || Options::default().log_segment_bytes(4 << 20).disk_reserve_bytes(1 << 20);
    let open = |mem: &MemFs| {
        let builder = Db::builder("/db").options(options()).fs(Arc::new(mem.clone()));
        builder.clock(clock.clone()).executor(executor.clone()).open().unwrap()
    };
    let keys = |db: &Db| db.iter().map(|pair| pair.unwrap().0[3]).collect::<Vec<_>>();
    let w = World { db: open(&mem), clock: clock.clone(), executor: executor.clone() };
    for round in 1..4u8 {
        w.db.put([0, 0, 0, round], vec![0; 200 << 10]).unwrap();
        w.executor.run_all();
        assert_eq!(files(&mem, "RESERVE"), (1, 1 << 20));
        assert!(files(&mem, ".log").1 >= 5 << 20, "a whole segment is ready, round {round}");
        match round {
            // In tables: the log is needed no more.
            1 => w.db.flush().unwrap(),
            // By the quiet time itself, which flushes memtables of some size.
            2 => w.db.put([0, 0, 0, round], vec![1; 2 << 20]).unwrap(),
            _ => {}
        }
        if round == 3 {
            w.db.wait_idle().unwrap();
            assert_eq!(files(&mem, "RESERVE"), (1, 1 << 20), "the memtable may need it");
            w.db.flush().unwrap();
            w.db.wait_idle().unwrap();
        } else {
            w.pass(2000);
            w.pass(2000);
        }
        assert_eq!(files(&mem, ".log"), (1, 1 << 20), "round {round}");
        assert_eq!(files(&mem, "RESERVE"), (0, 0), "round {round}");
        // Nothing more comes of more quiet.
        let ops = mem.op_count();
        w.pass(2000);
        assert_eq!(mem.op_count(), ops);
        let cut = World {
            db: {
                let builder = Db::builder("/db").options(options());
                builder
                    .fs(Arc::new(mem.crash(CrashProfile::DropAll, 0)))
                    .executor(ManualExecutor::new())
                    .open()
                    .unwrap()
            },
            clock: clock.clone(),
            executor: executor.clone(),
        };
        assert_eq!(keys(&cut.db), (1..=round).collect::<Vec<_>>());
    }
    // A record that the short segment has no room for.
    w.db.put([0, 0, 0, 9], vec![7; 3 << 20]).unwrap();
    assert_eq!(keys(&w.db), [1, 2, 3, 9]);
    w.db.verify().unwrap();
    w.db.close().unwrap();
    assert_eq!((files(&mem, ".log"), files(&mem, "RESERVE")), ((0, 0), (0, 0)));
}
