//! Damage to every byte of every file, and to files as a whole.
//!
//! Two small databases hold every kind of file: one that was killed, with synced and unsynced records in its log, and one
//! that was closed. Each mutation is opened and read in full. Allowed is an error that says what is wrong, or the right
//! answer. Never: a wrong value, a key missing without an error, a deleted key, a panic, a huge allocation, or a change to
//! the damaged file. What a read meets, `verify` must find. `ESKER_CORRUPTION_FULL=1` makes many more mutations per byte.
#![expect(clippy::unwrap_used, reason = "a test")]

mod crash_support;

use crash_support::explore::show;
use crash_support::{CATALOG, DIR, NAMES, compressed, env, number_of, open, small_options};
use lsm::{Db, Error, Keyspace, KeyspaceOptions, Options};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use testkit::model::{ModelOp, State, scan_state};
use testkit::oracle::Oracle;
use testkit::rng::Rng;
use testkit::value::value_for;
use vfs::{CrashProfile, Fs, MemFs};

/// Notes the largest request of a thread that asked for it.
struct Watching;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(usize::MAX) };
}

fn note(size: usize) {
    // A thread that ends has no cell any more, and nothing to note.
    let _noted = LARGEST.try_with(|largest| {
        if largest.get() != usize::MAX {
            largest.set(largest.get().max(size));
        }
    });
}

