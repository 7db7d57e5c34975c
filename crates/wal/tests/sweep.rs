//! Damage to every byte, cuts at every length, and segments that are missing, swapped, stale or foreign.
#![allow(clippy::unwrap_used, reason = "tests")]
mod common;

use std::sync::Arc;

use base::{Error, FileNum};
use common::*;
use vfs::{Fault, FaultFs, FaultPlan, Fs, MemFs, OpKind};
use wal::RecoveryMode::{Absolute, PointInTime, SkipCorrupt, TolerateTornTail};
use wal::*;

/// Replays in every mode what is not a torn tail of a healthy disk; the record at fault is below `floor`
/// if `proven`.
fn check_modes(disk: &MemFs, rig: &Rig, synced: usize, proven: bool, what: &str) {
    let (manifest, before) = (rig.manifest(), disk.hash());
    match read(disk, &manifest, TolerateTornTail) {
        Ok((seen, _)) => {
            assert!(!proven, "{what}: damage below the synced offset went unnoticed");
            assert_eq!(run_from(&rig.appended, &seen), Some(seen.len()), "{what}: hole");
            assert!(seen.len() >= synced, "{what}: {} of {synced}", seen.len());
        }
        Err(e) => assert!(proven && e.is_corruption(), "{what}: false alarm {e}"),
    }
    if let Ok((seen, _)) = read(disk, &manifest, Absolute) {
        assert_eq!(seen.len(), rig.appended.len(), "{what}");
    }
    if let Ok((seen, _)) = read(disk, &manifest, PointInTime) {
        assert_eq!(run_from(&rig.appended, &seen), Some(seen.len()), "{what}: hole");
    }
    let (seen, found) = read(disk, &manifest, SkipCorrupt).unwrap();
    assert!(seen.windows(2).all(|w| w[0] < w[1]), "{what}: order");
    assert!(seen.len() == rig.appended.len() || !found.skipped.is_empty(), "{what}: {found:?}");
    assert_eq!(disk.hash(), before, "{what}: changed the disk");
}

#[test]
fn every_flipped_bit_is_damage_below_the_synced_offset_and_a_torn_tail_above() {
    let (rig, synced) = small_log(512);
    let synced_end = rig.appended[synced - 1].1;
    for segment in rig.log.segments() {
        let used = segment.end.0 - segment.start.0;
        for bit in 0..segment.len_bytes * 8 {
            let offset = bit / 8;
            let disk =
                damaged(&rig, |d| d.flip_bit(&path_of(segment.num.0), offset, bit as u32).unwrap());
            let proven = offset < used && segment.start.0 + offset < synced_end.0;
            check_modes(
                &disk,
                &rig,
                synced,
                proven,
                &format!("{} byte {offset} of {used}", segment.num),
            );
            if offset < used {
                assert!(read(&disk, &rig.manifest(), Absolute).is_err());
            }
            let (seen, _) = read(&disk, &rig.manifest(), SkipCorrupt).unwrap();
            assert!(seen.len() + 1 >= rig.appended.len(), "one record lost at most");
        }
    }
}

#[test]
fn bytes_set_to_anything_and_zeroed_sectors_are_noticed() {
    let (rig, synced) = small_log(1024);
    let synced_end = rig.appended[synced - 1].1;
    for segment in rig.log.segments() {
        let used = segment.end.0 - segment.start.0;
        let path = path_of(segment.num.0);
        let bytes = rig.mem.read_file(&path).unwrap();
        let edit = |at: u64, len: u64, byte: u8| {
            let mut new = bytes.clone();
            new[at as usize..(at + len) as usize].fill(byte);
            let changed = new[..used as usize] != bytes[..used as usize];
            let disk = damaged(&rig, |d| d.overwrite(&path, &new).unwrap());
            let proven = changed && segment.start.0 + at < synced_end.0;
            let what = format!("{} {at}+{len} = {byte}", segment.num);
            // A stretch that begins below and ends above may leave no proof; never a wrong record though.
            let swallowed = changed
                && segment.num == rig.log.segments().last().unwrap().num
                && at + len > used - 100;
            if swallowed {
                let found = read(&disk, &rig.manifest(), TolerateTornTail);
                assert!(found.is_err_and(|e| e.is_corruption()) || len > 1 || !proven, "{what}");
            } else {
                check_modes(&disk, &rig, synced, proven, &what);
            }
        };
        for at in 0..used {
            edit(at, 1, 0);
            edit(at, 1, 0xff);
        }
        for sector in 0..2 {
            edit(sector * 512, 512, 0);
            edit(sector * 512, 512, 0xa5);
        }
    }
}

