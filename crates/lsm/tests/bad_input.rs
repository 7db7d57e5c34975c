//! Every way to call the database wrongly: a typed error that says what to do, and nothing changed.
#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test on the real disk")]

mod support;

use base::limits::{BATCH_OPS_MAX, KEY_BYTES_MAX, VALUE_BYTES_MAX};
use lsm::{
    Compression, Db, Durability, Error, ErrorKind, Health, Keyspace, KeyspaceOptions, Options,
    Result,
};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use support::{DIR, open, small_options};
use vfs::{CrashProfile, MemFs};

fn mem() -> (MemFs, Db) {
    let fs = MemFs::new();
    let (db, _) = open(Arc::new(fs.clone()), DIR, &small_options(), 1).unwrap();
    (fs, db)
}

/// The error of `result`, which must be of `kind` and name all of `words`.
#[track_caller]
fn refused<T: Debug>(result: Result<T>, kind: ErrorKind, words: &[&str]) -> Error {
    let error = result.expect_err("must be refused");
    let text = error.to_string();
    assert_eq!(error.kind(), kind, "{text}");
    for word in words {
        assert!(text.contains(word), "{text:?} does not say {word:?}");
    }
    assert!(text.starts_with(|c: char| c.is_lowercase()), "{text:?}");
    error
}

#[track_caller]
fn wrong_call<T: Debug>(result: Result<T>, words: &[&str]) -> Error {
    refused(result, ErrorKind::FixCall, words)
}

fn batch_of_one(db: &Db, key: &[u8], value: &[u8]) -> Result<()> {
    let mut batch = db.batch();
    batch.put("good", "1");
    batch.put(key, value);
    batch.commit()
}

#[test]
fn empty_keys_and_values_are_ordinary() {
    let (fs, db) = mem();
    db.put("", "").unwrap();
    db.put("a", "").unwrap();
    assert_eq!(db.get("").unwrap().unwrap(), b"");
    assert!(db.contains_key("a").unwrap());
    db.flush().unwrap();
    db.close().unwrap();
    let (db, _) = open(Arc::new(fs), DIR, &small_options(), 1).unwrap();
    let pairs: Vec<_> = db.iter().map(|p| p.unwrap().0.to_vec()).collect();
    assert_eq!(pairs, [&b""[..], b"a"]);
    db.delete("").unwrap();
    assert!(db.get("").unwrap().is_none());
    db.delete("never there").unwrap();
    db.batch().commit().unwrap();
    db.delete_range("b".."b").unwrap();
    assert_eq!(db.ingest(Vec::<(Vec<u8>, Vec<u8>)>::new()).unwrap(), 0);
}

#[test]
fn the_largest_key_and_value_are_ordinary_and_one_more_is_not() {
    let (_, db) = mem();
    let (key, long) = (vec![b'k'; KEY_BYTES_MAX], vec![b'k'; KEY_BYTES_MAX + 1]);
    db.put(&key, "1").unwrap();
    assert_eq!(db.get(&key).unwrap().unwrap(), b"1");
    let words = ["key", "65536", "65535"];
    wrong_call(db.put(&long, "1"), &words);
    wrong_call(db.delete(&long), &words);
    wrong_call(db.get(&long), &words);
    wrong_call(db.contains_key(&long), &words);
    wrong_call(db.multi_get([&long]), &words);
    wrong_call(db.compare_and_swap(&long, None, Some(b"1")), &words);
    wrong_call(db.ingest([(&long, "1")]), &words);
    wrong_call(batch_of_one(&db, &long, b"1"), &words);
    let value = vec![7; VALUE_BYTES_MAX + 1];
    let words = ["value", "67108865", "67108864"];
    wrong_call(db.put("big", &value), &words);
    wrong_call(db.compare_and_swap("big", None, Some(&value)), &words);
    wrong_call(db.ingest([("big", &value)]), &words);
    wrong_call(batch_of_one(&db, b"big", &value), &words);
    assert_eq!(db.iter().count(), 1, "a refused call left something");
    db.put("big", &value[1..]).unwrap();
    assert_eq!(db.get("big").unwrap().unwrap(), value[1..]);
}

