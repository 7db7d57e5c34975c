//! Files written in place.

use std::io::ErrorKind;

use super::{Ground, Topic, expect, fails, ok, same, side_by_side};

const LEN: u64 = 20_000;

pub(super) const TOPICS: &[(&str, Topic)] = &[
    ("segment_create", create),
    ("segment_writes", writes),
    ("segment_syncs", syncs),
    ("segment_long", long),
    ("segment_range", range),
    ("segment_reopen", reopen),
    ("segment_replace", replace),
    ("segment_empty", empty),
    ("segment_names", names),
    ("segment_kinds", kinds),
    ("segment_threads", threads),
];

fn create(ground: &Ground<'_>) {
    let path = ground.path("seg");
    let segment = ok(ground.fs.create_segment(&path, LEN), "create_segment works");
    same(segment.len(), LEN, "a segment has the length asked for");
    expect(!segment.is_empty(), "a segment with length is not empty");
    same(
        ok(ground.fs.metadata(&path), "metadata works").len,
        LEN,
        "metadata shows the whole length at once",
    );
    expect(ground.bytes(&path).iter().all(|byte| *byte == 0), "a new segment is all zero");
    fails(
        ground.fs.create_segment(&ground.path("no/seg"), LEN),
        ErrorKind::NotFound,
        "create_segment needs the directory",
    );
}

fn writes(ground: &Ground<'_>) {
    let path = ground.path("seg");
    let segment = ok(ground.fs.create_segment(&path, LEN), "create_segment works");
    let reader = ok(ground.fs.open(&path), "a segment opens for reading while it is written");
    let mut wanted = vec![0; LEN as usize];
    for (offset, len, byte) in
        [(0, 10, 1), (4090, 20, 2), (8192, 4096, 3), (19_999, 1, 4), (5, 3, 5), (100, 0, 6)]
    {
        ok(segment.write_at(offset as u64, &vec![byte; len]), "write_at inside the segment works");
        wanted[offset..offset + len].fill(byte);
    }
    let mut found = vec![9; LEN as usize];
    ok(reader.read_exact_at(&mut found, 0), "the whole segment reads");
    expect(found == wanted, "readers see every write at once, before any sync");
    ok(segment.sync(), "sync of a segment works");
    ok(segment.sync(), "a second sync works");
    ok(segment.write_at(0, b"again"), "write_at after a sync works");
    wanted[..5].copy_from_slice(b"again");
    ground.holds(&path, &wanted, "bytes can be overwritten");
    drop(segment);
    ground.holds(&path, &wanted, "bytes stay after the handle is dropped");
}

/// Long enough that a mapping lets pages go between syncs, which nobody may notice.
fn syncs(ground: &Ground<'_>) {
    const LONG: usize = 2 << 20;
    let path = ground.path("seg");
    let segment = ok(ground.fs.create_segment(&path, LONG as u64), "create_segment works");
    segment.prefault();
    let mut wanted = vec![0; LONG];
    let mut write = |offset: usize, len: usize, byte: u8| {
        ok(segment.write_at(offset as u64, &vec![byte; len]), "write_at inside the segment works");
        wanted[offset..offset + len].fill(byte);
    };
    for (at, byte) in (0..LONG - 130_000).step_by(130_000).zip(1..) {
        write(at, 130_000, byte);
        ok(segment.sync(), "a sync after each write works");
        // Behind what is synced, across pages, and in the page that is half full.
        write(at / 2, 5_000, byte.wrapping_add(100));
        write(at + 129_990, 10, byte.wrapping_add(50));
    }
    ok(segment.sync(), "the last sync works");
    ground.holds(&path, &wanted, "what is written before, between and behind syncs is there");
    drop(segment);
    let segment = ok(ground.fs.open_segment(&path), "open_segment works");
    ok(segment.write_at(100, b"once more"), "write_at works in a segment opened again");
    wanted[100..109].copy_from_slice(b"once more");
    ground.holds(&path, &wanted, "and after the handle was dropped");
}

