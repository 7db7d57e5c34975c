//! A database that was closed cleanly: the open writes nothing, the first change begins the log, whatever fails meanwhile.
#![expect(clippy::unwrap_used, reason = "a test")]

mod support;

use lsm::executor::ManualExecutor;
use lsm::{Db, Error, KeyspaceOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use support::{DIR, open, small_options};
use vfs::{CrashProfile, Fault, FaultFs, FaultPlan, Fs, MemFs};

/// A closed database with the pair (1, 1) in a table.
fn closed() -> MemFs {
    let mem = MemFs::new();
    let (db, _) = open(Arc::new(mem.clone()), DIR, &small_options(), 1).unwrap();
    db.put([1], [1]).unwrap();
    db.close().unwrap();
    mem
}

fn reopen(fs: impl Fs) -> (Db, Arc<ManualExecutor>) {
    open(Arc::new(fs), DIR, &small_options(), 2).unwrap()
}

fn keys(db: &Db) -> Vec<u8> {
    db.iter().map(|pair| pair.unwrap().0[0]).collect()
}

/// Files by name and length, and what is in them.
fn disk(mem: &MemFs) -> (Vec<(PathBuf, u64)>, u64) {
    (mem.files(), mem.hash())
}

#[test]
fn an_open_and_all_reads_write_nothing() {
    let mem = closed();
    let before = disk(&mem);
    for _ in 0..2 {
        let (db, executor) = reopen(mem.clone());
        assert_eq!(keys(&db), [1]);
        assert_eq!(db.snapshot().get([1]).unwrap().unwrap(), [1][..]);
        db.verify().unwrap();
        db.sync().unwrap();
        db.flush().unwrap();
        db.checkpoint("/data/copy").unwrap();
        mem.list(Path::new("/data/copy")).unwrap().iter().for_each(|name| {
            mem.remove_file(&Path::new("/data/copy").join(name)).unwrap();
        });
        mem.remove_dir(Path::new("/data/copy")).unwrap();
        for _ in 0..40 {
            executor.tick();
            executor.run_all();
        }
        assert!(db.metrics().log_bytes == 0 && db.health().is_healthy());
        assert_eq!(disk(&mem), before);
        db.close().unwrap();
        assert_eq!(disk(&mem), before);
    }
}

/// Each kind of change may be the first. What it did is there after a close, and after a kill.
#[test]
fn any_change_may_be_the_first() {
    type Change = fn(&Db);
    let changes: [(Change, &[u8]); 7] = [
        (|db| db.put([2], [2]).unwrap(), &[1, 2]),
        (|db| db.delete([1]).unwrap(), &[]),
        (|db| db.delete_range([0]..[9]).unwrap(), &[]),
        (|db| assert!(db.compare_and_swap([1], Some(&[1]), None).unwrap().is_ok()), &[]),
        (|db| assert_eq!(db.ingest([([2], [2]), ([3], [3])]).unwrap(), 2), &[1, 2, 3]),
        (|db| drop(db.keyspace("other", KeyspaceOptions::default()).unwrap()), &[1]),
        (|db| db.compact_range(..).unwrap(), &[1]),
    ];
    for (at, (change, left)) in changes.into_iter().enumerate() {
        for close in [true, false] {
            let mem = closed();
            let (db, _) = reopen(mem.clone());
            change(&db);
            let keyspaces = db.list_keyspaces();
            if close {
                db.close().unwrap();
            }
            // Without a close: what a kill leaves, as the page cache has it.
            let (again, _) = reopen(if close { mem } else { mem.crash(CrashProfile::KeepAll, 0) });
            assert_eq!(keys(&again), left, "change {at}");
            assert_eq!(again.list_keyspaces(), keyspaces);
            again.put([7], [7]).unwrap();
            again.verify().unwrap();
        }
    }
}

#[test]
fn a_first_write_on_a_full_disk_fails_until_there_is_space() {
    let mem = closed();
    mem.set_capacity(Some(mem.total_bytes() + 100));
    let (db, executor) = reopen(mem.clone());
    for n in 2..5 {
        assert!(matches!(db.put([n], [n]), Err(Error::NoSpace { .. })));
        assert!(matches!(db.ingest([([n], [n])]), Err(Error::NoSpace { .. })));
        assert_eq!(keys(&db), [1]);
        executor.tick();
    }
    mem.set_capacity(None);
    db.put([6], [6]).unwrap();
    assert!(db.health().is_healthy());
    db.close().unwrap();
    assert_eq!(keys(&reopen(mem).0), [1, 6]);
}

/// Whatever step of the beginning fails: a typed error, reads go on, and the next try, or the next open, has it all.
#[test]
fn every_failure_of_the_beginning() {
    let whole = {
        let fs = FaultFs::over_mem(closed());
        let (db, _) = reopen(fs.clone());
        let before = fs.op_count();
        db.put([2], [2]).unwrap();
        before..fs.op_count()
    };
    let (steps, mut failed) = (whole.clone().count() as u32, 0);
    assert!(steps > 8, "{steps}");
    for at in whole {
        for (fault, crash) in [(Fault::Eio, false), (Fault::NoSpace, true), (Fault::Eio, true)] {
            let mem = closed();
            let fs = FaultFs::over_mem(mem.clone());
            let (db, _) = reopen(fs.clone());
            fs.inject(FaultPlan::at(at, fault.clone()));
            let first = db.put([2], [2]);
            failed += u32::from(first.is_err());
            assert!(fs.fired() > 0 || first.is_ok(), "{at}: {first:?}");
            assert_eq!(keys(&db), if first.is_ok() { &[1, 2][..] } else { &[1] });
            fs.clear();
            let second = db.put([3], [3]);
            assert_eq!(second.is_ok(), db.health().is_healthy(), "{at} {fault:?}: {second:?}");
            let mut left = vec![1];
            left.extend(first.is_ok().then_some(2));
            left.extend(second.is_ok().then_some(3));
            assert_eq!(keys(&db), left);
            if !crash {
                drop(db);
                let (again, _) = reopen(mem);
                assert_eq!(keys(&again), left);
                again.verify().unwrap();
                continue;
            }
            let (again, _) = reopen(mem.crash(CrashProfile::KeepAll, at));
            assert_eq!(keys(&again), left);
            let (again, _) = reopen(mem.crash(CrashProfile::DropAll, at));
            assert_eq!(keys(&again)[0], 1);
            again.put([4], [4]).unwrap();
            again.close().unwrap();
        }
    }
    // Nothing depends on the last record of the manifest, which says that it was synced.
    assert!(failed > 2 * (steps - 2), "{failed} of {steps}");
}

/// A power cut at any step of the beginning leaves a database that opens and can be written.
#[test]
fn every_crash_in_the_beginning() {
    let mem = closed();
    mem.start_recording();
    let (db, _) = reopen(mem.clone());
    db.put([2], [2]).unwrap();
    let history = mem.take_history();
    assert!(history.len() > 6, "{}", history.len());
    for snapshot in history {
        for profile in CrashProfile::ALL.into_iter().filter(|p| *p != CrashProfile::LyingDisk) {
            for seed in 0..4 {
                let image = snapshot.crash(profile, seed);
                let (db, _) = reopen(image.clone());
                let found = keys(&db);
                assert!(found == [1] || found == [1, 2], "{:?} {profile:?}", snapshot.op());
                db.put([3], [3]).unwrap();
                db.close().unwrap();
                assert_eq!(keys(&reopen(image).0).last(), Some(&3));
            }
        }
    }
}

/// A power cut in the first ingest, and another one in the open behind it: a table that no edit names is no proof that edits were lost, once the
/// log that was begun for it is off the manifest again.
#[test]
fn every_crash_in_a_first_ingest_and_in_the_open_behind_it() {
    let profiles = [CrashProfile::KeepAll, CrashProfile::DropAll, CrashProfile::Ordered];
    let mem = MemFs::new();
    let (db, _) = open(Arc::new(mem.clone()), DIR, &small_options(), 1).unwrap();
    mem.start_recording();
    db.ingest([([1], [1])]).unwrap();
    let mut opened = 0;
    for cut in mem.take_history() {
        for profile in profiles {
            let image = cut.crash(profile, 1);
            image.start_recording();
            drop(reopen(image.clone()));
            for again in image.take_history() {
                for second in profiles {
                    let (db, _) = reopen(again.crash(second, 2));
                    let found = keys(&db);
                    assert!(
                        found.is_empty() || found == [1],
                        "{:?} {profile:?} {second:?}",
                        cut.op()
                    );
                    opened += 1;
                }
            }
        }
    }
    assert!(opened > 500, "{opened}");
}

/// A table that is missing is noticed by the open, not by the first read.
#[test]
fn a_missing_table_is_noticed_at_once() {
    let mem = closed();
    let is_table = |path: &PathBuf| path.extension().is_some_and(|e| e == "sst");
    let table = mem.files().into_iter().map(|(path, _)| path).find(is_table).unwrap();
    mem.remove_file(&table).unwrap();
    let opened = open(Arc::new(mem), DIR, &small_options(), 2).map(drop);
    assert!(matches!(opened, Err(Error::Corruption { path, .. }) if path == table));
}
