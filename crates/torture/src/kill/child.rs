//! The process that is killed: it writes, says what was acknowledged, and what it is about to do.

use crate::store::{leveled, show};
use lsm::{Db, Durability, Error, Keyspace, KeyspaceOptions, Options};
use std::io::Write;
use std::path::Path;
use std::time::Duration;
use testkit::model::ModelOp;
use testkit::rng::Rng;
use testkit::value::value_for;

const COUNTER: &str = "counter";
/// Every so many writes there is one that does not fit into a segment of the log.
const LARGE_EVERY: u64 = 40;
const COMPACT_EVERY: u64 = 64;
const CLOSE_EVERY: u64 = 90;

pub(super) fn options() -> Options {
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
pub(super) fn write_of(n: u64) -> (Vec<ModelOp>, Durability) {
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
    if n.is_multiple_of(LARGE_EVERY) {
        ops.push(ModelOp::put(0, "large", value_for(1, b"large", n, 20_000)));
    }
    (ops, if rng.below(6) == 0 { Durability::Sync } else { Durability::Buffered })
}

pub(super) fn apply(db: &Db, second: &Keyspace, n: u64) -> lsm::Result<()> {
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

pub(super) fn counter(db: &Db) -> u64 {
    let value = db.get(COUNTER).expect("readable");
    value.map_or(0, |v| u64::from_le_bytes(v[..].try_into().expect("eight bytes")))
}

pub(super) fn open(dir: &Path) -> Db {
    unlocked(|| Db::builder(dir).options(options()).open())
}

/// Opens; a lock that was just given up may be held for a moment more by a process that another thread is starting,
/// which has a copy of every open file until it becomes another program.
#[expect(clippy::disallowed_methods, reason = "waits for another process")]
pub(super) fn unlocked(open: impl Fn() -> lsm::Result<Db>) -> Db {
    for _ in 0..200 {
        match open() {
            Err(Error::Locked { .. }) => std::thread::sleep(Duration::from_millis(10)),
            opened => return opened.unwrap_or_else(|e| panic!("open: {}", show(&e))),
        }
    }
    panic!("the lock of a closed or killed database stays");
}

/// Writes until it is killed.
pub(super) fn write_on(dir: &Path) -> ! {
    let mut out = std::io::stdout().lock();
    let mut say = |what: &str, n: u64| {
        let said = writeln!(out, "{what} {n}").and_then(|()| out.flush());
        said.unwrap_or_else(|_| std::process::exit(3));
    };
    // The harness of tests has begun a line.
    say("\nhello", 0);
    let mut n = None;
    loop {
        let db = open(dir);
        let second = db.keyspace("k1", KeyspaceOptions::new()).expect("keyspace");
        let n = n.get_or_insert_with(|| counter(&db));
        say("opened", *n);
        loop {
            *n += 1;
            if n.is_multiple_of(LARGE_EVERY) {
                say("rotate", *n);
            }
            apply(&db, &second, *n).expect("a write");
            say("ack", *n);
            if n.is_multiple_of(COMPACT_EVERY) {
                say("compact", *n);
                db.compact_range(..).expect("a compaction");
            }
            if n.is_multiple_of(CLOSE_EVERY) {
                say("close", *n);
                db.close().expect("a close");
                break;
            }
        }
    }
}