// SAFETY: every call is passed on to the system's allocator unchanged; the note touches a plain thread-local only.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(ptr, layout) }
    }
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        // SAFETY: as above.
        unsafe { System.realloc(ptr, layout, size) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watching = Watching;

const ALLOCATION_MAX: usize = 4 << 20;

/// A database to damage, and what it holds.
struct Base {
    name: &'static str,
    fs: MemFs,
    /// Files of the database as they were earlier, by path; only those that differ.
    older: Vec<(PathBuf, Vec<u8>)>,
    options: Options,
    oracle: Oracle,
    /// Commits that no damage may hide without an error.
    floor: usize,
    state: State,
    keys: BTreeMap<u32, Vec<Vec<u8>>>,
}

#[derive(Debug, Default)]
struct Counts {
    mutations: u64,
    refused: u64,
    read_errors: u64,
    shorter_tail: u64,
    names_rolled_back: u64,
    harmless: u64,
    /// Of these, those that `verify` flags all the same.
    flagged: u64,
    largest_allocation: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Refused,
    ReadError,
    ShorterTail,
    /// The manifest lost whole edits at its end, and these were of keyspaces without data: nothing tells.
    NamesRolledBack,
    Harmless {
        flagged: bool,
    },
}

/// Fills a database with every kind of file and entry.
fn build(name: &'static str, closed: bool) -> Base {
    let options = compressed(small_options()).manifest_rotate_bytes(1 << 20).disk_reserve_bytes(0);
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
    if closed {
        db.close().unwrap();
        let all = oracle.model().commits();
        oracle.sync(all);
    }
    let image = fs.crash(CrashProfile::KeepAll, 0);
    drop((db, default, k1, k2));
    let older = [early, middle].iter().flat_map(|old| older_files(old, &image)).collect();
    let mut keys: BTreeMap<u32, Vec<Vec<u8>>> = BTreeMap::new();
    for (number, key, _) in oracle.model().history().filter(|(n, ..)| *n != CATALOG) {
        keys.entry(number).or_default().push(key.to_vec());
    }
    for list in keys.values_mut() {
        list.extend(["", "key", "key055", "zzz"].map(|k| k.as_bytes().to_vec()));
    }
    let (floor, state) = (oracle.synced(), oracle.model().current().clone());
    Base { name, fs: image, older, options, oracle, floor, state, keys }
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
    fn copy(&self) -> MemFs {
        self.fs.crash(CrashProfile::KeepAll, 0)
    }

    /// The files but the lock, with their bytes.
    fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        contents(&self.fs)
    }

    /// Opens the damaged `fs` and reads everything.
    fn judge(&self, fs: &MemFs, target: &Path, thorough: bool) -> Result<Outcome, String> {
        let damaged = fs.read_file(target).ok();
        let before = contents(fs);
        let (db, executor) = match open(Arc::new(fs.clone()), DIR, &self.options, 11) {
            Ok(opened) => opened,
            Err(e) => {
                check_refusal(&e)?;
                return if contents(fs) == before {
                    Ok(Outcome::Refused)
                } else {
                    Err(format!("a refused open changed the disk: {}", show(&e)))
                };
            }
        };
        check_untouched(fs, target, damaged.as_deref())?;
        let read = self.read(&db, target)?;
        let verified = db.verify();
        if let Err(e) = &verified {
            check_refusal(e).map_err(|e| format!("verify: {e}"))?;
        }
        if read == Outcome::ReadError && verified.is_ok() {
            return Err("a read fails, but verify finds nothing".into());
        }
        if thorough {
            executor.run_all();
            drop(db.compact_range(..));
            let again = self.read(&db, target).map_err(|e| format!("after compaction: {e}"))?;
            if read == Outcome::ReadError && again != Outcome::ReadError {
                return Err("compaction made the damage vanish".into());
            }
            check_untouched(fs, target, damaged.as_deref().filter(|_| verified.is_err()))?;
        }
        drop(db.close());
        match read {
            Outcome::Harmless { .. } => Ok(Outcome::Harmless { flagged: verified.is_err() }),
            other => Ok(other),
        }
    }

    /// Compares everything with what may be there. Only the log may have lost something, and only its unsynced end.
    fn read(&self, db: &Db, target: &Path) -> Result<Outcome, String> {
        let is_log = target.extension().is_some_and(|e| e == "log");
        let mut failed = false;
        let mut found = State::new();
        let mut names = db.list_keyspaces();
        names.retain(|n| n != "default");
        found.extend(names.iter().map(|n| ((CATALOG, n.clone().into_bytes()), Vec::new())));
        for name in names.iter().map(String::as_str).chain(["default"]) {
            let keyspace = db.open_keyspace(name).map_err(|e| show(&e))?;
            let number = number_of(name);
            for reverse in [false, true] {
                let pairs =
                    if reverse { collect(keyspace.iter().rev()) } else { collect(keyspace.iter()) };
                let (pairs, error) = pairs?;
                failed |= error;
                if error {
                    let bound = std::ops::Bound::Unbounded;
                    let expected = scan_state(&self.state, number, bound, bound, reverse);
                    if !expected.starts_with(&pairs) {
                        return Err(format!("wrong pairs of {name} before an error"));
                    }
                } else if !reverse {
                    found.extend(pairs.into_iter().map(|(k, v)| ((number, k), v)));
                } else {
                    let range = found.range((number, Vec::new())..(number + 1, Vec::new()));
                    let forward: Vec<_> = range.map(|((_, k), v)| (k.clone(), v.clone())).collect();
                    if !failed && !pairs.iter().eq(forward.iter().rev()) {
                        return Err(format!("the directions of {name} differ"));
                    }
                }
            }
        }
        if !failed && is_manifest(target) && self.only_names_differ(&found) {
            return Ok(Outcome::NamesRolledBack);
        }
        let prefix = if failed {
            self.oracle.model().commits()
        } else {
            let floor = if is_log { self.floor } else { self.oracle.model().commits() };
            self.oracle.check(&found, floor, usize::MAX)?
        };
        for name in names.iter().map(String::as_str).chain(["default"]) {
            let keyspace = db.open_keyspace(name).map_err(|e| show(&e))?;
            failed |= self.read_points(&keyspace, prefix)?;
        }
        Ok(match prefix {
            _ if failed => Outcome::ReadError,
            all if all == self.oracle.model().commits() => Outcome::Harmless { flagged: false },
            _ => Outcome::ShorterTail,
        })
    }

    /// True if keyspaces are missing that had no data when the database was damaged, or dropped ones are back, and all
    /// else is right. The known limit: the manifest is the only place that says which keyspaces there are, and one that
    /// was cut between two edits reads like one that never had the later ones.
    fn only_names_differ(&self, found: &State) -> bool {
        let names = |state: &State| -> BTreeSet<u32> {
            let range = state.range((CATALOG, Vec::new())..);
            range.map(|((_, name), _)| number_of(&String::from_utf8_lossy(name))).collect()
        };
        let (is, was) = (names(found), names(&self.state));
        let differ: BTreeSet<u32> = is.symmetric_difference(&was).copied().collect();
        let has_data = |number: &u32| self.state.keys().any(|(n, _)| n == number);
        let rest = |state: &State| -> State {
            let kept = |number: u32| number != CATALOG && !differ.contains(&number);
            state
                .iter()
                .filter(|((n, _), _)| kept(*n))
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect()
        };
        !differ.is_empty() && !differ.iter().any(has_data) && rest(found) == rest(&self.state)
    }

    /// True if a read failed.
    fn read_points(&self, keyspace: &Keyspace, prefix: usize) -> Result<bool, String> {
        let number = number_of(keyspace.name());
        let mut failed = false;
        for key in self.keys.get(&number).into_iter().flatten() {
            match keyspace.get(key) {
                Ok(value) => {
                    let expected = self.oracle.model().get_at(prefix, number, key);
                    if value.as_deref() != expected {
                        let key = key.escape_ascii();
                        return Err(format!("get of {key} in {} is wrong", keyspace.name()));
                    }
                }
                Err(e) => {
                    check_refusal(&e)?;
                    failed = true;
                }
            }
        }
        Ok(failed)
    }
}

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// The pairs up to the first error, and whether there was one.
fn collect(
    pairs: impl Iterator<Item = lsm::Result<(lsm::Slice, lsm::Slice)>>,
) -> Result<(Pairs, bool), String> {
    let mut all = Pairs::new();
    for pair in pairs {
        match pair {
            Ok((key, value)) => all.push((key.to_vec(), value.to_vec())),
            Err(e) => return check_refusal(&e).map(|()| (all, true)),
        }
    }
    Ok((all, false))
}

