//! Appending, rolling, recycling, failures, group commit.
#![allow(clippy::unwrap_used, reason = "tests")]
mod common;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use base::{Error, FileNum};
use common::*;
use vfs::{CrashProfile, Fault, FaultFs, FaultPlan, Fs, MemFs, OpKind, StdFs, SyncOutcome};
use wal::*;

const MODES: [RecoveryMode; 4] = [
    RecoveryMode::TolerateTornTail,
    RecoveryMode::Absolute,
    RecoveryMode::PointInTime,
    RecoveryMode::SkipCorrupt,
];

#[test]
fn what_was_appended_is_read_back_in_every_mode() {
    let mut rig = Rig::new(600);
    for index in 0..100 {
        rig.append(index);
    }
    assert!(rig.log.segments().len() > 10);
    for mode in MODES {
        let (seen, replayed) = read(&rig.mem, &rig.manifest(), mode).unwrap();
        assert_eq!(seen, (0..100).collect::<Vec<_>>(), "{mode:?}");
        assert_eq!(replayed.end, rig.log.end());
        assert_eq!((replayed.torn, replayed.skipped.len()), (None, 0));
        assert_eq!(replayed.unused.len(), 1, "the spare");
        let current = *rig.log.segments().last().unwrap();
        assert!(replayed.next >= Lsn(current.start.0 + current.len_bytes));
    }
}

#[test]
fn a_record_that_no_segment_of_the_usual_length_holds_gets_its_own() {
    let mut rig = Rig::new(600);
    rig.append(0);
    let big = vec![9; 5000];
    let need = rig.log.append(&big).unwrap().unwrap_err();
    assert_eq!(need.min_len, 104 + 16 + 5000);
    let small_spare = rig.next_num - 1;
    rig.spare(need.min_len);
    assert!(rig.log.append(&big).unwrap().unwrap().rolled);
    assert_eq!(
        rig.log.remove_before(Lsn(0)),
        [FileNum(small_spare)],
        "the small spare was given up"
    );
    rig.log.sync(rig.log.end()).unwrap();
    let mut sizes = Vec::new();
    let replayed = replay(
        &rig.mem,
        &dir(),
        DB_ID,
        &rig.manifest(),
        RecoveryMode::Absolute,
        &mut |_, _, _, p| {
            sizes.push(p.len());
            Ok(())
        },
    );
    assert_eq!(sizes, [8, 5000]);
    assert_eq!(replayed.unwrap().unused, [FileNum(small_spare)]);
    let too_long = vec![0; base::limits::BATCH_BYTES_MAX + 1];
    assert!(matches!(rig.log.append(&too_long), Err(Error::InvalidArgument { .. })));
}

#[test]
fn a_record_that_just_fits_fills_its_segment() {
    let rig = Rig::new(600);
    // Header and link take 104 bytes, the frame of the record 16.
    assert!(rig.log.append(&[1; 488]).unwrap().is_err(), "eight bytes too long");
    assert!(!rig.log.append(&[1; 480]).unwrap().unwrap().rolled);
    let segment = rig.log.segments()[0];
    assert_eq!(segment.end.0 - segment.start.0, 600);
    assert_eq!(rig.log.append(&[]).unwrap().unwrap_err().min_len, 120);
    // The shortest segment that may be, with the only record that it holds.
    let rig = Rig::new(120);
    assert!(!rig.log.append(&[]).unwrap().unwrap().rolled);
    for mode in MODES {
        let found =
            replay(&rig.mem, &dir(), DB_ID, &rig.manifest(), mode, &mut |_, _, _, _| Ok(()))
                .unwrap();
        assert_eq!((found.records, found.torn), (1, None), "{mode:?}");
    }
}

#[test]
fn a_recycled_segment_never_shows_its_old_records() {
    let mut rig = Rig::new(600);
    for round in 0..40 {
        for index in round * 10..round * 10 + 10 {
            rig.append(index);
        }
        rig.sync();
        rig.trim(3);
        // Old records of the same file stand behind the new end at any moment.
        for mode in MODES {
            let (seen, replayed) = read(&rig.mem, &rig.manifest(), mode).unwrap();
            assert_eq!(run_from(&rig.appended, &seen), Some(rig.appended.len()), "{mode:?}");
            assert_eq!((replayed.torn, replayed.skipped.len()), (None, 0), "{mode:?}");
        }
    }
    assert!(rig.mem.files().len() < 8, "files were recycled: {:?}", rig.mem.files());
}

