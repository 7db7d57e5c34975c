//! A real process that writes to a real disk and is killed, again and again on the same directory.
//!
//! The child reports each acknowledgement after the call has returned. After the kill every acknowledged write must be there,
//! whole, and nothing that came later without what came before. `ESKER_KILLS` sets the number of kills.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test on the real disk and clock"
)]

mod crash_support;

use crash_support::{env, leveled, read_state};
use lsm::{Db, Durability, Keyspace, KeyspaceOptions, Options};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use testkit::model::ModelOp;
use testkit::oracle::Oracle;
use testkit::rng::Rng;
use testkit::value::value_for;

const CHILD: &str = "ESKER_KILL_DIR";
const COUNTER: &str = "counter";

fn options() -> Options {
    Options::default()
        .memtable_size_bytes(16 << 10)
        .block_cache_bytes(64 << 10)
        .log_segment_bytes(16 << 10)
        .log_bytes_max(64 << 10)
        .manifest_rotate_bytes(4096)
        .sync_interval(Duration::from_millis(5))
        .compaction(leveled())
}

/// What write number `n` does: the same in the child and in the model.
fn write_of(n: u64) -> (Vec<ModelOp>, Durability) {
    let mut rng = Rng::new(n);
    let mut ops = vec![ModelOp::put(0, COUNTER, n.to_le_bytes())];
    for _ in 0..1 + rng.below(4) {
        let number = rng.below(2) as u32;
        let key = format!("key{:03}", rng.below(300)).into_bytes();
        match rng.below(10) {
            0 => ops.push(ModelOp::delete(number, key)),
            1 => {
                let end = [&key[..], b"~"].concat();
                ops.push(ModelOp::delete_range(number, key..end));
            }
            _ => {
                let len = 8 + rng.below(300) as usize;
                let value = value_for(1, &key, n, len);
                ops.push(ModelOp::put(number, key, value));
            }
        }
    }
    (ops, if rng.below(6) == 0 { Durability::Sync } else { Durability::Buffered })
}

fn apply(db: &Db, second: &Keyspace, n: u64) -> lsm::Result<()> {
    let (ops, durability) = write_of(n);
    let mut batch = db.batch();
    let keyspace = |number: u32| if number == 0 { db.default_keyspace() } else { second };
    for op in &ops {
        match op {
            ModelOp::Put { ks, key, value } => batch.put_in(keyspace(*ks), key, value),
            ModelOp::Delete { ks, key } => batch.delete_in(keyspace(*ks), key),
            ModelOp::DeleteRange { ks, lower, upper } => {
                batch.delete_range_in(keyspace(*ks), (lower.clone(), upper.clone()));
            }
        }
    }
    batch.commit_with(durability)
}

fn counter(db: &Db) -> u64 {
    let value = db.get(COUNTER).unwrap();
    value.map_or(0, |v| u64::from_le_bytes(v[..].try_into().unwrap()))
}

/// The writer; does nothing unless it was started by the test below.
#[test]
fn child_writer() {
    let Ok(dir) = std::env::var(CHILD) else { return };
    let db = Db::builder(&dir).options(options()).open().unwrap();
    let second = db.keyspace("k1", KeyspaceOptions::new()).unwrap();
    let mut out = std::io::stdout().lock();
    let mut n = counter(&db);
    writeln!(out, "\nopened {n}").unwrap();
    loop {
        n += 1;
        apply(&db, &second, n).unwrap();
        writeln!(out, "ack {n}").unwrap();
        out.flush().unwrap();
    }
}

/// Starts a writer, kills it, and returns what it said: the counter it found, and its last acknowledgement.
fn run_and_kill(dir: &Path, rng: &mut Rng) -> (Option<u64>, Option<u64>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_writer", "--nocapture", "--test-threads=1"])
        .env(CHILD, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let (mut opened, mut acked) = (None, None);
    let mut hear = |line: &str| match line.split_once(' ') {
        Some(("opened", n)) => opened = n.parse().ok(),
        Some(("ack", n)) => acked = n.parse().ok(),
        _ => {}
    };
    // Some are killed while they open, most while they write.
    if rng.below(4) > 0 {
        for line in lines.by_ref() {
            hear(&line);
            if line.starts_with("opened") {
                break;
            }
        }
    }
    std::thread::sleep(Duration::from_micros(rng.below(50_000)));
    child.kill().unwrap();
    lines.for_each(|line| hear(&line));
    let mut errors = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut errors).unwrap();
    let status = child.wait().unwrap();
    assert!(!status.success() && errors.is_empty(), "the writer failed: {status} {errors}");
    (opened, acked)
}

#[test]
fn acknowledged_writes_survive_kills() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("db");
    let mut rng = Rng::new(env("ESKER_KILL_SEED", 42));
    let mut oracle = Oracle::new();
    // Commits before the writes: the keyspace. It may be made by any child.
    oracle.issue(&[ModelOp::put(crash_support::CATALOG, "k1", "")]);
    let (mut known, mut in_open, mut writes) = (0u64, 0, 0u64);
    let kills = env("ESKER_KILLS", 100);
    for kill in 0..kills {
        let (opened, acked) = run_and_kill(&dir, &mut rng);
        in_open += u64::from(opened.is_none());
        if let Some(found) = opened {
            assert!(found == known || found == known + 1, "kill {kill}: {known} became {found}");
            extend(&mut oracle, found);
            known = found;
        }
        if let Some(acked) = acked {
            writes += acked - known;
            extend(&mut oracle, acked);
            known = acked;
        }
        // Now and then nobody looks, and the next writer recovers from both kills.
        if rng.below(3) == 0 && kill + 1 < kills {
            continue;
        }
        known = reopen(&dir, &mut oracle, known);
    }
    println!("{kills} kills, {in_open} of them while opening, {writes} acknowledged writes");
    assert!(writes > kills, "too few writes: {writes}");
}

/// Adds the writes up to `n` to the model.
fn extend(oracle: &mut Oracle, n: u64) {
    for next in oracle.model().commits() as u64..=n {
        oracle.issue(&write_of(next).0);
    }
}

/// Checks what a killed writer left, writes on, and opens once more. Returns the new counter.
fn reopen(dir: &Path, oracle: &mut Oracle, known: u64) -> u64 {
    extend(oracle, known + 1);
    let db = Db::builder(dir).options(options()).open().unwrap();
    let found = counter(&db);
    assert!(found == known || found == known + 1, "{known} became {found}");
    let state = read_state(&db).unwrap();
    let prefix = oracle.check(&state, if known > 0 { known as usize + 1 } else { 0 }, usize::MAX);
    let prefix = prefix.unwrap_or_else(|e| panic!("after a kill at {known}: {e}"));
    oracle.recovered(prefix.max(1));
    let second = db.keyspace("k1", KeyspaceOptions::new()).unwrap();
    let start = Instant::now();
    for n in found + 1..=found + 200 {
        apply(&db, &second, n).unwrap();
    }
    assert!(start.elapsed() < Duration::from_secs(5), "200 writes took {:?}", start.elapsed());
    extend(oracle, found + 200);
    drop((db, second));
    let db = Db::builder(dir).options(options()).open().unwrap();
    let all = oracle.model().commits();
    oracle.check(&read_state(&db).unwrap(), all, all).unwrap_or_else(|e| panic!("reopened: {e}"));
    db.verify().unwrap();
    found + 200
}
