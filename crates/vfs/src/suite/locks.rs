//! Lock files.

use std::io::ErrorKind;

use super::{Ground, Topic, expect, fails, ok};

pub(super) const TOPICS: &[(&str, Topic)] =
    &[("lock", lock), ("lock_release", release), ("lock_kinds", kinds), ("lock_threads", threads)];

fn lock(ground: &Ground<'_>) {
    let path = ground.path("LOCK");
    let _held = ok(ground.fs.lock(&path), "lock creates its file and takes it");
    expect(ground.fs.metadata(&path).is_ok(), "the lock file exists");
    fails(
        ground.fs.lock(&path),
        ErrorKind::WouldBlock,
        "a second lock in the same process is refused",
    );
    fails(
        ground.fs.lock(&path),
        ErrorKind::WouldBlock,
        "a refused lock does not release the first",
    );
    let _other = ok(ground.fs.lock(&ground.path("OTHER")), "another lock file is free");
    let file = ground.put("file", b"LOCK guards nothing by itself");
    expect(!ground.bytes(&file).is_empty(), "other files work under a lock");
}

fn release(ground: &Ground<'_>) {
    let path = ground.path("LOCK");
    drop(ok(ground.fs.lock(&path), "lock works"));
    let held = ok(ground.fs.lock(&path), "a dropped lock can be taken again");
    fails(ground.fs.lock(&path), ErrorKind::WouldBlock, "a lock taken again is held");
    drop(held);
    drop(ok(ground.fs.lock(&path), "a lock is free after each drop"));
    ok(ground.fs.remove_file(&path), "a lock file can be removed");
    let _held = ok(ground.fs.lock(&path), "a removed lock file is made again");
    let old = ground.put("STALE", b"left by a dead process");
    let _stale = ok(ground.fs.lock(&old), "an old file nobody holds can be locked");
    ground.holds(&old, b"left by a dead process", "locking keeps the bytes");
}

fn kinds(ground: &Ground<'_>) {
    fails(ground.fs.lock(&ground.path("no/LOCK")), ErrorKind::NotFound, "lock needs the directory");
    let dir = ground.path("dir");
    ok(ground.fs.create_dir_all(&dir), "create_dir_all works");
    fails(ground.fs.lock(&dir), ErrorKind::IsADirectory, "a directory is no lock file");
    let file = ground.put("file", b"");
    fails(
        ground.fs.lock(&file.join("LOCK")),
        ErrorKind::NotADirectory,
        "no lock file below a file",
    );
}

fn threads(ground: &Ground<'_>) {
    let path = ground.path("LOCK");
    let held = std::thread::scope(|scope| {
        let tries: Vec<_> = (0..4).map(|_| scope.spawn(|| ground.fs.lock(&path))).collect();
        tries.into_iter().filter_map(|thread| thread.join().ok()).collect::<Vec<_>>()
    });
    expect(
        held.iter().filter(|lock| lock.is_ok()).count() == 1,
        "of many threads one gets the lock",
    );
}
