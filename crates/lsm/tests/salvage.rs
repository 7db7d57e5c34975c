//! Salvage: nothing is invented, the damaged database stays as it is, and whatever is not reported as lost is right.
#![expect(clippy::unwrap_used, reason = "a healthy disk in memory")]

mod support;

use lsm::executor::ManualExecutor;
use lsm::{Db, DbBuilder, Error, Keyspace, KeyspaceOptions, Options, SalvageReport, SalvageSource};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use support::{DIR, open, small_options};
use testkit::value::value_for;
use vfs::{CrashProfile, Fs, MemFs};

const INTO: &str = "/data/salvaged";

type Pairs = BTreeMap<Vec<u8>, Vec<u8>>;

/// A database, what it holds, and all it ever held.
struct Base {
    fs: MemFs,
    options: Options,
    pairs: BTreeMap<String, Pairs>,
    written: BTreeSet<(Vec<u8>, Vec<u8>)>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum End {
    Closed,
    Killed,
}

/// Writes to a database and to the model of it.
struct Filler {
    db: Db,
    base: Base,
    version: u64,
}

impl Filler {
    fn put(&mut self, keyspace: &Keyspace, key: &str, len: usize) {
        self.version += 1;
        let value = value_for(5, key.as_bytes(), self.version, len);
        keyspace.put(key, &value).unwrap();
        self.noted(keyspace, key, value);
    }

    fn noted(&mut self, keyspace: &Keyspace, key: &str, value: Vec<u8>) {
        let key = key.as_bytes().to_vec();
        self.base.written.insert((key.clone(), value.clone()));
        self.base.pairs.entry(keyspace.name().into()).or_default().insert(key, value);
    }

    fn delete(&mut self, keyspace: &Keyspace, key: &str) {
        keyspace.delete(key).unwrap();
        self.base.pairs.entry(keyspace.name().into()).or_default().remove(key.as_bytes());
    }

    fn delete_range(&mut self, keyspace: &Keyspace, from: &str, to: &str) {
        keyspace.delete_range(from..to).unwrap();
        let pairs = self.base.pairs.entry(keyspace.name().into()).or_default();
        pairs.retain(|key, _| &key[..] < from.as_bytes() || &key[..] >= to.as_bytes());
    }