/// Damage must be called damage, and say where.
fn check_refusal(e: &Error) -> Result<(), String> {
    match e {
        Error::Corruption { .. } | Error::UnsupportedFormat { .. } => Ok(()),
        e => Err(format!("damage is reported as {e:?}")),
    }
}

fn is_manifest(path: &Path) -> bool {
    path.to_string_lossy().contains("MANIFEST")
}

fn contents(fs: &MemFs) -> Vec<(PathBuf, Vec<u8>)> {
    let files = fs.files().into_iter().map(|(path, _)| path);
    files
        .filter(|path| !path.ends_with("LOCK"))
        .map(|path| {
            let bytes = fs.read_file(&path).unwrap();
            (path, bytes)
        })
        .collect()
}

/// The damaged file is as it was, if it is still of use; a manifest may have grown or been replaced.
fn check_untouched(fs: &MemFs, target: &Path, before: Option<&[u8]>) -> Result<(), String> {
    let is = |extension: &str| target.extension().is_some_and(|e| e == extension);
    let (Some(before), Ok(now)) = (before, fs.read_file(target)) else { return Ok(()) };
    if (is("sst") || is("log")) && now != before {
        return Err("open changed the damaged file".into());
    }
    if is_manifest(target) && !now.starts_with(before) {
        return Err("open changed the damaged manifest".into());
    }
    Ok(())
}

/// Applies mutations to copies of one base and judges them, collecting what is wrong.
struct Sweep<'a> {
    base: &'a Base,
    counts: Counts,
    wrong: BTreeMap<String, (u64, String)>,
}

