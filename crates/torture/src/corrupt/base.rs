//! Small but complete databases: every kind of file and entry, several keyspaces, a log with synced and unsynced records.
#![expect(clippy::unwrap_used, reason = "a healthy disk in memory")]

use crate::store::{CATALOG, DIR, compressed, number_of, open, small_options, tiered};
use lsm::{Compression, Db, Keyspace, KeyspaceOptions, Options};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use testkit::model::{ModelOp, State};
use testkit::oracle::Oracle;
use testkit::value::value_for;
use vfs::{CrashProfile, MemFs};

/// A way to fill a database: each gives other bytes in its files.
pub(super) struct Variant {
    pub(super) name: &'static str,
    options: fn() -> Options,
    /// Closed, and opened again without a write: its log is empty.
    is_closed: bool,
}

impl Variant {
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed
    }
}

fn sizes() -> Options {
    small_options().manifest_rotate_bytes(1 << 20).disk_reserve_bytes(0)
}

/// Every format variant: killed or closed; blocks compressed, plain, tiny and large; with filters and without; a
/// manifest of many edits and one rewritten; tables of levels and of runs.
pub(super) const VARIANTS: &[Variant] = &[
    Variant { name: "killed", options: || compressed(sizes()), is_closed: false },
    Variant { name: "closed", options: || compressed(sizes()), is_closed: true },
    Variant {
        name: "plain",
        options: || sizes().compression(Compression::None).filter_bits_per_key(0),
        is_closed: false,
    },
    Variant {
        name: "large-blocks",
        options: || sizes().compression(Compression::Lz4).block_size_bytes(4096),
        is_closed: true,
    },
    Variant {
        name: "tiny-blocks",
        options: || sizes().block_size_bytes(64).filter_bits_per_key(20),
        is_closed: false,
    },
    Variant {
        name: "runs",
        options: || compressed(sizes()).compaction(tiered()).manifest_rotate_bytes(600),
        is_closed: false,
    },
];

/// A database to damage, and what it holds.
pub(super) struct Base {
    pub(super) fs: MemFs,
    /// Files of the database as they were earlier, by path; only those that differ.
    pub(super) older: Vec<(PathBuf, Vec<u8>)>,
    pub(super) options: Options,
    pub(super) oracle: Oracle,
    /// Commits that no damage may hide without an error.
    pub(super) floor: usize,
    pub(super) state: State,
    pub(super) keys: BTreeMap<u32, Vec<Vec<u8>>>,
}

