//! Where damage is reported, what the modes make of the segments behind it, and what belongs to the log.
#![allow(clippy::unwrap_used, reason = "tests")]
mod common;

use base::{Error, FileNum};
use common::*;
use vfs::{Fs, MemFs};
use wal::RecoveryMode::{Absolute, PointInTime, SkipCorrupt, TolerateTornTail};
use wal::*;

/// Which segment and offset damage is reported at, and what becomes of the segments behind it.
#[test]
fn damage_is_reported_where_it_lies() {
    const HEADER: u64 = wal::segment::HEADER_LEN as u64;
    let (rig, _) = small_log(512);
    let segments = rig.log.segments();
    let end_of = |at: usize| segments[at].end.0 - segments[at].start.0;
    let spare = FileNum(rig.next_num - 1);
    let zero = |d: &MemFs, num: u64, len: usize| {
        let mut bytes = d.read_file(&path_of(num)).unwrap();
        bytes[..len].fill(0);
        d.overwrite(&path_of(num), &bytes).unwrap();
    };
    type Edit<'a> = &'a dyn Fn(&MemFs);
    let cases: [(&str, Edit<'_>, u64, u64); 5] = [
        ("header gone", &|d| zero(d, 2, 104), 2, 0),
        ("header garbage", &|d| d.flip_bit(&path_of(2), 20, 1).unwrap(), 2, 0),
        ("link gone", &|d| d.flip_bit(&path_of(2), HEADER + 20, 1).unwrap(), 2, HEADER),
        (
            "two headers gone",
            &|d| {
                zero(d, 2, 104);
                zero(d, 3, 104);
            },
            2,
            0,
        ),
        (
            "header gone, and bytes behind the end before it",
            &|d| {
                zero(d, 2, 104);
                d.corrupt(&path_of(1), end_of(0), |b| *b = 0xa5).unwrap();
            },
            1,
            end_of(0),
        ),
    ];
    for (what, edit, num, at) in cases {
        let disk = damaged(&rig, edit);
        for mode in [TolerateTornTail, Absolute] {
            match read(&disk, &rig.manifest(), mode) {
                Err(Error::Corruption { path, offset, .. }) => {
                    assert_eq!((path, offset), (path_of(num), at), "{what} {mode:?}");
                }
                other => panic!("{what}: {other:?}"),
            }
        }
        let (seen, found) = read(&disk, &rig.manifest(), PointInTime).unwrap();
        assert_eq!(found.end, segments[0].end, "{what}");
        assert_eq!(run_from(&rig.appended, &seen), Some(seen.len()), "{what}");
        assert_eq!(found.skipped, [(path_of(num), at)], "{what}");
        let torn = found.torn.expect("the rest is dropped");
        assert_eq!((torn.path, torn.offset), (path_of(1), end_of(0)), "{what}");
        let dropped = (1..segments.len()).map(end_of).sum::<u64>() + u64::from(num == 1);
        assert_eq!(torn.dropped_bytes, dropped, "{what}");
        let behind: Vec<_> = segments[1..].iter().map(|s| s.num).collect();
        assert_eq!((found.dropped, found.unused), (behind, vec![spare]), "{what}");
        let (seen, found) = read(&disk, &rig.manifest(), SkipCorrupt).unwrap();
        assert_eq!(seen.len(), rig.appended.len(), "{what}: every record is whole");
        assert_eq!((found.dropped, found.unused), (vec![], vec![spare]), "{what}");
    }
}

/// The manifest says that the segment ends inside its last record.
#[test]
fn a_record_across_the_recorded_end_is_not_taken() {
    let mut rig = Rig::new(2048);
    (0..5).for_each(|index| rig.append(index));
    let whole = rig.log.close().unwrap()[0];
    let end = Lsn(whole.end.0 - 8);
    let closed = Some(ClosedSegment { end_offset: whole.end_offset - 8, end, ..whole });
    let manifest = [SegmentToReplay { num: whole.num, closed }];
    for mode in [TolerateTornTail, Absolute] {
        assert!(read(&rig.mem, &manifest, mode).unwrap_err().is_corruption());
    }
    for mode in [PointInTime, SkipCorrupt] {
        let (seen, found) = read(&rig.mem, &manifest, mode).unwrap();
        assert_eq!((seen.len(), found.skipped.len()), (4, 1), "{mode:?}");
        assert_eq!(found.end, rig.appended[3].1, "{mode:?}");
    }
}

/// Salvage reports every place that it passed over, and the records behind it keep their positions.
#[test]
fn salvage_tells_what_is_missing_and_keeps_positions() {
    let mut rig = Rig::new(1024);
    (0..40).for_each(|index| rig.append(index));
    let first = rig.log.segments()[0];
    let in_first = rig.appended.iter().filter(|(_, end)| *end <= first.end).count();
    let start_of = |at: usize| rig.appended[at - 1].1.0 - first.start.0;
    // One in the middle, then the last one of a segment that a link says was longer, zeroed whole.
    for (bad, fill) in [(3, 0xa5), (3, 0), (in_first - 1, 0xa5), (in_first - 1, 0)] {
        let mut bytes = rig.mem.read_file(&path_of(1)).unwrap();
        let end = rig.appended[bad].1.0 - first.start.0;
        bytes[start_of(bad) as usize..end as usize].fill(fill);
        let disk = damaged(&rig, |d| d.overwrite(&path_of(1), &bytes).unwrap());
        let mut ends = Vec::new();
        let found =
            replay(&disk, &dir(), DB_ID, &rig.manifest(), SkipCorrupt, &mut |end, _, _, _| {
                ends.push(end);
                Ok(())
            });
        let kept = rig.appended.iter().enumerate().filter(|(at, _)| *at != bad);
        assert_eq!(ends, kept.map(|(_, (_, end))| *end).collect::<Vec<_>>(), "{bad} {fill}");
        assert_eq!(found.unwrap().skipped, [(path_of(1), start_of(bad))], "{bad} {fill}");
    }
}

/// The log had gone on to a segment, but only its header arrived: a torn tail, although nothing before it is missing.
#[test]
fn a_segment_of_which_only_the_header_is_left_is_a_torn_tail() {
    let mut rig = Rig::new(512);
    while rig.log.segments().len() < 2 {
        rig.append(rig.appended.len() as u64);
    }
    let first = rig.log.segments()[0];
    let disk = damaged(&rig, |d| {
        let mut bytes = d.read_file(&path_of(2)).unwrap();
        bytes[wal::segment::HEADER_LEN..].fill(0);
        d.overwrite(&path_of(2), &bytes).unwrap();
    });
    assert!(read(&disk, &rig.manifest(), Absolute).unwrap_err().is_corruption());
    let (seen, found) = read(&disk, &rig.manifest(), TolerateTornTail).unwrap();
    assert_eq!((seen.len() + 1, found.end), (rig.appended.len(), first.end));
    assert_eq!((found.dropped, found.unused), (vec![FileNum(2)], vec![FileNum(3)]));
    let (offset, dropped_bytes) = (first.end.0 - first.start.0, wal::segment::HEADER_LEN as u64);
    assert_eq!(found.torn, Some(Torn { path: path_of(1), offset, dropped_bytes }));
}

/// A later link passes over a spare that was given up. What the file holds does not matter then, but it must be there.
#[test]
fn a_segment_that_was_given_up_may_be_damaged_but_not_missing() {
    let mut rig = Rig::new(512);
    rig.append(0);
    rig.spare(512);
    while rig.log.segments().len() < 2 {
        rig.append(rig.appended.len() as u64);
    }
    assert_eq!(rig.log.segments()[1].num, FileNum(3), "the second was given up");
    let cut = damaged(&rig, |d| d.truncate(&path_of(2), 10).unwrap());
    let gone = damaged(&rig, |d| d.remove_file(&path_of(2)).unwrap());
    for mode in [TolerateTornTail, Absolute] {
        let (seen, found) = read(&cut, &rig.manifest(), mode).unwrap();
        assert_eq!((seen.len(), found.torn), (rig.appended.len(), None), "{mode:?}");
        assert!(read(&gone, &rig.manifest(), mode).unwrap_err().is_corruption(), "{mode:?}");
    }
}

/// The second segment states that the log was synced up to where the segment begins, and no further.
#[test]
fn what_was_synced_up_to_the_next_segment_is_damage_before_it_and_a_torn_tail_in_it() {
    let mut rig = Rig::new(600);
    rig.append(0);
    rig.sync();
    assert!(rig.log.append(&[1; 480]).unwrap().unwrap().rolled);
    let first = rig.log.segments()[0];
    let zero = |d: &MemFs, num: u64, len: usize| {
        let mut bytes = d.read_file(&path_of(num)).unwrap();
        bytes[..len].fill(0);
        d.overwrite(&path_of(num), &bytes).unwrap();
    };
    // The start of the first is lost, and with the link of the second every word of where it began.
    let lost = damaged(&rig, |d| {
        zero(d, 1, 104);
        d.flip_bit(&path_of(2), wal::segment::HEADER_LEN as u64 + 20, 0).unwrap();
    });
    // The power cut tore the start of the second, which nobody had synced.
    let torn = damaged(&rig, |d| zero(d, 2, wal::segment::HEADER_LEN));
    for mode in [TolerateTornTail, Absolute] {
        assert!(read(&lost, &rig.manifest(), mode).unwrap_err().is_corruption(), "{mode:?}");
    }
    let (seen, found) = read(&torn, &rig.manifest(), TolerateTornTail).unwrap();
    assert_eq!((seen, found.end), (vec![0], first.end));
    assert!(found.torn.is_some() && found.skipped.is_empty());
}
