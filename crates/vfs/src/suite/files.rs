//! Writing front to back, reading anywhere.

use std::io::ErrorKind;

use super::{Ground, Topic, expect, fails, ok, same, side_by_side};
use crate::{copy, read_all, write_file_synced};

pub(super) const TOPICS: &[(&str, Topic)] = &[
    ("create", create),
    ("append", append),
    ("open_append", open_append),
    ("truncation", truncation),
    ("reads", reads),
    ("big_appends", big_appends),
    ("reader_and_writer", reader_and_writer),
    ("two_writers", two_writers),
    ("wrong_kinds", wrong_kinds),
    ("syncs", syncs),
    ("helpers", helpers),
    ("threads", threads),
];

fn create(ground: &Ground<'_>) {
    let path = ground.path("new");
    let file = ok(ground.fs.create(&path), "create makes a missing file");
    same(file.len(), 0, "a new file has length 0");
    expect(file.is_empty(), "a new file is empty");
    same(
        ok(ground.fs.metadata(&path), "a new file is visible at once").len,
        0,
        "metadata of a new file says 0",
    );
    drop(file);
    ground.holds(&path, b"", "a new file reads as nothing");
    fails(
        ground.fs.create(&ground.path("no/file")),
        ErrorKind::NotFound,
        "create needs the directory",
    );
}

fn append(ground: &Ground<'_>) {
    let path = ground.path("file");
    let mut file = ok(ground.fs.create(&path), "create works");
    ok(file.append(b"one"), "append works");
    same(file.len(), 3, "len grows by what was appended");
    expect(!file.is_empty(), "a file with bytes is not empty");
    ok(file.append(b""), "append of nothing works");
    same(file.len(), 3, "append of nothing changes nothing");
    ok(file.append(b" two"), "append goes on");
    same(file.len(), 7, "len counts all appends");
    ground.holds(&path, b"one two", "appends are visible before any sync");
    drop(file);
    ground.holds(&path, b"one two", "bytes stay after the handle is dropped");
    same(ok(ground.fs.metadata(&path), "metadata works").len, 7, "metadata counts all appends");
}

fn open_append(ground: &Ground<'_>) {
    fails(
        ground.fs.open_append(&ground.path("none")),
        ErrorKind::NotFound,
        "open_append does not create",
    );
    expect(ground.names(&ground.dir).is_empty(), "a failed open_append leaves nothing behind");
    let path = ground.put("file", b"head");
    let mut file = ok(ground.fs.open_append(&path), "open_append opens");
    same(file.len(), 4, "open_append knows the length");
    ok(file.append(b"+tail"), "append after reopening works");
    same(file.len(), 9, "len after reopening counts the old bytes");
    ok(file.sync(), "sync after reopening works");
    ground.holds(&path, b"head+tail", "append after reopening goes to the end");
}

fn truncation(ground: &Ground<'_>) {
    let path = ground.put("file", b"a long old content");
    let mut file = ok(ground.fs.create(&path), "create over a file works");
    same(file.len(), 0, "create over a file empties it");
    ground.holds(&path, b"", "the old bytes are gone at once");
    ok(file.append(b"new"), "append after truncation works");
    ground.holds(&path, b"new", "no old bytes show behind the new ones");
    same(
        ground.names(&ground.dir),
        vec!["file".to_string()],
        "create over a file makes no second name",
    );
}

fn reads(ground: &Ground<'_>) {
    fails(ground.fs.open(&ground.path("none")), ErrorKind::NotFound, "open does not create");
    let path = ground.put("file", b"0123456789");
    let file = ok(ground.fs.open(&path), "open works");
    same(ok(file.len(), "len works"), 10, "len of an open file is right");
    let mut buf = [b'x'; 4];
    same(ok(file.read_at(&mut buf, 3), "read works"), 4, "a read inside the file fills the buffer");
    same(&buf, b"3456", "a read gives the bytes at its offset");
    same(
        ok(file.read_at(&mut buf, 8), "read over the end works"),
        2,
        "a read over the end is short",
    );
    same(&buf[..2], b"89", "a short read gives the last bytes");
    same(
        ok(file.read_at(&mut buf, 10), "read at the end works"),
        0,
        "a read at the end gives nothing",
    );
    same(
        ok(file.read_at(&mut buf, 1 << 40), "read far out works"),
        0,
        "a read past the end gives nothing",
    );
    same(
        ok(file.read_at(&mut buf, u64::MAX), "read at the last offset works"),
        0,
        "no offset overflows",
    );
    same(ok(file.read_at(&mut [], 5), "empty read works"), 0, "an empty read gives nothing");
    ok(file.read_exact_at(&mut buf, 6), "read_exact_at up to the end works");
    same(&buf, b"6789", "read_exact_at gives the bytes at its offset");
    fails(
        file.read_exact_at(&mut buf, 7),
        ErrorKind::UnexpectedEof,
        "read_exact_at over the end fails",
    );
    ok(file.read_exact_at(&mut [], 10), "read_exact_at of nothing works at the end");
}

fn big_appends(ground: &Ground<'_>) {
    let path = ground.path("big");
    let mut file = ok(ground.fs.create(&path), "create works");
    let mut wanted = Vec::new();
    for size in [1, 511, 512, 4095, 4096, 4097, 12_288, 70_000, 300_001] {
        let bytes: Vec<u8> = (0..size).map(|at: usize| (at * 31 + size) as u8).collect();
        ok(file.append(&bytes), "an append of any size works");
        wanted.extend(bytes);
        same(file.len(), wanted.len() as u64, "len follows appends of any size");
    }
    ground.holds(&path, &wanted, "appends across pages keep every byte");
    let reader = ok(ground.fs.open(&path), "open works");
    for offset in [0, 1, 4095, 4096, 4097, 8191, 65_536, 262_143] {
        let mut buf = vec![0; 5000];
        ok(reader.read_exact_at(&mut buf, offset as u64), "a read across pages works");
        expect(buf == wanted[offset..offset + 5000], "a read across pages gives the right bytes");
    }
}