#[test]
fn the_largest_key_bounds_ranges() {
    let (_, db) = mem();
    let key = vec![0xff; KEY_BYTES_MAX];
    db.put(&key, "1").unwrap();
    db.put("a", "1").unwrap();
    assert_eq!(db.range(&key[..]..).count(), 1);
    assert_eq!(db.range((Bound::Excluded(&key[..]), Bound::Unbounded)).count(), 0);
    // Nothing lies behind the largest key, so nothing is deleted.
    db.delete_range((Bound::Excluded(&key[..]), Bound::Unbounded)).unwrap();
    let mut batch = db.batch();
    batch.delete_range((Bound::Excluded(&key[..]), Bound::Unbounded));
    batch.commit().unwrap();
    assert_eq!(db.iter().count(), 2);
    db.delete_range(..=&key[..]).unwrap();
    assert_eq!(db.iter().count(), 0);
    db.put(&key, "2").unwrap();
    db.delete_range(&key[..]..).unwrap();
    assert_eq!(db.iter().count(), 0);
}

#[test]
fn oversize_batches_change_nothing() {
    let (_, db) = mem();
    let mut batch = db.batch();
    for i in 0..=BATCH_OPS_MAX {
        batch.put((i as u32).to_le_bytes(), "");
    }
    wrong_call(batch.commit(), &["batch", "1048576"]);
    let mut batch = db.batch();
    let value = vec![1; 16 << 20];
    for i in 0..6u8 {
        batch.put([i], &value);
    }
    wrong_call(batch.commit(), &["batch", "split"]);
    assert!(db.is_empty_now());
    db.put("a", "1").unwrap();
}

trait IsEmpty {
    fn is_empty_now(&self) -> bool;
}

impl IsEmpty for Db {
    fn is_empty_now(&self) -> bool {
        self.iter().next().is_none()
    }
}

#[test]
fn bad_keyspace_names() {
    let (_, db) = mem();
    let long = "x".repeat(65);
    for name in ["", "..", ".", "a/b", "a\\b", "é", "a b", "a\0b", "a\n", "k%2e", &long] {
        wrong_call(db.keyspace(name, KeyspaceOptions::new()), &["keyspace name", "1 to 64"]);
        wrong_call(db.open_keyspace(name), &["keyspace"]);
        wrong_call(db.drop_keyspace(name), &["keyspace"]);
    }
    assert_eq!(db.list_keyspaces(), ["default"]);
    let longest = "x".repeat(64);
    db.keyspace(&longest, KeyspaceOptions::new()).unwrap();
    assert_eq!(db.open_keyspace(&longest).unwrap().name(), longest);
    wrong_call(db.drop_keyspace("default"), &["default"]);
}

#[test]
fn inverted_ranges() {
    let (_, db) = mem();
    db.put("b", "1").unwrap();
    let words = ["range", "\"z\"", "\"a\""];
    wrong_call(db.delete_range("z".."a"), &words);
    wrong_call(db.compact_range("z".."a"), &words);
    wrong_call(db.range("z".."a").next().unwrap(), &words);
    wrong_call(db.range("z".."a").next_back().unwrap(), &words);
    wrong_call(db.snapshot().range("z"..="a").next().unwrap(), &words);
    let mut range = db.range("z".."a");
    assert!(range.next().unwrap().is_err() && range.next().is_none());
    let mut batch = db.batch();
    batch.put("c", "1");
    batch.delete_range("z".."a");
    wrong_call(batch.commit(), &words);
    assert_eq!(db.iter().count(), 1);
}

#[test]
fn unknown_and_dropped_keyspaces() {
    let (_, db) = mem();
    wrong_call(db.open_keyspace("nobody"), &["nobody", "Db::keyspace"]);
    wrong_call(db.drop_keyspace("nobody"), &["nobody"]);
    let old = db.keyspace("old", KeyspaceOptions::new()).unwrap();
    old.put("a", "1").unwrap();
    let snapshot = db.snapshot().keyspace(&old);
    let mut kept = old.iter();
    let mut batch = db.batch();
    batch.put("in default", "1");
    batch.put_in(&old, "b", "1");
    db.drop_keyspace("old").unwrap();
    let words = ["old"];
    wrong_call(batch.commit(), &words);
    assert!(db.get("in default").unwrap().is_none(), "half a batch");
    let all_refuse = |old: &Keyspace| {
        wrong_call(old.put("a", "1"), &words);
        wrong_call(old.delete("a"), &words);
        wrong_call(old.delete_range("a".."b"), &words);
        wrong_call(old.get("a"), &words);
        wrong_call(old.multi_get(["a"]), &words);
        wrong_call(old.cursor(), &words);
        wrong_call(old.iter().next().unwrap(), &words);
        wrong_call(old.compare_and_swap("a", None, Some(b"1")), &words);
        wrong_call(old.flush(), &words);
        wrong_call(old.compact_range(..), &words);
        wrong_call(old.ingest([("a", "1")]), &words);
        let mut batch = db.batch();
        batch.put_in(old, "a", "1");
        wrong_call(batch.commit(), &words);
    };
    all_refuse(&old);
    assert_eq!(kept.next().unwrap().unwrap().0, b"a");
    assert_eq!(snapshot.get("a").unwrap().unwrap(), b"1");
    // A new keyspace of that name is another one.
    let new = db.keyspace("old", KeyspaceOptions::new()).unwrap();
    assert_eq!(new.iter().count(), 0);
    all_refuse(&old);
    assert_eq!(new.iter().count(), 0);
}