#[test]
fn a_log_cut_at_any_byte_keeps_what_was_whole() {
    // Never synced, so every cut is a legal torn tail: the bytes behind it read as zeros, or as old ones.
    let mut rig = Rig::new(512);
    for index in 0..20 {
        rig.append(index);
    }
    for segment in rig.log.segments() {
        for cut in 0..=segment.end.0 - segment.start.0 {
            for behind in [0, 0x5a] {
                let disk = damaged(&rig, |d| {
                    let path = path_of(segment.num.0);
                    let mut bytes = d.read_file(&path).unwrap();
                    bytes[cut as usize..].fill(behind);
                    d.overwrite(&path, &bytes).unwrap();
                });
                let (seen, found) = read(&disk, &rig.manifest(), TolerateTornTail).unwrap();
                let whole =
                    rig.appended.iter().filter(|(_, end)| end.0 <= segment.start.0 + cut).count();
                let what = format!("{} cut {cut} {behind}", segment.num);
                // With zeros behind, a cut inside the padding of a record takes nothing away.
                let used = 0..(segment.end.0 - segment.start.0) as usize;
                let (old, new) = (
                    rig.mem.read_file(&path_of(segment.num.0)),
                    disk.read_file(&path_of(segment.num.0)),
                );
                let harmless = old.unwrap()[used.clone()] == new.unwrap()[used];
                let padding = behind == 0 && seen.len() == whole + 1;
                assert!(
                    seen.len() == if harmless { 20 } else { whole } || padding,
                    "{what}: {seen:?}"
                );
                assert_eq!(run_from(&rig.appended, &seen), Some(seen.len()));
                assert!(found.skipped.is_empty());
                let (prefix, _) = read(&disk, &rig.manifest(), PointInTime).unwrap();
                assert_eq!(prefix, seen);
            }
        }
    }
}

#[test]
fn a_file_cut_short_or_gone_is_corruption_also_if_nothing_was_synced() {
    let mut rig = Rig::new(512);
    for index in 0..20 {
        rig.append(index);
    }
    for segment in rig.log.segments() {
        let path = path_of(segment.num.0);
        for len in 0..512 {
            let disk = damaged(&rig, |d| d.truncate(&path, len).unwrap());
            for mode in [TolerateTornTail, Absolute] {
                let error = read(&disk, &rig.manifest(), mode).unwrap_err();
                assert!(error.is_corruption(), "{len}: {error}");
            }
            let (seen, found) = read(&disk, &rig.manifest(), PointInTime).unwrap();
            assert_eq!(run_from(&rig.appended, &seen), Some(seen.len()), "{len}");
            assert!(!found.skipped.is_empty(), "{} {len} {found:?}", segment.num);
            if segment.num == FileNum(1) && len < wal::segment::HEADER_LEN as u64 {
                assert_eq!((found.skipped.len(), found.torn), (1, None), "{len}");
            }
            read(&disk, &rig.manifest(), SkipCorrupt).unwrap();
        }
        let longer = damaged(&rig, |d| d.extend(&path, &[7; 100]).unwrap());
        assert_eq!(read(&longer, &rig.manifest(), Absolute).unwrap().0.len(), 20);
        let gone = damaged(&rig, |d| d.remove_file(&path).unwrap());
        for mode in [TolerateTornTail, Absolute, PointInTime] {
            assert!(read(&gone, &rig.manifest(), mode).unwrap_err().is_corruption());
        }
        assert!(read(&gone, &rig.manifest(), SkipCorrupt).unwrap().0.len() < 20);
    }
    let spare = path_of(rig.next_num - 1);
    let gone = damaged(&rig, |d| d.remove_file(&spare).unwrap());
    assert!(read(&gone, &rig.manifest(), TolerateTornTail).unwrap_err().is_corruption());
}

