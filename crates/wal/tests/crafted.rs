//! Headers and links that somebody made, with checksums that are right. Found by the fuzz target `log_replay`.
#![expect(clippy::unwrap_used, reason = "a test")]

mod common;

use base::checksum::{crc32, xxh3_64};
use common::{DB_ID, Rig, path_of, plain};
use vfs::MemFs;
use wal::segment::HEADER_LEN;
use wal::*;

const BASE: usize = 32;
const CRC: usize = 48;

/// Two segments with records.
fn two_segments() -> Rig {
    let mut rig = Rig::new(2048);
    (0..40).for_each(|index| rig.append(index));
    rig.sync();
    rig
}

fn change(fs: &MemFs, num: u64, edit: impl FnOnce(&mut [u8])) {
    let mut bytes = fs.read_file(&path_of(num)).unwrap();
    edit(&mut bytes);
    let crc = crc32(0, &[&bytes[..CRC]]);
    bytes[CRC..CRC + 4].copy_from_slice(&crc.to_le_bytes());
    // The link: its checksum is seeded by database and file.
    let identity = [DB_ID.to_le_bytes(), num.to_le_bytes()].concat();
    let link = &mut bytes[HEADER_LEN..HEADER_LEN + 48];
    let crc = crc32(xxh3_64(&identity) as u32, &[&link[4..]]);
    link[..4].copy_from_slice(&crc.to_le_bytes());
    fs.overwrite(&path_of(num), &bytes).unwrap();
}

fn replay_in(rig: &Rig, mode: RecoveryMode) -> base::Result<u64> {
    let listed = [plain(1), plain(2)];
    let (mut last, mut seen) = (Lsn(0), 0);
    replay(&rig.mem, &rig.dir, DB_ID, &listed, mode, &mut |end, _, _, _| {
        assert!(end > last || mode == RecoveryMode::SkipCorrupt, "positions ascend");
        (last, seen) = (end, seen + 1);
        Ok(())
    })?;
    Ok(seen)
}

#[test]
fn a_base_at_the_end_of_all_numbers_is_damage() {
    for num in [1, 2] {
        let rig = two_segments();
        let all = replay_in(&rig, RecoveryMode::TolerateTornTail).unwrap();
        change(&rig.mem, num, |bytes| {
            bytes[BASE..BASE + 8].copy_from_slice(&(u64::MAX - 15).to_le_bytes())
        });
        for mode in [RecoveryMode::TolerateTornTail, RecoveryMode::Absolute] {
            assert!(replay_in(&rig, mode).unwrap_err().is_corruption());
        }
        assert!(replay_in(&rig, RecoveryMode::PointInTime).unwrap() < all);
        assert_eq!(replay_in(&rig, RecoveryMode::SkipCorrupt).unwrap(), all, "records are whole");
    }
}

#[test]
fn a_base_before_the_end_of_the_previous_segment_is_damage() {
    let rig = two_segments();
    change(&rig.mem, 2, |bytes| bytes[BASE..BASE + 8].copy_from_slice(&8u64.to_le_bytes()));
    let e = replay_in(&rig, RecoveryMode::TolerateTornTail).unwrap_err();
    assert!(e.to_string().contains("before the end"), "{e}");
    replay_in(&rig, RecoveryMode::PointInTime).unwrap();
}

#[test]
fn a_link_to_the_end_of_all_numbers_is_no_link() {
    let rig = two_segments();
    // In the link: number 0..8, end offset 8..16, end 16..24.
    let end = HEADER_LEN + 16 + 16;
    change(&rig.mem, 2, |bytes| bytes[end..end + 8].copy_from_slice(&(u64::MAX - 7).to_le_bytes()));
    change(&rig.mem, 1, |bytes| bytes[..HEADER_LEN - 8].fill(0));
    // No record proves a sync, so a torn log is legal; that positions do not overflow is what counts.
    for mode in [RecoveryMode::TolerateTornTail, RecoveryMode::PointInTime] {
        assert_eq!(replay_in(&rig, mode).unwrap(), 0);
    }
    assert!(replay_in(&rig, RecoveryMode::SkipCorrupt).unwrap() > 0);
}

/// The manifest says how the first segment ended; the link of the second says something else.
#[test]
fn a_link_that_contradicts_the_segment_before_it_is_damage_and_says_why() {
    let link = HEADER_LEN + 16;
    let cases: [(&str, usize, u8); 4] = [
        ("the link says", link + 8, 1),         // where the first segment ends
        ("the link says", link + 24, 1),        // its chain
        ("link names segment 000009", link, 8), // its number, 1
        ("link names no segment", link + 28, 1), // that there is one
    ];
    for (expected, at, flip) in cases {
        let rig = two_segments();
        let closed = rig.log.segments()[0].closed;
        assert!(closed.is_some());
        change(&rig.mem, 2, |bytes| bytes[at] ^= flip);
        let listed = [SegmentToReplay { num: base::FileNum(1), closed }, plain(2)];
        let run = |mode| {
            let mut seen = 0;
            let found = replay(&rig.mem, &rig.dir, DB_ID, &listed, mode, &mut |_, _, _, _| {
                seen += 1;
                Ok(())
            });
            found.map(|found| (seen, found))
        };
        for mode in [RecoveryMode::TolerateTornTail, RecoveryMode::Absolute] {
            let e = run(mode).unwrap_err();
            assert!(e.is_corruption() && e.to_string().contains(expected), "{expected}: {e}");
        }
        let first_ends = closed.unwrap().end;
        let before = rig.appended.iter().filter(|(_, end)| *end <= first_ends).count();
        let (seen, found) = run(RecoveryMode::PointInTime).unwrap();
        assert_eq!((seen, found.end), (before, first_ends), "{expected}");
        assert_eq!(found.skipped, [(path_of(2), HEADER_LEN as u64)], "{expected}");
        assert_eq!(run(RecoveryMode::SkipCorrupt).unwrap().0, 40, "{expected}: records are whole");
    }
}
