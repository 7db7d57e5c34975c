//! When what was written, or shown, is on disk: the ticks, and an open after a kill.
#![expect(clippy::unwrap_used, reason = "a test")]

use lsm::executor::ManualExecutor;
use lsm::{Db, Durability, Options};
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