#[test]
fn a_keyspace_of_another_database_is_refused() {
    let ((_, one), (_, two)) = (mem(), mem());
    let foreign = two.keyspace("theirs", KeyspaceOptions::new()).unwrap();
    let mut batch = one.batch();
    batch.put("a", "1");
    batch.put_in(&foreign, "a", "1");
    wrong_call(batch.commit(), &["theirs"]);
    let mut batch = one.batch();
    batch.put_in(two.default_keyspace(), "a", "1");
    wrong_call(batch.commit(), &["default"]);
    // Also if both have a keyspace of that name and number.
    one.keyspace("theirs", KeyspaceOptions::new()).unwrap();
    let mut batch = one.batch();
    batch.delete_range_in(&foreign, "a".."b");
    wrong_call(batch.commit(), &["theirs"]);
    assert!(one.is_empty_now() && two.is_empty_now());
    assert_eq!(foreign.iter().count(), 0);
}

#[test]
fn contradicting_options_are_all_named_at_once() {
    let options = Options::default()
        .memtable_size_bytes(10)
        .block_size_bytes(1)
        .filter_bits_per_key(99)
        .background_threads(0)
        .log_segment_bytes(1)
        .log_bytes_max(0)
        .open_files_max(0)
        .memory_budget_bytes(5)
        .sync_interval(Duration::ZERO)
        .rate_limit_bytes_per_second(1);
    let names = [
        "memtable_size_bytes",
        "block_size_bytes",
        "filter_bits_per_key",
        "background_threads",
        "log_segment_bytes",
        "log_bytes_max",
        "open_files_max",
        "memory_budget_bytes",
        "sync_interval",
        "rate_limit_bytes_per_second",
    ];
    let fs = MemFs::new();
    let opened = open(Arc::new(fs.clone()), DIR, &options, 1);
    wrong_call(opened, &names);
    assert_eq!(fs.op_count(), 0, "the disk was touched");
    wrong_call(options.validate(), &names);
    let (_, db) = mem();
    let bad = KeyspaceOptions::new().memtable_size_bytes(1).block_size_bytes(1 << 30);
    wrong_call(db.keyspace("k", &bad), &["memtable_size_bytes", "block_size_bytes"]);
    assert_eq!(db.list_keyspaces(), ["default"]);
    let good = KeyspaceOptions::new().compression(Compression::None).block_size_bytes(64);
    db.keyspace("k", &good).unwrap();
    // An existing keyspace keeps the options it was made with.
    let again = db.keyspace("k", KeyspaceOptions::new()).unwrap();
    assert_eq!(again.options().block_size_bytes, Some(64));
}