/// Fills a database with every kind of file and entry.
///
/// # Panics
/// If a call fails: nothing is damaged yet.
pub(super) fn build(variant: &Variant) -> Base {
    let options = (variant.options)();
    let fs = MemFs::new();
    let mut oracle = Oracle::new();
    let (db, _executor) = open(Arc::new(fs.clone()), DIR, &options, 3).unwrap();
    let mut version = 0;
    let mut put = |oracle: &mut Oracle, keyspace: &Keyspace, key: String, len: usize| {
        version += 1;
        let value = value_for(5, key.as_bytes(), version, len);
        let number = number_of(keyspace.name());
        let commit = oracle.issue(&[ModelOp::put(number, key.clone(), value.clone())]);
        keyspace.put(&key, &value).unwrap();
        oracle.ack(commit);
    };
    let erase = |oracle: &mut Oracle, keyspace: &Keyspace, from: &str, to: &str| {
        let range = from.as_bytes().to_vec()..to.as_bytes().to_vec();
        let commit = oracle.issue(&[ModelOp::delete_range(number_of(keyspace.name()), range)]);
        keyspace.delete_range(from..to).unwrap();
        oracle.ack(commit);
    };
    let default = db.default_keyspace().clone();
    let create = |oracle: &mut Oracle, name: &str| {
        let commit = oracle.issue(&[ModelOp::put(CATALOG, name, "")]);
        let keyspace = db.keyspace(name, KeyspaceOptions::new()).unwrap();
        oracle.sync(commit);
        keyspace
    };
    let k1 = create(&mut oracle, "k1");
    for i in 0..36 {
        put(&mut oracle, &default, format!("key{i:02}"), 20 + i);
        if i % 3 == 0 {
            put(&mut oracle, &k1, format!("key{i:02}"), 30);
        }
    }
    erase(&mut oracle, &default, "key05", "key09");
    db.flush().unwrap();
    db.compact_range(..).unwrap();
    let k2 = create(&mut oracle, "k2");
    put(&mut oracle, &k2, "gone".into(), 20);
    let early = fs.crash(CrashProfile::KeepAll, 0);
    for i in 0..10 {
        put(&mut oracle, &default, format!("key{:02}", i * 3), 40);
        put(&mut oracle, &k1, format!("new{i:02}"), 10);
    }
    let commit = oracle.issue(&[ModelOp::delete(0, "key12")]);
    db.delete("key12").unwrap();
    oracle.ack(commit);
    erase(&mut oracle, &k1, "key10", "key20");
    db.flush().unwrap();
    let commit =
        oracle.issue(&[ModelOp::delete(CATALOG, "k2"), ModelOp::delete_range(2, Vec::new()..)]);
    db.drop_keyspace("k2").unwrap();
    oracle.sync(commit);
    let middle = fs.crash(CrashProfile::KeepAll, 0);
    create(&mut oracle, "k3");
    let mut batch = db.batch();
    batch.put("both", "1");
    batch.put_in(&k1, "both", "2");
    batch.delete_range("key30".."key33");
    let commit = oracle.issue(&[
        ModelOp::put(0, "both", "1"),
        ModelOp::put(1, "both", "2"),
        ModelOp::delete_range(0, b"key30".to_vec()..b"key33".to_vec()),
    ]);
    batch.commit().unwrap();
    oracle.ack(commit);
    for i in 0..8 {
        put(&mut oracle, &k1, format!("log{i:02}"), 200);
    }
    db.sync().unwrap();
    let all = oracle.model().commits();
    oracle.sync(all);
    // Each of these says that all before was synced; one sector never hits all three.
    for i in 0..3 {
        put(&mut oracle, &default, format!("tail{i:02}"), 600);
    }
    let mut again = None;
    if variant.is_closed {
        db.close().unwrap();
        let all = oracle.model().commits();
        oracle.sync(all);
        again = Some(change_names(&fs, &options, &mut oracle));
    }
    let image = fs.crash(CrashProfile::KeepAll, 0);
    drop((db, default, k1, k2, again));
    let older = [early, middle].iter().flat_map(|old| older_files(old, &image)).collect();
    let mut keys: BTreeMap<u32, Vec<Vec<u8>>> = BTreeMap::new();
    for (number, key, _) in oracle.model().history().filter(|(n, ..)| *n != CATALOG) {
        keys.entry(number).or_default().push(key.to_vec());
    }
    for list in keys.values_mut() {
        list.extend(["", "key", "key055", "zzz"].map(|k| k.as_bytes().to_vec()));
    }
    let (floor, state) = (oracle.synced(), oracle.model().current().clone());
    Base { fs: image, older, options, oracle, floor, state, keys }
}

/// Edits at the end of the manifest that no other file tells of; each proves that the one before was synced. The database
/// stays open: a close would note how long the manifest is.
fn change_names(fs: &MemFs, options: &Options, oracle: &mut Oracle) -> Db {
    let (db, _executor) = open(Arc::new(fs.clone()), DIR, options, 4).unwrap();
    let commit = oracle.issue(&[ModelOp::put(CATALOG, "k2", "")]);
    db.keyspace("k2", KeyspaceOptions::new()).unwrap();
    oracle.sync(commit);
    let commit =
        oracle.issue(&[ModelOp::delete(CATALOG, "k3"), ModelOp::delete_range(3, Vec::new()..)]);
    db.drop_keyspace("k3").unwrap();
    oracle.sync(commit);
    db
}

fn older_files(old: &MemFs, new: &MemFs) -> Vec<(PathBuf, Vec<u8>)> {
    let files = old.files().into_iter().map(|(path, _)| path);
    files
        .filter_map(|path| {
            let (was, is) = (old.read_file(&path).unwrap(), new.read_file(&path).ok()?);
            (was != is).then_some((path, was))
        })
        .collect()
}

impl Base {
    pub(super) fn copy(&self) -> MemFs {
        self.fs.crash(CrashProfile::KeepAll, 0)
    }

    /// Expects a pair that was never written.
    pub(super) fn expect_too_much(&mut self) {
        let commit = self.oracle.issue(&[ModelOp::put(0, "never", "written")]);
        self.oracle.sync(commit);
        (self.floor, self.state) = (commit, self.oracle.model().current().clone());
    }
}
