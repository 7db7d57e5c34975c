//! First steps on the real disk.

use lsm::{Db, Durability, KeyspaceOptions, Options};

#[test]
fn puts_come_back_after_reopen() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let options = Options::default().memtable_size_bytes(64usize << 10);
    let open = || Db::builder(&path).options(options.clone()).open().unwrap();
    let key = |i: u32| format!("key{:06}", i * 7919 % 100_000);
    {
        let db = open();
        for i in 0..20_000u32 {
            db.put(key(i), i.to_le_bytes()).unwrap();
        }
        for i in 0..20_000u32 {
            assert_eq!(db.get(key(i)).unwrap().unwrap(), i.to_le_bytes());
        }
        println!("{}", db.metrics());
        db.wait_idle().unwrap();
        println!("{}", db.metrics());
    }
    let db = open();
    for i in 0..20_000u32 {
        assert_eq!(db.get(key(i)).unwrap().unwrap(), i.to_le_bytes());
    }
    assert_eq!(db.iter().count(), 20_000);
    assert_eq!(db.iter().rev().count(), 20_000);
    db.delete_range("key05".."key06").unwrap();
    let left: Vec<_> = db.range("key04".."key07").map(|kv| kv.unwrap().0).collect();
    assert!(left.windows(2).all(|w| w[0] < w[1]));
    let back: Vec<_> = db.range("key04".."key07").rev().map(|kv| kv.unwrap().0).collect();
    assert!(left.iter().rev().eq(back.iter()));
    assert!(!left.iter().any(|k| k.starts_with(b"key05")));
    db.compact_range(..).unwrap();
    assert!(
        left.iter().eq(db
            .range("key04".."key07")
            .map(|kv| kv.unwrap().0)
            .collect::<Vec<_>>()
            .iter())
    );
    println!("{}", db.metrics());
    println!("{:?}", db.verify().unwrap());
    db.checkpoint(dir.path().join("copy")).unwrap();
    let copy = Db::open(dir.path().join("copy")).unwrap();
    assert_eq!(copy.iter().count(), db.iter().count());
}

#[test]
fn batches_span_keyspaces_and_survive_a_drop_without_close() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path()).unwrap();
    let users = db.keyspace("users", KeyspaceOptions::default()).unwrap();
    let mut batch = db.batch();
    batch.put(b"a", b"1");
    batch.put_in(&users, b"a", b"2");
    batch.commit().unwrap();
    let snapshot = db.snapshot();
    users.put_with(b"a", b"3", Durability::Sync).unwrap();
    assert_eq!(users.get(b"a").unwrap().unwrap(), b"3");
    assert_eq!(snapshot.keyspace(&users).get(b"a").unwrap().unwrap(), b"2");
    assert!(users.compare_and_swap(b"a", Some(b"3"), Some(b"4")).unwrap().is_ok());
    assert!(users.compare_and_swap(b"a", None, Some(b"5")).unwrap().is_err());
    drop((db, users, snapshot));
    let db = Db::open(dir.path()).unwrap();
    assert_eq!(db.list_keyspaces(), ["default", "users"]);
    let users = db.open_keyspace("users").unwrap();
    assert_eq!(users.get(b"a").unwrap().unwrap(), b"4");
    assert_eq!(db.get(b"a").unwrap().unwrap(), b"1");
}