#[test]
fn a_closed_database_refuses_everything() {
    let (_, db) = mem();
    db.put("a", "1").unwrap();
    let keyspace = db.keyspace("k", KeyspaceOptions::new()).unwrap();
    let snapshot = db.snapshot();
    let mut batch = db.batch();
    batch.put("b", "1");
    let mut iter = db.iter();
    assert!(iter.next().is_some());
    db.close().unwrap();
    db.close().unwrap();
    let closed = |result: Result<()>| {
        let e = refused(result, ErrorKind::Reopen, &["closed"]);
        assert!(matches!(e, Error::Closed), "{e:?}");
    };
    closed(db.put("a", "1"));
    closed(db.get("a").map(drop));
    closed(db.delete("a"));
    closed(db.delete_range("a".."b"));
    closed(db.delete_range("a".."a"));
    closed(batch.commit());
    closed(db.batch().commit());
    closed(db.sync());
    closed(db.flush());
    closed(db.compact_range(..));
    closed(db.wait_idle());
    closed(db.multi_get(["a"]).map(drop));
    closed(db.cursor().map(drop));
    closed(db.iter().next().unwrap().map(drop));
    closed(db.compare_and_swap("a", None, None).map(drop));
    closed(db.keyspace("new", KeyspaceOptions::new()).map(drop));
    closed(db.keyspace("k", KeyspaceOptions::new()).map(drop));
    closed(db.open_keyspace("k").map(drop));
    closed(db.drop_keyspace("k"));
    closed(db.ingest([("a", "1")]).map(drop));
    closed(db.checkpoint("/data/copy"));
    closed(db.verify().map(drop));
    closed(keyspace.put("a", "1"));
    closed(keyspace.get("a").map(drop));
    closed(snapshot.get("a").map(drop));
    assert!(matches!(db.health(), Health::Closed));
    println!("{}", db.metrics());
    // An iterator that has begun goes on.
    assert!(iter.next().is_none());
}

/// Paths and contents of everything below `dir`.
fn listing(dir: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(listing(&path));
            all.insert(path, None);
        } else {
            let bytes = std::fs::read(&path).unwrap();
            all.insert(path, Some(bytes));
        }
    }
    all
}

#[test]
fn paths_that_are_no_directory_for_a_database() {
    let parent = tempfile::tempdir().unwrap();
    let at = |name: &str| parent.path().join(name);
    std::fs::write(at("file"), "x").unwrap();
    std::fs::create_dir(at("foreign")).unwrap();
    std::fs::write(at("foreign/letter.txt"), "dear").unwrap();
    std::fs::create_dir(at("empty")).unwrap();
    let before = listing(parent.path());
    let file = at("file").display().to_string();
    wrong_call(Db::open(at("file")), &["not a database", "file", &file, "directory"]);
    wrong_call(Db::open(at("file/below")), &["not a database", "a part of the path is a file"]);
    wrong_call(Db::open(at("foreign")), &["not a database", "letter.txt", "empty directory"]);
    let existing = |name: &str, options: Options| Db::builder(at(name)).options(options).open();
    let never = || Options::default().create_if_missing(false);
    wrong_call(existing("nothing", never()), &["create_if_missing", "nothing"]);
    wrong_call(existing("empty", never()), &["create_if_missing", "empty"]);
    let reading = || Options::default().read_only(true);
    wrong_call(existing("nothing", reading()), &["not a database", "nothing"]);
    wrong_call(existing("empty", reading()), &["not a database", "empty"]);
    wrong_call(existing("foreign", reading()), &["not a database"]);
    assert_eq!(listing(parent.path()), before, "a refused open changed the disk");
    drop(existing("empty", Options::default()).unwrap());
    drop(existing("a/b/c", Options::default()).unwrap());
    drop(existing("a/b/c", never()).unwrap());
}

#[test]
fn foreign_files_beside_a_database_stay() {
    let parent = tempfile::tempdir().unwrap();
    let db = Db::open(parent.path()).unwrap();
    db.put("a", "1").unwrap();
    db.close().unwrap();
    let foreign = ["notes.txt", "1.sst", "000001.sst.bak", "MANIFEST"];
    for name in foreign {
        std::fs::write(parent.path().join(name), "mine").unwrap();
    }
    let db = Db::open(parent.path()).unwrap();
    assert_eq!(db.get("a").unwrap().unwrap(), b"1");
    db.close().unwrap();
    for name in foreign {
        assert_eq!(std::fs::read(parent.path().join(name)).unwrap(), b"mine", "{name}");
    }
}

#[test]
fn a_directory_that_cannot_be_written() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("sealed");
    std::fs::create_dir(&dir).unwrap();
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o555)).unwrap();
    if std::fs::write(dir.join("probe"), "").is_ok() {
        return; // A superuser may write anywhere.
    }
    let error = Db::open(dir.join("db")).expect_err("must be refused");
    assert!(error.to_string().contains("sealed"), "{error}");
}

#[test]
fn in_use_by_another_handle() {
    let parent = tempfile::tempdir().unwrap();
    let db = Db::open(parent.path()).unwrap();
    for _ in 0..3 {
        let e = refused(Db::open(parent.path()), ErrorKind::Retry, &["in use", "LOCK"]);
        assert!(matches!(e, Error::Locked { .. }));
    }
    let clone = db.clone();
    drop(db);
    assert!(Db::open(parent.path()).is_err(), "a clone holds it");
    clone.close().unwrap();
    drop(Db::open(parent.path()).unwrap());
}

