//! A crash after every operation of the disk, in every profile, and again inside the recovery.
#![allow(clippy::unwrap_used, reason = "tests")]
mod common;

use std::sync::Arc;

use base::rng::Rng;
use base::{Error, FileNum};
use common::*;
use vfs::{CrashProfile, Fault, FaultFs, FaultPlan, MemFs, OpKind};
use wal::*;

const SEEDS: u64 = 4;

fn honest() -> impl Iterator<Item = CrashProfile> {
    CrashProfile::ALL.into_iter().filter(|p| *p != CrashProfile::LyingDisk)
}

/// Appends, syncs and trims at random.
fn work(rig: &mut Rig, steps: u64, seed: u64) {
    let mut rng = Rng::new(seed);
    for index in 0..steps {
        rig.append(index);
        match rng.below(12) {
            0..3 => rig.sync(),
            3 => {
                rig.sync();
                rig.trim(4);
            }
            4 => rig.log.mark_synced().unwrap(),
            _ => {}
        }
    }
}

/// Recovered records are a run of what was appended, up to the floor at least.
fn check(image: &MemFs, rig: &Rig, ops: u64, what: &str) -> (Vec<u64>, Replayed) {
    let manifest = rig.manifest_at(ops);
    let before = image.hash();
    let found = read(image, &manifest, RecoveryMode::TolerateTornTail);
    let (seen, replayed) = found.unwrap_or_else(|e| panic!("false alarm {what}: {e}"));
    let end = run_from(&rig.appended, &seen).unwrap_or_else(|| panic!("hole {what}: {seen:?}"));
    let floor = rig.floor_at(ops);
    // Records that are all trimmed leave nothing to see.
    let trimmed =
        seen.is_empty() && manifest.iter().all(|s| s.num >= rig.listed.last().unwrap().segment.num);
    assert!(end >= floor || trimmed, "{what}: {end} of {floor} synced records");
    assert_eq!(image.hash(), before, "{what}: replay changed the disk");
    // The stricter mode may only refuse; the laxer ones see at least as much.
    if let Ok((strict, _)) = read(image, &manifest, RecoveryMode::Absolute) {
        assert_eq!(strict, seen, "{what}");
    }
    assert_eq!(read(image, &manifest, RecoveryMode::PointInTime).unwrap().0, seen, "{what}");
    assert!(
        read(image, &manifest, RecoveryMode::SkipCorrupt).unwrap().0.len() >= seen.len(),
        "{what}"
    );
    (seen, replayed)
}

#[test]
fn every_crash_leaves_a_run_up_to_the_sync() {
    let mut images = 0;
    for seed in 0..6 {
        let mem = new_disk();
        mem.start_recording();
        let mut rig = Rig::on(mem.clone(), Arc::new(mem), [600, 4096, 9000][seed as usize % 3]);
        let listed = rig.listed[0].from;
        work(&mut rig, 80, seed);
        for snapshot in rig.mem.take_history() {
            let ops = snapshot.op().index + 1;
            if ops < listed {
                continue;
            }
            for profile in honest() {
                for s in 0..SEEDS {
                    let what = format!("seed {seed} after {:?} {profile:?} {s}", snapshot.op());
                    check(&snapshot.crash(profile, s), &rig, ops, &what);
                    images += 1;
                }
            }
        }
    }
    assert!(images > 10_000, "{images} images");
}

/// What an engine does at open: keep the segments, link a new one to them, write on.
fn recover(image: &MemFs, manifest: &[SegmentToReplay], new: u64, len: u64) -> (Rig, u64) {
    let (seen, found) = read(image, manifest, RecoveryMode::TolerateTornTail).unwrap();
    make_durable(image, &dir(), &found.segments, found.synced).unwrap();
    let first = prepare_segment(image, &dir(), FileNum(new), len, None).unwrap();
    let edit_at = image.op_count();
    let old = manifest.iter().map(|s| Listed { segment: *s, from: 0, until: edit_at });
    let kept = found.segments.iter().map(|c| Listed {
        segment: SegmentToReplay { num: c.num, closed: Some(*c) },
        from: edit_at,
        until: u64::MAX,
    });
    let first_listed = Listed { segment: plain(new), from: edit_at, until: u64::MAX };
    let listed = old.chain(kept).chain([first_listed]).collect();
    let log =
        Log::start(LogOptions { db_id: DB_ID }, first, found.next, found.segments.last().copied())
            .unwrap();
    let count = seen.len();
    let rig = Rig {
        fs: Arc::new(image.clone()),
        mem: image.clone(),
        dir: dir(),
        log,
        len,
        listed,
        free: vec![],
        next_num: new + 1,
        appended: seen.into_iter().map(|i| (i, found.end)).collect(),
        floors: vec![(edit_at, count)],
    };
    (rig, edit_at)
}