#[test]
fn swapped_copied_and_foreign_segments_are_corruption() {
    let (rig, _) = small_log(512);
    let nums: Vec<u64> = rig.manifest().iter().map(|s| s.num.0).collect();
    for &a in &nums[..4] {
        for &b in &nums {
            if a == b {
                continue;
            }
            let (bytes_a, bytes_b) =
                (rig.mem.read_file(&path_of(a)).unwrap(), rig.mem.read_file(&path_of(b)).unwrap());
            let swapped = damaged(&rig, |d| {
                d.overwrite(&path_of(a), &bytes_b).unwrap();
                d.overwrite(&path_of(b), &bytes_a).unwrap();
            });
            let copied = damaged(&rig, |d| d.overwrite(&path_of(b), &bytes_a).unwrap());
            for (disk, what) in [(swapped, "swapped"), (copied, "copied")] {
                for mode in [TolerateTornTail, Absolute] {
                    let found = read(&disk, &rig.manifest(), mode);
                    assert!(
                        found.as_ref().is_err_and(Error::is_corruption),
                        "{what} {a} {b}: {found:?}"
                    );
                }
                read(&disk, &rig.manifest(), PointInTime).unwrap();
                read(&disk, &rig.manifest(), SkipCorrupt).unwrap();
            }
        }
    }
    // A newer segment in the place of an older one, also if nothing lists the newer one.
    let newer = rig.mem.read_file(&path_of(nums[2])).unwrap();
    let disk = damaged(&rig, |d| d.overwrite(&path_of(1), &newer).unwrap());
    for mode in [TolerateTornTail, Absolute] {
        assert!(read(&disk, &[plain(1)], mode).unwrap_err().is_corruption());
    }
    let foreign = replay(
        &rig.mem,
        &dir(),
        DB_ID + 1,
        &rig.manifest(),
        TolerateTornTail,
        &mut |_, _, _, _| Ok(()),
    );
    assert!(foreign.unwrap_err().is_corruption());
}

#[test]
fn an_older_version_of_a_segment_is_noticed() {
    let mut rig = Rig::new(512);
    rig.append(0);
    rig.sync();
    rig.append(1);
    let old = rig.mem.read_file(&path_of(1)).unwrap();
    for index in 2..12 {
        rig.append(index);
    }
    rig.sync();
    rig.append(12);
    let stale = damaged(&rig, |d| d.overwrite(&path_of(1), &old).unwrap());
    let error = read(&stale, &rig.manifest(), TolerateTornTail).unwrap_err();
    assert!(matches!(&error, Error::Corruption { path, .. } if *path == path_of(1)), "{error}");
    // One that the manifest closed cannot be older even if no record says so.
    let closed = rig.log.segments()[0].closed.unwrap();
    let manifest = [SegmentToReplay { num: FileNum(1), closed: Some(closed) }];
    assert!(read(&rig.mem, &manifest, Absolute).is_ok());
    assert!(read(&stale, &manifest, TolerateTornTail).unwrap_err().is_corruption());
    let wrong = ClosedSegment { chain: closed.chain ^ 1, ..closed };
    let manifest = [SegmentToReplay { num: FileNum(1), closed: Some(wrong) }];
    assert!(read(&rig.mem, &manifest, TolerateTornTail).unwrap_err().is_corruption());
    let kept = read(&rig.mem, &manifest, PointInTime).unwrap();
    assert_eq!(kept.1.skipped.len(), 1);
    // With segments behind it: the log ends there.
    let mut all = rig.manifest();
    all[0].closed = Some(wrong);
    let (seen, found) = read(&rig.mem, &all, PointInTime).unwrap();
    assert_eq!((seen.len() as u64, found.end), (found.records, closed.end));
    assert!(found.records < 13);
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let rig = Rig::new(512);
    let mut bytes = rig.mem.read_file(&path_of(1)).unwrap();
    bytes[8] = 9;
    let crc = base::checksum::crc32(0, &[&bytes[..48]]);
    bytes[48..52].copy_from_slice(&crc.to_le_bytes());
    let disk = damaged(&rig, |d| d.overwrite(&path_of(1), &bytes).unwrap());
    for mode in [TolerateTornTail, Absolute, PointInTime, SkipCorrupt] {
        let error = read(&disk, &rig.manifest(), mode).unwrap_err();
        assert!(
            matches!(error, Error::UnsupportedFormat { found: 9, supported: 1, .. }),
            "{error}"
        );
    }
}