const LOCK_CHILD: &str = "ESKER_LOCK_DIR";

/// Tries to open what its parent has open; does nothing unless it was started by the test below.
#[test]
fn child_that_tries_to_open() {
    let Ok(dir) = std::env::var(LOCK_CHILD) else { return };
    let e = refused(Db::open(&dir), ErrorKind::Retry, &["in use", "LOCK"]);
    assert!(matches!(e, Error::Locked { .. }));
    println!("was locked");
}

#[test]
fn in_use_by_another_process() {
    let parent = tempfile::tempdir().unwrap();
    let db = Db::open(parent.path()).unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_tries_to_open", "--nocapture"])
        .env(LOCK_CHILD, parent.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout).into_owned();
    assert!(child.status.success() && said.contains("was locked"), "{said}");
    db.put("a", "1").unwrap();
}

#[test]
fn a_read_only_open_changes_no_byte() {
    let fs = MemFs::new();
    let (db, _) = open(Arc::new(fs.clone()), DIR, &small_options(), 1).unwrap();
    let second = db.keyspace("k", KeyspaceOptions::new()).unwrap();
    for i in 0..100u32 {
        db.put(i.to_le_bytes(), [7; 50]).unwrap();
        second.put(i.to_le_bytes(), [8; 50]).unwrap();
        if i == 50 {
            db.flush().unwrap();
        }
    }
    // As a kill leaves it, with most in the log, and as a close leaves it.
    let killed = fs.crash(CrashProfile::KeepAll, 0);
    drop(second);
    db.close().unwrap();
    for disk in [killed, fs.crash(CrashProfile::KeepAll, 0)] {
        let (before, ops) = (disk.hash(), disk.op_count());
        let options = small_options().read_only(true);
        let (db, executor) = open(Arc::new(disk.clone()), DIR, &options, 1).unwrap();
        assert_eq!(db.iter().count(), 100);
        let second = db.open_keyspace("k").unwrap();
        assert_eq!(second.iter().rev().count(), 100);
        let read_only = |result: Result<()>| {
            let e = wrong_call(result, &["read-only", "read_only"]);
            assert!(matches!(e, Error::ReadOnly), "{e:?}");
        };
        read_only(db.put("a", "1"));
        read_only(db.put_with("a", "1", Durability::Sync));
        read_only(db.delete("a"));
        read_only(db.delete_range("a".."b"));
        read_only(batch_of_one(&db, b"a", b"1"));
        read_only(second.put("a", "1"));
        read_only(db.compare_and_swap("a", None, Some(b"1")).map(drop));
        read_only(db.keyspace("new", KeyspaceOptions::new()).map(drop));
        read_only(db.drop_keyspace("k"));
        read_only(db.ingest([("a", "1")]).map(drop));
        read_only(db.compact_range(..));
        read_only(db.flush());
        read_only(db.sync());
        read_only(db.checkpoint("/data/copy"));
        drop(db.keyspace("k", KeyspaceOptions::new()).unwrap());
        assert!(matches!(db.health(), Health::ReadOnly { .. }));
        db.verify().unwrap();
        executor.tick();
        executor.run_all();
        drop(second);
        db.close().unwrap();
        drop(db);
        assert_eq!(disk.hash(), before, "a read-only open changed the disk");
        assert_eq!(disk.op_count(), ops, "a read-only open tried to change the disk");
    }
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    let (fs, db) = mem();
    for i in 0..100u32 {
        db.put(i.to_le_bytes(), [7; 50]).unwrap();
    }
    db.flush().unwrap();
    db.put("in the log", "1").unwrap();
    let image = fs.crash(CrashProfile::KeepAll, 0);
    // The newest segment is in use; older ones may be about to go.
    let in_use = |path: &PathBuf| {
        path.extension().is_some_and(|e| e == "log") && image.read_file(path).unwrap()[0] != 0
    };
    let log = image.files().into_iter().map(|(path, _)| path).filter(in_use).max().unwrap();
    let mut seen = Vec::new();
    for (path, _) in image.files() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let disk = image.crash(CrashProfile::KeepAll, 0);
        let mut bytes = disk.read_file(&path).unwrap();
        let len = bytes.len();
        if name.starts_with("MANIFEST") {
            bytes[24..28].copy_from_slice(&9u32.to_le_bytes());
            let crc = base::checksum::crc32(0, &[&bytes[..28]]);
            bytes[28..32].copy_from_slice(&crc.to_le_bytes());
        } else if path == log {
            bytes[8..12].copy_from_slice(&9u32.to_le_bytes());
            let crc = base::checksum::crc32(0, &[&bytes[..48]]);
            bytes[48..52].copy_from_slice(&crc.to_le_bytes());
        } else if name.ends_with(".sst") {
            let at = len - 88;
            bytes[at + 72..at + 76].copy_from_slice(&9u32.to_le_bytes());
            let id = u64::from_le_bytes(bytes[at + 64..at + 72].try_into().unwrap());
            let sum = base::checksum::block_checksum(&bytes[at..at + 76], id, at as u64);
            bytes[at + 76..at + 80].copy_from_slice(&sum.to_le_bytes());
        } else {
            continue;
        }
        disk.overwrite(&path, &bytes).unwrap();
        let before = disk.hash();
        let words = ["unsupported format version 9", name.as_str()];
        match open(Arc::new(disk.clone()), DIR, &small_options(), 1) {
            Err(e) => {
                let e = wrong_call(Err::<(), _>(e), &words);
                assert!(matches!(e, Error::UnsupportedFormat { found: 9, .. }));
                assert_eq!(disk.hash(), before, "{name}");
            }
            // A table is looked at when it is read.
            Ok((db, _)) => {
                assert!(name.ends_with(".sst"), "{name}");
                let get = |i: u32| db.get(i.to_le_bytes());
                wrong_call((0..100).map(get).find(Result::is_err).unwrap(), &words);
                wrong_call(db.iter().find(Result::is_err).unwrap(), &words);
                wrong_call(db.verify(), &words);
                assert_eq!(disk.read_file(&path).unwrap(), bytes);
            }
        }
        seen.push(name.split(['.', '-']).next_back().unwrap().to_string());
    }
    assert!(seen.len() >= 3, "{seen:?}");
}