#[test]
fn a_full_set_of_old_records_behind_the_new_tail_stays_old() {
    // The new records have the lengths of the old ones, so an old record stands at the very end of the new.
    let mut rig = Rig::new(1000);
    let put = |rig: &mut Rig, byte: u8| rig.log.append(&[byte; 64]).unwrap();
    while rig.log.segments().len() == 1 {
        if put(&mut rig, 1).is_err() {
            rig.spare(1000);
        }
    }
    rig.log.sync(rig.log.end()).unwrap();
    assert_eq!(rig.log.remove_before(rig.log.end()), [FileNum(1)]);
    rig.listed.retain(|l| l.segment.num != FileNum(1));
    rig.free.push(FileNum(1));
    rig.spare(1000);
    let recycled = rig.next_num - 1;
    while rig.log.segments().last().unwrap().num != FileNum(recycled) {
        put(&mut rig, 2).unwrap();
    }
    let mut bytes = Vec::new();
    let manifest = [plain(recycled)];
    let replayed =
        replay(&rig.mem, &dir(), DB_ID, &manifest, RecoveryMode::Absolute, &mut |_, _, _, p| {
            bytes.push(p[0]);
            Ok(())
        });
    assert_eq!((bytes, replayed.unwrap().torn), (vec![2], None));
    // The old records are really there, and stay so when the header is lost: still nothing to replay.
    let mut old = rig.mem.read_file(&path_of(recycled)).unwrap();
    assert!(old[300..].windows(64).any(|w| w == [1; 64]));
    old[..184].fill(0);
    rig.mem.overwrite(&path_of(recycled), &old).unwrap();
    let seen = &mut |_: Lsn, _: &std::path::Path, _: u64, _: &[u8]| -> base::Result<()> {
        panic!("old record")
    };
    let replayed =
        replay(&rig.mem, &dir(), DB_ID, &manifest, RecoveryMode::SkipCorrupt, seen).unwrap();
    assert_eq!(replayed.records, 0);
}

#[test]
fn segments_are_forgotten_only_once_they_are_synced() {
    let mut rig = Rig::new(600);
    for index in 0..30 {
        rig.append(index);
    }
    assert!(rig.log.remove_before(rig.log.end()).is_empty());
    assert!(rig.log.segments().iter().all(|s| s.closed.is_none()));
    rig.sync();
    let closed: Vec<_> = rig.log.segments().iter().filter_map(|s| s.closed).collect();
    assert_eq!(closed.len(), rig.log.segments().len() - 1);
    let gone = rig.log.remove_before(closed[1].end);
    assert_eq!(gone, [closed[0].num, closed[1].num]);
    let manifest: Vec<_> = closed[2..]
        .iter()
        .map(|c| SegmentToReplay { num: c.num, closed: Some(*c) })
        .chain([plain(rig.log.segments().last().unwrap().num.0)])
        .collect();
    let (seen, _) = read(&rig.mem, &manifest, RecoveryMode::Absolute).unwrap();
    assert_eq!(run_from(&rig.appended, &seen), Some(30));
}

#[test]
fn a_marker_states_the_synced_position_once() {
    let mut rig = Rig::new(2000);
    rig.append(0);
    rig.log.mark_synced().unwrap();
    let end = rig.log.end();
    rig.sync();
    rig.log.mark_synced().unwrap();
    assert_eq!(rig.log.end().0, end.0 + 16);
    rig.log.mark_synced().unwrap();
    assert_eq!(rig.log.end().0, end.0 + 16);
    // Now the loss of the only record is damage, not a torn tail.
    rig.mem.flip_bit(&path_of(1), 110, 0).unwrap();
    let error = read(&rig.mem, &rig.manifest(), RecoveryMode::TolerateTornTail).unwrap_err();
    assert!(matches!(error, Error::Corruption { offset: 104, .. }), "{error}");
}