/// What a mode makes of a case: records seen, or `!` and where it complains.
fn outcome(disk: &MemFs, rig: &Rig, mode: RecoveryMode) -> String {
    match read(disk, &rig.manifest(), mode) {
        Ok((seen, found)) => {
            let torn = found
                .torn
                .map_or(String::new(), |t| format!(" torn {}+{}", t.offset, t.dropped_bytes));
            let skipped: String =
                found.skipped.iter().map(|(_, at)| format!(" skipped {at}")).collect();
            let seen: Vec<String> = seen.iter().map(u64::to_string).collect();
            format!("{}{torn}{skipped}", seen.join(","))
        }
        Err(Error::Corruption { path, offset, .. }) => {
            format!("! {}:{offset}", path.file_name().unwrap().to_string_lossy())
        }
        Err(e) => panic!("{e}"),
    }
}

#[test]
fn the_four_modes_case_by_case() {
    // Records 0, 1 and 2 stand at 104, 128 and 192, each of 24, 64 and 104 bytes; the end is at 296.
    // In the synced cases 0 and 1 were synced before 2 was written.
    type Case = (&'static str, bool, fn(&mut Vec<u8>), [&'static str; 4]);
    let cases: [Case; 8] = [
        ("whole", true, |_| {}, ["0,1,2", "0,1,2", "0,1,2", "0,1,2"]),
        (
            "last record half written",
            true,
            |b| b[240..].fill(0),
            ["0,1 torn 192+48", "! 000001.log:192", "0,1 torn 192+48", "0,1 skipped 192"],
        ),
        ("last record never arrived", true, |b| b[192..].fill(0), ["0,1", "0,1", "0,1", "0,1"]),
        (
            "hole, nothing synced",
            false,
            |b| b[128..192].fill(0),
            ["0 torn 128+168", "! 000001.log:128", "0 torn 128+168", "0,2 skipped 128"],
        ),
        (
            "hole below the synced offset",
            true,
            |b| b[128..192].fill(0),
            [
                "! 000001.log:128",
                "! 000001.log:128",
                "0 torn 128+168 skipped 128",
                "0,2 skipped 128",
            ],
        ),
        (
            "first record damaged below the synced offset",
            true,
            |b| b[120] ^= 1,
            [
                "! 000001.log:104",
                "! 000001.log:104",
                " torn 104+192 skipped 104",
                "1,2 skipped 104",
            ],
        ),
        (
            "header gone below the synced offset",
            true,
            |b| b[..56].fill(0),
            ["! 000001.log:0", "! 000001.log:0", " torn 0+296 skipped 0", "0,1,2 skipped 0"],
        ),
        (
            "header gone, nothing synced",
            false,
            |b| b[..104].fill(0),
            [" torn 0+296", "! 000001.log:0", " torn 0+296", "0,1,2 skipped 0"],
        ),
    ];
    for (what, synced, edit, expected) in cases {
        let mut rig = Rig::new(4096);
        rig.append(0);
        rig.append(1);
        if synced {
            rig.sync();
        }
        rig.append(2);
        let mut bytes = rig.mem.read_file(&path_of(1)).unwrap();
        edit(&mut bytes);
        rig.mem.overwrite(&path_of(1), &bytes).unwrap();
        for (mode, expected) in
            [TolerateTornTail, Absolute, PointInTime, SkipCorrupt].into_iter().zip(expected)
        {
            assert_eq!(outcome(&rig.mem, &rig, mode), expected, "{what} {mode:?}");
        }
    }
}

#[test]
fn an_error_of_the_visitor_ends_the_replay() {
    let (rig, _) = small_log(512);
    let mut count = 0;
    let result = replay(&rig.mem, &dir(), DB_ID, &rig.manifest(), Absolute, &mut |_, _, _, _| {
        count += 1;
        if count == 3 { Err(Error::Closed) } else { Ok(()) }
    });
    assert!(matches!(result, Err(Error::Closed)));
    assert_eq!(count, 3);
}