#[test]
fn ingested_pairs_lie_over_what_was_written_before() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path()).unwrap();
    let key = |i: u32| format!("{i:06}");
    db.put(key(3), "old").unwrap();
    db.put(key(999_999), "other").unwrap();
    db.delete(key(5)).unwrap();
    let before = db.snapshot();
    let pairs = (0..20_000).map(|i| (key(i), format!("new{i}")));
    assert_eq!(db.ingest(pairs).unwrap(), 20_000);
    db.put(key(7), "newer").unwrap();
    let check = |db: &Db| {
        assert_eq!(db.get(key(3)).unwrap().unwrap(), "new3");
        assert_eq!(db.get(key(5)).unwrap().unwrap(), "new5");
        assert_eq!(db.get(key(7)).unwrap().unwrap(), "newer");
        assert_eq!(db.iter().count(), 20_001);
        assert_eq!(db.iter().rev().count(), 20_001);
    };
    check(&db);
    assert_eq!(before.get(key(3)).unwrap().unwrap(), "old");
    assert_eq!(before.iter().count(), 2);
    db.compact_range(..).unwrap();
    check(&db);
    assert_eq!(before.get(key(3)).unwrap().unwrap(), "old");
    assert_eq!(before.iter().count(), 2);
    drop((before, db));
    let db = Db::open(dir.path()).unwrap();
    check(&db);
    assert!(db.ingest([("b", "1"), ("a", "2")]).is_err());
    check(&db);
    assert_eq!(db.ingest(Vec::<(&str, &str)>::new()).unwrap(), 0);
}

#[test]
fn a_clean_close_leaves_no_log() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path()).unwrap();
    db.put("a", "1").unwrap();
    db.close().unwrap();
    assert!(matches!(db.get("a"), Err(lsm::Error::Closed)));
    let db = Db::open(dir.path()).unwrap();
    assert!(db.metrics().log_bytes < 128, "more than the head of a fresh segment");
    assert_eq!(db.get("a").unwrap().unwrap(), "1");
}

/// Where nothing of their range is in memtables the tables are put beneath these as they are.
#[test]
fn an_ingest_flushes_only_what_is_in_its_way() {
    let fs = vfs::MemFs::new();
    let open = |fs: &vfs::MemFs| Db::builder("/db").fs(std::sync::Arc::new(fs.clone())).open();
    let db = open(&fs).unwrap();
    let pairs = |first: u32| (first..first + 100).map(|n| (format!("{n:04}"), "ingested"));
    let flushes = |db: &Db| db.metrics().flushes;
    db.put("0099", "written").unwrap();
    db.put("0200", "written").unwrap();
    db.delete_range("0300".."0400").unwrap();
    assert_eq!(db.ingest(pairs(100)).unwrap(), 100);
    db.put("0150", "written").unwrap();
    assert_eq!(flushes(&db), 0);
    // Ends, which belong to the range, and tombstones.
    let check = |db: &Db| {
        let written: Vec<_> =
            db.iter().map(|p| p.unwrap()).filter(|(_, v)| v == "written").map(|(k, _)| k).collect();
        assert_eq!(written, ["0099", "0150", "0200"]);
        assert_eq!(db.get("0150").unwrap().unwrap(), "written");
        assert_eq!(db.get("0199").unwrap().unwrap(), "ingested");
        assert_eq!(db.iter().count(), 102);
        assert_eq!(db.iter().rev().count(), 102);
    };
    check(&db);
    let honest = |profile: &vfs::CrashProfile| *profile != vfs::CrashProfile::LyingDisk;
    for profile in vfs::CrashProfile::ALL.into_iter().filter(honest) {
        let image = open(&fs.crash(profile, 1)).unwrap();
        assert_eq!(image.get("0099").unwrap().unwrap(), "written");
        assert_eq!(image.get("0149").unwrap().unwrap(), "ingested");
    }
    drop(db);
    let db = open(&fs).unwrap();
    check(&db);
    for (n, at) in [(1, 1), (2, 101), (3, 350)] {
        let before = flushes(&db);
        db.put(["", "0100", "0200", "0450"][n], "in the way").unwrap();
        db.delete_range("0300".."0351").unwrap();
        assert_eq!(db.ingest(pairs(at)).unwrap(), 100);
        assert_eq!(flushes(&db), before + 1);
        assert_eq!(db.get(["", "0100", "0200", "0449"][n]).unwrap().unwrap(), "ingested");
    }
    let all: Vec<_> = db.iter().map(|pair| pair.unwrap()).collect();
    db.compact_range(..).unwrap();
    assert_eq!(db.iter().map(|pair| pair.unwrap()).collect::<Vec<_>>(), all);
    db.verify().unwrap();
}
