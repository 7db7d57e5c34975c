//! The write-ahead log: group commit, failed syncs, rolling and letting go of segments. The real code over a file system
//! in memory; what a sync promised is looked for in what a power cut leaves.

use crate::stepped::Stepped;
use crate::{check, spawn};
use base::{Error, FileNum};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use vfs::{CrashProfile, Fs, MemFs};
use wal::{Log, LogOptions, Lsn, RecoveryMode, SegmentToReplay, prepare_segment, replay};

const DIR: &str = "/log";

fn start(fs: &Stepped, len: u64) -> Log {
    fs.create_dir_all(Path::new(DIR)).expect("a directory");
    fs.sync_dir(Path::new("/")).expect("in memory");
    let first = prepare_segment(fs, Path::new(DIR), FileNum(1), len, None).expect("a segment");
    Log::start(LogOptions { db_id: 1 }, first, Lsn(8), None).expect("a log")
}

fn append(log: &Log, payload: &[u8]) -> Lsn {
    log.append(payload).expect("no failure").expect("room").end
}

/// The payloads that are found on `disk`.
fn found(disk: &MemFs, segments: &[u64]) -> Vec<Vec<u8>> {
    let listed: Vec<_> =
        segments.iter().map(|&n| SegmentToReplay { num: FileNum(n), closed: None }).collect();
    let mut payloads = Vec::new();
    let mode = RecoveryMode::TolerateTornTail;
    replay(disk, Path::new(DIR), 1, &listed, mode, &mut |_, _, _, payload| {
        payloads.push(payload.to_vec());
        Ok(())
    })
    .expect("no damage");
    payloads
}

fn survives(fs: &Stepped, payload: &[u8]) {
    let disk = fs.inner.crash(CrashProfile::DropAll, 1);
    assert!(found(&disk, &[1]).iter().any(|p| p == payload), "synced and lost");
}

#[test]
fn group_commit() {
    check("log: group commit", 3, || {
        let fs = Stepped::new();
        let log = Arc::new(start(&fs, 4096));
        let other = {
            let (fs, log) = (fs.clone(), Arc::clone(&log));
            spawn(move || {
                log.sync(append(&log, b"one")).expect("synced");
                survives(&fs, b"one");
            })
        };
        log.sync(append(&log, b"two")).expect("synced");
        survives(&fs, b"two");
        other.join().expect("the other");
        assert_eq!(log.synced(), log.end());
    });
}

#[test]
fn three_in_a_group() {
    check("log: three in a group", 2, || {
        let fs = Stepped::new();
        let log = Arc::new(start(&fs, 4096));
        let others = [b"one", b"two"].map(|payload| {
            let (fs, log) = (fs.clone(), Arc::clone(&log));
            spawn(move || {
                log.sync(append(&log, payload)).expect("synced");
                survives(&fs, payload);
            })
        });
        log.sync(append(&log, b"six")).expect("synced");
        survives(&fs, b"six");
        others.into_iter().for_each(|other| other.join().expect("the other"));
    });
}

#[test]
fn a_failed_sync_fails_everybody() {
    check("log: failed sync", 3, || {
        let fs = Stepped::new();
        let log = Arc::new(start(&fs, 4096));
        fs.failures.store(1, Ordering::Relaxed);
        let write = |log: &Log, payload: &[u8]| match log.append(payload) {
            Ok(appended) => log.sync(appended.expect("room").end),
            Err(e) => Err(e),
        };
        let other = Arc::clone(&log);
        let other = spawn(move || {
            let failed = write(&other, b"one");
            assert!(matches!(failed, Err(Error::SyncFailed { .. })), "{failed:?}");
        });
        let failed = write(&log, b"two");
        assert!(matches!(failed, Err(Error::SyncFailed { .. })), "{failed:?}");
        other.join().expect("the other");
        assert!(matches!(log.append(b"six"), Err(Error::SyncFailed { .. })));
    });
}

#[test]
fn a_roll_beside_a_sync_and_a_trim() {
    check("log: roll, sync, trim", 3, || {
        let fs = Stepped::new();
        // Room for two records in each.
        let log = Arc::new(start(&fs, 160));
        let spare = prepare_segment(&fs, Path::new(DIR), FileNum(2), 160, None).expect("a segment");
        log.install_spare(spare);
        let writer = Arc::clone(&log);
        let writer = spawn(move || {
            for payload in [b"one", b"two", b"six"] {
                append(&writer, payload);
            }
        });
        log.sync(log.end()).expect("synced");
        let (floor, gone) = (log.synced(), log.remove_before(log.synced()));
        assert!(gone.is_empty() || gone == [FileNum(1)] && floor.0 > 8);
        writer.join().expect("the writer");
        log.sync(log.end()).expect("synced");
        let kept: Vec<_> = log.segments().iter().map(|s| s.num.0).collect();
        let disk = fs.inner.crash(CrashProfile::DropAll, 1);
        let payloads = found(&disk, &kept);
        assert_eq!(payloads.last().map(Vec::as_slice), Some(&b"six"[..]));
        assert_eq!(payloads.len(), if gone.is_empty() { 3 } else { payloads.len() });
    });
}