#[test]
fn records_far_behind_a_hole_of_zeros_are_found() {
    let mem = new_disk();
    let first = prepare_segment(&mem, &dir(), FileNum(1), 16 << 20, None).unwrap();
    let log = Log::start(LogOptions { db_id: DB_ID }, first, Lsn(0), None).unwrap();
    while log.end().0 < 9 << 20 {
        log.append(&[7; 1000]).unwrap().unwrap();
        if log.end().0 >> 12 != log.synced().0 >> 12 {
            log.sync(log.end()).unwrap();
        }
    }
    let bytes = mem.read_file(&path_of(1)).unwrap();
    for (from, to) in
        [(0, 5 << 20), (3 << 20, 8 << 20), (4 << 20, (9 << 20) - (200 << 10)), (0, 512)]
    {
        let mut holed = bytes.clone();
        holed[from..to].fill(0);
        mem.overwrite(&path_of(1), &holed).unwrap();
        let found =
            replay(&mem, &dir(), DB_ID, &[plain(1)], TolerateTornTail, &mut |_, _, _, _| Ok(()));
        assert!(found.unwrap_err().is_corruption(), "{from} to {to}");
    }
}

/// One small record is all that is left: it states that what lay before it had been synced.
#[test]
fn a_lone_record_in_the_first_mebibyte_behind_the_end_is_found() {
    let mut rig = Rig::new(4 << 20);
    while rig.log.end().0 < 900_000 {
        rig.append(rig.appended.len() as u64);
    }
    rig.sync();
    rig.append(rig.appended.len() as u64);
    let bytes = rig.mem.read_file(&path_of(1)).unwrap();
    let start_of = |at: usize| (rig.appended[at - 1].1.0 - 1000) as usize;
    let last = rig.appended.len() - 1;
    // Behind a hole of nearly a mebibyte, and at places that no probe of a blank tail touches.
    for end in [last - 1, last - 300, last / 2, 40, 3] {
        let mut holed = bytes.clone();
        holed[start_of(end)..start_of(last)].fill(0);
        rig.mem.overwrite(&path_of(1), &holed).unwrap();
        let error = read(&rig.mem, &rig.manifest(), TolerateTornTail).unwrap_err();
        assert!(
            matches!(error, Error::Corruption { offset, .. } if offset == start_of(end) as u64),
            "{end}: {error}"
        );
    }
}

/// A read may return less than was asked for; that is not the end of the file.
#[test]
fn short_reads_change_nothing() {
    let (rig, _) = small_log(2048);
    let whole = read(&rig.mem, &rig.manifest(), Absolute).unwrap();
    for skipped in 0..12 {
        let faults = FaultFs::over_mem(rig.mem.clone());
        let short = || FaultPlan::any(Fault::ShortRead).kinds(&[OpKind::Read]);
        faults.inject(
            FaultPlan::any(Fault::Slow(Arc::new(|| {}))).kinds(&[OpKind::Read]).times(skipped),
        );
        faults.inject(short().times(2));
        assert_eq!(read(&faults, &rig.manifest(), Absolute).unwrap(), whole);
        assert_eq!(faults.fired(), skipped + 2);
        faults.inject(short().times(1));
        assert_eq!(database_of(&faults, &path_of(1)).unwrap(), Some(DB_ID));
        // A file that cannot be opened or read is not missing, not empty and not damaged.
        faults.inject(FaultPlan::any(Fault::Eio).kinds(&[OpKind::Open, OpKind::Read]));
        for mode in [TolerateTornTail, Absolute, PointInTime, SkipCorrupt] {
            assert!(matches!(read(&faults, &rig.manifest(), mode), Err(Error::Io { .. })));
        }
    }
}

#[test]
fn large_records_cross_the_read_window() {
    let mem = new_disk();
    let first = prepare_segment(&mem, &dir(), FileNum(1), 8 << 20, None).unwrap();
    let log = Log::start(LogOptions { db_id: DB_ID }, first, Lsn(0), None).unwrap();
    let sizes = [10, 600_000, 0, 524_288 - 16, 1_500_000, 7, 3_000_000];
    for (i, size) in sizes.into_iter().enumerate() {
        log.append(&vec![i as u8; size]).unwrap().unwrap();
    }
    let mut seen = Vec::new();
    let found = replay(&mem, &dir(), DB_ID, &[plain(1)], Absolute, &mut |_, _, _, p| {
        assert!(p.iter().all(|&b| usize::from(b) == seen.len()));
        seen.push(p.len());
        Ok(())
    });
    assert_eq!(seen, sizes);
    assert_eq!(found.unwrap().payload_bytes, sizes.iter().sum::<usize>() as u64);
}