    fn ingest(&mut self, keyspace: &Keyspace, prefix: &str, count: usize) {
        self.version += 1;
        let pair = |i| {
            let key = format!("{prefix}{i:02}");
            let value = value_for(5, key.as_bytes(), self.version, 30);
            (key, value)
        };
        let pairs: Vec<_> = (0..count).map(pair).collect();
        keyspace.ingest(pairs.clone()).unwrap();
        pairs.into_iter().for_each(|(key, value)| self.noted(keyspace, &key, value));
    }
}

/// A database with every kind of file and entry: tables on several levels, ingested ones, range tombstones in tables and in the
/// log, dropped keyspaces, writes that only the log has.
fn build(end: End) -> Base {
    build_with(end, small_options().manifest_rotate_bytes(4096).disk_reserve_bytes(0))
}

fn build_with(end: End, options: Options) -> Base {
    let fs = MemFs::new();
    let (db, executor) = open(Arc::new(fs.clone()), DIR, &options, 3).unwrap();
    let (pairs, written) = (BTreeMap::new(), BTreeSet::new());
    let base = Base { fs: fs.clone(), options, pairs, written };
    let mut f = Filler { db: db.clone(), base, version: 0 };
    let default = db.default_keyspace().clone();
    let small = KeyspaceOptions::new().block_size_bytes(128).filter_bits_per_key(0);
    let small = db.keyspace("small", small).unwrap();
    let bulk = db.keyspace("bulk", KeyspaceOptions::new()).unwrap();
    let gone = db.keyspace("gone", KeyspaceOptions::new()).unwrap();
    for i in 0..50 {
        f.put(&default, &format!("key{i:02}"), 20 + i);
        if i % 3 == 0 {
            f.put(&small, &format!("key{i:02}"), 30);
            f.put(&gone, &format!("key{i:02}"), 30);
        }
    }
    f.delete_range(&default, "key05", "key09");
    f.delete(&default, "key30");
    f.db.flush().unwrap();
    f.db.compact_range(..).unwrap();
    f.ingest(&bulk, "bulk", 20);
    for i in 0..20 {
        f.put(&default, &format!("key{:02}", i * 2), 40);
        f.put(&small, &format!("new{i:02}"), 10);
    }
    f.delete(&default, "key12");
    f.delete_range(&small, "key10", "key20");
    f.db.flush().unwrap();
    executor.run_all();
    f.put(&bulk, "bulk05", 15);
    f.delete(&bulk, "bulk06");
    f.delete_range(&bulk, "bulk10", "bulk13");
    f.db.drop_keyspace("gone").unwrap();
    f.base.pairs.remove("gone");
    drop(gone);
    f.db.flush().unwrap();
    for i in 10..30 {
        f.put(&default, &format!("key{i:02}"), 25);
    }
    f.delete_range(&default, "key40", "key45");
    f.delete(&small, "new03");
    f.put(&small, "zz", 200);
    db.sync().unwrap();
    if end == End::Closed {
        db.close().unwrap();
    }
    let mut base = f.base;
    base.fs = fs.crash(CrashProfile::KeepAll, 0);
    base
}

fn builder(fs: &MemFs, options: &Options) -> DbBuilder {
    let builder = Db::builder(DIR).options(options.clone()).fs(Arc::new(fs.clone())).seed(9);
    builder.executor(ManualExecutor::new())
}

fn salvage(fs: &MemFs, options: &Options) -> Result<SalvageReport, Error> {
    builder(fs, options).salvage(INTO)
}

fn source_files(fs: &MemFs) -> BTreeMap<PathBuf, Vec<u8>> {
    let all = fs.files().into_iter().map(|(path, _)| path);
    let of_source = all.filter(|p| p.starts_with(DIR) && !p.ends_with("LOCK"));
    of_source.map(|path| (path.clone(), fs.read_file(&path).unwrap())).collect()
}

/// All pairs of the new database, by keyspace.
fn salvaged(fs: &MemFs, options: &Options) -> BTreeMap<String, Pairs> {
    let (db, _executor) = open(Arc::new(fs.clone()), INTO, options, 4).unwrap();
    let names = db.list_keyspaces();
    let each = |name: String| {
        let keyspace = db.open_keyspace(&name).unwrap();
        let pairs = keyspace.iter().map(|pair| pair.map(|(k, v)| (k.to_vec(), v.to_vec())));
        (name, pairs.collect::<Result<_, _>>().unwrap())
    };
    names.into_iter().map(each).collect()
}

/// Salvages a damaged copy of `base` and checks everything that must hold whatever was damaged.
fn check(base: &Base, fs: &MemFs, what: &str) -> SalvageReport {
    let before = source_files(fs);
    let report = salvage(fs, &base.options).unwrap_or_else(|e| panic!("{what}: {e:?}"));
    assert_eq!(source_files(fs), before, "{what}: the damaged database was changed");
    let found = salvaged(fs, &base.options);
    for (name, pairs) in &found {
        for (key, value) in pairs {
            let is_known = base.written.contains(&(key.clone(), value.clone()));
            assert!(is_known, "{what}: invented {name}/{}", key.escape_ascii());
        }
    }
    for (name, expected) in &base.pairs {
        let Some(keyspace) = report.keyspace(name) else {
            assert_eq!(report.source, SalvageSource::Files, "{what}: {name} is not there");
            continue;
        };
        let keys: BTreeSet<_> = expected.keys().chain(found[name].keys()).collect();
        for key in keys.into_iter().filter(|key| !keyspace.lost_keys.contains(key)) {
            let shown = key.escape_ascii();
            let (expected, found) = (expected.get(key), found[name].get(key));
            assert_eq!(found, expected, "{what}: {name}/{shown} not reported\n{report}");
        }
    }
    let extra = found.keys().filter(|name| !base.pairs.contains_key(*name));
    for name in extra {
        let lost = &report.keyspace(name).unwrap().lost_keys;
        let is_told = found[name].keys().all(|key| lost.contains(key));
        assert!(is_told, "{what}: {name} was dropped\n{report}");
    }
    report
}

fn copy_of(base: &Base) -> MemFs {
    base.fs.crash(CrashProfile::KeepAll, 0)
}

#[test]
fn an_undamaged_database_comes_back_as_it_was() {
    for end in [End::Closed, End::Killed] {
        let base = build(end);
        let fs = copy_of(&base);
        let report = check(&base, &fs, "undamaged");
        assert!(report.is_whole(), "{end:?}: {report}");
        assert_eq!(report.source, SalvageSource::Manifest);
        assert_eq!(report.damage_count, 0, "{report}");
        assert_eq!(salvaged(&fs, &base.options), base.pairs, "{end:?}");
        let (db, _executor) = open(Arc::new(fs.clone()), INTO, &base.options, 4).unwrap();
        let small = db.open_keyspace("small").unwrap().options();
        assert_eq!(small.block_size_bytes, Some(128));
        assert_eq!(small.filter_bits_per_key, Some(0));
        db.verify().unwrap();
    }
}

/// Flips one bit of every `step`th byte of every file.
fn sweep(end: End, step: usize) -> (usize, usize) {
    let base = build(end);
    let (mut cases, mut whole) = (0, 0);
    for (path, bytes) in source_files(&base.fs) {
        for at in (0..bytes.len()).step_by(step) {
            let fs = copy_of(&base);
            fs.flip_bit(&path, at as u64, (at % 8) as u32).unwrap();
            let what = format!("{end:?} {} byte {at}", path.display());
            let report = check(&base, &fs, &what);
            cases += 1;
            whole += usize::from(report.is_whole());
        }
    }
    (cases, whole)
}

#[test]
fn flipped_bits_are_reported_or_harmless() {
    let (cases, whole) = sweep(End::Closed, 13);
    assert!(cases > 500 && whole > 0 && whole < cases, "{whole} of {cases}");
    let (cases, whole) = sweep(End::Killed, 31);
    assert!(cases > 500 && whole > 0 && whole < cases, "{whole} of {cases}");
}

/// Every byte; minutes. `cargo test --release -p esker-lsm --test salvage -- --ignored`
#[test]
#[ignore = "minutes"]
fn every_flipped_byte_is_reported_or_harmless() {
    for end in [End::Closed, End::Killed] {
        let (cases, whole) = sweep(end, 1);
        println!("{end:?}: {whole} of {cases} lost nothing");
    }
}

#[test]
fn missing_and_cut_files_are_reported_or_harmless() {
    for end in [End::Closed, End::Killed] {
        let base = build(end);
        let mut reported = 0;
        for (path, bytes) in source_files(&base.fs) {
            let fs = copy_of(&base);
            fs.remove_file(&path).unwrap();
            let what = format!("{end:?} without {}", path.display());
            let report = check(&base, &fs, &what);
            reported += usize::from(!report.is_whole());
            // A killed one has tables that it was about to delete.
            if path.ends_with("CURRENT") && end == End::Closed {
                assert!(report.is_whole(), "{what}\n{report}");
                assert_eq!(report.source, SalvageSource::NewestManifest, "{what}");
            }
            for len in (0..bytes.len()).step_by(97) {
                let fs = copy_of(&base);
                fs.truncate(&path, len as u64).unwrap();
                check(&base, &fs, &format!("{end:?} {} cut to {len}", path.display()));
            }
        }
        assert!(reported >= 4, "{end:?}: {reported}");
    }
}

/// Several faults at once, of several kinds.
fn faults(base: &Base, seed: u64) -> (MemFs, String) {
    let mut rng = testkit::rng::Rng::new(seed);
    let fs = copy_of(base);
    let files: Vec<_> = source_files(&base.fs).into_iter().filter(|(_, b)| !b.is_empty()).collect();
    let mut what = format!("seed {seed}:");
    for _ in 0..rng.range(2..6) {
        let (path, bytes) = rng.pick(&files).clone();
        let at = rng.below(bytes.len() as u64);
        if fs.metadata(&path).map_or(0, |m| m.len) <= at {
            continue;
        }
        // A log whose end reads as zeros, or is an older file, is a log that ended there: nothing could tell.
        let is_log = path.extension().is_some_and(|e| e == "log");
        let kind = if is_log { rng.pick(&[0, 1, 2, 5]) } else { rng.pick(&[0, 1, 2, 3, 4, 5]) };
        what += &format!(" {kind}@{}:{at}", path.file_name().unwrap().display());
        match *kind {
            0 => fs.remove_file(&path).unwrap(),
            1 => fs.truncate(&path, at).unwrap(),
            2 => fs.extend(&path, &[7; 100]).unwrap(),
            3 => {
                // A sector of zeros.
                let mut bytes = fs.read_file(&path).unwrap();
                let end = bytes.len().min(at as usize + 512);
                bytes[at as usize..end].fill(0);
                fs.overwrite(&path, &bytes).unwrap();
            }
            4 => {
                // Another file in its place.
                let (_, other) = rng.pick(&files);
                fs.overwrite(&path, other).unwrap();
            }
            _ => fs.flip_bit(&path, at, 3).unwrap(),
        }
    }
    (fs, what)
}

fn many_faults(seeds: std::ops::Range<u64>) {
    for end in [End::Closed, End::Killed] {
        let base = build(end);
        for seed in seeds.clone() {
            let (fs, what) = faults(&base, seed);
            if source_files(&fs).is_empty() {
                continue;
            }
            check(&base, &fs, &format!("{end:?} {what}"));
        }
    }
}

#[test]
fn several_faults_at_once() {
    many_faults(0..150);
}

/// As many as the name says; minutes, by the command above.
#[test]
#[ignore = "minutes"]
fn very_many_faults() {
    many_faults(1000..20_000);
}

#[test]
fn what_the_files_say_without_any_manifest() {
    for end in [End::Closed, End::Killed] {
        let base = build(end);
        let fs = copy_of(&base);
        for (path, _) in source_files(&fs) {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name == "CURRENT" || name.starts_with("MANIFEST") {
                fs.remove_file(&path).unwrap();
            }
        }
        let report = check(&base, &fs, "no manifest");
        assert_eq!(report.source, SalvageSource::Files);
        assert!(report.keyspaces.iter().all(|k| k.lost_keys.contains(b"anything")), "{report}");
        let found = salvaged(&fs, &base.options);
        for name in ["default", "small"] {
            assert_eq!(
                found[name], base.pairs[name],
                "{end:?}: {name} has nothing but its tables and the log"
            );
        }
        // Nobody knows when the ingested pairs were written, only that they were.
        let keys = |pairs: &Pairs| pairs.keys().cloned().collect::<BTreeSet<_>>();
        assert!(keys(&found["bulk"]).is_subset(&keys(&base.pairs["bulk"])), "{report}");
        assert!(found["bulk"].len() > 10, "{report}");
    }
}

#[test]
fn a_footer_that_is_gone_costs_nothing() {
    let base = build(End::Closed);
    let tables = source_files(&base.fs).into_iter();
    let mut whole = 0;
    for (path, bytes) in tables.filter(|(path, _)| path.extension().is_some_and(|e| e == "sst")) {
        let fs = copy_of(&base);
        fs.truncate(&path, bytes.len() as u64 - 60).unwrap();
        let report = check(&base, &fs, "no footer");
        assert!(report.damage_count > 0 || !path.exists(), "{report}");
        whole += usize::from(report.is_whole());
    }
    assert!(whole > 0, "tables without range tombstones lose nothing");
}

#[test]
fn a_lost_block_loses_its_keys_only() {
    let base = build(End::Closed);
    let files = source_files(&base.fs);
    let table = |path: &&PathBuf| path.extension().is_some_and(|e| e == "sst");
    let largest = files.keys().filter(table).max_by_key(|path| files[*path].len()).unwrap();
    let fs = copy_of(&base);
    fs.flip_bit(largest, 10, 1).unwrap();
    let report = check(&base, &fs, "one block");
    let keyspaces = report.keyspaces.iter().filter(|k| k.tables_damaged > 0);
    let [keyspace] = keyspaces.collect::<Vec<_>>()[..] else { panic!("{report}") };
    assert_eq!((keyspace.stretches_lost, keyspace.tables_damaged), (1, 1), "{report}");
    let pairs = &base.pairs[&keyspace.name];
    let lost = pairs.keys().filter(|key| keyspace.lost_keys.contains(key)).count();
    assert!(lost > 0 && lost < pairs.len() / 2, "{lost} of {}: {report}", pairs.len());
    assert_eq!(keyspace.lost_keys.ranges().count(), 1, "{report}");
}

#[test]
fn damage_in_the_middle_of_the_log_leaves_what_is_behind_it() {
    let base = build(End::Killed);
    let logs = source_files(&base.fs).into_keys();
    let logs: Vec<_> = logs.filter(|p| p.extension().is_some_and(|e| e == "log")).collect();
    let mut seen = 0;
    for path in logs {
        let fs = copy_of(&base);
        fs.flip_bit(&path, 2000, 1).unwrap();
        let report = check(&base, &fs, "log");
        if report.log_damage.is_empty() || report.is_whole() {
            continue;
        }
        seen += 1;
        let (found, _) = (salvaged(&fs, &base.options), ());
        assert_eq!(
            found["small"].get(&b"zz"[..]),
            base.pairs["small"].get(&b"zz"[..]),
            "the last write"
        );
    }
    assert!(seen > 0);
}

#[test]
fn what_is_refused() {
    let base = build(End::Closed);
    let fs = copy_of(&base);
    let before = source_files(&fs);
    let into = |path: &str| builder(&fs, &base.options).salvage(path).unwrap_err();
    assert!(matches!(into(DIR), Error::InvalidArgument { .. }));
    assert!(matches!(into(&format!("{DIR}/inside")), Error::InvalidArgument { .. }));
    fs.create_dir_all("/data/full".as_ref()).unwrap();
    fs.create("/data/full/file".as_ref()).unwrap().append(b"x").unwrap();
    assert!(matches!(into("/data/full"), Error::InvalidArgument { .. }));
    assert!(matches!(into("/data/full/file"), Error::InvalidArgument { .. }));
    fs.create_dir_all("/data/empty".as_ref()).unwrap();
    for from in ["/data/full", "/data/full/file", "/data/empty", "/data/nothing"] {
        let refused = Db::builder(from).fs(Arc::new(fs.clone())).salvage(INTO).unwrap_err();
        assert!(matches!(refused, Error::NotADatabase { .. }), "{from}: {refused:?}");
    }
    let (db, _executor) = open(Arc::new(fs.clone()), DIR, &base.options, 4).unwrap();
    assert!(matches!(into(INTO), Error::Locked { .. }));
    drop(db);
    assert!(fs.list(INTO.as_ref()).is_err(), "nothing was made");
    let fs = copy_of(&base);
    let bad = base.options.clone().block_size_bytes(1);
    assert!(matches!(salvage(&fs, &bad).unwrap_err(), Error::InvalidArgument { .. }));
    assert_eq!(source_files(&fs), before);
}

#[test]
fn a_lock_file_that_is_missing_or_wrong_is_no_hindrance() {
    let base = build(End::Closed);
    let lock = PathBuf::from(DIR).join("LOCK");
    for wrong in [false, true] {
        let fs = copy_of(&base);
        drop(fs.remove_file(&lock));
        if wrong {
            fs.create_dir_all(&lock).unwrap();
        }
        assert!(check(&base, &fs, "lock").is_whole());
    }
}

#[test]
fn a_full_disk_ends_a_salvage_and_leaves_nothing() {
    let base = build(End::Closed);
    let fs = copy_of(&base);
    fs.set_capacity(Some(fs.total_bytes() + 3000));
    assert!(matches!(salvage(&fs, &base.options).unwrap_err(), Error::NoSpace { .. }));
    assert!(fs.list(INTO.as_ref()).is_err());
    fs.set_capacity(None);
    assert!(check(&base, &fs, "space again").is_whole());
}

#[test]
fn progress_is_told_table_by_table() {
    let base = build(End::Closed);
    let fs = copy_of(&base);
    let mut seen = Vec::new();
    let report = builder(&fs, &base.options)
        .salvage_with(INTO, |p| seen.push((p.keyspace.to_string(), p.tables, p.tables_total)))
        .unwrap();
    let tables: u64 = report.keyspaces.iter().map(|k| k.tables_read).sum();
    assert_eq!(seen.len() as u64, tables);
    assert!(seen.iter().all(|(_, at, total)| at <= total));
    let text = report.to_string();
    assert!(text.contains("nothing is lost") && text.contains("keyspace bulk"), "{text}");
}

#[test]
fn a_table_of_a_newer_version_is_refused() {
    let base = build(End::Closed);
    let fs = copy_of(&base);
    let tables = source_files(&fs).into_iter();
    let (path, mut bytes) =
        tables.rev().find(|(path, _)| path.extension().is_some_and(|e| e == "sst")).unwrap();
    let at = bytes.len() - 88;
    bytes[at + 72..at + 76].copy_from_slice(&9u32.to_le_bytes());
    let id = u64::from_le_bytes(bytes[at + 64..at + 72].try_into().unwrap());
    let sum = base::checksum::block_checksum(&bytes[at..at + 76], id, at as u64);
    bytes[at + 76..at + 80].copy_from_slice(&sum.to_le_bytes());
    fs.overwrite(&path, &bytes).unwrap();
    let refused = salvage(&fs, &base.options).unwrap_err();
    assert!(matches!(refused, Error::UnsupportedFormat { found: 9, .. }), "{refused:?}");
    assert!(fs.list(INTO.as_ref()).is_err());
}