#[test]
fn a_closed_log_takes_no_more_and_its_ends_can_be_recorded() {
    let mut rig = Rig::new(600);
    for index in 0..20 {
        rig.append(index);
    }
    let ends = rig.log.close().unwrap();
    assert!(matches!(rig.log.append(b"x"), Err(Error::Closed)));
    assert_eq!(rig.log.close().unwrap(), ends);
    let closed = |c: &ClosedSegment| SegmentToReplay { num: c.num, closed: Some(*c) };
    let manifest: Vec<_> = ends.iter().map(closed).collect();
    let image = rig.mem.crash(CrashProfile::DropAll, 0);
    assert_eq!(read(&image, &manifest, RecoveryMode::Absolute).unwrap().0.len(), 20);
    let last = ends.last().unwrap();
    image.flip_bit(&path_of(last.num.0), last.end_offset - 20, 1).unwrap();
    assert!(read(&image, &manifest, RecoveryMode::default()).unwrap_err().is_corruption());
}

/// A log may start at [`Lsn::MAX`] and goes on behind it: what it holds is read like any other.
#[test]
fn a_log_that_starts_at_the_last_position_is_read_back() {
    let mut rig = Rig::new(600);
    let first = prepare_segment(&rig.mem, &dir(), FileNum(100), 600, None).unwrap();
    rig.log = Log::start(LogOptions { db_id: DB_ID }, first, Lsn::MAX, None).unwrap();
    rig.listed = vec![Listed { segment: plain(100), from: 0, until: u64::MAX }];
    rig.next_num = 101;
    for index in 0..20 {
        rig.append(index);
    }
    assert!(rig.log.segments().len() > 2 && rig.log.end() > Lsn::MAX);
    for mode in MODES {
        let (seen, replayed) = read(&rig.mem, &rig.manifest(), mode).unwrap();
        assert_eq!(seen, (0..20).collect::<Vec<_>>(), "{mode:?}");
        assert_eq!((replayed.end, replayed.skipped.len()), (rig.log.end(), 0), "{mode:?}");
    }
}

#[test]
fn bad_arguments_are_refused() {
    let mem = new_disk();
    for len in [0, 119, (64 << 30) + 1] {
        assert!(matches!(
            prepare_segment(&mem, &dir(), FileNum(1), len, None),
            Err(Error::InvalidArgument { .. })
        ));
    }
    let first = prepare_segment(&mem, &dir(), FileNum(1), 600, None).unwrap();
    assert_eq!((first.num(), first.len()), (FileNum(1), 600));
    let other = prepare_segment(&mem, &dir(), FileNum(2), 700, Some(FileNum(1)));
    assert!(matches!(other, Err(Error::InvalidArgument { .. })));
    let previous = ClosedSegment { num: FileNum(0), end_offset: 200, end: Lsn(200), chain: 0 };
    let log = Log::start(LogOptions { db_id: 1 }, first, Lsn(100), Some(previous));
    assert!(matches!(log, Err(Error::InvalidArgument { .. })));
    // The last position that is allowed is.
    for (num, start, previous, allowed) in [
        (3, Lsn(200), Some(previous), true),
        (4, Lsn(192), Some(previous), false),
        (5, Lsn::MAX, None, true),
        (6, Lsn(Lsn::MAX.0 + 1), None, false),
        (7, Lsn(Lsn::MAX.0 + 8), None, false),
    ] {
        let first = prepare_segment(&mem, &dir(), FileNum(num), 600, None).unwrap();
        let log = Log::start(LogOptions { db_id: 1 }, first, start, previous);
        assert_eq!(log.is_ok(), allowed, "{start} after {previous:?}");
    }
    let rig = Rig::new(600);
    let longest = rig.log.append(&vec![0; base::limits::BATCH_BYTES_MAX]).unwrap();
    assert!(longest.is_err(), "allowed, but no segment has the room");
    assert_eq!(Lsn(4096).to_string(), "4096");
}

// --- failures ---

fn faulty(len: u64) -> (FaultFs, Rig) {
    let mem = new_disk();
    let faults = FaultFs::over_mem(mem.clone());
    let rig = Rig::on(mem, Arc::new(faults.clone()), len);
    (faults, rig)
}