/// As a log fills it: records one behind the other, each synced, then large pieces, the writing of which is begun early.
fn long(ground: &Ground<'_>) {
    const LEN: usize = 400_000;
    let path = ground.path("seg");
    let segment = ok(ground.fs.create_segment(&path, LEN as u64), "create_segment works");
    let mut wanted = vec![0; LEN];
    for (turn, offset) in (0..150_000).step_by(5_000).enumerate() {
        let record = vec![turn as u8 + 1; 5_000];
        ok(segment.write_at(offset as u64, &record), "write_at behind the last works");
        wanted[offset..offset + record.len()].copy_from_slice(&record);
        ok(segment.sync(), "a sync after each works");
        ground.holds(&path, &wanted, "a sync changes nothing");
    }
    for (offset, len) in [(150_001, 100_000), (140_000, 70_000), (LEN - 65_536, 65_536)] {
        let piece = vec![offset as u8; len];
        ok(segment.write_at(offset as u64, &piece), "a large piece is written");
        wanted[offset..offset + len].copy_from_slice(&piece);
        segment.begin_sync(offset as u64, len);
        ground.holds(&path, &wanted, "begun writing changes nothing");
    }
    segment.begin_sync(LEN as u64, 4_096);
    segment.begin_sync(0, 0);
    segment.prefault();
    ok(segment.write_at(7, &[255; 70_000]), "a large piece is written to memory that is there");
    wanted[7..70_007].fill(255);
    ok(segment.sync(), "sync works");
    ground.holds(&path, &wanted, "what was written last is there");
}

fn range(ground: &Ground<'_>) {
    let path = ground.path("seg");
    let segment = ok(ground.fs.create_segment(&path, LEN), "create_segment works");
    fails(segment.write_at(LEN, b"x"), ErrorKind::InvalidInput, "write_at at the end is refused");
    fails(
        segment.write_at(LEN - 1, b"xy"),
        ErrorKind::InvalidInput,
        "write_at over the end is refused",
    );
    fails(
        segment.write_at(u64::MAX, b"x"),
        ErrorKind::InvalidInput,
        "write_at at the last offset is refused",
    );
    fails(
        segment.write_at(u64::MAX - 1, b"xyz"),
        ErrorKind::InvalidInput,
        "write_at does not overflow",
    );
    ok(segment.write_at(LEN, b""), "write_at of nothing at the end is fine");
    ok(segment.write_at(LEN - 1, b"z"), "the last byte can be written");
    same(segment.len(), LEN, "the length stays");
    same(
        ok(ground.fs.metadata(&path), "metadata works").len,
        LEN,
        "refused writes do not grow the file",
    );
    expect(
        ground.bytes(&path)[..LEN as usize - 1].iter().all(|byte| *byte == 0),
        "refused writes write nothing",
    );
}

fn reopen(ground: &Ground<'_>) {
    let path = ground.path("seg");
    let segment = ok(ground.fs.create_segment(&path, LEN), "create_segment works");
    ok(segment.write_at(7, b"kept"), "write_at works");
    drop(segment);
    let segment = ok(ground.fs.open_segment(&path), "open_segment works");
    same(segment.len(), LEN, "open_segment keeps the length");
    same(&ground.bytes(&path)[7..11], b"kept", "open_segment keeps the bytes");
    ok(segment.write_at(9, b"NEW"), "write_at after reopening works");
    ok(segment.sync(), "sync after reopening works");
    same(&ground.bytes(&path)[7..12], b"keNEW", "write_at after reopening goes to its offset");
    fails(segment.write_at(LEN, b"x"), ErrorKind::InvalidInput, "a reopened segment does not grow");
    fails(
        ground.fs.open_segment(&ground.path("none")),
        ErrorKind::NotFound,
        "open_segment does not create",
    );
    let plain = ground.put("plain", b"appended file");
    let segment = ok(ground.fs.open_segment(&plain), "any file opens as a segment");
    same(segment.len(), 13, "a plain file has its own length");
    ok(segment.write_at(0, b"A"), "a plain file can be written in place");
    ground.holds(&plain, b"Appended file", "a plain file keeps its other bytes");
}