impl Sweep<'_> {
    fn new(base: &Base) -> Sweep<'_> {
        Sweep { base, counts: Counts::default(), wrong: BTreeMap::new() }
    }

    fn try_one(&mut self, what: &str, target: &Path, damage: impl FnOnce(&MemFs)) {
        let fs = self.base.copy();
        damage(&fs);
        self.counts.mutations += 1;
        let thorough = self.counts.mutations.is_multiple_of(16);
        LARGEST.set(0);
        let judged = catch_unwind(AssertUnwindSafe(|| self.base.judge(&fs, target, thorough)));
        let largest = LARGEST.replace(usize::MAX);
        self.counts.largest_allocation = self.counts.largest_allocation.max(largest);
        let mut wrong = None;
        match judged {
            Ok(Ok(Outcome::Refused)) => self.counts.refused += 1,
            Ok(Ok(Outcome::ReadError)) => self.counts.read_errors += 1,
            Ok(Ok(Outcome::ShorterTail)) => self.counts.shorter_tail += 1,
            Ok(Ok(Outcome::NamesRolledBack)) => self.counts.names_rolled_back += 1,
            Ok(Ok(Outcome::Harmless { flagged })) => {
                self.counts.harmless += 1;
                self.counts.flagged += u64::from(flagged);
            }
            Ok(Err(e)) => wrong = Some(e),
            Err(_) => wrong = Some("panic".into()),
        }
        if largest > ALLOCATION_MAX {
            wrong.get_or_insert(format!("one allocation of {largest} bytes"));
        }
        if let Some(wrong) = wrong {
            let kind = what.split(' ').next().unwrap_or_default();
            let brief: String =
                wrong.chars().map(|c| if c.is_ascii_digit() { '#' } else { c }).take(60).collect();
            let extension = target.extension().unwrap_or_default().to_string_lossy();
            let key = format!("{kind} {extension} {brief}");
            let shown = format!("{what} {}: {wrong}", target.display());
            self.wrong.entry(key).or_insert((0, shown)).0 += 1;
        }
    }

    fn finish(self, at_least: u64) {
        println!("{}: {:?}", self.base.name, self.counts);
        for (count, first) in self.wrong.values() {
            println!("  {count} x {}", first.chars().take(700).collect::<String>());
        }
        assert!(self.wrong.is_empty(), "{} kinds of wrong outcomes", self.wrong.len());
        assert!(self.counts.mutations >= at_least, "too few mutations");
    }
}

fn every_byte(base: &Base) {
    let mut sweep = Sweep::new(base);
    let full = env("ESKER_CORRUPTION_FULL", 0) > 0;
    for (path, bytes) in base.files() {
        for (at, &byte) in bytes.iter().enumerate() {
            let flips = (0..8).map(|bit| byte ^ (1 << bit));
            let others = [0x00, 0xff, byte.wrapping_add(1)];
            let all: Vec<u8> = flips.chain(others).collect();
            let step = if full { 1 } else { 8 };
            // Two of the eleven for each byte, others for its neighbours.
            for &new in all.iter().skip(if full { 0 } else { (at * 5) % 8 }).step_by(step) {
                if new != byte {
                    sweep.try_one(&format!("byte {at} {byte:#x} to {new:#x}"), &path, |fs| {
                        fs.corrupt(&path, at as u64, |b| *b = new).unwrap();
                    });
                }
            }
        }
    }
    sweep.finish(10_000);
}

fn whole_files(base: &Base) {
    let mut sweep = Sweep::new(base);
    let mut rng = Rng::new(17);
    let files = base.files();
    for (path, bytes) in &files {
        let replace = |fs: &MemFs, new: &[u8]| {
            fs.truncate(path, 0).unwrap();
            fs.overwrite(path, new).unwrap();
        };
        let step = if bytes.len() > 1024 { 3 } else { 1 };
        for len in (0..bytes.len()).step_by(step) {
            sweep.try_one(&format!("truncate to {len}"), path, |fs| {
                fs.truncate(path, len as u64).unwrap();
            });
        }
        for more in [1, 7, 8, 16, 512, 4096] {
            let noise = rng.bytes(more);
            sweep.try_one(&format!("extend by {more} zeros"), path, |fs| {
                fs.extend(path, &vec![0; more]).unwrap();
            });
            sweep.try_one(&format!("extend by {more} bytes"), path, |fs| {
                fs.extend(path, &noise).unwrap();
            });
        }
        for unit in [16, 64, 512] {
            for at in (0..bytes.len()).step_by(unit) {
                let end = (at + unit).min(bytes.len());
                let mut new = bytes.clone();
                new[at..end].fill(0);
                if new != *bytes {
                    sweep.try_one(&format!("zero {at}..{end}"), path, |fs| replace(fs, &new));
                }
            }
        }
        for _ in 0..60.min(bytes.len() / 32) {
            let unit = *rng.pick(&[8, 16, 64, 128]);
            let blocks = bytes.len() / unit;
            if blocks < 2 {
                continue;
            }
            let (a, b) = (rng.index(blocks) * unit, rng.index(blocks) * unit);
            let mut new = bytes.clone();
            (0..unit).for_each(|i| new.swap(a + i, b + i));
            if new != *bytes {
                sweep.try_one(&format!("swap {unit} bytes at {a} and {b}"), path, |fs| {
                    replace(fs, &new);
                });
            }
        }
        sweep.try_one("delete", path, |fs| fs.remove_file(path).unwrap());
        duplicate(&mut sweep, path, bytes);
    }
    swap_files(&mut sweep, &files);
    for (path, old) in &base.older {
        sweep.try_one("older", path, |fs| {
            fs.truncate(path, 0).unwrap();
            fs.overwrite(path, old).unwrap();
        });
    }
    sweep.finish(2_000);
}