#[test]
fn a_crash_inside_the_recovery_loses_nothing_more() {
    let mut images = 0;
    for seed in 0..4 {
        let mem = new_disk();
        mem.start_recording();
        let mut rig = Rig::on(mem.clone(), Arc::new(mem), 700);
        let listed = rig.listed[0].from;
        work(&mut rig, 40, seed + 100);
        for snapshot in rig.mem.take_history().iter().filter(|s| s.op().index >= listed).step_by(3)
        {
            let ops = snapshot.op().index + 1;
            for profile in [CrashProfile::Strict, CrashProfile::Random50, CrashProfile::KeepAll] {
                let image = snapshot.crash(profile, seed);
                image.start_recording();
                let (mut again, _) = recover(&image, &rig.manifest_at(ops), 900, 700);
                for index in 1000..1016 {
                    again.append(index);
                    if index % 5 == 0 {
                        again.sync();
                    }
                }
                for inner in image.take_history() {
                    let what =
                        format!("{seed} {:?} {profile:?}, then {:?}", snapshot.op(), inner.op());
                    for profile in [CrashProfile::Strict, CrashProfile::DropAll] {
                        check(&inner.crash(profile, seed), &again, inner.op().index + 1, &what);
                        images += 1;
                    }
                }
            }
        }
    }
    assert!(images > 4_000, "{images} images");
}

#[test]
fn a_failed_append_at_any_write_is_never_seen_whatever_crash_follows() {
    for fault in [Fault::Eio, Fault::ShortWrite] {
        for nth in 2..40 {
            let mem = new_disk();
            let faults = FaultFs::over_mem(mem.clone());
            let mut rig = Rig::on(mem.clone(), Arc::new(faults.clone()), 600);
            rig.spare(600);
            mem.start_recording();
            let listed = mem.op_count();
            faults
                .inject(FaultPlan::any(fault.clone()).kinds(&[OpKind::WriteAt]).skip(nth).times(1));
            // Operations done when the error was returned; none if the error leaves it open.
            let mut refused_at = None;
            for index in 0..40 {
                match rig.try_append(index) {
                    Ok(_) if index % 7 == 0 => rig.sync(),
                    Ok(_) => {}
                    Err(Error::Io { .. }) => refused_at = Some(mem.op_count()),
                    // It was the first record behind a roll: no spare was there to prove it absent.
                    Err(Error::WritesStopped { .. }) => break,
                    Err(e) => panic!("{e:?}"),
                }
                if rig.log.wants_spare() {
                    rig.spare(600);
                }
            }
            assert!(refused_at.is_none() || rig.appended.len() == 39);
            for snapshot in mem.take_history().iter().step_by(2) {
                let ops = snapshot.op().index + 1;
                if ops < listed {
                    continue;
                }
                for profile in [CrashProfile::Strict, CrashProfile::KeepAll] {
                    let image = snapshot.crash(profile, nth);
                    let found = read(&image, &rig.manifest_at(ops), RecoveryMode::TolerateTornTail);
                    let (seen, _) = found.unwrap_or_else(|e| {
                        panic!("{fault:?} {nth} {:?} {profile:?}: {e}", snapshot.op())
                    });
                    let refused =
                        (0..40).find(|i| rig.appended.iter().all(|(index, _)| index != i));
                    // The record may be there only as long as its error has not been returned.
                    let open =
                        refused_at.is_none_or(|at| ops < at) && seen.last() == refused.as_ref();
                    let seen = if open { &seen[..seen.len() - 1] } else { &seen[..] };
                    let end =
                        run_from(&rig.appended, seen).unwrap_or_else(|| panic!("{nth} {seen:?}"));
                    assert!(end >= rig.floor_at(ops));
                    assert!(!open || Some(end as u64) == refused);
                }
            }
        }
    }
}

#[test]
fn a_lying_disk_is_found_out_or_believed_but_never_gives_a_wrong_record() {
    let mem = new_disk();
    mem.start_recording();
    let mut rig = Rig::on(mem.clone(), Arc::new(mem), 700);
    let listed = rig.listed[0].from;
    work(&mut rig, 60, 5);
    for snapshot in rig.mem.take_history().iter().filter(|s| s.op().index >= listed) {
        for seed in 0..SEEDS {
            let image = snapshot.crash(CrashProfile::LyingDisk, seed);
            match read(
                &image,
                &rig.manifest_at(snapshot.op().index + 1),
                RecoveryMode::TolerateTornTail,
            ) {
                Ok((seen, _)) => assert!(run_from(&rig.appended, &seen).is_some(), "{seen:?}"),
                Err(e) => assert!(e.is_corruption(), "{e}"),
            }
        }
    }
}