fn replace(ground: &Ground<'_>) {
    let path = ground.path("seg");
    let old = ok(ground.fs.create_segment(&path, LEN), "create_segment works");
    ok(old.write_at(0, b"old"), "write_at works");
    let new = ok(ground.fs.create_segment(&path, 5000), "create_segment over a segment works");
    same(new.len(), 5000, "the new length counts");
    expect(ground.bytes(&path) == vec![0; 5000], "a segment made again is all zero");
    ok(old.write_at(10_000, b"late"), "the old handle can still write");
    expect(ground.bytes(&path) == vec![0; 5000], "the old handle does not reach the new segment");
    same(ground.names(&ground.dir), vec!["seg".to_string()], "there is one name");
    let file = ground.put("file", b"plain bytes");
    ok(ground.fs.create_segment(&file, 4), "create_segment over a plain file works");
    ground.holds(&file, &[0; 4], "no old bytes show through");
}

fn empty(ground: &Ground<'_>) {
    let path = ground.path("seg");
    let segment = ok(ground.fs.create_segment(&path, 0), "a segment of length 0 works");
    expect(segment.is_empty(), "a segment of length 0 is empty");
    ok(segment.write_at(0, b""), "nothing fits into it");
    fails(segment.write_at(0, b"x"), ErrorKind::InvalidInput, "a byte does not fit into it");
    ok(segment.sync(), "it can be synced");
    drop(segment);
    same(ok(ground.fs.open_segment(&path), "it opens again").len(), 0, "it is still empty");
}

fn names(ground: &Ground<'_>) {
    let (path, moved) = (ground.path("seg"), ground.path("moved"));
    let segment = ok(ground.fs.create_segment(&path, LEN), "create_segment works");
    ok(ground.fs.rename(&path, &moved), "an open segment can be renamed");
    ok(segment.write_at(3, b"follow"), "write_at after a rename works");
    same(&ground.bytes(&moved)[3..9], b"follow", "the handle follows the rename");
    ok(ground.fs.remove_file(&moved), "an open segment can be removed");
    ok(segment.write_at(3, b"unseen"), "a removed segment can still be written");
    ok(segment.sync(), "a removed segment can still be synced");
    expect(ground.names(&ground.dir).is_empty(), "writing brings no name back");
}

fn kinds(ground: &Ground<'_>) {
    let dir = ground.path("dir");
    ok(ground.fs.create_dir_all(&dir), "create_dir_all works");
    fails(
        ground.fs.create_segment(&dir, 8),
        ErrorKind::IsADirectory,
        "create_segment over a directory fails",
    );
    fails(
        ground.fs.open_segment(&dir),
        ErrorKind::IsADirectory,
        "open_segment of a directory fails",
    );
    let below = ground.put("file", b"x").join("seg");
    fails(
        ground.fs.create_segment(&below, 8),
        ErrorKind::NotADirectory,
        "create_segment below a file fails",
    );
    fails(
        ground.fs.open_segment(&below),
        ErrorKind::NotADirectory,
        "open_segment below a file fails",
    );
    expect(ground.fs.metadata(&dir).is_ok(), "the directory is still there");
}

fn threads(ground: &Ground<'_>) {
    const SHARE: usize = 5000;
    let path = ground.path("seg");
    let segment = ok(ground.fs.create_segment(&path, LEN), "create_segment works");
    side_by_side(4, |thread| {
        for at in 0..SHARE / 50 {
            let offset = (thread * SHARE + at * 50) as u64;
            ok(segment.write_at(offset, &[thread as u8 + 1; 50]), "threads can write one segment");
        }
        ok(segment.sync(), "threads can sync one segment");
    });
    // Callers promise disjoint ranges; if they break it, the bytes are somebody's, and nothing worse.
    side_by_side(4, |thread| {
        for _ in 0..20 {
            ok(
                segment.write_at(0, &[thread as u8 + 1; SHARE]),
                "threads may even write the same range",
            );
        }
    });
    let found = ground.bytes(&path);
    expect(
        found[..SHARE].iter().all(|byte| (1..=4).contains(byte)),
        "overlapping writes leave bytes of their writers",
    );
    ok(segment.write_at(0, &[1; SHARE]), "write_at works");
    let wanted: Vec<u8> = (0..LEN as usize).map(|at| (at / SHARE) as u8 + 1).collect();
    ground.holds(&path, &wanted, "disjoint writes of threads all arrive");
}