#[test]
fn a_failed_sync_is_final() {
    for outcome in
        [SyncOutcome::ErrorOnceThenOk, SyncOutcome::PageCleanCacheNew, SyncOutcome::PageReverted]
    {
        let (faults, mut rig) = faulty(600);
        rig.append(0);
        rig.sync();
        rig.append(1);
        faults.inject(
            FaultPlan::any(Fault::SyncFailed(outcome)).kinds(&[OpKind::SegmentSync]).times(1),
        );
        let is_final = |r: base::Result<()>| matches!(r, Err(Error::SyncFailed { .. }));
        assert!(is_final(rig.log.sync(rig.log.end())));
        let ops = faults.op_count();
        assert!(is_final(rig.log.sync(rig.log.end())));
        assert!(is_final(rig.log.sync(Lsn(0))));
        assert!(is_final(rig.log.append(b"12345678").map(|_| ())));
        assert!(is_final(rig.log.mark_synced().and_then(|()| rig.log.append(b"x").map(|_| ()))));
        assert!(!rig.log.wants_spare());
        assert!(rig.log.failure().is_some());
        assert_eq!(faults.op_count(), ops, "the disk is left alone");
        let (seen, _) = read(
            &rig.mem.crash(CrashProfile::DropAll, 0),
            &rig.manifest(),
            RecoveryMode::default(),
        )
        .unwrap();
        assert_eq!(seen, [0]);
    }
}

#[test]
fn a_sync_leaves_alone_what_is_synced() {
    let (faults, mut rig) = faulty(600);
    let syncs = |faults: &FaultFs| {
        let counted = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&counted);
        let count = move || {
            counter.fetch_add(1, Ordering::SeqCst);
        };
        faults.clear();
        faults.inject(FaultPlan::any(Fault::Slow(Arc::new(count))).kinds(&[OpKind::SegmentSync]));
        counted
    };
    rig.append(0);
    rig.sync();
    // Longer than what is left: each goes to the next segment.
    assert!(rig.log.append(&[1; 480]).unwrap().unwrap().rolled);
    let counted = syncs(&faults);
    rig.log.sync(rig.log.end()).unwrap();
    assert_eq!(counted.load(Ordering::SeqCst), 1, "nothing is new in the first segment");
    rig.log.sync(rig.log.end()).unwrap();
    assert_eq!(counted.load(Ordering::SeqCst), 1, "nothing is new at all");
    for byte in [2, 3] {
        rig.spare(600);
        assert!(rig.log.append(&[byte; 480]).unwrap().unwrap().rolled);
    }
    let counted = syncs(&faults);
    rig.log.sync(rig.log.end()).unwrap();
    assert_eq!(counted.load(Ordering::SeqCst), 2);
}

#[test]
fn a_failed_append_with_a_spare_is_proven_absent_and_the_log_goes_on() {
    for fault in [Fault::Eio, Fault::ShortWrite] {
        let (faults, mut rig) = faulty(2000);
        rig.append(0);
        rig.spare(2000);
        faults.inject(FaultPlan::any(fault).kinds(&[OpKind::WriteAt]).times(1));
        assert!(matches!(rig.try_append(1), Err(Error::Io { .. })));
        // The refused record may be whole on disk: put it there, as it would have been written.
        let mut bytes = Vec::new();
        let identity = wal::record::FileIdentity::new(DB_ID, FileNum(1));
        let at = rig.log.segments()[0].end.0 - rig.log.segments()[0].start.0;
        wal::record::encode(
            &mut bytes,
            identity,
            at,
            u64::MAX,
            wal::record::Kind::Data,
            &payload(1),
        )
        .unwrap();
        let mut file = rig.mem.read_file(&path_of(1)).unwrap();
        file[at as usize..at as usize + bytes.len()].copy_from_slice(&bytes);
        rig.mem.overwrite(&path_of(1), &file).unwrap();
        assert!(rig.log.wants_spare());
        rig.append(2);
        assert_eq!(rig.log.segments().len(), 2);
        let (seen, _) = read(&rig.mem, &rig.manifest(), RecoveryMode::Absolute).unwrap();
        assert_eq!(seen, [0, 2]);
        for profile in CrashProfile::ALL.into_iter().filter(|p| *p != CrashProfile::LyingDisk) {
            for seed in 0..20 {
                let image = rig.mem.crash(profile, seed);
                let (seen, _) = read(&image, &rig.manifest(), RecoveryMode::default()).unwrap();
                assert!(run_from(&rig.appended, &seen).is_some(), "{profile:?} {seed}: {seen:?}");
            }
        }
        rig.sync();
    }
}

