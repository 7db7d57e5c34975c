//! When what was written, or shown, is on disk: the ticks, and an open after a kill.
#![expect(clippy::unwrap_used, reason = "a test")]

use lsm::executor::ManualExecutor;
use lsm::{Db, Durability, KeyspaceOptions, Options};
use std::sync::Arc;
use vfs::{CrashProfile, Fault, FaultFs, FaultPlan, Fs, MemFs};

fn open(fs: Arc<dyn Fs>) -> (Db, Arc<ManualExecutor>) {
    let executor = ManualExecutor::new();
    let options = Options::default().log_segment_bytes(4 << 10).disk_reserve_bytes(0);
    let builder = Db::builder("/db").fs(fs).options(options);
    (builder.executor(Arc::clone(&executor) as _).open().unwrap(), executor)
}

fn keys(db: &Db) -> Vec<u8> {
    db.iter().map(|pair| pair.unwrap().0[0]).collect()
}

/// The process is gone in the middle of it all: nothing reaches the disk any more, and the page cache stays.
fn kill(fs: &FaultFs, db: Db) {
    fs.inject(FaultPlan::any(Fault::Eio));
    drop(db);
    fs.clear();
}

/// One interval after a `Buffered` write a power cut takes it no more.
#[test]
fn a_tick_makes_buffered_writes_durable() {
    let mem = MemFs::new();
    let (db, executor) = open(Arc::new(mem.clone()));
    db.put_with([1], "v", Durability::Memory).unwrap();
    db.put_with([2], "v", Durability::Buffered).unwrap();
    let cut = mem.crash(CrashProfile::DropAll, 0);
    assert!(keys(&open(Arc::new(cut)).0).is_empty(), "the test proves nothing");
    executor.tick();
    let cut = mem.crash(CrashProfile::DropAll, 0);
    assert_eq!(keys(&open(Arc::new(cut)).0), [1, 2]);
}

/// After a kill the log's tail is in the page cache only. What an open shows of it must outlive a power cut right
/// behind, also if that cut comes during a second open.
#[test]
fn an_open_after_a_kill_makes_durable_what_it_shows() {
    for large in [10, 3000] {
        let mem = MemFs::new();
        let faults = FaultFs::over_mem(mem.clone());
        let (db, _executor) = open(Arc::new(faults.clone()));
        for n in 0..4 {
            db.put_with([n], vec![n; large], Durability::Buffered).unwrap();
        }
        kill(&faults, db);
        let (db, _executor) = open(Arc::new(faults.clone()));
        assert_eq!(keys(&db), [0, 1, 2, 3]);
        for profile in [CrashProfile::DropAll, CrashProfile::Strict, CrashProfile::Random50] {
            let (cut, _executor) = open(Arc::new(mem.crash(profile, 1)));
            assert_eq!(keys(&cut), [0, 1, 2, 3], "{profile:?}");
        }
        kill(&faults, db);
        let (db, _executor) = open(Arc::new(mem.crash(CrashProfile::DropAll, 2)));
        assert_eq!(keys(&db), [0, 1, 2, 3]);
    }
}

/// A log of several segments, with operations of every kind and size, comes back as it was; damage in it is told.
#[test]
fn a_long_log_is_replayed_in_its_order() {
    let open = |mem: &MemFs| {
        let options = Options::default().log_segment_bytes(1 << 20).disk_reserve_bytes(0);
        let builder = Db::builder("/db").fs(Arc::new(mem.clone())).options(options);
        builder.executor(ManualExecutor::new()).open()
    };
    let (mem, large) = (MemFs::new(), vec![9; 300 << 10]);
    let db = open(&mem).unwrap();
    let other = db.keyspace("other", KeyspaceOptions::default()).unwrap();
    for n in 0..20_000u32 {
        db.put((n % 7000).to_be_bytes(), n.to_be_bytes().repeat(20)).unwrap();
        match n % 1000 {
            10 => other.put(n.to_be_bytes(), &large).unwrap(),
            20 => other.delete_range((n - 10).to_be_bytes()..n.to_be_bytes()).unwrap(),
            30 => db.delete((n % 7000).to_be_bytes()).unwrap(),
            _ => {}
        }
    }
    db.sync().unwrap();
    other.put("last", &large).unwrap();
    let pairs = |db: &Db| -> Vec<_> { db.iter().map(|pair| pair.unwrap()).collect() };
    let (expected, killed) = (pairs(&db), mem.crash(CrashProfile::KeepAll, 0));
    let again = open(&killed.crash(CrashProfile::KeepAll, 0)).unwrap();
    assert!(again.recovery().records > 20_000);
    assert!(pairs(&again) == expected, "not what was written");
    let other = again.open_keyspace("other").unwrap();
    let keys: Vec<_> = other.iter().map(|pair| pair.unwrap().0).collect();
    assert_eq!(keys, [b"last"], "the others were deleted");
    let logs = killed.files().into_iter().map(|(path, _)| path);
    let log = logs.filter(|path| path.extension().is_some_and(|e| e == "log")).nth(1).unwrap();
    killed.flip_bit(&log, 600_000, 3).unwrap();
    let told = open(&killed).map(drop).unwrap_err().to_string();
    assert!(told.contains(log.to_str().unwrap()), "{told:?}");
}

/// The segment that stood ready when the process was killed is the first of the next log, under another number. Wherever a power
/// cut stops that, everything is there.
#[test]
fn a_segment_that_was_never_used_is_used_by_the_next_log() {
    let mem = MemFs::new();
    let (db, executor) = open(Arc::new(mem.clone()));
    db.put_with([1], "v", Durability::Sync).unwrap();
    executor.run_all();
    let logs = |mem: &MemFs| -> Vec<String> {
        let names = mem.files().into_iter().map(|(path, _)| path.display().to_string());
        names.filter(|name| name.ends_with(".log")).collect()
    };
    let killed = mem.crash(CrashProfile::KeepAll, 0);
    let before = logs(&killed);
    assert_eq!(before.len(), 2, "the current one and the spare");
    killed.start_recording();
    let (db, _executor) = open(Arc::new(killed.clone()));
    let after = logs(&killed);
    assert!(after.len() == 2 && after[0] == before[0] && after[1] > before[1], "{after:?}");
    db.put_with([2], "v", Durability::Sync).unwrap();
    assert_eq!(keys(&db), [1, 2]);
    for snapshot in killed.take_history() {
        for profile in [CrashProfile::DropAll, CrashProfile::Strict, CrashProfile::Random50] {
            let (cut, _executor) = open(Arc::new(snapshot.crash(profile, 1)));
            assert_eq!(keys(&cut)[0], 1, "{:?} {profile:?}", snapshot.op());
            cut.put_with([3], "v", Durability::Sync).unwrap();
            cut.close().unwrap();
        }
    }
}