#[test]
fn an_unsorted_ingest_changes_nothing() {
    let (fs, db) = mem();
    db.put("a", "old").unwrap();
    let tables = |fs: &MemFs| {
        fs.files().iter().filter(|(p, _)| p.extension().is_some_and(|e| e == "sst")).count()
    };
    let before = tables(&fs);
    let sorted = (0..500u32).map(|i| (i.to_be_bytes(), [1; 30]));
    wrong_call(db.ingest([("b", "1"), ("a", "1")]), &["pairs", "\"a\"", "not larger"]);
    wrong_call(db.ingest([("b", "1"), ("b", "1")]), &["pairs", "\"b\""]);
    wrong_call(db.ingest(sorted.chain([([0; 4], [1; 30])])), &["pairs"]);
    assert_eq!(tables(&fs), before, "tables were left behind");
    assert_eq!(db.iter().count(), 1);
    assert_eq!(db.get("a").unwrap().unwrap(), b"old");
    db.put("b", "1").unwrap();
}

#[test]
fn a_checkpoint_goes_to_a_new_or_empty_directory() {
    let parent = tempfile::tempdir().unwrap();
    let at = |name: &str| parent.path().join(name);
    let db = Db::open(at("db")).unwrap();
    db.put("a", "1").unwrap();
    std::fs::create_dir(at("full")).unwrap();
    std::fs::write(at("full/letter.txt"), "dear").unwrap();
    std::fs::write(at("file"), "x").unwrap();
    wrong_call(
        db.checkpoint(at("full")),
        &["checkpoint directory", "full", "not empty", "new one"],
    );
    wrong_call(db.checkpoint(at("file")), &["checkpoint directory", "is a file"]);
    wrong_call(db.checkpoint(at("db")), &["checkpoint directory", "not empty"]);
    wrong_call(db.checkpoint(at("file/below")), &["checkpoint directory"]);
    assert_eq!(std::fs::read(at("full/letter.txt")).unwrap(), b"dear");
    std::fs::create_dir(at("empty")).unwrap();
    for name in ["empty", "new", "deep/er"] {
        db.checkpoint(at(name)).unwrap();
        let copy = Db::open(at(name)).unwrap();
        assert_eq!(copy.get("a").unwrap().unwrap(), b"1");
    }
}