#[test]
fn a_failed_append_without_a_spare_stops_writes_but_not_syncs() {
    let (faults, mut rig) = faulty(2000);
    rig.try_append(0).unwrap();
    faults.inject(FaultPlan::any(Fault::Eio).kinds(&[OpKind::WriteAt]).times(1));
    for _ in 0..2 {
        assert!(matches!(rig.try_append(1), Err(Error::WritesStopped { .. })));
    }
    assert!(matches!(rig.log.mark_synced(), Ok(())));
    rig.sync();
    let image = rig.mem.crash(CrashProfile::DropAll, 1);
    assert_eq!(read(&image, &rig.manifest(), RecoveryMode::default()).unwrap().0, [0]);
}

#[test]
fn a_failed_append_whose_spare_fails_too_stops_writes() {
    for (kind, times) in [(OpKind::WriteAt, 2), (OpKind::SegmentSync, 1)] {
        let (faults, mut rig) = faulty(2000);
        rig.append(0);
        rig.spare(2000);
        faults.inject(FaultPlan::any(Fault::Eio).kinds(&[OpKind::WriteAt]).times(1));
        faults.inject(FaultPlan::any(Fault::Eio).kinds(&[kind]).times(times - 1).times(1));
        let error = rig.try_append(1).unwrap_err();
        let as_expected = match kind {
            OpKind::WriteAt => matches!(error, Error::WritesStopped { .. }),
            _ => matches!(error, Error::SyncFailed { .. }),
        };
        assert!(as_expected, "{error:?}");
        assert!(rig.log.append(b"x").is_err());
    }
}

#[test]
fn a_failed_roll_gives_up_the_spare_and_the_log_goes_on_with_the_next() {
    for fault in [Fault::Eio, Fault::ShortWrite] {
        let (faults, mut rig) = faulty(600);
        let mut index = 0;
        rig.append(index);
        while rig.log.segments().len() < 3 {
            index += 1;
            rig.append(index);
        }
        let plan = FaultPlan::any(fault)
            .kinds(&[OpKind::WriteAt])
            .suffix(&format!("{:06}.log", rig.next_num - 1));
        faults.inject(plan);
        // Longer than what is left, though a small record would still fit.
        let failed = rig.log.append(&[7; 470]).unwrap_err();
        assert!(matches!(failed, Error::Io { .. }), "{failed:?}");
        assert!(rig.log.append(&[]).unwrap().is_err(), "the stated end is final");
        // Even a record that would still fit goes to the next segment: this end was stated already.
        for more in index + 1..index + 4 {
            rig.append(more);
        }
        assert_eq!(rig.log.remove_before(Lsn(0)).len(), 1);
        let (seen, replayed) = read(&rig.mem, &rig.manifest(), RecoveryMode::default()).unwrap();
        assert_eq!(run_from(&rig.appended, &seen), Some(rig.appended.len()));
        assert_eq!(replayed.torn, None);
    }
}

// --- group commit ---

#[test]
fn a_follower_does_not_trust_a_sync_that_began_before_its_record() {
    let (faults, mut rig) = faulty(4000);
    let gate = Arc::new((Mutex::new((false, false)), Condvar::new()));
    let hook = Arc::clone(&gate);
    let slow = move || {
        let (state, changed) = &*hook;
        let mut state = state.lock().unwrap();
        state.0 = true;
        changed.notify_all();
        while !state.1 {
            state = changed.wait(state).unwrap();
        }
    };
    faults
        .inject(FaultPlan::any(Fault::Slow(Arc::new(slow))).kinds(&[OpKind::SegmentSync]).times(1));
    let later_syncs = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&later_syncs);
    let count = move || {
        counter.fetch_add(1, Ordering::SeqCst);
    };
    faults.inject(FaultPlan::any(Fault::Slow(Arc::new(count))).kinds(&[OpKind::SegmentSync]));
    let first = rig.try_append(0).unwrap().end;
    std::thread::scope(|s| {
        let log = &rig.log;
        let leader = s.spawn(move || log.sync(first));
        let (state, changed) = &*gate;
        let mut state = state.lock().unwrap();
        while !state.0 {
            state = changed.wait(state).unwrap();
        }
        // The leader's sync is running; the writers are not held up by it.
        let second = log.append(&payload(1)).unwrap().unwrap().end;
        let follower = s.spawn(move || {
            log.sync(second).unwrap();
            log.synced()
        });
        state.1 = true;
        changed.notify_all();
        drop(state);
        leader.join().unwrap().unwrap();
        assert!(follower.join().unwrap() >= second);
    });
    assert_eq!(later_syncs.load(Ordering::SeqCst), 1, "the follower needed a sync of its own");
    let image = rig.mem.crash(CrashProfile::DropAll, 0);
    assert_eq!(read(&image, &rig.manifest(), RecoveryMode::default()).unwrap().0, [0, 1]);
}