/// Puts a copy of a file under another number.
fn duplicate(sweep: &mut Sweep<'_>, path: &Path, bytes: &[u8]) {
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    for number in [0, 77, 999_999, u64::MAX - 1, u64::MAX] {
        let other = match (name.split_once('.'), name.split_once('-')) {
            (Some((_, extension)), _) => format!("{number:06}.{extension}"),
            (_, Some((stem, _))) => format!("{stem}-{number:06}"),
            _ => return,
        };
        sweep.try_one(&format!("duplicate as {other}"), path, |fs| {
            let other = Path::new(DIR).join(&other);
            if fs.metadata(&other).is_err() {
                drop(fs.create(&other).unwrap());
                fs.overwrite(&other, bytes).unwrap();
            }
        });
    }
}

/// Exchanges files of a kind, and puts one in the place of another.
fn swap_files(sweep: &mut Sweep<'_>, files: &[(PathBuf, Vec<u8>)]) {
    for (a, bytes_a) in files {
        for (b, bytes_b) in files.iter().filter(|(b, _)| b != a) {
            if a.extension() != b.extension() || bytes_a == bytes_b {
                continue;
            }
            let put = |fs: &MemFs, path: &Path, bytes: &[u8]| {
                fs.truncate(path, 0).unwrap();
                fs.overwrite(path, bytes).unwrap();
            };
            sweep.try_one(&format!("replaced-by {}", b.display()), a, |fs| put(fs, a, bytes_b));
            sweep.try_one(&format!("exchanged-with {}", b.display()), a, |fs| {
                put(fs, a, bytes_b);
                put(fs, b, bytes_a);
            });
        }
    }
}

#[test]
fn every_byte_of_a_killed_database() {
    every_byte(&build("killed, every byte", false));
}

#[test]
fn every_byte_of_a_closed_database() {
    every_byte(&build("closed, every byte", true));
}

#[test]
fn whole_files_of_a_killed_database() {
    whole_files(&build("killed, whole files", false));
}

#[test]
fn whole_files_of_a_closed_database() {
    whole_files(&build("closed, whole files", true));
}

#[test]
fn the_databases_are_complete() {
    for base in [build("killed", false), build("closed", true)] {
        let files = base.files();
        let count = |extension: &str| {
            files.iter().filter(|(p, _)| p.extension().is_some_and(|e| e == extension)).count()
        };
        let sizes: Vec<_> =
            files.iter().map(|(p, b)| format!("{} {}", p.display(), b.len())).collect();
        println!("{}: {sizes:?} older {}", base.name, base.older.len());
        let logs = if base.name == "killed" { 2 } else { 0 };
        assert!(count("sst") >= 3 && count("log") >= logs, "{sizes:?}");
        let (db, _) = open(Arc::new(base.copy()), DIR, &base.options, 1).unwrap();
        assert_eq!(crash_support::read_state(&db).unwrap(), base.state);
        assert_eq!(db.list_keyspaces().len(), NAMES.len() - 1);
        db.verify().unwrap();
    }
}
