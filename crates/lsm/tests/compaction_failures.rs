//! A compaction that fails is no failure of the flush, or the close, that waits beside it.
#![expect(clippy::unwrap_used, reason = "a test")]

mod support;

use lsm::executor::{Executor, Job, ManualExecutor, Tick};
use lsm::{Db, Result};
use std::sync::Arc;
use std::time::Duration;
use support::{DIR, small_options};
use vfs::{Fault, FaultFs, FaultPlan, MemFs, OpKind};

/// Who waits runs compactions before flushes.
#[derive(Debug)]
struct CompactionsFirst(Arc<ManualExecutor>);

impl Executor for CompactionsFirst {
    fn submit(&self, job: Job) {
        self.0.submit(job);
    }
    fn every(&self, interval: Duration, tick: Tick) {
        self.0.every(interval, tick);
    }
    fn drive(&self) -> bool {
        let compaction = self.0.waiting().iter().position(|name| *name == "compaction");
        compaction.map_or_else(|| self.0.drive(), |at| self.0.step(at))
    }
    fn shutdown(&self) {
        self.0.shutdown();
    }
}

fn open(fs: &FaultFs) -> (Db, Arc<ManualExecutor>) {
    let executor = ManualExecutor::new();
    let builder = Db::builder(DIR).options(small_options()).fs(Arc::new(fs.clone()));
    let db = builder.executor(Arc::new(CompactionsFirst(Arc::clone(&executor)))).open().unwrap();
    (db, executor)
}

/// Found by `kill`, part `full`: a close returned the error of a compaction for which the disk had no room, and left in the
/// log what it could have flushed.
#[test]
fn a_flush_and_a_close_do_not_fail_with_a_compaction() {
    for (name, ends_in_tables) in
        [("flush", Db::flush as fn(&Db) -> Result<()>), ("close", Db::close)]
    {
        let fs = FaultFs::over_mem(MemFs::new());
        let (db, executor) = open(&fs);
        let mut n = 0u32;
        while !executor.waiting().contains(&"compaction") {
            // Tables that overlap, which cannot just be moved.
            db.put((n * 7919 % 10_007).to_be_bytes(), [b'v'; 100]).unwrap();
            n += 1;
            if let Some(at) = executor.waiting().iter().position(|job| *job == "flush") {
                executor.step(at);
            }
        }
        db.put("last", "in memory").unwrap();
        // Flushes read no tables.
        fs.inject(FaultPlan::any(Fault::Eio).kinds(&[OpKind::Read]).suffix(".sst"));
        ends_in_tables(&db).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(db.metrics().background_failures > 0, "{name}: no compaction failed");
        fs.clear();
        drop(db);
        let (db, _) = support::open(Arc::new(fs.clone()), DIR, &small_options(), 1).unwrap();
        assert_eq!(db.iter().count(), n as usize + 1);
    }
}