#[test]
fn commits_share_syncs() {
    const THREADS: u64 = 8;
    const EACH: u64 = 200;
    let temp = tempfile::tempdir().unwrap();
    let syncs = Arc::new(AtomicU64::new(0));
    let faults = FaultFs::new(Arc::new(StdFs::new()));
    let counted = Arc::clone(&syncs);
    let count = move || {
        counted.fetch_add(1, Ordering::Relaxed);
        // Long enough for the others to append in the meantime.
        (0..20).for_each(|_| std::thread::yield_now());
    };
    faults.inject(FaultPlan::any(Fault::Slow(Arc::new(count))).kinds(&[OpKind::SegmentSync]));
    let first = prepare_segment(&faults, temp.path(), FileNum(1), 1 << 20, None).unwrap();
    let log = Log::start(LogOptions { db_id: DB_ID }, first, Lsn(0), None).unwrap();
    std::thread::scope(|s| {
        for thread in 0..THREADS {
            let log = &log;
            s.spawn(move || {
                for i in 0..EACH {
                    let end = log.append(&payload(thread * EACH + i)).unwrap().unwrap().end;
                    log.sync(end).unwrap();
                    assert!(log.synced() >= end);
                }
            });
        }
    });
    let mut count = 0;
    replay(&faults, temp.path(), DB_ID, &[plain(1)], RecoveryMode::Absolute, &mut |_, _, _, _| {
        count += 1;
        Ok(())
    })
    .unwrap();
    assert_eq!(count, THREADS * EACH);
    let syncs = syncs.load(Ordering::Relaxed);
    assert!(syncs < THREADS * EACH, "{syncs} syncs for {} commits", THREADS * EACH);
}

#[test]
fn a_panic_in_the_sync_frees_the_waiters() {
    let (faults, mut rig) = faulty(4000);
    faults.inject(
        FaultPlan::any(Fault::Slow(Arc::new(|| panic!("planned")))).kinds(&[OpKind::SegmentSync]),
    );
    let end = rig.try_append(0).unwrap().end;
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| rig.log.sync(end)));
    assert!(result.is_err());
    assert!(matches!(rig.log.sync(end), Err(Error::SyncFailed { .. })));
}

#[test]
fn log_is_send_and_sync() {
    fn check<T: Send + Sync>() {}
    check::<Log>();
    let _: Arc<dyn Fs> = Arc::new(MemFs::new());
}

/// A power cut while the first bytes of the only segment were written: they are dropped, or refused by mode `Absolute`.
#[test]
fn a_torn_header_is_a_torn_tail() {
    let rig = Rig::new(600);
    let mut torn = vec![0; 600];
    torn[..8].fill(0xa5);
    rig.mem.overwrite(&path_of(1), &torn).unwrap();
    for mode in MODES {
        let result = read(&rig.mem, &rig.manifest(), mode);
        if mode == RecoveryMode::Absolute {
            assert!(result.expect_err("torn").is_corruption());
            continue;
        }
        let (seen, replayed) = result.unwrap();
        assert!(seen.is_empty(), "{mode:?}");
        assert_eq!(replayed.dropped, [FileNum(1)]);
        if mode != RecoveryMode::SkipCorrupt {
            let torn = Torn { path: path_of(1), offset: 0, dropped_bytes: 56 };
            assert_eq!(replayed.torn, Some(torn), "{mode:?}");
        }
    }
}
