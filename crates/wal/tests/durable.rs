//! What a recovery found is made durable, whatever the page cache claims; and whose segment a file is.
#![allow(clippy::unwrap_used, reason = "tests")]
mod common;

use std::sync::Arc;

use base::{Error, FileNum};
use common::*;
use vfs::{CrashProfile, Fault, FaultFs, FaultPlan, Fs, OpKind, SyncOutcome};
use wal::*;

/// A sync fails, and the pages that it did not write count as clean from then on: a later sync passes over them.
/// The process dies, the next one reads the records from the page cache and promises them, then the power goes.
#[test]
fn records_behind_a_failed_sync_are_written_again() {
    // Three chunks of the copy, the last one cut by the end of the file.
    let len = (2 << 20) + 5000;
    let mem = new_disk();
    let faults = FaultFs::over_mem(mem.clone());
    let mut rig = Rig::on(mem, Arc::new(faults.clone()), len);
    let big = vec![7; 99_000];
    while let Ok(appended) = rig.log.append(&big).unwrap() {
        assert!(!appended.rolled);
    }
    while let Ok(appended) = rig.log.append(&payload(1)).unwrap() {
        rig.appended.push((1, appended.end));
    }
    let failed = Fault::SyncFailed(SyncOutcome::PageCleanCacheNew);
    faults.inject(FaultPlan::any(failed).kinds(&[OpKind::SegmentSync]).times(1));
    assert!(matches!(rig.log.sync(rig.log.end()), Err(Error::SyncFailed { .. })));

    let records = |disk: &dyn Fs| {
        let mode = RecoveryMode::TolerateTornTail;
        replay(disk, &dir(), DB_ID, &rig.manifest(), mode, &mut |_, _, _, _| Ok(())).unwrap()
    };
    let found = records(&rig.mem);
    assert_eq!(found.end, rig.log.end());
    assert!(records(&rig.mem.crash(CrashProfile::DropAll, 0)).records < found.records);
    make_durable(&rig.mem, &dir(), &found.segments, found.synced).unwrap();
    assert_eq!(records(&rig.mem.crash(CrashProfile::DropAll, 0)), found);
    // No more than what belongs to the log is touched.
    let before = rig.mem.hash();
    make_durable(&rig.mem, &dir(), &found.segments, found.synced).unwrap();
    assert_eq!(rig.mem.hash(), before);
}

/// What records say was synced is left alone, to the byte; what lies behind it is written again.
#[test]
fn only_what_may_not_be_on_the_disk_is_written_again() {
    let mut rig = Rig::new(16 << 10);
    (0..20).for_each(|index| rig.append(index));
    rig.sync();
    let synced = rig.log.synced();
    let found =
        |rig: &Rig| read(&rig.mem, &rig.manifest(), RecoveryMode::TolerateTornTail).unwrap().1;
    assert!(found(&rig).synced < synced, "no record says so yet");
    (20..30).for_each(|index| rig.append(index));
    let replayed = found(&rig);
    assert_eq!(replayed.synced, synced);
    let writes = || {
        rig.mem.start_recording();
        make_durable(&rig.mem, &dir(), &replayed.segments, replayed.synced).unwrap();
        rig.mem.take_history().len()
    };
    assert!(writes() > 0);
    let kept =
        read(&rig.mem.crash(CrashProfile::DropAll, 0), &rig.manifest(), RecoveryMode::Absolute);
    assert_eq!(kept.unwrap().1, replayed);
    // All of it, or all but one segment, is there for certain.
    let (all, end) = (&replayed.segments, replayed.end);
    rig.mem.start_recording();
    make_durable(&rig.mem, &dir(), all, end).unwrap();
    assert_eq!(rig.mem.take_history().len(), 0);
}

#[test]
fn the_header_says_whose_segment_it_is() {
    let rig = Rig::new(600);
    assert_eq!(database_of(&rig.mem, &path_of(1)).unwrap(), Some(DB_ID));
    prepare_segment(&rig.mem, &dir(), FileNum(2), 600, None).unwrap();
    assert_eq!(database_of(&rig.mem, &path_of(2)).unwrap(), None, "not written yet");
    rig.mem.truncate(&path_of(1), wal::segment::HEADER_LEN as u64 - 1).unwrap();
    assert_eq!(database_of(&rig.mem, &path_of(1)).unwrap(), None, "cut");
    assert!(matches!(database_of(&rig.mem, &path_of(3)), Err(Error::Io { .. })));
}