fn reader_and_writer(ground: &Ground<'_>) {
    let path = ground.put("file", b"early");
    let reader = ok(ground.fs.open(&path), "open works");
    let mut writer =
        ok(ground.fs.open_append(&path), "a file can be open for reading and appending");
    ok(writer.append(b" late"), "append works");
    same(ok(reader.len(), "len works"), 10, "a reader sees the file grow");
    let mut buf = [0; 10];
    same(ok(reader.read_at(&mut buf, 0), "read works"), 10, "a reader sees later appends");
    same(&buf, b"early late", "later appends read right");
}

fn two_writers(ground: &Ground<'_>) {
    let path = ground.put("file", b"");
    let mut one = ok(ground.fs.open_append(&path), "a first handle opens");
    let mut two = ok(ground.fs.open_append(&path), "a second handle opens");
    ok(one.append(b"1"), "the first appends");
    ok(two.append(b"2"), "the second appends");
    ok(one.append(b"3"), "the first appends again");
    ground.holds(&path, b"123", "each append goes to the end of that moment");
}

fn wrong_kinds(ground: &Ground<'_>) {
    let dir = ground.path("dir");
    ok(ground.fs.create_dir_all(&dir), "create_dir_all works");
    fails(ground.fs.create(&dir), ErrorKind::IsADirectory, "create over a directory fails");
    fails(ground.fs.open(&dir), ErrorKind::IsADirectory, "open of a directory fails");
    fails(ground.fs.open_append(&dir), ErrorKind::IsADirectory, "open_append of a directory fails");
    let file = ground.put("file", b"x");
    let below = file.join("child");
    fails(ground.fs.create(&below), ErrorKind::NotADirectory, "create below a file fails");
    fails(ground.fs.open(&below), ErrorKind::NotADirectory, "open below a file fails");
    fails(
        ground.fs.open_append(&below),
        ErrorKind::NotADirectory,
        "open_append below a file fails",
    );
    ground.holds(&file, b"x", "failed opens change nothing");
}

fn syncs(ground: &Ground<'_>) {
    let path = ground.path("file");
    let mut file = ok(ground.fs.create(&path), "create works");
    ok(file.sync(), "sync of an empty file works");
    ok(file.append(b"data"), "append works");
    ok(file.sync(), "sync works");
    ok(file.sync(), "a second sync works");
    ok(file.append(b"!"), "append after a sync works");
    ground.holds(&path, b"data!", "syncs change no bytes");
    same(file.len(), 5, "syncs change no length");
    ok(ground.fs.remove_file(&path), "an open file can be removed");
    ok(file.sync(), "a removed file can still be synced");
}

fn helpers(ground: &Ground<'_>) {
    let fs = ground.fs;
    let path = ground.path("file");
    ok(write_file_synced(fs, &path, b"payload"), "write_file_synced works");
    same(
        ok(read_all(fs, &path, 7), "read_all at its limit works"),
        b"payload".to_vec(),
        "read_all reads all",
    );
    fails(read_all(fs, &path, 6), ErrorKind::InvalidData, "read_all refuses a file over its limit");
    fails(read_all(fs, &ground.path("none"), 6), ErrorKind::NotFound, "read_all of nothing fails");
    ok(write_file_synced(fs, &path, b"less"), "write_file_synced replaces");
    ground.holds(&path, b"less", "write_file_synced leaves no old bytes");
    let twin = ground.path("twin");
    same(ok(copy(fs, &path, &twin), "copy works"), 4, "copy counts its bytes");
    ground.holds(&twin, b"less", "copy copies every byte");
    ok(write_file_synced(fs, &path, b"changed"), "the original can change");
    ground.holds(&twin, b"less", "a copy is on its own");
    let long: Vec<u8> = (0..600_000u32).map(|at| (at % 251) as u8).collect();
    ok(write_file_synced(fs, &path, &long), "write_file_synced of many bytes works");
    same(ok(copy(fs, &path, &twin), "copy of many bytes works"), 600_000, "copy counts many bytes");
    ground.holds(&twin, &long, "copy copies many bytes");
    fails(copy(fs, &ground.path("none"), &twin), ErrorKind::NotFound, "copy of nothing fails");
    ground.holds(&twin, &long, "copy of nothing leaves the target alone");
}

fn threads(ground: &Ground<'_>) {
    let bytes: Vec<u8> = (0..50_000u32).map(|at| (at % 253) as u8).collect();
    let path = ground.put("file", &bytes);
    let file = ok(ground.fs.open(&path), "open works");
    side_by_side(4, |thread| {
        for round in 0..50 {
            let at = (thread * 7919 + round * 613) % 49_000;
            let mut buf = [0; 1000];
            ok(file.read_exact_at(&mut buf, at as u64), "threads can read one handle");
            expect(buf == bytes[at..at + 1000], "threads do not disturb each other's reads");
        }
    });
    side_by_side(4, |thread| {
        let name = format!("thread-{thread}");
        let path = ground.put(&name, name.as_bytes());
        ground.holds(&path, name.as_bytes(), "threads can create files side by side");
    });
    same(ground.names(&ground.dir).len(), 5, "files of all threads are listed");
}
